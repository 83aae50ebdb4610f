//! A session's body: whole, bounded and in time, before anything is forwarded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora::{Error, ErrorType, proxy::Session};
use tokio::time::timeout;

use crate::{policy::fields::list, reason::Reason};

/// Reads the body, which Pingora keeps for replay to the upstream.
///
/// # Errors
/// `body_too_large`, `body_timeout`, `body_malformed`, or `client_gone`.
pub(super) async fn body(session: &mut Session, max_body: usize, within: Duration) -> Result<Bytes, Reason> {
    // Without it the upstream would get the header and, of the body, only what is read after this.
    session.enable_retry_buffering();
    if awaits_continue(session) {
        // Pingora takes any answer before the body's end for one that ends the connection; this one does not.
        session.set_close_on_response_before_downstream_finish(false);
        session.write_continue_response().await.map_err(|_| Reason::ClientGone)?;
        session.set_close_on_response_before_downstream_finish(true);
    }
    timeout(within, read(session, max_body)).await.unwrap_or(Err(Reason::BodyTimeout))
}

async fn read(session: &mut Session, max_body: usize) -> Result<Bytes, Reason> {
    let mut whole: Option<Bytes> = None;
    while let Some(piece) = session.read_request_body().await.map_err(|error| broken(&error))? {
        let length = whole.as_ref().map_or(0, Bytes::len) + piece.len();
        if length > max_body {
            return Err(Reason::BodyTooLarge);
        }
        whole = Some(match whole.take() {
            None => piece,
            Some(first) => {
                let mut joined = BytesMut::from(first);
                joined.extend_from_slice(&piece);
                joined.freeze()
            }
        });
    }
    Ok(whole.unwrap_or_default())
}

/// Reads and drops what is left of a refused request's body, so that its connection can be used again.
///
/// Tells whether it came to its end within both bounds.
pub(super) async fn drain(session: &mut Session, max_body: usize, within: Duration) -> bool {
    let drained = async {
        let mut left = max_body;
        loop {
            match session.read_request_body().await {
                Ok(None) => return true,
                Ok(Some(piece)) if piece.len() <= left => left -= piece.len(),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    };
    timeout(within, drained).await.unwrap_or(false)
}

/// Whether the client waits for a 100 before it sends its body (RFC 9110 section 10.1.1).
pub(super) fn awaits_continue(session: &Session) -> bool {
    let header = session.req_header();
    header.version >= Version::HTTP_11 && header.headers.contains_key(header::EXPECT)
}

/// Why a body could not be read: its sender left, or it is no body.
#[expect(clippy::wildcard_enum_match_arm, reason = "Pingora's list of errors grows; ours is closed")]
fn broken(error: &Error) -> Reason {
    match error.etype() {
        ErrorType::ConnectionClosed => Reason::ClientGone,
        ErrorType::ReadTimedout => Reason::BodyTimeout,
        ErrorType::ReadError if !is_broken_chunking(error) => Reason::ClientGone,
        _ => Reason::BodyMalformed,
    }
}

/// Whether the client wants the connection closed; Pingora looks at the first `Connection` field alone.
pub(super) fn asks_to_close(session: &Session) -> bool {
    let options = session.req_header().headers.get_all(header::CONNECTION).iter();
    options.flat_map(|value| list(value.as_bytes())).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// Whether the gate found the chunking broken.
pub(super) fn is_broken_chunking(error: &Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
}
