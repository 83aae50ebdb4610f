//! What the gateway answers by itself: problem documents (RFC 9457) and the fields beside them.

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use pingora::protocols::http::date::get_cached_date;
use serde::Serialize;

use super::{Request, context::Asked};
use crate::{
    downstream::reply::{Marks, connection_line, line},
    operation::UNLOCK,
    outcome::RequestId,
    quota::Balance,
    reason::Reason,
};

/// After which a call that found no room or no peer may come again.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// A problem document; the request's id comes last, so that the rest can be written once and for all.
#[derive(Serialize)]
struct Problem {
    r#type: String,
    title: &'static str,
    status: Option<u16>,
    detail: &'static str,
    code: &'static str,
    request_id: &'static str,
}

/// What answers for the same reason have in common.
struct Template {
    /// Status line and fields, as far as they are the same.
    head: Vec<u8>,
    /// The problem document, up to where the request's id goes.
    opening: Vec<u8>,
}

/// Every reason's template.
static TEMPLATES: LazyLock<[Template; Reason::ALL.len()]> = LazyLock::new(|| Reason::ALL.map(Template::of));

/// What follows a request's id in a problem document.
const CLOSING: &[u8] = b"\"}";

impl Template {
    fn of(reason: Reason) -> Self {
        let face = reason.face();
        let problem = Problem {
            r#type: format!("urn:n4n-gateway:{}", face.code),
            title: face.title,
            status: face.status.map(|status| status.as_u16()),
            detail: face.detail,
            code: face.code,
            request_id: "",
        };
        let mut opening = serde_json::to_vec(&problem).unwrap_or_default();
        opening.truncate(opening.len().saturating_sub(CLOSING.len()));
        let length = opening.len() + RequestId::LENGTH + CLOSING.len();
        Self { head: face.status.map(|status| head(status, length)).unwrap_or_default(), opening }
    }
}

fn head(status: StatusCode, length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
    line(&mut head, b"Content-Type", b"application/problem+json");
    line(&mut head, b"Content-Length", length.to_string().as_bytes());
    line(&mut head, b"Cache-Control", b"no-store");
    match status {
        StatusCode::METHOD_NOT_ALLOWED => line(&mut head, b"Allow", UNLOCK.method.as_str().as_bytes()),
        StatusCode::UNAUTHORIZED => line(&mut head, b"WWW-Authenticate", b"ApiKey realm=\"n4n\""),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            line(&mut head, b"Accept-Patch", UNLOCK.media_type.as_bytes());
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            line(&mut head, b"Retry-After", whole_seconds(RETRY_SOON).as_bytes());
        }
        _ => {}
    }
    head
}

/// The problem document of a reason.
pub fn problem(reason: Reason, request_id: &str) -> Bytes {
    [&TEMPLATES[reason as usize].opening, request_id.as_bytes(), CLOSING].concat().into()
}

/// The whole answer to a request that was refused, or that failed before anything was answered; empty for a reason
/// that is not answered. `persists` tells whether the connection goes on.
pub(crate) fn refusal(reason: Reason, request: &Request, persists: bool) -> Vec<u8> {
    let is_exhausted = matches!(reason, Reason::QuotaExceeded | Reason::ClientQuotaExceeded);
    let asked = request.quota.as_ref();
    let retry_after = asked.and_then(|asked| asked.retry_after).filter(|_| is_exhausted);
    let mut answer = Answer::begin(reason);
    if let Some(retry_after) = retry_after {
        line(&mut answer.bytes, b"Retry-After", whole_seconds(retry_after).as_bytes());
    }
    mark(&mut answer.bytes, request.id, asked);
    answer.end(request.id, request.head.method != Method::HEAD, persists)
}

/// The whole answer to a request of which nothing could be kept; the connection closes.
pub fn raw(reason: Reason, id: RequestId) -> Vec<u8> {
    let mut answer = Answer::begin(reason);
    mark(&mut answer.bytes, id, None);
    answer.end(id, true, false)
}

/// A problem document's answer as it is being written.
struct Answer {
    reason: Reason,
    bytes: Vec<u8>,
}

impl Answer {
    fn begin(reason: Reason) -> Self {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&TEMPLATES[reason as usize].head);
        Self { reason, bytes }
    }

    fn end(self, id: RequestId, has_body: bool, persists: bool) -> Vec<u8> {
        let Self { reason, mut bytes } = self;
        if reason.face().status.is_none() {
            return Vec::new();
        }
        line(&mut bytes, b"Date", get_cached_date().as_bytes());
        bytes.extend_from_slice(connection_line(persists));
        bytes.extend_from_slice(b"\r\n");
        if has_body {
            for part in [
                &TEMPLATES[reason as usize].opening,
                id.encode(&mut [0; RequestId::LENGTH]).as_bytes(),
                CLOSING,
            ] {
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }
}

/// The fields that every answer to a request has, n4n's included.
pub(crate) fn marks(request: &Request) -> Marks {
    let mut lines = Vec::with_capacity(192);
    mark(&mut lines, request.id, request.quota.as_ref());
    let names: &[_] = match request.quota {
        Some(_) => &["x-request-id", "ratelimit-policy", "ratelimit"],
        None => &["x-request-id"],
    };
    Marks { names, lines }
}

fn mark(lines: &mut Vec<u8>, id: RequestId, asked: Option<&Asked>) {
    line(lines, b"X-Request-Id", id.encode(&mut [0; RequestId::LENGTH]).as_bytes());
    let Some(Asked { policy, balance: Balance { quota, remaining, whole_in }, .. }) = asked else {
        return;
    };
    // Integers make their own text faster than `format!` does.
    let [burst, remaining] = [quota.burst.get(), *remaining].map(|number| number.to_string());
    let [window, whole_in] = [quota.window(), *whole_in].map(whole_seconds);
    for part in [
        "RateLimit-Policy: \"",
        policy,
        "\";q=",
        &burst,
        ";w=",
        &window,
        "\r\nRateLimit: \"",
        policy,
        "\";r=",
        &remaining,
        ";t=",
        &whole_in,
        "\r\n",
    ] {
        lines.extend_from_slice(part.as_bytes());
    }
}

/// So many seconds, rounded up, in digits.
fn whole_seconds(duration: Duration) -> String {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).to_string()
}
