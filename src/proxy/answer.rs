//! What the gateway answers by itself: problem documents (RFC 9457) and the fields beside them.

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::{Result, http::ResponseHeader, proxy::Session};
use serde::Serialize;

use super::{REQUEST_ID, Request, context::Asked, extract};
use crate::{outcome::RequestId, policy::fields::list, quota::Balance, reason::Reason};

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

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

/// Every reason's problem document, up to where the request's id goes.
static OPENINGS: LazyLock<[Vec<u8>; Reason::ALL.len()]> = LazyLock::new(|| {
    Reason::ALL.map(|reason| {
        let face = reason.face();
        let problem = Problem {
            r#type: format!("urn:n4n-gateway:{}", face.code),
            title: face.title,
            status: face.status.map(|status| status.as_u16()),
            detail: face.detail,
            code: face.code,
            request_id: "",
        };
        let mut document = serde_json::to_vec(&problem).unwrap_or_default();
        document.truncate(document.len().saturating_sub(CLOSING.len()));
        document
    })
});

/// What follows a request's id in a problem document.
const CLOSING: &[u8] = b"\"}";

/// Answers a request that was refused, and leaves its connection usable where that is safe.
pub(super) async fn refuse(session: &mut Session, request: &Request, reason: Reason) -> Result<()> {
    let settings = &request.live.settings;
    let unread = !session.is_body_done();
    let is_body_at_fault =
        matches!(reason, Reason::BodyTooLarge | Reason::BodyTimeout | Reason::BodyMalformed);
    let is_unsafe = is_body_at_fault
        || extract::awaits_continue(session)
        || declares_more(session, settings.policy.max_body);
    let closes = unread && is_unsafe;
    if closes {
        session.set_keepalive(None);
    } else {
        session.set_close_on_response_before_downstream_finish(false);
    }
    write(session, request, reason).await?;
    if unread && !closes && !extract::drain(session, settings.policy.max_body, settings.deadlines.body).await
    {
        session.set_keepalive(None);
    }
    Ok(())
}

/// Answers a request that was admitted and then failed; Pingora closes its connection.
pub(super) async fn fail(session: &mut Session, request: &Request, reason: Reason) -> Result<()> {
    session.set_keepalive(None);
    write(session, request, reason).await
}

/// Tells the client that the connection ends with this answer, where the process is about to end.
pub(super) fn say_goodbye(session: &mut Session, request: &Request) {
    if request.gateway.is_ending() {
        session.set_keepalive(None);
    }
}

async fn write(session: &mut Session, request: &Request, reason: Reason) -> Result<()> {
    let Some(status) = reason.face().status else {
        return Ok(());
    };
    say_goodbye(session, request);
    let mut id = [0; 36];
    let body = problem(reason, request.id.encode(&mut id));
    let mut response = head(status, body.len());
    if let Some(retry_after) = request.quota.as_ref().and_then(|asked| asked.retry_after) {
        response.insert_header(header::RETRY_AFTER, whole_seconds(retry_after))?;
    }
    mark(&mut response, request)?;
    session.write_response_header(Box::new(response), false).await?;
    session.write_response_body(Some(body), true).await
}

/// Whether the declared body is longer than what is drained.
fn declares_more(session: &Session, max_body: usize) -> bool {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    length
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|length| length > max_body as u64)
}

/// Removes what concerned the upstream's connection alone (RFC 9110 section 7.6.1). The transfer coding
/// stays: Pingora frames the answer by it.
pub(super) fn strip_hop_by_hop(response: &mut ResponseHeader) {
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| list(value.as_bytes()))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING))
        .collect();
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        response.remove_header(name);
    }
}

/// Fields of a connection, named in its `Connection` field or not.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Sets the fields that every answer to a request has, the upstream's included.
pub(super) fn mark(response: &mut ResponseHeader, request: &Request) -> Result<()> {
    let mut id = [0; 36];
    response.insert_header(REQUEST_ID, request.id.encode(&mut id))?;
    let Some(Asked { policy, balance: Balance { quota, remaining, whole_in }, .. }) = &request.quota else {
        return Ok(());
    };
    // Integers make their own text faster than `format!` does.
    let [burst, window, remaining, whole_in] = [
        quota.burst.get().into(),
        whole_seconds(quota.window()),
        u64::from(*remaining),
        whole_seconds(*whole_in),
    ]
    .map(|number| number.to_string());
    response.insert_header("ratelimit-policy", ["\"", policy, "\";q=", &burst, ";w=", &window].concat())?;
    response.insert_header("ratelimit", ["\"", policy, "\";r=", &remaining, ";t=", &whole_in].concat())?;
    Ok(())
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn head(status: StatusCode, length: usize) -> ResponseHeader {
    let mut fields = HeaderMap::with_capacity(10);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    fields.insert(header::CONTENT_LENGTH, length.into());
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            fields.insert(header::ALLOW, HeaderValue::from_static("PATCH"));
        }
        StatusCode::UNAUTHORIZED => {
            fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey realm=\"n4n\""));
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            fields.insert(ACCEPT_PATCH, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            fields.insert(header::RETRY_AFTER, whole_seconds(RETRY_SOON).into());
        }
        _ => {}
    }
    let (mut response, ()) = http::Response::new(()).into_parts();
    response.status = status;
    response.headers = fields;
    response.into()
}

/// The problem document of a reason.
pub fn problem(reason: Reason, request_id: &str) -> Bytes {
    [&OPENINGS[reason as usize], request_id.as_bytes(), CLOSING].concat().into()
}

/// The whole answer to a request whose head never reached Pingora, as bytes; the connection closes.
pub fn raw(reason: Reason, id: RequestId) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(status) = reason.face().status else {
        return bytes;
    };
    let mut buffer = [0; 36];
    let id = id.encode(&mut buffer);
    let body = problem(reason, id);
    let response = head(status, body.len());
    let phrase = status.canonical_reason().unwrap_or_default();
    bytes.extend_from_slice(format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).as_bytes());
    for (name, value) in &response.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("{REQUEST_ID}: {id}\r\nconnection: close\r\n\r\n").as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}
