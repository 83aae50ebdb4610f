//! What goes upstream of a judged call: its canonical form, or what observe mode lets pass made the gateway's own.

use crate::{
    policy::{Call, path},
    request::{
        Request,
        forwarded::{Forwarded, is_replaced},
    },
    wire::{Fields, fields::is_same, hop_by_hop::is_hop_by_hop, put_field, target::origin_form},
};

/// The caller's own fields that are forwarded with an unlock call.
const FORWARDED: [&str; 5] = ["accept", "accept-language", "user-agent", "traceparent", "tracestate"];

/// The media type of a form.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// How many bytes most calls have at the most.
const USUAL_LENGTH: usize = 1024;

/// The one form in which a call reaches n4n, head and body.
pub fn call(request: &Request, call: &Call) -> Vec<u8> {
    let extra = &request.live.settings.forward_headers;
    canonical(
        Forwarded::of(request),
        call,
        call.caller.credentials.key.as_bytes(),
        request.head.fields(),
        extra,
    )
}

/// The same, of a call that is in no request's hands. `key` is what is shown as its api-key, and `extra` names the
/// caller's fields that are forwarded beside the built-in ones.
pub fn canonical(
    forwarded: Forwarded<'_>,
    call: &Call,
    key: &[u8],
    fields: Fields<'_>,
    extra: &[http::HeaderName],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_LENGTH);
    for part in ["PATCH ", path::UNLOCK, " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    forwarded.each(|name, value| put_field(&mut bytes, name.as_bytes(), value));
    put_field(&mut bytes, b"api-key", key);
    put_field(&mut bytes, b"api-username", call.caller.credentials.username.as_str().as_bytes());
    put_field(&mut bytes, b"Content-Type", FORM);
    put_field(&mut bytes, b"Content-Length", call.canonical_body.len().to_string().as_bytes());
    let forwarded = FORWARDED.into_iter().chain(extra.iter().map(|name| name.as_str()));
    for name in forwarded {
        for (_, value) in fields.iter().filter(|(other, _)| is_same(other, name)) {
            put_field(&mut bytes, name.as_bytes(), value);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&call.canonical_body);
    bytes
}

/// A call that observe mode lets pass: its method, target, end-to-end fields and body as they came, framed anew.
pub fn as_it_came(request: &Request, body: &[u8]) -> Vec<u8> {
    let head = &request.head;
    let mut bytes = Vec::with_capacity(USUAL_LENGTH + body.len());
    for part in [head.method(), " ", origin_form(head.target()), " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    Forwarded::of(request).each(|name, value| put_field(&mut bytes, name.as_bytes(), value));
    let mut declares_length = false;
    for (name, value) in head.fields().iter() {
        declares_length |= is_same(name, "content-length");
        let is_left_out = is_hop_by_hop(name)
            || is_replaced(name)
            || is_same(name, "content-length")
            || is_same(name, "expect");
        if !is_left_out {
            put_field(&mut bytes, name, value);
        }
    }
    if declares_length || !body.is_empty() {
        put_field(&mut bytes, b"Content-Length", body.len().to_string().as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
