//! What Pingora says went wrong, in the contract's words.

use pingora::{Error, ErrorSource, ErrorType};

use std::{fmt, net::SocketAddr};

use crate::{outcome::RequestId, reason::Reason};

/// The reason for which a call that policy admitted came to nothing; `None` where it is the client that is
/// gone.
///
/// `forwarded` tells whether a connection to the upstream had been made.
pub fn reason(error: &Error, forwarded: bool) -> Option<Reason> {
    let is_late = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    match error.esource() {
        ErrorSource::Upstream if !forwarded => Some(Reason::UpstreamUnreachable),
        ErrorSource::Upstream if is_late => Some(Reason::UpstreamTimeout),
        ErrorSource::Upstream => Some(Reason::UpstreamBroken),
        ErrorSource::Downstream if is_connection_lost(error.etype()) => None,
        ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset => Some(Reason::Internal),
    }
}

/// Tells the log that a call failed, and why.
pub fn tell(id: RequestId, peer: Option<SocketAddr>, reason: Reason, cause: impl fmt::Display) {
    let peer = peer.map(tracing::field::display);
    tracing::warn!(request_id = %id, peer, code = reason.code(), %cause, "a call failed");
}

fn is_connection_lost(etype: &ErrorType) -> bool {
    matches!(
        etype,
        ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed
    )
}
