//! Writing n4n's answer to the client: status, end-to-end fields, body, and the fields that the gateway adds.

use std::io;

use pingora::protocols::http::date::get_cached_date;

use crate::{
    downstream::{Client, HeadWriter},
    request::{
        Request,
        problem::{ADDED, added},
    },
    wire::{
        Fields,
        answer::Answer,
        fields::is_same,
        hop_by_hop::{is_hop_by_hop, nominated},
    },
};

/// Passes an answer on. `persists` says whether more requests may come by the client's connection.
///
/// # Errors
/// Those of the client's connection.
pub async fn relay(
    request: &Request,
    answer: &Answer,
    client: &mut impl Client,
    persists: bool,
) -> io::Result<()> {
    let mut head = client.begin();
    let (status, fields) = (answer.head.status, answer.fields());
    head.status(status, answer.phrase());
    // The Content-Length of an answer to HEAD, or of a 304, is that of a body that is not sent.
    let is_bodiless = request.head.method() == "HEAD" || matches!(status, 204 | 304);
    pass_fields(&mut head, fields, |name| is_same(name, "content-length") && (!is_bodiless || status == 204));
    if !is_bodiless {
        head.field(b"Content-Length", itoa::Buffer::new().format(answer.body().len()).as_bytes());
    }
    added(&mut head, request);
    let body = (!is_bodiless).then(|| answer.body());
    client.answer(head, body, persists).await
}

/// Passes the end-to-end fields of an answer on, but for those that the gateway adds itself and those `left_out`.
pub fn pass_fields(head: &mut impl HeadWriter, fields: Fields<'_>, left_out: impl Fn(&[u8]) -> bool) {
    let nominated = nominated(fields);
    let mut has_date = false;
    for (name, value) in fields.iter() {
        let is_left_out = is_hop_by_hop(name)
            || ADDED.iter().any(|added| is_same(name, added))
            || left_out(name)
            || nominated
                .clone()
                .any(|nominated| name.eq_ignore_ascii_case(nominated) && !is_same(name, "content-length"));
        if !is_left_out {
            has_date |= is_same(name, "date");
            head.field(name, value);
        }
    }
    if !has_date {
        head.field(b"Date", get_cached_date().as_bytes());
    }
}
