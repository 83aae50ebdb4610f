//! Raw bytes by which callers have made two readers of one request disagree, and what comes of them here.
//!
//! The cases are in the text files beside this one; how to read them, [`cases`] says. Each runs at once and
//! byte by byte. Whatever the case, the upstream sees the calls that were judged, in canonical form, and not
//! a byte more; the log and the metrics have every request under its code; and the connection is either
//! closed or fit for another call.

mod bench;
mod cases;

use bench::Delivery::{Dripped, Whole};
use cases::Case;

macro_rules! themes {
    ($($theme:ident)*) => {
        const THEMES: &[(&str, &str)] =
            &[$((stringify!($theme), include_str!(concat!(stringify!($theme), ".txt")))),*];

        $(
            #[test]
            fn $theme() {
                bench::run(include_str!(concat!(stringify!($theme), ".txt")), &[Whole, Dripped], |gateway| gateway);
            }
        )*
    };
}

themes! { lengths codings chunks trailers lines request_lines targets hosts fields upgrades credentials endings pipelines }

const WAITING: &str = include_str!("waiting.txt");

/// What is never finished is given up in time. In pieces it might be given up too soon.
#[test]
fn waiting() {
    bench::run(WAITING, &[Whole], |gateway| {
        gateway.set("policy", "header_timeout = \"500ms\"\nbody_timeout = \"500ms\"")
    });
}

#[test]
fn there_are_enough_cases_each_with_its_own_name() {
    let cases: Vec<Case> =
        THEMES.iter().map(|(_, text)| *text).chain([WAITING]).flat_map(Case::read_all).collect();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
}
