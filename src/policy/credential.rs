//! The two credentials: found once each, in one spelling, and kept from sight.

use std::fmt;

use http::{HeaderMap, HeaderValue};

use super::fields::fold_alike;
use crate::reason::Reason;

/// The most bytes a credential may have.
const MAX_LENGTH: usize = 256;

/// The rules of [`Credentials::of`].
pub(super) const RULES: &[Reason] =
    &[Reason::CredentialMissing, Reason::CredentialAmbiguous, Reason::CredentialMalformed];

/// Who calls, in n4n's own terms.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiUsername(HeaderValue);

/// The key that goes with an [`ApiUsername`]: it can be forwarded, never shown.
#[derive(Clone)]
pub struct ApiKey(HeaderValue);

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
    pub fn of(fields: &HeaderMap, legacy: bool) -> Result<Self, Reason> {
        let key = Found::of(fields, "api-key", legacy.then_some("api_key"));
        let username = Found::of(fields, "api-username", legacy.then_some("api_username"));
        let (Some(first_key), Some(first_username)) = (key.value, username.value) else {
            return Err(Reason::CredentialMissing);
        };
        if key.ambiguous || username.ambiguous {
            return Err(Reason::CredentialAmbiguous);
        }
        if !is_well_formed(first_key.as_bytes()) || !is_well_formed(first_username.as_bytes()) {
            return Err(Reason::CredentialMalformed);
        }
        let mut key = first_key.clone();
        key.set_sensitive(true);
        Ok(Self { username: ApiUsername(first_username.clone()), key: ApiKey(key) })
    }
}

/// One credential's traces in the fields.
struct Found<'a> {
    /// The first value that is not empty.
    value: Option<&'a HeaderValue>,
    /// Whether anything else folds onto the same name.
    ambiguous: bool,
}

impl<'a> Found<'a> {
    fn of(fields: &'a HeaderMap, name: &str, legacy_name: Option<&str>) -> Self {
        let mut value = None;
        let mut occurrences = 0;
        for (field, candidate) in fields {
            if fold_alike(field.as_str(), name) {
                occurrences += 1;
                let accepted = field == name || legacy_name.is_some_and(|legacy| field == legacy);
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
        self.0.to_str().unwrap_or_default()
    }

    /// The field value that is forwarded.
    pub fn as_value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for ApiUsername {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiUsername").field(&self.as_str()).finish()
    }
}

impl ApiKey {
    /// The field value that is forwarded; marked sensitive, so that its own `Debug` hides it too.
    pub fn as_value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}
