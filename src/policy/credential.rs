//! The two credentials: found once each, in one spelling, and kept from sight.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    reason::Reason,
    wire::{
        Fields,
        fields::{fold_alike, is_same},
    },
};

/// The most bytes a credential may have.
const MAX_LENGTH: usize = 256;

/// The rules of [`Credentials::of`].
pub(super) const RULES: &[Reason] =
    &[Reason::CredentialMissing, Reason::CredentialAmbiguous, Reason::CredentialMalformed];

/// Who calls, in n4n's own terms.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiUsername(Box<str>);

/// The key that goes with an [`ApiUsername`]: it can be forwarded, never shown.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<Box<[u8]>>);

/// Both credentials of a call, well-formed.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The `api-username`.
    pub username: ApiUsername,
    /// The `api-key`.
    pub key: ApiKey,
}

impl Credentials {
    /// Finds both credentials in a request's fields.
    ///
    /// With `legacy`, the spellings `api_key` and `api_username` are as good, but not beside the others.
    ///
    /// # Errors
    /// `credential_missing`, `credential_ambiguous` or `credential_malformed`, in this order over both.
    pub fn of(fields: Fields<'_>, legacy: bool) -> Result<Self, Reason> {
        let key = Found::of(fields, "api-key", legacy.then_some("api_key"));
        let username = Found::of(fields, "api-username", legacy.then_some("api_username"));
        let (Some(first_key), Some(first_username)) = (key.value, username.value) else {
            return Err(Reason::CredentialMissing);
        };
        if key.ambiguous || username.ambiguous {
            return Err(Reason::CredentialAmbiguous);
        }
        let username = str::from_utf8(first_username).ok().filter(|_| is_well_formed(first_username));
        let Some(username) = username.filter(|_| is_well_formed(first_key)) else {
            return Err(Reason::CredentialMalformed);
        };
        Ok(Self { username: ApiUsername(username.into()), key: ApiKey(Zeroizing::new(first_key.into())) })
    }
}

/// One credential's traces in the fields.
struct Found<'a> {
    /// The first value that is not empty.
    value: Option<&'a [u8]>,
    /// Whether anything else folds onto the same name.
    ambiguous: bool,
}

impl<'a> Found<'a> {
    fn of(fields: Fields<'a>, name: &str, legacy_name: Option<&str>) -> Self {
        let mut value = None;
        let mut occurrences = 0;
        for (field, candidate) in fields.iter() {
            if fold_alike(field, name) {
                occurrences += 1;
                let accepted =
                    is_same(field, name) || legacy_name.is_some_and(|legacy| is_same(field, legacy));
                if accepted && !candidate.is_empty() {
                    value = value.or(Some(candidate));
                }
            }
        }
        Self { value, ambiguous: occurrences > 1 }
    }
}

/// Whether bytes can be a credential: at most 256 of them, all visible ASCII.
pub fn is_well_formed(value: &[u8]) -> bool {
    value.len() <= MAX_LENGTH && value.iter().all(u8::is_ascii_graphic)
}

impl ApiUsername {
    /// The name as text; it is visible ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiUsername {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiUsername").field(&self.as_str()).finish()
    }
}

impl ApiKey {
    /// The bytes that are forwarded.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}
