//! What Pingora says went wrong, in the contract's words.

use std::io;

use pingora::{Error, ErrorSource, ErrorType};
use rustix::io::Errno;

use crate::reason::Reason;

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
        // What Pingora takes for its own: the system had no port, file descriptor or right to connect with.
        ErrorSource::Internal | ErrorSource::Unset if !forwarded && system_cause(error).is_some() => {
            Some(Reason::UpstreamUnreachable)
        }
        ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset => Some(Reason::Internal),
    }
}

/// What the system said, where that is the cause.
pub fn system_cause(error: &Error) -> Option<&io::Error> {
    let mut cause: &(dyn std::error::Error + 'static) = error.root_cause();
    loop {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        cause = cause.source()?;
    }
}

/// Whether it is this machine that lacks what a connection takes, so that the peer is not to blame.
pub fn is_local(error: &Error) -> bool {
    let errno = system_cause(error).and_then(Errno::from_io_error);
    matches!(
        errno,
        Some(
            Errno::ADDRNOTAVAIL
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRINUSE
        )
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_peer_refuses() {
        let error =
            |errno: Errno| Error::because(ErrorType::InternalError, "connecting", io::Error::from(errno));
        for (errno, local) in [
            (Errno::ADDRNOTAVAIL, true),
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::CONNREFUSED, false),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_local(&error(errno)), local, "{errno}");
            assert_eq!(reason(&error(errno), false), Some(Reason::UpstreamUnreachable), "{errno}");
        }
        assert_eq!(reason(&Error::new(ErrorType::InternalError), false), Some(Reason::Internal));
    }
}
