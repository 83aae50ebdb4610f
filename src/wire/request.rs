//! A request's head, parsed in place.

use std::fmt;

use bytes::Bytes;
use http::Uri;

use super::{
    BodyFraming, Fields, HeadScanner, MAX_HEAD,
    ambiguity::Ambiguity,
    fields::{FieldSpan, Span, is_token, is_value, trim_ows},
    framing::{FieldFacts, is_clear_target},
    target,
};
use crate::reason::Reason;

/// The head of one request whose framing is beyond doubt.
#[derive(Clone)]
pub struct RequestHead {
    /// Method and target, one behind the other: text, which need not be looked at again to be taken for it.
    line: Box<str>,
    method_length: usize,
    /// What the fields stand in.
    bytes: Bytes,
    fields: Vec<FieldSpan>,
    /// How its body is delimited.
    pub body: BodyFraming,
    /// Whether it is of HTTP/1.0, which has neither chunks nor interim answers.
    pub is_http_10: bool,
    /// Whether the client will go on using the connection.
    pub persists: bool,
}

/// Its bytes have an api-key in them, which is not shown.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, path) = (self.method(), self.path());
        f.debug_struct("RequestHead").field("method", &method).field("path", &path).finish_non_exhaustive()
    }
}

/// How many fields most requests have at the most.
const USUAL_FIELDS: usize = 16;

impl RequestHead {
    /// Reads a whole head, as found by a [`HeadScanner`], and judges its framing.
    ///
    /// # Errors
    /// The first broken rule of `request_malformed`, `framing_ambiguous` and `header_too_large`.
    pub fn read(bytes: Bytes) -> Result<Self, Reason> {
        let mut lines = Lines(&bytes);
        let line = RequestLine::of(lines.next().unwrap_or_default())?;
        let mut facts = FieldFacts::default();
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        let span = |part: &[u8]| Span::of(part, &bytes).ok_or(Reason::HeaderTooLarge);
        for line in lines {
            let (name, value) = split_field(line)?;
            facts.note(name, value);
            fields.push(FieldSpan { name: span(name)?, value: span(value)? });
        }
        let is_http_10 = line.is_http_10;
        let body = facts.judge(line.target, is_http_10)?;
        let persists = facts.persists(is_http_10);
        let (method_length, line) = (line.method.len(), [line.method, line.target].concat().into());
        Ok(Self { line, method_length, fields, body, is_http_10, persists, bytes })
    }

    /// Makes a head of the parts that another version of HTTP frames in its own way, and judges it by the same rules.
    ///
    /// `body` is how its body would be delimited in HTTP/1.1.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub fn of_parts<'a>(
        method: &str,
        target: &str,
        fields: &[(&'a [u8], &'a [u8])],
        is_chunked: bool,
    ) -> Result<Self, Reason> {
        // What it would have in HTTP/1.1, separators included.
        let lines: usize = fields.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum();
        let length = method.len() + target.len() + "  HTTP/1.1\r\n\r\n".len() + lines;
        let mut bytes = Vec::with_capacity(lines);
        let mut put = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            Span::between(start, bytes.len()).ok_or(Reason::HeaderTooLarge)
        };
        if target.is_empty() || !is_token(method.as_bytes()) {
            return Err(Reason::RequestMalformed);
        }
        let mut facts = FieldFacts::default();
        let mut spans = Vec::with_capacity(USUAL_FIELDS);
        for &(name, value) in fields {
            let value = trim_ows(value);
            if !is_token(name) || !is_value(value) {
                return Err(Reason::RequestMalformed);
            }
            facts.note(name, value);
            spans.push(FieldSpan { name: put(name)?, value: put(value)? });
        }
        let declared = facts.judge(target, false)?;
        let body = if is_chunked { BodyFraming::Chunked } else { declared };
        if length > MAX_HEAD {
            return Err(Reason::HeaderTooLarge);
        }
        let bytes = bytes.into();
        let (method_length, line) = (method.len(), [method, target].concat().into());
        let (is_http_10, persists) = (false, true);
        Ok(Self { line, method_length, bytes, fields: spans, body, is_http_10, persists })
    }

    /// The method, as sent.
    pub fn method(&self) -> &str {
        self.line.get(..self.method_length).unwrap_or_default()
    }

    /// The request target, as sent.
    pub fn target(&self) -> &str {
        self.line.get(self.method_length..).unwrap_or_default()
    }

    /// The header fields.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.bytes, &self.fields)
    }

    /// How many bytes of memory its text takes.
    pub fn size(&self) -> usize {
        self.line.len() + self.bytes.len()
    }

    /// The target in origin form, as it is passed on where it is not the unlock call's.
    ///
    /// # Errors
    /// `request_malformed` for bytes that no URI has.
    pub fn uri(&self) -> Result<Uri, Reason> {
        target::uri(self.target())
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        target::without_query(self.target())
    }

    /// Whether its body is declared to be longer than so many bytes.
    pub fn declares_more_than(&self, most: usize) -> bool {
        matches!(self.body, BodyFraming::Length(length) if length > most as u64)
    }

    /// Whether the client waits for a 100 before it sends its body (RFC 9110 section 10.1.1).
    pub fn awaits_continue(&self) -> bool {
        !self.is_http_10 && self.fields().has("expect")
    }
}

/// What is ambiguous about bytes whose head was refused as `framing_ambiguous`.
pub fn ambiguity(bytes: &[u8]) -> Option<Ambiguity> {
    let head = match HeadScanner::default().scan(bytes) {
        Ok(head) => head?,
        Err(reason) => return (reason == Reason::FramingAmbiguous).then_some(Ambiguity::BareLf),
    };
    let mut lines = Lines(&bytes[head]);
    let line = match RequestLine::of(lines.next().unwrap_or_default()) {
        Ok(line) => line,
        Err(reason) => return (reason == Reason::FramingAmbiguous).then_some(Ambiguity::Target),
    };
    let mut facts = FieldFacts::default();
    for line in lines {
        let (name, value) = split_field(line).ok()?;
        facts.note(name, value);
    }
    facts.framing(line.target, line.is_http_10).err()
}

/// Method and target of a head that was refused, for the log, as far as they can be read.
pub fn readable_request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = Lines(head).next()?;
    let line = RequestLine::of(line).ok()?;
    is_clear_target(line.target).then_some((line.method, line.target))
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
        let method = &line[..first];
        let method = str::from_utf8(method).ok().filter(|_| is_token(method));
        let method = method.ok_or(Reason::RequestMalformed)?;
        let target = str::from_utf8(&line[first + 1..last]).map_err(|_| Reason::FramingAmbiguous)?;
        Ok(Self { method, target, is_http_10 })
    }
}

/// Splits `field-name ":" OWS field-value OWS` (RFC 9112 section 5).
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let colon = memchr::memchr(b':', line).ok_or(Reason::RequestMalformed)?;
    let (name, value) = (&line[..colon], trim_ows(&line[colon + 1..]));
    if is_token(name) && is_value(value) { Ok((name, value)) } else { Err(Reason::RequestMalformed) }
}
