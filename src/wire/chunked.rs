//! Where a chunked body ends (RFC 9112 section 7.1), read strictly.
//!
//! Lines end in CR LF alone, sizes are plain hexadecimal, and nothing may stand between a size and its
//! extensions, since lenient readers disagree on all of these.

use std::{error::Error, fmt, io};

use super::fields::is_token_byte;

/// The most bytes of one size line, its extensions included.
const MAX_LINE: usize = 256;

/// The most digits of a size, leading zeros included: as many as 64 bits can have.
const MAX_DIGITS: usize = 16;

/// The largest size before its last digit: readers that count with a sign must agree on it.
const MAX_BEFORE_LAST: u64 = i64::MAX as u64 >> 4;

/// The most bytes of trailer section.
const MAX_TRAILERS: usize = 4096;

/// Follows a chunked body to its end, across any division into pieces.
#[derive(Debug, Clone)]
pub struct ChunkScanner {
    state: State,
    /// Bytes seen of the present line, or of the trailers.
    seen: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// The bytes are no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenChunking;

impl BrokenChunking {
    /// Whether it is what an error of reading a body stands for.
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

impl fmt::Display for BrokenChunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken chunking")
    }
}

impl Error for BrokenChunking {}

impl From<BrokenChunking> for io::Error {
    fn from(broken: BrokenChunking) -> Self {
        Self::new(io::ErrorKind::InvalidData, broken)
    }
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self { state: State::Size(0), seen: 0 }
    }
}

impl ChunkScanner {
    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// Goes on over `bytes`; returns how many of them belong to the body.
    ///
    /// # Errors
    /// [`BrokenChunking`] at the first byte that cannot stand where it does.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, BrokenChunking> {
        self.follow(bytes, |_| {})
    }

    /// As [`advance`](Self::advance), and gives what the chunks hold to `data`.
    ///
    /// # Errors
    /// [`BrokenChunking`] at the first byte that cannot stand where it does.
    pub fn follow(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, BrokenChunking> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::End {
            if let State::Data(left) = self.state {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                data(&bytes[at..at + run]);
                at += run;
                let left = left - run as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, BrokenChunking> {
        self.seen += 1;
        let in_trailers = matches!(
            self.state,
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf | State::EndLf
        );
        if self.seen > if in_trailers { MAX_TRAILERS } else { MAX_LINE } {
            return Err(BrokenChunking);
        }
        let digit = (byte as char).to_digit(16).map(u64::from);
        match (self.state, byte, digit) {
            (State::Size(size), _, Some(digit)) if self.seen <= MAX_DIGITS && size <= MAX_BEFORE_LAST => {
                Ok(State::Size(size << 4 | digit))
            }
            (State::Size(size), b'\r', _) if self.seen > 1 => Ok(State::SizeLf(size)),
            (State::Size(size), b';', _) if self.seen > 1 => Ok(State::Extension(size)),
            (State::Extension(size), b'\r', _) => Ok(State::SizeLf(size)),
            (State::Extension(size), b'\t' | b' '..=b'~', _) => Ok(State::Extension(size)),
            (State::SizeLf(size), b'\n', _) => {
                self.seen = 0;
                Ok(if size == 0 { State::TrailerStart } else { State::Data(size) })
            }
            (State::DataCr, b'\r', _) => Ok(State::DataLf),
            (State::DataLf, b'\n', _) => {
                self.seen = 0;
                Ok(State::Size(0))
            }
            (State::TrailerStart, b'\r', _) => Ok(State::EndLf),
            (State::TrailerName, b':', _) => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, byte, _) if is_token_byte(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r', _) => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80.., _) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n', _) => Ok(State::TrailerStart),
            (State::EndLf, b'\n', _) => Ok(State::End),
            _ => Err(BrokenChunking),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of the body at the start of `text`, fed byte by byte and whole.
    fn scan(text: &str) -> Result<Option<usize>, BrokenChunking> {
        let bytes = text.as_bytes();
        let mut whole = ChunkScanner::default();
        let at_once = whole.advance(bytes).map(|length| whole.is_done().then_some(length));
        let mut piecewise = ChunkScanner::default();
        let mut length = 0;
        let piece_by_piece = bytes
            .iter()
            .try_for_each(|byte| piecewise.advance(&[*byte]).map(|taken| length += taken))
            .map(|()| piecewise.is_done().then_some(length));
        assert_eq!(at_once, piece_by_piece, "{text}");
        at_once
    }

    #[test]
    fn a_body_ends_with_its_last_chunk_and_trailers() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "a;name=value\r\n0123456789\r\n000\r\n\r\n",
            "1\r\n\n\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
        ] {
            assert_eq!(scan(body), Ok(Some(body.len())), "{body}");
            assert_eq!(scan(&format!("{body}PATCH /")), Ok(Some(body.len())), "{body}");
        }
    }

    #[test]
    fn trailers_may_be_longer_than_a_size_line() {
        let body = format!("0\r\nTrailer: {}\r\n\r\n", "x".repeat(2 * MAX_LINE));
        assert_eq!(scan(&body), Ok(Some(body.len())));
    }

    #[test]
    fn a_body_without_its_end_goes_on() {
        for body in ["", "5", "5\r\nhel", "5\r\nhello\r\n0\r\n", "0\r\nTrailer: x\r\n"] {
            assert_eq!(scan(body), Ok(None), "{body}");
        }
    }

    #[test]
    fn lenient_spellings_are_broken() {
        for body in [
            "\r\n",
            "5\n",
            "5 \r\n",
            " 5\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-1\r\n",
            "g\r\n",
            "5\rx",
            "5;a\n",
            "5;a\u{1}\r\n",
            "fffffffffffffffff\r\n",
            "5\r\nhello!",
            "5\r\nhello\n",
            "0\r\n\n",
            "0\r\nTrailer\n",
            "0\r\nTrailer\r\n",
            "0\r\n: x\r\n",
            "0\r\nGET / HTTP/1.1\r\n",
            "00000000000000000\r\n",
            "0\r\n\u{1}\r\n",
        ] {
            assert_eq!(scan(body), Err(BrokenChunking), "{body}");
        }
        assert_eq!(scan(&format!("5;{}\r\n", "a".repeat(MAX_LINE))), Err(BrokenChunking));
        assert_eq!(scan(&format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILERS))), Err(BrokenChunking));
    }
}
