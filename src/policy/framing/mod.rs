//! Where a request begins and ends, judged on its raw bytes before anything else reads them.
//!
//! The parser is stricter than RFC 9112 allows a recipient to be: whatever two readers could take
//! differently is refused rather than repaired. What is no HTTP at all is `request_malformed`; what
//! lenient parsers accept, each in its own way, is `framing_ambiguous`.

mod request;

use super::fields::{is_disguise_of, list};
use crate::reason::Reason;

pub use request::RequestHead;

/// The most bytes a head may have, from the request line to the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most header fields a request may have.
pub const MAX_FIELDS: usize = 64;

/// How a request's body is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// This many bytes, none where nothing is declared.
    Length(u64),
    /// By the chunked transfer coding.
    Chunked,
}

/// The head of one HTTP/1 request whose framing is beyond doubt.
#[derive(Debug)]
pub struct RawHead<'a> {
    /// The method.
    pub method: &'a str,
    /// The request target, as sent.
    pub target: &'a str,
    /// How its body is delimited.
    pub body: BodyFraming,
    /// Whether it is of HTTP/1.0, which has neither chunks nor interim answers.
    pub is_http_10: bool,
    /// Whether the client will go on using the connection (RFC 9112 section 9.3).
    pub persists: bool,
}

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
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, Reason> {
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
                return Ok(Some(self.start..self.line)).and_then(within_limit);
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

/// The first byte of a TLS connection, which begins no method.
pub const TLS_HANDSHAKE: u8 = 0x16;

/// Whether some reader could take a line for the first of a request, be it of HTTP/0.9, which names no version.
fn resembles_request_line(line: &[u8]) -> bool {
    let names_a_target = || {
        let (method, target) = line.split_at(memchr::memchr2(b' ', b'\t', line)?);
        let target = trim_ows(target);
        Some(token(method).is_some() && (target.starts_with(b"/") || target.starts_with(b"http")))
    };
    memchr::memmem::find(line, b"HTTP/").is_some() || names_a_target().unwrap_or(false)
}

fn within_limit(head: Option<std::ops::Range<usize>>) -> Result<Option<std::ops::Range<usize>>, Reason> {
    if head.as_ref().is_some_and(|head| head.len() > MAX_HEAD) {
        Err(Reason::HeaderTooLarge)
    } else {
        Ok(head)
    }
}

/// Reads a whole head, as found by a [`HeadScanner`], and judges its framing.
///
/// Each field is also given to `field`, name and value, in order.
///
/// # Errors
/// The first broken rule of `request_malformed`, `framing_ambiguous` and `header_too_large`.
pub fn read<'a>(head: &'a [u8], mut field: impl FnMut(&'a str, &'a [u8])) -> Result<RawHead<'a>, Reason> {
    let mut lines = Lines(head);
    let request_line = RequestLine::of(lines.next().unwrap_or_default())?;
    let mut facts = FieldFacts::default();
    for line in lines {
        let (name, value) = split_field(line)?;
        facts.note(name, value);
        field(name, value);
    }
    let body = facts.judge(&request_line)?;
    let RequestLine { method, target, is_http_10, .. } = request_line;
    let persists = !facts.asks_to_close && (!is_http_10 || facts.asks_to_persist);
    Ok(RawHead { method, target, body, is_http_10, persists })
}

/// Method and target of a head that was refused, for the log, as far as they can be read.
pub fn readable_request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = Lines(head).next()?;
    let line = RequestLine::of(line).ok()?;
    line.clear.then_some((line.method, line.target))
}

/// The lines of a head up to the empty one, without their CR LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        line.strip_suffix(b"\r\n").filter(|line| !line.is_empty())
    }
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    /// Whether the target is clean: no space, fragment or byte outside visible ASCII, and of a known form.
    clear: bool,
    is_http_10: bool,
}

impl<'a> RequestLine<'a> {
    /// `method SP target SP HTTP-version` (RFC 9112 section 3).
    fn of(line: &'a [u8]) -> Result<Self, Reason> {
        let first = memchr::memchr(b' ', line).ok_or(Reason::RequestMalformed)?;
        let last =
            memchr::memrchr(b' ', line).filter(|&last| last > first).ok_or(Reason::RequestMalformed)?;
        let is_http_10 = match &line[last + 1..] {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Reason::RequestMalformed),
        };
        let method = token(&line[..first]).ok_or(Reason::RequestMalformed)?;
        let raw_target = &line[first + 1..last];
        let Ok(target) = str::from_utf8(raw_target) else {
            return Err(Reason::FramingAmbiguous);
        };
        let visible = raw_target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#');
        let clear = visible && (target.starts_with('/') || target == "*" || authority_of(target).is_some());
        Ok(Self { method, target, clear, is_http_10 })
    }
}

/// The authority of an absolute-form target with a scheme of HTTP's.
fn authority_of(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then(|| &rest[..rest.find(['/', '?']).unwrap_or(rest.len())])
}

