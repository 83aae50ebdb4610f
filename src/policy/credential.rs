//! The two credentials of a call: found once each, in one spelling, and never shown.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use crate::{
    reason::Reason,
    wire::{
        Fields,
        fields::{fold_alike, is_same},
    },
};

/// The most bytes a credential may have.
pub(super) const MAX_LENGTH: usize = 256;

/// What is shown in the place of a key.
pub const MASK: &str = "***";

/// The rules of [`Credentials::of`].
pub(super) const RULES: &[Reason] =
    &[Reason::CredentialMissing, Reason::CredentialAmbiguous, Reason::CredentialMalformed];

/// The user of a call. Names that differ in the case of ASCII letters alone are one user's, as they are to n4n's database.
#[derive(Clone)]
pub struct ApiUsername {
    spelling: Arc<str>,
    /// The name in lower case, where it is not spelt so.
    folded: Option<Arc<str>>,
    /// Whether it is an api-key, which is not shown.
    is_key: bool,
}

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
        let (mut key, mut username) = (FieldMatches::default(), FieldMatches::default());
        for (name, value) in fields.iter() {
            key.note_key(name, value, legacy);
            username.note_username(name, value, legacy);
        }
        let (Some(first_key), Some(first_username)) = (key.value, username.value) else {
            return Err(Reason::CredentialMissing);
        };
        if key.occurrences > 1 || username.occurrences > 1 {
            return Err(Reason::CredentialAmbiguous);
        }
        let username = ApiUsername::read(first_username);
        let Some(username) = username.filter(|_| is_well_formed(first_key)) else {
            return Err(Reason::CredentialMalformed);
        };
        Ok(Self { username, key: ApiKey(Zeroizing::new(first_key.into())) })
    }
}

/// What the fields hold of one credential.
#[derive(Default)]
struct FieldMatches<'a> {
    /// The first value that is not empty.
    value: Option<&'a [u8]>,
    /// How many fields fold onto its name.
    occurrences: usize,
}

impl<'a> FieldMatches<'a> {
    fn note_key(&mut self, field: &[u8], value: &'a [u8], legacy: bool) {
        self.note(field, value, "api-key", legacy.then_some("api_key"));
    }

    fn note_username(&mut self, field: &[u8], value: &'a [u8], legacy: bool) {
        self.note(field, value, "api-username", legacy.then_some("api_username"));
    }

    fn note(&mut self, field: &[u8], value: &'a [u8], name: &str, legacy_name: Option<&str>) {
        if !fold_alike(field, name) {
            return;
        }
        self.occurrences += 1;
        let is_accepted = is_same(field, name) || legacy_name.is_some_and(|legacy| is_same(field, legacy));
        if is_accepted && !value.is_empty() {
            self.value = self.value.or(Some(value));
        }
    }
}

/// Whether bytes can be a credential: at most 256 of them, all visible ASCII.
///
/// The database behind n4n compares names by a collation that may pass over case, accents, trailing spaces or control
/// characters. Of visible ASCII no collation takes two characters for one but the two cases of a letter, and none passes
/// over any, so that [`ApiUsername::folded`] folds all that there is to fold. Whoever accepts more here has to fold more there.
pub fn is_well_formed(value: &[u8]) -> bool {
    value.len() <= MAX_LENGTH && value.iter().all(u8::is_ascii_graphic)
}

impl From<&str> for ApiUsername {
    fn from(name: &str) -> Self {
        let is_folded = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let folded = (!is_folded).then(|| name.to_ascii_lowercase().into());
        Self { spelling: name.into(), folded, is_key: false }
    }
}

impl ApiUsername {
    /// The user that a request's fields name, where they name one, once, in a form that it may have; what there is of a
    /// key does not matter.
    pub(super) fn of(fields: Fields<'_>, legacy: bool) -> Option<Self> {
        let mut username = FieldMatches::default();
        for (name, value) in fields.iter() {
            username.note_username(name, value, legacy);
        }
        username.value.filter(|_| username.occurrences == 1).and_then(Self::read)
    }

    fn read(value: &[u8]) -> Option<Self> {
        str::from_utf8(value).ok().filter(|_| is_well_formed(value)).map(Self::from)
    }

    /// The name as it is spelt, which is how it is shown; [`MASK`] where it is an api-key.
    pub fn as_str(&self) -> &str {
        if self.is_key { MASK } else { &self.spelling }
    }

    /// The name in lower case: what users are told apart by. Those whose name is an api-key are one.
    pub fn folded(&self) -> &str {
        if self.is_key { MASK } else { self.folded.as_deref().unwrap_or(&self.spelling) }
    }

    /// What goes upstream.
    pub fn forwarded(&self) -> &str {
        &self.spelling
    }

    /// Takes note that the name is an api-key.
    pub const fn hide(&mut self) {
        self.is_key = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_from_others_by_its_letters_and_not_their_case() {
        for (name, folded) in [("ada", "ada"), ("Ada_B-7@X", "ada_b-7@x"), ("[\\]^_`{|}~", "[\\]^_`{|}~")] {
            let name = ApiUsername::from(name);
            assert_eq!(name.folded(), folded);
            assert_eq!(name.as_str(), name.forwarded());
        }
    }

    #[test]
    fn a_name_that_is_a_key_is_forwarded_and_shown_nowhere() {
        let mut name = ApiUsername::from("44B5498D");
        name.hide();
        assert_eq!((name.as_str(), name.folded(), name.forwarded()), (MASK, MASK, "44B5498D"));
        assert!(!format!("{name:?}").contains("44"));
    }
}
