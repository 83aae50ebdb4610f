//! What must never be seen: the keys that the tests use, however they might be written.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{LazyLock, Mutex};

use regex::bytes::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};

use super::API_KEY;

/// What every key of the tests begins with, so that it is told from everything else, also where it was cut.
pub(crate) const STEM: &str = "44b5498dbcb481a0";

/// The keys that tests have used so far, for their digests.
static KEYS: LazyLock<Mutex<BTreeSet<String>>> =
    LazyLock::new(|| Mutex::new(BTreeSet::from([API_KEY.to_owned(), STEM.to_owned()])));

/// A key for a test: not the documented one, and as secret.
pub(crate) fn secret_key(rest: &str) -> String {
    let key = format!("{STEM}{rest}");
    KEYS.lock().unwrap().insert(key.clone());
    key
}

/// Fails where a text shows a key.
pub(crate) fn assert_unseen(place: &str, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    assert_holds_none(place, text, key_in(text));
}

/// Fails where a text shows a key, the digest of one, or a digest of the configuration.
pub(crate) fn assert_unseen_with(place: &str, text: impl AsRef<[u8]>, config: &str) {
    let text = text.as_ref();
    assert_holds_none(place, text, key_in(text).or_else(|| digest_in(text, config)));
}

fn assert_holds_none(place: &str, text: &[u8], found: Option<Range<usize>>) {
    if let Some(found) = found {
        let around = found.start.saturating_sub(500)..text.len().min(found.end + 100);
        panic!("{place} shows a key or its digest:\n{}", String::from_utf8_lossy(&text[around]));
    }
}

/// Where a key stands in a text, in whatever form.
pub(super) fn key_in(text: &[u8]) -> Option<Range<usize>> {
    static FORMS: LazyLock<Regex> = LazyLock::new(|| {
        let stem = STEM.as_bytes();
        let percent_encoded = stem.iter().map(|byte| format!("%{byte:02x}")).collect();
        // A group of base64 begins with any of its first three bytes, whatever stands before it.
        let in_base64 = (0..3).map(|skipped| base64(&stem[skipped..]));
        any_of([STEM.to_owned(), percent_encoded].into_iter().chain(in_base64).chain(written_out(stem)))
    });
    FORMS.find(text).map(|found| found.range())
}

/// Where a key's digest stands in a text: one that this configuration has, or that of any key so far.
pub(super) fn digest_in(text: &[u8], config: &str) -> Option<Range<usize>> {
    static DIGEST: LazyLock<Regex> = LazyLock::new(|| Regex::new("[0-9a-f]{64}").unwrap());
    // Half of one is enough to know it by.
    let configured =
        DIGEST.find_iter(config.as_bytes()).map(|digest| config[digest.range()][..32].to_owned());
    let of_keys: Vec<_> =
        KEYS.lock().unwrap().iter().flat_map(|key| written_out(&Sha256::digest(key)[..16])).collect();
    any_of(configured.chain(of_keys)).find(text).map(|found| found.range())
}

/// One search for all: a text is long, and there are many of them.
fn any_of(forms: impl Iterator<Item = String>) -> Regex {
    let forms: Vec<_> = forms.map(|form| regex::escape(&form)).collect();
    RegexBuilder::new(&forms.join("|")).unicode(false).case_insensitive(true).build().unwrap()
}

/// Bytes in hexadecimal, as a list, and in base64.
fn written_out(bytes: &[u8]) -> [String; 3] {
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    [bytes.iter().map(|byte| format!("{byte:02x}")).collect(), list.join(", "), base64(bytes)]
}

/// The whole groups of three bytes, which come out alike whatever follows.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).map(|group| {
        let group = group.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[group >> shift & 63]))
    });
    groups.flatten().collect()
}
