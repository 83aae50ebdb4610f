//! Finds the end of a head in bytes that arrive piece by piece.

use std::ops::Range;

use super::MAX_HEAD;
use crate::reason::Reason;

/// Finds the end of the first head in bytes that arrive piece by piece.
#[derive(Debug, Default)]
pub struct HeadScanner {
    /// Where the head begins: empty lines before it are passed over (RFC 9112 section 2.2).
    start: usize,
    /// Where the line begins that is being looked at.
    line: usize,
    /// How far the bytes have been looked at.
    seen: usize,
}

impl HeadScanner {
    /// The range of the head in `bytes`, once its empty line is there.
    ///
    /// `bytes` must begin with those given before.
    ///
    /// # Errors
    /// `framing_ambiguous` for a line that ends in a bare LF, `header_too_large` when the end is not in sight
    /// within [`MAX_HEAD`].
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Reason> {
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found;
            if end > MAX_HEAD {
                // As it would be had the bytes come one by one.
                return Err(Reason::HeaderTooLarge);
            }
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(Reason::FramingAmbiguous);
            }
            let is_empty = end - 1 == self.line;
            self.seen = end + 1;
            self.line = self.seen;
            if is_empty && self.start + 2 == self.line {
                self.start = self.line;
            } else if is_empty {
                let head = self.start..self.line;
                return if head.len() > MAX_HEAD { Err(Reason::HeaderTooLarge) } else { Ok(Some(head)) };
            }
            if self.line > MAX_HEAD {
                return Err(Reason::HeaderTooLarge);
            }
        }
        self.seen = bytes.len();
        if self.seen > MAX_HEAD { Err(Reason::HeaderTooLarge) } else { Ok(None) }
    }
}
