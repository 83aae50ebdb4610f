//! One body judged by the gateway and read by PHP, and whether the two are of one mind.

use std::collections::BTreeMap;
use std::path::Path;

use n4n_gateway::config::Settings;
use n4n_gateway::php::{decode, parse_str, pieces};
use n4n_gateway::policy::{Lookup, LookupKey, Policy};
use n4n_gateway::reason::Reason;

use super::php::{ParseStr, Reading};

/// How deep an array may be for PHP to keep it (`max_input_nesting_level`).
const MAX_NESTING: usize = 64;

/// Both sides.
pub(super) struct Judge {
    policy: Policy,
    php: ParseStr,
}

impl Judge {
    pub(super) fn new() -> Self {
        Self { policy: default_policy(), php: ParseStr::start() }
    }

    /// The gateway's verdict: `ok`, or the code.
    pub(super) fn verdict(&self, body: &[u8]) -> &'static str {
        self.lookup(body).map_or_else(Reason::code, |_| "ok")
    }

    /// The gateway's reading.
    pub(super) fn lookup(&self, body: &[u8]) -> Result<Lookup, Reason> {
        Lookup::of(body, &self.policy.patterns)
    }

    /// What is wrong with how one body was judged, if anything.
    pub(super) fn fault(&mut self, body: &[u8]) -> Option<String> {
        self.faults(&[body.to_vec()]).remove(0)
    }

    /// What is wrong with how each body was judged, if anything.
    pub(super) fn faults(&mut self, bodies: &[Vec<u8>]) -> Vec<Option<String>> {
        let lookups: Vec<_> = bodies.iter().map(|body| self.lookup(body)).collect();
        let accepted = lookups.iter().flatten();
        let canonical: Vec<Vec<u8>> = accepted.map(|lookup| lookup.canonical_body().to_vec()).collect();
        let readings = self.php.read(bodies);
        let mut forwarded = self.php.read(&canonical).into_iter();
        let judged = bodies.iter().zip(lookups).zip(readings);
        judged
            .map(|((body, lookup), reading)| {
                let of_model = model_fault(body, &reading);
                match lookup {
                    Ok(lookup) => {
                        let forwarded = forwarded.next().unwrap();
                        accepted_fault(&lookup, &reading, "sent")
                            .or_else(|| accepted_fault(&lookup, &forwarded, "forwarded"))
                    }
                    Err(reason) => refused_fault(reason, &reading),
                }
                .or(of_model)
            })
            .collect()
    }
}

/// The policy of a configuration that says nothing of it.
fn default_policy() -> Policy {
    let least = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]";
    Settings::parse(least, Path::new(".")).unwrap().policy
}

/// An accepted body reads as the one pair that was judged, and nothing else.
fn accepted_fault(lookup: &Lookup, reading: &Reading, which: &str) -> Option<String> {
    let pair = (lookup.key.name().as_bytes().to_vec(), Some(lookup.value.as_bytes().to_vec()));
    (reading.variables != [pair]).then(|| {
        format!(
            "{}={:?} was accepted, but PHP reads in what is {which} {}",
            lookup.key,
            lookup.value,
            told(reading)
        )
    })
}

/// A body that is nothing but one well-spelt pair is not refused.
fn refused_fault(reason: Reason, reading: &Reading) -> Option<String> {
    let [(name, Some(value))] = reading.variables.as_slice() else { return None };
    let key = LookupKey::ALL.into_iter().find(|key| key.name().as_bytes() == name);
    (reading.is_plain && key.is_some_and(|key| conforms(key, value)))
        .then(|| format!("PHP reads {}, and yet it was refused as {}", told(reading), reason.code()))
}

/// The default patterns, in other words.
fn conforms(key: LookupKey, value: &[u8]) -> bool {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(byte);
    let Some((first, rest)) = value.split_first() else { return false };
    let is_number = matches!(first, b'1'..=b'9') && rest.len() <= 17 && rest.iter().all(u8::is_ascii_digit);
    let is_word = first.is_ascii_alphabetic() && rest.len() <= 63 && rest.iter().all(is_fine);
    is_number || (key != LookupKey::CustomerId && is_word)
}

/// The gateway's model of `parse_str` reads as PHP does: the same names, the same values, arrays where PHP makes them.
fn model_fault(body: &[u8], reading: &Reading) -> Option<String> {
    if pieces(body).any(|(name, _)| decode(name).iter().filter(|&&byte| byte == b'[').count() > MAX_NESTING) {
        // PHP drops such an array, and what had its name before; the model keeps it as an array.
        return None;
    }
    let model: BTreeMap<Vec<u8>, Option<Vec<u8>>> = parse_str(body)
        .map(|variable| {
            let value = (!variable.is_array).then(|| variable.value.into_owned());
            (variable.name.into_owned(), value)
        })
        .collect();
    let real: BTreeMap<_, _> = reading.variables.iter().cloned().collect();
    (model != real).then(|| {
        let model = Reading { variables: model.into_iter().collect(), ..reading.clone() };
        format!("PHP reads {}, and its model {}", told(reading), told(&model))
    })
}

fn told(reading: &Reading) -> String {
    let variable = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
        Some(value) => format!("\"{}\" = \"{}\"", name.escape_ascii(), value.escape_ascii()),
        None => format!("\"{}\" = an array", name.escape_ascii()),
    };
    let shown: Vec<String> = reading.variables.iter().take(5).map(variable).collect();
    format!("{} variables: {}", reading.variables.len(), shown.join(", "))
}

/// The smallest body found by leaving parts out of one that has a fault and still has one.
pub(super) fn smallest(
    body: &[u8],
    fault: String,
    mut find: impl FnMut(&[u8]) -> Option<String>,
) -> (Vec<u8>, String) {
    let (mut body, mut fault) = (body.to_vec(), fault);
    let mut part = body.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < body.len() {
            let end = (at + part).min(body.len());
            let shorter = [&body[..at], &body[end..]].concat();
            match find(&shorter) {
                Some(found) => (body, fault) = (shorter, found),
                None => at = end,
            }
        }
        part /= 2;
    }
    (body, fault)
}
