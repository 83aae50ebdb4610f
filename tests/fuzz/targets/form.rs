//! Form bodies: what is accepted is one pair, for the gateway and for PHP alike.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use n4n_gateway_fuzz::{
    php::{self, Variable},
    policy::{Lookup, LookupKey, Policy},
    policy_of,
};

/// The default rules.
static POLICY: LazyLock<Policy> = LazyLock::new(|| policy_of(""));

fuzz_target!(|body: &[u8]| {
    let pattern = &POLICY.value_pattern;
    let read: Vec<_> = php::parse_str(body).collect();
    match Lookup::of(body, pattern) {
        Ok(lookup) => {
            let canonical = lookup.canonical_body();
            let pair = [Variable {
                name: lookup.key.name().as_bytes().into(),
                is_array: false,
                value: lookup.value.as_bytes().into(),
            }];
            assert_eq!(read, pair, "PHP reads the body otherwise");
            assert_eq!(
                php::parse_str(&canonical).collect::<Vec<_>>(),
                pair,
                "PHP reads the canonical body otherwise"
            );
            assert_eq!(
                Lookup::of(&canonical, pattern),
                Ok(lookup.clone()),
                "the canonical body is not its own"
            );
        }
        Err(reason) => {
            let names: Vec<_> = php::pieces(body).map(|(name, _)| php::decode(name)).collect();
            let is_one_sound_pair = names.len() == 1
                && read.len() == 1
                && !read[0].is_array
                && LookupKey::ALL.iter().any(|key| names[0] == key.name().as_bytes())
                && pattern.is_match(&read[0].value);
            assert!(!is_one_sound_pair, "{reason:?} for one rightly spelt pair");
        }
    }
});
