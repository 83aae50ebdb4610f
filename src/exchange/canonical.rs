//! The bytes of a judged call as they go upstream: the canonical form, or, for what observe mode lets pass, the request as it came.

use crate::{
    operation::UNLOCK,
    policy::Call,
    request::{
        Request,
        forwarded::{Forwarded, is_replaced},
    },
    wire::{Fields, RequestHead, fields::is_same, hop_by_hop::is_hop_by_hop, put_field, target::origin_form},
};

/// Enough for most calls, so that the buffer need not grow.
const USUAL_LENGTH: usize = 1024;

/// The one form in which a call reaches n4n, head and body.
pub fn call(request: &Request, call: &Call) -> Vec<u8> {
    let names = &request.live.settings.forward_headers;
    canonical(Forwarded::of(request), call, request.head.fields(), names)
}

/// The canonical form of a call; `forward_headers` names the client's fields that are forwarded with it.
pub fn canonical(
    forwarded: Forwarded<'_>,
    call: &Call,
    fields: Fields<'_>,
    forward_headers: &[http::HeaderName],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_LENGTH);
    for part in [UNLOCK.method.as_str(), " ", UNLOCK.path, " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    forwarded.each(|name, value| put_field(&mut bytes, name.as_bytes(), value));
    put_field(&mut bytes, b"api-key", call.credentials.key.as_bytes());
    put_field(&mut bytes, b"api-username", call.credentials.username.forwarded().as_bytes());
    put_field(&mut bytes, b"Content-Type", UNLOCK.media_type.as_bytes());
    let length = call.canonical_body.len();
    put_field(&mut bytes, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
    for name in forward_headers {
        for (_, value) in fields.iter().filter(|(other, _)| is_same(other, name.as_str())) {
            put_field(&mut bytes, name.as_str().as_bytes(), value);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&call.canonical_body);
    bytes
}

/// A call that observe mode lets pass: method, target, end-to-end fields and body as they came, with a new Content-Length.
pub fn as_it_came(request: &Request, body: &[u8]) -> Vec<u8> {
    passed_on(Forwarded::of(request), &request.head, body, true)
}

/// A request as it is passed on. `is_framed_anew` is false where its body keeps the framing it came in.
pub fn passed_on(forwarded: Forwarded<'_>, head: &RequestHead, body: &[u8], is_framed_anew: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_LENGTH + body.len());
    for part in [head.method(), " ", origin_form(head.target()), " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    forwarded.each(|name, value| put_field(&mut bytes, name.as_bytes(), value));
    let mut declares_length = false;
    for (name, value) in head.fields().iter() {
        declares_length |= is_same(name, "content-length");
        let frames = is_same(name, "content-length") || is_same(name, "expect");
        let is_coding = is_same(name, "transfer-encoding");
        let is_left_out = is_replaced(name)
            || is_framed_anew && frames
            || is_hop_by_hop(name) && (is_framed_anew || !is_coding);
        if !is_left_out {
            put_field(&mut bytes, name, value);
        }
    }
    if is_framed_anew && (declares_length || !body.is_empty()) {
        put_field(&mut bytes, b"Content-Length", itoa::Buffer::new().format(body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
