//! Request framing: where a body ends and which host is addressed, refused where that is ambiguous.

use super::{
    MAX_FIELDS,
    ambiguity::Ambiguity,
    fields::{is_disguise_of, is_same, list},
    hop_by_hop::is_connection_option,
    target::{self, is_same_host},
};
use crate::reason::Reason;

/// The rules on a head's framing.
pub const RULES: [Reason; 4] =
    [Reason::RequestMalformed, Reason::HeaderTimeout, Reason::FramingAmbiguous, Reason::HeaderTooLarge];

/// How a request's body is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// This many bytes, none where nothing is declared.
    Length(u64),
    /// By the chunked transfer coding.
    Chunked,
}

/// The fields that matter to framing, as they were counted.
#[derive(Debug, Default)]
pub(super) struct FieldFacts<'a> {
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
    pub(super) fn note(&mut self, name: &[u8], value: &'a [u8]) {
        self.count += 1;
        match name.len() {
            4 if is_same(name, "host") => {
                self.hosts += 1;
                self.host = value;
            }
            10 if is_same(name, "connection") => {
                for option in list(value) {
                    self.nominates_end_to_end |= !is_connection_option(option);
                    self.asks_to_close |= option.eq_ignore_ascii_case(b"close");
                    self.asks_to_persist |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 | 14 | 17 => {
                if is_same(name, "content-length") {
                    self.lengths += 1;
                    self.length = value;
                } else if is_same(name, "transfer-encoding") {
                    self.codings += 1;
                    self.coding = value;
                } else {
                    self.is_disguised |= is_disguise_of(name, &FRAMING_FIELDS);
                }
            }
            _ => {}
        }
    }

    /// Judges what was noted, for a request with this target.
    pub(super) fn judge(&self, target: &str, is_http_10: bool) -> Result<BodyFraming, Reason> {
        let framing = self.framing(target, is_http_10).map_err(|_| Reason::FramingAmbiguous)?;
        if self.count > MAX_FIELDS { Err(Reason::HeaderTooLarge) } else { Ok(framing) }
    }

    /// How the body is delimited, or what is ambiguous about what was noted, for a request with this target.
    pub(super) fn framing(&self, target: &str, is_http_10: bool) -> Result<BodyFraming, Ambiguity> {
        if !is_clear_target(target) {
            return Err(Ambiguity::Target);
        }
        match self.hosts {
            0 => return Err(Ambiguity::NoHost),
            1 if is_authority(self.host) => {}
            1 => return Err(Ambiguity::Host),
            2.. => return Err(Ambiguity::RepeatedHost),
        }
        let names_host =
            |(scheme, authority): (_, &str)| is_same_host(scheme, authority.as_bytes(), self.host);
        if !target::authority(target).is_none_or(names_host) {
            return Err(Ambiguity::OtherHost);
        }
        if self.nominates_end_to_end {
            return Err(Ambiguity::NominatedField);
        }
        if self.is_disguised {
            return Err(Ambiguity::DisguisedField);
        }
        match (self.lengths, self.codings) {
            (0, 0) => Ok(BodyFraming::Length(0)),
            (1, 0) => length(self.length).map(BodyFraming::Length).ok_or(Ambiguity::Length),
            (_, 0) => Err(Ambiguity::RepeatedLength),
            (0, 1) if self.coding.eq_ignore_ascii_case(b"chunked") && !is_http_10 => Ok(BodyFraming::Chunked),
            (0, _) => Err(Ambiguity::Coding),
            (_, _) => Err(Ambiguity::LengthAndCoding),
        }
    }

    /// Whether the client will go on using the connection (RFC 9112 section 9.3).
    pub(super) const fn persists(&self, is_http_10: bool) -> bool {
        !self.asks_to_close && (!is_http_10 || self.asks_to_persist)
    }
}

/// Whether a target has no space, fragment or byte outside visible ASCII, and is of a known form.
pub(super) fn is_clear_target(target: &str) -> bool {
    target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && (target.starts_with('/') || target == "*" || target::authority(target).is_some())
}

/// Names that no other field may be folded onto.
const FRAMING_FIELDS: [&str; 3] = ["content-length", "content-type", "transfer-encoding"];

/// A Content-Length: digits and nothing else, small enough to count with.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&length| length <= i64::MAX as u64)
}

/// Whether a Host is `uri-host [ ":" port ]` (RFC 9110 section 7.2), not empty, and no list to readers of X-Forwarded-Host,
/// in which a comma parts one host from the next.
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
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte),
    };
    !name.is_empty() && name.iter().all(is_name_byte) && port.iter().all(u8::is_ascii_digit)
}
