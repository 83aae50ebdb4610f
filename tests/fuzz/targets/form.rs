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
    let patterns = &POLICY.patterns;
    let read: Vec<_> = php::parse_str(body).collect();
    match Lookup::of(body, patterns) {
        Ok(lookup) => {
            let canonical = lookup.canonical_body();
            let (name, value) = (lookup.key.name(), lookup.value.as_str());
            let pair =
                [Variable { name: name.as_bytes().into(), is_array: false, value: value.as_bytes().into() }];
            assert_eq!(read, pair, "PHP reads the body otherwise");
            let first = value.as_bytes()[0];
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            assert!(
                first != b'0' && (first.is_ascii_alphabetic() || is_number),
                "a number column reads another"
            );
            assert_eq!(php::parse_str(&canonical).collect::<Vec<_>>(), pair, "and the canonical one");
            assert_eq!(Lookup::of(&canonical, patterns).as_ref(), Ok(&lookup));
            // A third reader, of the WHATWG's kind.
            let others: Vec<(String, String)> =
                serde_urlencoded::from_bytes(body).expect("an accepted body is a form");
            assert_eq!(others, [(name.to_owned(), value.to_owned())]);
        }
        Err(reason) => {
            let mut pieces = php::pieces(body).map(|(name, value)| (php::decode(name), php::decode(value)));
            let is_one_sound_pair = pieces.next().is_some_and(|(name, value)| {
                let key = LookupKey::ALL.into_iter().find(|key| *name == *key.name().as_bytes());
                key.is_some_and(|key| patterns.of(key).matches(&value))
            }) && pieces.next().is_none();
            assert!(!is_one_sound_pair, "{reason:?} for one rightly spelt pair");
        }
    }
});
