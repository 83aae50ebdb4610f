//! Problem documents (RFC 9457), and the fields that the gateway adds to every answer.

use std::{sync::LazyLock, time::Duration};

use http::StatusCode;
use pingora::protocols::http::date::get_cached_date;
use serde::Serialize;

use super::{RateLimit, Request};
use crate::{downstream::HeadWriter, operation::UNLOCK, outcome::RequestId, quota::Balance, reason::Reason};

/// When a call that found no room or no peer may come again.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// Names of the fields that the gateway adds to an answer; n4n's own of these names do not pass.
pub const ADDED: [&str; 3] = ["x-request-id", "ratelimit-policy", "ratelimit"];

/// A problem document; the request's id comes last, so that the rest can be written once and for all.
#[derive(Serialize)]
struct Document {
    r#type: String,
    title: &'static str,
    status: Option<u16>,
    detail: &'static str,
    code: &'static str,
    request_id: &'static str,
}

/// What answers for the same reason have in common.
struct Template {
    status: StatusCode,
    /// The problem document, up to where the request's id goes.
    opening: Vec<u8>,
    /// The document's length, in digits.
    length: String,
    /// The field that belongs to the status.
    field: Option<(&'static str, String)>,
}

/// Every reason's template; none for one that is not answered.
static TEMPLATES: LazyLock<[Option<Template>; Reason::ALL.len()]> =
    LazyLock::new(|| Reason::ALL.map(Template::of));

/// What follows a request's id in a problem document.
const CLOSING: &[u8] = b"\"}";

impl Template {
    fn of(reason: Reason) -> Option<Self> {
        let face = reason.face();
        let status = face.status?;
        let document = Document {
            r#type: format!("urn:n4n-gateway:{}", face.code),
            title: face.title,
            status: Some(status.as_u16()),
            detail: face.detail,
            code: face.code,
            request_id: "",
        };
        let mut opening = serde_json::to_vec(&document).unwrap_or_default();
        opening.truncate(opening.len().saturating_sub(CLOSING.len()));
        let length = (opening.len() + RequestId::LENGTH + CLOSING.len()).to_string();
        let field = match status {
            StatusCode::METHOD_NOT_ALLOWED => Some(("Allow", UNLOCK.method.to_string())),
            StatusCode::UNAUTHORIZED => Some(("WWW-Authenticate", "ApiKey realm=\"n4n\"".into())),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(("Accept-Patch", UNLOCK.media_type.into())),
            StatusCode::SERVICE_UNAVAILABLE => Some(("Retry-After", whole_seconds(RETRY_SOON).to_string())),
            _ => None,
        };
        Some(Self { status, opening, length, field })
    }
}

/// The problem document of a reason; none for one that is not answered.
pub fn document(reason: Reason, id: RequestId) -> Option<Vec<u8>> {
    let template = TEMPLATES[reason as usize].as_ref()?;
    let mut buffer = [0; RequestId::LENGTH];
    Some([&template.opening, id.encode(&mut buffer).as_bytes(), CLOSING].concat())
}

/// Writes the head of the answer to a request that was refused or failed; nothing for a reason that is not answered.
pub fn head(head: &mut impl HeadWriter, reason: Reason, request: &Request) {
    let is_exhausted = matches!(reason, Reason::QuotaExceeded | Reason::ClientQuotaExceeded);
    let limit = request.rate_limit.filter(|_| is_exhausted);
    let suspicion = request.suspicion().filter(|_| reason == Reason::EnumerationSuspected);
    let retry_after = limit
        .and_then(|limit| limit.retry_after)
        .or_else(|| suspicion.map(|suspicion| suspicion.retry_after));
    write(head, reason, request.id, retry_after);
    rate_limit(head, request.rate_limit.as_ref());
}

/// Writes the head of the answer to what was no request.
pub fn head_to_no_request(head: &mut impl HeadWriter, reason: Reason, id: RequestId) {
    write(head, reason, id, None);
}

fn write(head: &mut impl HeadWriter, reason: Reason, id: RequestId, retry_after: Option<Duration>) {
    let Some(template) = &TEMPLATES[reason as usize] else { return };
    let phrase = template.status.canonical_reason().unwrap_or_default();
    head.status(template.status.as_u16(), phrase.as_bytes());
    head.field(b"Content-Type", b"application/problem+json");
    head.field(b"Content-Length", template.length.as_bytes());
    head.field(b"Cache-Control", b"no-store");
    if let Some((name, value)) = &template.field {
        head.field(name.as_bytes(), value.as_bytes());
    }
    if let Some(retry_after) = retry_after {
        let seconds = whole_seconds(retry_after);
        head.field(b"Retry-After", itoa::Buffer::new().format(seconds).as_bytes());
    }
    head.field(b"X-Request-Id", id.encode(&mut [0; RequestId::LENGTH]).as_bytes());
    head.field(b"Date", get_cached_date().as_bytes());
}

/// Writes the fields that the gateway adds to an answer of n4n's.
pub fn added(head: &mut impl HeadWriter, request: &Request) {
    head.field(b"X-Request-Id", request.id.encode(&mut [0; RequestId::LENGTH]).as_bytes());
    rate_limit(head, request.rate_limit.as_ref());
}

fn rate_limit(head: &mut impl HeadWriter, limit: Option<&RateLimit>) {
    let Some(RateLimit { policy, balance: Balance { quota, remaining, whole_in }, .. }) = limit else {
        return;
    };
    let mut value = Vec::with_capacity(64);
    let mut write = |name: &[u8], parameters: [(&str, u64); 2]| {
        value.clear();
        for part in ["\"", policy, "\""] {
            value.extend_from_slice(part.as_bytes());
        }
        for (parameter, number) in parameters {
            value.extend_from_slice(parameter.as_bytes());
            value.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        head.field(name, &value);
    };
    let (burst, window) = (quota.burst.get().into(), whole_seconds(quota.window()));
    write(b"RateLimit-Policy", [(";q=", burst), (";w=", window)]);
    write(b"RateLimit", [(";r=", (*remaining).into()), (";t=", whole_seconds(*whole_in))]);
}

/// A duration in seconds, rounded up.
const fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + (duration.subsec_nanos() > 0) as u64
}
