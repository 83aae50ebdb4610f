//! The one lookup a body may hold, read as PHP reads it.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

use super::{Head, Patterns, credential::MASK};
use crate::{operation::UNLOCK, php, reason::Reason};

/// What a customer is looked up by, in the order of [`Operation::keys`](crate::operation::Operation::keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupKey {
    /// The customer's own id.
    CustomerId,
    /// The id of the customer's subscription.
    SubscriptionId,
    /// The event id of one of the customer's transactions.
    OrderId,
}

/// One lookup key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// By what the customer is looked up.
    pub key: LookupKey,
    /// The value, decoded.
    pub value: String,
    /// Whether the value is an api-key, which is not shown.
    is_key: bool,
}

impl LookupKey {
    /// Every key.
    pub const ALL: [Self; 3] = [Self::CustomerId, Self::SubscriptionId, Self::OrderId];

    /// The parameter's name.
    pub const fn name(self) -> &'static str {
        UNLOCK.keys[self as usize]
    }

    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name().as_bytes() == name)
    }
}

impl fmt::Display for LookupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Lookup {
    /// The rules on what a body holds.
    pub(super) const RULES: &[Reason] = &[
        Reason::BodyMalformed,
        Reason::ParameterDisguised,
        Reason::ParameterUnknown,
        Reason::LookupMissing,
        Reason::LookupAmbiguous,
        Reason::LookupInvalid,
    ];

    /// Reads a form body that must hold one lookup and nothing else.
    ///
    /// # Errors
    /// The first broken rule from `body_malformed` to `lookup_invalid`, over the whole body.
    pub fn of(body: &[u8], patterns: &Patterns) -> Result<Self, Reason> {
        let mut lookup = None;
        let mut worst: Option<Reason> = None;
        let mut broken = |reason: Reason| worst = Some(worst.map_or(reason, |worst| worst.min(reason)));
        for (name, value) in php::pieces(body) {
            let (Some(name), Some(value)) = (decode_strictly(name), decode_strictly(value)) else {
                return Err(Reason::BodyMalformed);
            };
            match LookupKey::named(name.as_bytes()) {
                Some(_) if lookup.is_some() => broken(Reason::LookupAmbiguous),
                Some(key) => lookup = Some((key, value)),
                None if is_disguise(&name) => broken(Reason::ParameterDisguised),
                None => broken(Reason::ParameterUnknown),
            }
        }
        match (worst, lookup) {
            (Some(worst), _) => Err(worst),
            (None, None) => Err(Reason::LookupMissing),
            (None, Some((key, value))) if !patterns.of(key).matches(value.as_bytes()) => {
                Err(Reason::LookupInvalid)
            }
            (None, Some((key, value))) => Ok(Self { key, value: value.into_owned(), is_key: false }),
        }
    }

    /// The one lookup that n4n reads from a call that breaks a rule and is passed on as it came, where that is beyond doubt.
    ///
    /// It is what PHP reads. There is doubt where it reads several, as the last of them or as an array, where it stops
    /// early, where the query has lookups, and where the body may be meant in another format: one that is not declared as a
    /// form, and not coded, must be nothing but the pair.
    pub(super) fn beyond_doubt(head: &Head<'_>, body: &[u8]) -> Option<Self> {
        let pieces = php::pieces(body).count();
        let is_form = pieces == 1 || head.declares_a_form();
        if !is_form || pieces > php::MAX_INPUT_VARS || memchr::memchr(0, body).is_some() {
            return None;
        }
        let query = head.target.split_once('?').map_or("", |(_, query)| query);
        if variables(query.as_bytes()).next().is_some() {
            return None;
        }
        let mut read = variables(body);
        let (key, variable) = read.next().filter(|(_, variable)| !variable.is_array)?;
        let value = String::from_utf8(variable.value.into_owned()).ok().filter(|_| read.next().is_none())?;
        Some(Self { key, value, is_key: false })
    }

    /// The value as it is shown; [`MASK`] where it is an api-key.
    pub fn shown(&self) -> &str {
        if self.is_key { MASK } else { &self.value }
    }

    /// Takes note that the value is an api-key.
    pub const fn hide(&mut self) {
        self.is_key = true;
    }

    /// The pair as the one body n4n may read.
    pub fn canonical_body(&self) -> Bytes {
        serde_urlencoded::to_string([(self.key.name(), &self.value)])
            .expect("a pair of strings always serialises")
            .into()
    }
}

/// The lookups that PHP reads from a text.
fn variables(text: &[u8]) -> impl Iterator<Item = (LookupKey, php::Variable<'_>)> {
    php::parse_str(text).filter_map(|variable| LookupKey::named(&variable.name).map(|key| (key, variable)))
}

/// Whether PHP folds the name onto a lookup key that it is not.
fn is_disguise(name: &str) -> bool {
    php::fold_name(Cow::Borrowed(name.as_bytes()))
        .is_some_and(|(folded, _)| LookupKey::named(&folded).is_some())
}

/// Decodes what is percent-encoded properly and is UTF-8.
fn decode_strictly(raw: &[u8]) -> Option<Cow<'_, str>> {
    let proper = memchr::memchr_iter(b'%', raw).all(|at| php::escape(&raw[at + 1..]).is_some());
    match php::decode(raw) {
        _ if !proper => None,
        Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}
