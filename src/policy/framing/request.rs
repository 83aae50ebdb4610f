//! A head as it is kept while its request is judged and answered.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::{BodyFraming, RawHead, read};
use crate::{
    policy::{Head, path},
    reason::Reason,
};

/// The head of one request, whose framing is beyond doubt.
#[derive(Debug)]
pub struct RequestHead {
    bytes: Bytes,
    target: Bytes,
    /// The method.
    pub method: Method,
    /// The header fields.
    pub fields: HeaderMap,
    /// How its body is delimited.
    pub body: BodyFraming,
    /// Whether it is of HTTP/1.0, which has neither chunks nor interim answers.
    pub is_http_10: bool,
    /// Whether the client will go on using the connection.
    pub persists: bool,
}

impl RequestHead {
    /// Reads a whole head, as found by a [`HeadScanner`](super::HeadScanner), and judges its framing.
    ///
    /// # Errors
    /// The first broken rule of `request_malformed`, `framing_ambiguous` and `header_too_large`.
    pub fn read(bytes: Bytes) -> Result<Self, Reason> {
        let mut fields = HeaderMap::with_capacity(16);
        let mut is_sound = true;
        let head = read(&bytes, |name, value| {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value));
            match (name, value) {
                (Ok(name), Ok(value)) => is_sound &= fields.try_append(name, value).is_ok(),
                (Ok(_) | Err(_), _) => is_sound = false,
            }
        })?;
        let RawHead { method, target, body, is_http_10, persists } = head;
        let target = bytes.slice_ref(target.as_bytes());
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Reason::RequestMalformed)?;
        if !is_sound {
            return Err(Reason::RequestMalformed);
        }
        Ok(Self { bytes, target, method, fields, body, is_http_10, persists })
    }

    /// What policy may know of it.
    pub fn view(&self) -> Head<'_> {
        Head { method: self.method.as_str(), target: self.target(), fields: &self.fields }
    }

    /// The request target, as sent.
    pub fn target(&self) -> &str {
        str::from_utf8(&self.target).unwrap_or_default()
    }

    /// As [`Head::uri`].
    ///
    /// # Errors
    /// `request_malformed`.
    pub fn uri(&self) -> Result<Uri, Reason> {
        self.view().uri()
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        path::without_query(self.target())
    }

    /// Each field as sent, its name in the sender's own case.
    pub fn each_field(&self, field: impl FnMut(&str, &[u8])) {
        // It was read before, so that nothing can be wrong with it now.
        let _ = read(&self.bytes, field);
    }

    /// Whether its body is declared to be longer than so many bytes.
    pub fn declares_more_than(&self, most: usize) -> bool {
        matches!(self.body, BodyFraming::Length(length) if length > most as u64)
    }

    /// Whether the client waits for a 100 before it sends its body (RFC 9110 section 10.1.1).
    pub fn awaits_continue(&self) -> bool {
        !self.is_http_10 && self.fields.contains_key(header::EXPECT)
    }
}
