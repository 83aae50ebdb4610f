//! What ties a record to the one before it.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of one line of a trail, without its line break.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// What the first record of a trail follows.
    pub const START: Self = Self([0; 32]);

    /// The digest of a line.
    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let is_lower_case = !text.bytes().any(|digit| digit.is_ascii_uppercase());
        hex::decode_to_slice(text, &mut bytes).ok().filter(|()| is_lower_case)?;
        Some(Self(bytes))
    }

    /// Its 64 digits, written into `buffer`.
    pub(super) fn encode(self, buffer: &mut [u8; 64]) -> &str {
        hex::encode_to_slice(self.0, buffer).expect("32 bytes have 64 digits");
        str::from_utf8(buffer).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 64]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
