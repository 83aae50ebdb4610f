//! Finds the end of a request's head in bytes that arrive piece by piece.

use std::ops::Range;

use super::{
    MAX_HEAD,
    fields::{is_token, trim_ows},
};
use crate::reason::Reason;

/// The first byte of a TLS connection, which begins no method.
pub const TLS_HANDSHAKE: u8 = 0x16;

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
    /// `framing_ambiguous` for a line that ends in a bare LF, `request_malformed` where the first line shows that it is
    /// no HTTP at all, `header_too_large` when the end is not in sight within [`MAX_HEAD`].
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Reason> {
        // Whoever says hello by TLS waits for an answer, and sends no line end that could be waited for.
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Err(Reason::RequestMalformed);
        }
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found;
            if end > MAX_HEAD {
                // As it would be had the bytes come one by one.
                return Err(Reason::HeaderTooLarge);
            }
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(self.bare_lf(bytes));
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

    /// What a bare LF means: smuggling within HTTP, and nothing in another protocol, whose lines may end so.
    fn bare_lf(&self, bytes: &[u8]) -> Reason {
        let head = &bytes[self.start..];
        let first = &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())];
        if first.is_empty() || resembles_request_line(first) {
            Reason::FramingAmbiguous
        } else {
            Reason::RequestMalformed
        }
    }
}

/// Whether some reader could take a line for the first of a request, be it of HTTP/0.9, which names no version.
fn resembles_request_line(line: &[u8]) -> bool {
    let names_a_target = || {
        let (method, target) = line.split_at(memchr::memchr2(b' ', b'\t', line)?);
        let target = trim_ows(target);
        Some(is_token(method) && (target.starts_with(b"/") || target.starts_with(b"http")))
    };
    memchr::memmem::find(line, b"HTTP/").is_some() || names_a_target().unwrap_or(false)
}
