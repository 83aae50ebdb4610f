//! Api-keys hidden wherever a request's text has them: where they belong, and where they stand by mistake.

use std::sync::LazyLock;

use percent_encoding::percent_decode;
use regex::bytes::{Captures, Regex};

use crate::{
    policy::{KnownKeys, credential::MASK, misplaced::is_number},
    wire::{Fields, fields::fold_alike},
};

/// Where a request's text has an api-key: a field of any name that CGI folds onto it, and a pair of a query or a form.
static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"api(?:[^0-9a-z\r\n]|%[0-9a-f]{2})key";
    let pattern = format!(r"(?im-u)(^{name}: )[^\r\n]*|(\b{name}=)[^\r\n&]*");
    Regex::new(&pattern).expect("a fixed pattern")
});

/// A field's value.
static VALUES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m-u)^([!-9;-~]+: )([^\r\n]+)").expect("a fixed pattern"));

/// What stands between the marks of a target, a form or a list.
static PIECES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)()([^\s&=/?,;:]+)").expect("a fixed pattern"));

/// What is not to be shown of one request.
pub(super) struct Secrets<'a> {
    known: &'a KnownKeys,
    /// The keys that it came with.
    own: &'a [Vec<u8>],
}

/// What the fields of a request have in the place of the key, and in that of the user where a listed name is there.
pub(super) fn own_keys(fields: Fields<'_>, known: &KnownKeys) -> Vec<Vec<u8>> {
    let named = |name| fields.iter().filter(move |(field, _)| fold_alike(field, name));
    let mut own: Vec<Vec<u8>> = named("api-key").map(|(_, value)| value.to_vec()).collect();
    if own.iter().any(|key| known.listed(key).is_some()) {
        let users = named("api-username").map(|(_, value)| value);
        own.extend(users.filter(|user| known.listed(user).is_none()).map(<[u8]>::to_vec));
    }
    own
}

impl<'a> Secrets<'a> {
    /// What is known of the listed users' keys, and the keys that a request came with.
    pub(super) const fn new(known: &'a KnownKeys, own: &'a [Vec<u8>]) -> Self {
        Self { known, own }
    }

    /// Whether a text is one of them.
    pub(super) fn has(&self, text: &[u8]) -> bool {
        (!is_number(text) && self.own.iter().any(|own| own == text)) || self.known.owner(text).is_some()
    }

    /// A request as text, without them.
    pub(super) fn hide(&self, request: &[u8]) -> String {
        let request = KEYS.replace_all(request, &b"${1}${2}***"[..]);
        let hide = |found: &Captures<'_>| {
            let (before, value) = (&found[1], &found[2]);
            let is_hidden = self.has(value) || self.has(&percent_decode(value).collect::<Vec<_>>());
            [before, if is_hidden { MASK.as_bytes() } else { value }].concat()
        };
        let hidden = VALUES.replace_all(&request, hide);
        let hidden = PIECES.replace_all(&hidden, hide);
        String::from_utf8_lossy(&hidden).into_owned()
    }
}
