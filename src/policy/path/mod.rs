//! Whether a target is the unlock path, could be read as it, or is something else.

use std::borrow::Cow;

use memchr::memmem;
use percent_encoding::percent_decode;

use crate::{operation::UNLOCK, wire::target::origin_form};

/// What a target names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The unlock path, spelt exactly.
    Unlock {
        /// Whether a query string follows, if only an empty one.
        query: bool,
    },
    /// Something that an upstream could read as the unlock path, or that names no path and is up to the upstream.
    Disguised,
    /// Anything else.
    Other,
}

/// Tells what a target names; of an absolute-form target, its path and query.
pub fn classify(target: &str) -> Class {
    let target = origin_form(target);
    let (path, query) = match target.split_once('?') {
        Some((path, _)) => (path, true),
        None => (target, false),
    };
    if path == UNLOCK.path {
        Class::Unlock { query }
    } else if path.is_empty() || could_be_unlock(target.as_bytes()) {
        Class::Disguised
    } else {
        Class::Other
    }
}

/// How many times over a target may be percent-encoded: of one beyond it nobody can say what an upstream reads.
const MOST_ENCODINGS: usize = 8;

/// Whether some upstream could arrive at the unlock path, taking the target whole or in part: whether each of its
/// [words](crate::operation::Operation::words) is anywhere in it, once decoded as often as an upstream may.
///
/// A front controller finds its route in the path behind a script's name, in one parameter of the query or in several,
/// in their names or values, and in whatever order and with whatever marks between the words. PHP's names ignore case, so
/// `r=customerunlock` may call what `CustomerUnlock` does: hence words within words count. That also refuses
/// `/customers?status=unlocked`, which is the price.
fn could_be_unlock(target: &[u8]) -> bool {
    let mut is_seen = UNLOCK.words.map(|_| false);
    let mut text = Cow::Borrowed(target);
    for _ in 0..=MOST_ENCODINGS {
        let folded = fold(&text);
        for (is_seen, word) in is_seen.iter_mut().zip(UNLOCK.words) {
            // At whichever stage: decoding on can eat a letter, as that of `%2customer` does.
            *is_seen |= memmem::find(&folded, word.as_bytes()).is_some();
        }
        if is_seen.iter().all(|is_seen| *is_seen) {
            return true;
        }
        match Cow::from(percent_decode(&text)) {
            Cow::Owned(decoded) => text = Cow::Owned(decoded),
            // It borrows where there was nothing to decode.
            Cow::Borrowed(_) => return false,
        }
    }
    true
}

/// A text as the most forgiving router compares it: letters as PCRE's `/iu` folds them, which has U+017F for an `s` and
/// U+212A for a `k`; what parts one segment or parameter from the next as `/`; and no other marks, bytes outside ASCII or
/// control bytes, since applications drop those from a route before they look for it.
fn fold(text: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z', _) => folded.push(byte.to_ascii_lowercase()),
            (b'/' | b'\\' | b'?' | b'#' | b'&' | b'=', _) => folded.push(b'/'),
            (0xc5, [0xbf, ..]) => folded.push(b's'),
            (0xe2, [0x84, 0xaa, ..]) => folded.push(b'k'),
            _ => {}
        }
    }
    folded
}

#[cfg(test)]
mod tests;
