//! The whole body of a request, in either version of HTTP.

use std::{io, time::Instant};

use bytes::{Bytes, BytesMut};

use super::Client;
use crate::{reason::Reason, stream_memory::NoMemory, wire::chunked::BrokenChunking};

/// Collects the whole body of a request.
///
/// # Errors
/// As of [`Client::body`].
pub(super) async fn whole_body(client: &mut impl Client, most: usize, by: Instant) -> Result<Bytes, Reason> {
    let mut whole = BytesMut::new();
    while let Some(piece) = client.piece(by).await.map_err(|error| broken(&error))? {
        if whole.len() + piece.len() > most {
            return Err(Reason::BodyTooLarge);
        }
        client.keep(piece.len()).map_err(|NoMemory| Reason::Overloaded)?;
        if whole.is_empty() && client.is_read() {
            return Ok(piece);
        }
        // What waits for the rest is copied: a piece keeps all that was read with it.
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// The reason for an error of reading a body: broken chunks, too late, or the client left.
fn broken(error: &io::Error) -> Reason {
    if BrokenChunking::is_cause_of(error) {
        Reason::BodyMalformed
    } else if error.kind() == io::ErrorKind::TimedOut {
        Reason::BodyTimeout
    } else {
        Reason::ClientGone
    }
}