/// Splits `field-name ":" OWS field-value OWS` (RFC 9112 section 5).
fn split_field(line: &[u8]) -> Result<(&str, &[u8]), Reason> {
    let colon = memchr::memchr(b':', line).ok_or(Reason::RequestMalformed)?;
    let name = token(&line[..colon]).ok_or(Reason::RequestMalformed)?;
    let value = trim_ows(&line[colon + 1..]);
    let is_field_byte = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if value.iter().all(is_field_byte) { Ok((name, value)) } else { Err(Reason::RequestMalformed) }
}

/// Trims optional white space, which is SP and HTAB alone (RFC 9110 section 5.6.3).
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A `token` (RFC 9110 section 5.6.2).
fn token(bytes: &[u8]) -> Option<&str> {
    let is_token = !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte));
    str::from_utf8(bytes).ok().filter(|_| is_token)
}

/// Whether a byte may stand in a `token`.
pub const fn is_token_byte(byte: u8) -> bool {
    IS_TOKEN[byte as usize]
}

/// Which bytes a token may have.
const IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// What framing must know of a request's fields.
#[derive(Debug, Default)]
pub struct FieldFacts<'a> {
    count: usize,
    hosts: usize,
    host: &'a [u8],
    lengths: usize,
    length: &'a [u8],
    codings: usize,
    coding: &'a [u8],
    nominates_end_to_end: bool,
    asks_to_close: bool,
    asks_to_persist: bool,
    is_disguised: bool,
}

impl<'a> FieldFacts<'a> {
    /// Takes note of one field.
    pub fn note(&mut self, name: &str, value: &'a [u8]) {
        self.count += 1;
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts += 1;
                self.host = value;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in list(value) {
                    self.nominates_end_to_end |= !is_connection_option(option);
                    self.asks_to_close |= option.eq_ignore_ascii_case(b"close");
                    self.asks_to_persist |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 | 14 | 17 => {
                if name.eq_ignore_ascii_case("content-length") {
                    self.lengths += 1;
                    self.length = value;
                } else if name.eq_ignore_ascii_case("transfer-encoding") {
                    self.codings += 1;
                    self.coding = value;
                } else {
                    self.is_disguised |= is_disguise_of(name, &FRAMING_FIELDS);
                }
            }
            _ => {}
        }
    }

    fn judge(&self, line: &RequestLine<'_>) -> Result<BodyFraming, Reason> {
        let host_is_clear = self.hosts == 1
            && is_authority(self.host)
            && authority_of(line.target)
                .is_none_or(|authority| authority.as_bytes().eq_ignore_ascii_case(self.host));
        if !line.clear || !host_is_clear || self.nominates_end_to_end || self.is_disguised {
            return Err(Reason::FramingAmbiguous);
        }
        let framing = match (self.lengths, self.codings) {
            (0, 0) => BodyFraming::Length(0),
            (1, 0) => BodyFraming::Length(length(self.length).ok_or(Reason::FramingAmbiguous)?),
            (0, 1) if self.coding.eq_ignore_ascii_case(b"chunked") && !line.is_http_10 => {
                BodyFraming::Chunked
            }
            _ => return Err(Reason::FramingAmbiguous),
        };
        if self.count > MAX_FIELDS { Err(Reason::HeaderTooLarge) } else { Ok(framing) }
    }
}

/// Names that no other field may be folded onto.
const FRAMING_FIELDS: [&str; 3] = ["content-length", "content-type", "transfer-encoding"];

/// Whether a `Connection` option concerns the connection alone.
///
/// Any other names a field that a proxy then removes, after this one has judged it. Removing
/// `Transfer-Encoding` would change where the body ends, so that one counts as end-to-end here.
fn is_connection_option(option: &[u8]) -> bool {
    const OPTIONS: [&[u8]; 7] =
        [b"close", b"keep-alive", b"te", b"trailer", b"upgrade", b"http2-settings", b"proxy-connection"];
    OPTIONS.iter().any(|known| option.eq_ignore_ascii_case(known))
}

/// A Content-Length: digits and nothing else, small enough to count with.
fn length(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&length| length <= i64::MAX as u64)
}

/// Whether a Host is `uri-host [ ":" port ]` (RFC 9110 section 7.2) and not empty.
pub fn is_authority(host: &[u8]) -> bool {
    let (name, port) = match (host.first(), memchr::memrchr(b':', host)) {
        (Some(b'['), _) => match memchr::memchr(b']', host) {
            Some(end) => match host[end + 1..].strip_prefix(b":") {
                Some(port) => (&host[1..end], port),
                None if host.len() == end + 1 => (&host[1..end], &b""[..]),
                None => return false,
            },
            None => return false,
        },
        (_, Some(colon)) => (&host[..colon], &host[colon + 1..]),
        (_, None) => (host, &b""[..]),
    };
    let is_literal = host.first() == Some(&b'[');
    let is_name_byte = |&byte: &u8| match byte {
        b':' => is_literal,
        b'%' => !is_literal,
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
    };
    !name.is_empty() && name.iter().all(is_name_byte) && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
