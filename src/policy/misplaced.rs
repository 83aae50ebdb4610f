//! Api-keys where something else belongs: found by their digests, or by a listed name in the place of the key.
//!
//! Who mistakes one field for the other puts a key where logs, trail and page would keep a name. What is found is shown as
//! [`MASK`] everywhere, and told.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::{
    ApiUsername, Credentials, Lookup,
    credential::{MASK, MAX_LENGTH},
    key_digest::KeyDigest,
};
use crate::wire::{Fields, fields::fold_alike};

/// The longest number that is no key, whatever its digest: so that neither a customer's number is masked in the trail, nor
/// such a value costs a digest.
const LONGEST_NUMBER: usize = 18;

/// The shortest segment of a path that may be a key, and how many are looked at: a path may have thousands.
const SHORTEST_SEGMENT: usize = 16;
const MOST_SEGMENTS: usize = 8;

/// Where a key stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the `api-username`.
    ApiUsername,
    /// In the value of a lookup key.
    LookupValue,
    /// In the path.
    Path,
}

/// A key in the wrong place.
#[derive(Debug, Clone)]
pub struct Misplaced {
    /// Where it stood.
    pub place: Place,
    /// The listed user whose key it is, where that is known.
    pub owner: Option<Arc<str>>,
}

/// What is known of the listed users' keys and names.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys {
    owners: HashMap<KeyDigest, Arc<str>>,
    /// The listed spelling, by the name in lower case.
    names: HashMap<Box<str>, Arc<str>>,
}

impl Place {
    /// Every place, by its position.
    pub const ALL: [Self; 3] = [Self::ApiUsername, Self::LookupValue, Self::Path];

    /// Its label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ApiUsername => "api_username",
            Self::LookupValue => "lookup_value",
            Self::Path => "path",
        }
    }
}

impl KnownKeys {
    /// Those of these users.
    pub fn of<'a>(listed: impl IntoIterator<Item = (&'a str, &'a [KeyDigest])>) -> Self {
        let mut known = Self::default();
        for (name, keys) in listed {
            let name: Arc<str> = name.into();
            known.owners.extend(keys.iter().map(|digest| (*digest, name.clone())));
            known.names.insert(name.to_ascii_lowercase().into(), name);
        }
        known
    }

    /// The user whose key a text is.
    pub fn owner(&self, text: &[u8]) -> Option<&Arc<str>> {
        let may_be_key =
            !self.owners.is_empty() && (1..=MAX_LENGTH).contains(&text.len()) && !is_number(text);
        if may_be_key { self.owners.get(&KeyDigest::of(text)) } else { None }
    }

    /// The listed user whose name a text is.
    pub fn listed(&self, text: &[u8]) -> Option<&Arc<str>> {
        if self.names.is_empty() {
            return None;
        }
        let text = str::from_utf8(text).ok()?;
        if !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.names.get(text);
        }
        // It may be a key, which is not left in memory.
        let folded = Zeroizing::new(text.to_ascii_lowercase());
        self.names.get(folded.as_str())
    }

    /// Whether the name of these credentials is a key; `is_listed` says whether it is the name of a listed user.
    ///
    /// Takes as long either way, so that no answer tells which names are listed.
    pub fn in_username(&self, credentials: &Credentials, is_listed: bool) -> Option<Misplaced> {
        let owner = self.owner(credentials.username.as_str().as_bytes());
        let named = self.listed(credentials.key.as_bytes());
        let owner = owner.or(named).filter(|_| !is_listed)?;
        Some(Misplaced { place: Place::ApiUsername, owner: Some(owner.clone()) })
    }

    /// Whether a name that comes without a key is one.
    pub fn in_bare_username(&self, username: &ApiUsername) -> Option<Misplaced> {
        let owner = self.owner(username.as_str().as_bytes())?.clone();
        Some(Misplaced { place: Place::ApiUsername, owner: Some(owner) })
    }

    /// Whether what is looked up is a key: one that the request's fields have, in whichever spelling, or a listed user's.
    pub fn in_lookup(&self, fields: Fields<'_>, lookup: &Lookup) -> Option<Misplaced> {
        let value = lookup.value.as_bytes();
        if is_number(value) {
            return None;
        }
        let owner = self.owner(value).cloned();
        let is_own = fields.iter().any(|(name, field)| field == value && fold_alike(name, "api-key"));
        (is_own || owner.is_some()).then_some(Misplaced { place: Place::LookupValue, owner })
    }

    /// A path with its segments masked that are keys, and whose key the first is; none where none is.
    pub fn in_path(&self, path: &str) -> Option<(String, Misplaced)> {
        if self.owners.is_empty() {
            return None;
        }
        let mut left = MOST_SEGMENTS;
        let mut first = None;
        let mut masked: Vec<&str> = path.split('/').collect();
        for segment in &mut masked {
            if segment.len() < SHORTEST_SEGMENT || left == 0 {
                continue;
            }
            left -= 1;
            let decoded: Cow<'_, [u8]> = percent_decode_str(segment).into();
            if let Some(owner) = self.owner(&decoded) {
                first.get_or_insert_with(|| owner.clone());
                *segment = MASK;
            }
        }
        let owner = first?;
        Some((masked.join("/"), Misplaced { place: Place::Path, owner: Some(owner) }))
    }
}

/// Whether a text is a number as ids have it.
pub fn is_number(text: &[u8]) -> bool {
    text.len() <= LONGEST_NUMBER && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn known() -> KnownKeys {
        let keys = [KeyDigest::of(KEY.as_bytes()), KeyDigest::of(b"191")];
        KnownKeys::of([("Keyed", &keys[..]), ("open", &[])])
    }

    #[test]
    fn a_path_is_masked_where_a_segment_is_a_key() {
        let masked = |path: &str| known().in_path(path).map(|(path, _)| path);
        for (path, want) in [
            (format!("/api/customer/unlock/{KEY}"), Some("/api/customer/unlock/***")),
            (format!("/{KEY}/x/%30123456789abcdef0123456789abcdef"), Some("/***/x/***")),
            (format!("/{}0", KEY), None),
            ("/".to_owned(), None),
            (format!("{}/{KEY}", "/aaaaaaaaaaaaaaaa".repeat(8)), None),
        ] {
            assert_eq!(masked(&path).as_deref(), want, "{path}");
        }
        assert!(KnownKeys::default().in_path(&format!("/{KEY}")).is_none());
    }

    #[test]
    fn a_number_is_no_key() {
        assert_eq!(known().owner(KEY.as_bytes()).map(|owner| &**owner), Some("Keyed"));
        for text in ["191", "", "keyed", &"k".repeat(257)] {
            assert!(known().owner(text.as_bytes()).is_none(), "{text}");
        }
    }
}
