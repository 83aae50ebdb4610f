//! One face for each reason, and no two alike.

use super::*;

#[test]
fn reasons_are_listed_in_the_order_of_judgement_and_codes_are_unique() {
    assert!(Reason::ALL.is_sorted());
    let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index, "{reason:?} indexes the tables made from the list");
    }
}
