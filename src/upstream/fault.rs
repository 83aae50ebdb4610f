//! What Pingora says went wrong, in the contract's words.

use pingora::{Error, ErrorSource, ErrorType};

use crate::reason::Reason;

/// The reason for which a call that policy admitted came to nothing.
///
/// `forwarded` tells whether a connection to the upstream had been made.
pub fn reason(error: &Error, forwarded: bool) -> Reason {
    match (error.esource(), error.etype()) {
        (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) if forwarded => Reason::UpstreamTimeout,
        (ErrorSource::Upstream, _) if forwarded => Reason::UpstreamBroken,
        (ErrorSource::Upstream, _) => Reason::UpstreamUnreachable,
        _ => Reason::Internal,
    }
}
