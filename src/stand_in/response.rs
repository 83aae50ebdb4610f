//! An answer, and how it is put on the wire.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;

use super::request::CgiRequest;

/// The data of each chunk of a chunked answer, at most.
const CHUNK: usize = 16 * 1024;

/// One answer.
#[derive(Debug)]
pub(super) struct Response {
    status: StatusCode,
    content_type: &'static str,
    allow: Option<&'static str>,
    is_chunked: bool,
    body: Cow<'static, [u8]>,
}

/// What n4n's sister calls answer with, where they do not answer a bare word.
#[derive(Serialize)]
struct Message {
    result: &'static str,
    message: &'static str,
}

impl Response {
    /// JSON as it is.
    pub(super) fn json(body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            allow: None,
            is_chunked: false,
            body: body.into(),
        }
    }

    /// A JSON object that says what is wrong.
    pub(super) fn error(status: StatusCode, message: &'static str) -> Self {
        let body = serde_json::to_vec(&Message { result: "Error", message });
        Self { status, ..Self::json(body.expect("two strings are always JSON")) }
    }

    /// A small HTML page.
    pub(super) fn page(status: StatusCode, text: &str) -> Self {
        let body = format!("<!DOCTYPE html>\n<title>n4n stand-in</title>\n<p>{text}</p>\n");
        Self { content_type: "text/html; charset=UTF-8", status, ..Self::json(body.into_bytes()) }
    }

    /// Names the one method that would have been right.
    pub(super) fn allowing(self, method: &'static str) -> Self {
        Self { allow: Some(method), ..self }
    }

    /// Sends the body in chunks, to a client that knows them.
    pub(super) fn chunked(self) -> Self {
        Self { is_chunked: true, ..self }
    }

    /// The bytes that answer `request`; `None` when it could not be read, which ends the connection.
    pub(super) fn encode(&self, request: Option<&CgiRequest>) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_str());
        head += &format!("Content-Type: {}\r\n", self.content_type);
        if let Some(method) = self.allow {
            head += &format!("Allow: {method}\r\n");
        }
        let is_chunked = self.is_chunked && request.is_some_and(|request| !request.is_http10);
        if is_chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        if request.is_none_or(|request| request.is_last) {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if request.is_some_and(|request| request.method == "HEAD") {
            return bytes;
        }
        if is_chunked {
            for chunk in self.body.chunks(CHUNK) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}
