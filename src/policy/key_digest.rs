//! The digest by which the configuration knows an api-key.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// The SHA-256 of an api-key: what the configuration knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// One that no key has, as far as anybody knows.
    pub(super) const OF_NOTHING: Self = Self([0; 32]);

    /// The digest of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self(digest))
    }

    /// Whether it is another, in a time that tells nothing of either.
    pub(super) fn is(&self, other: &Self) -> subtle::Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::LowerHex for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

/// A digest of a weak key gives the key away to whoever guesses.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_writes_and_is_not_shown() {
        let digest = KeyDigest::of(b"44b5498dbcb481a0d00b404c0169af62");
        let text = format!("{digest:x}");
        assert_eq!(KeyDigest::parse(&text), Some(digest));
        assert_eq!(KeyDigest::parse(&text.to_uppercase()), Some(digest));
        assert!(!format!("{digest:?}").contains(&text[..8]));
        for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(KeyDigest::parse(text), None, "{text}");
        }
    }
}
