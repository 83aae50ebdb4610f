//! Sending one call: a peer, a connection, one write, one answer.

use std::time::Instant;

use pingora::connectors::TransportConnector;

use super::admit::OutgoingCall;
use crate::{
    alarm::Alarm,
    reason::Reason,
    request::Request,
    upstream::{
        connection::{self, Answered, Unanswered, UpstreamConnection},
        connector, fault,
        peers::{InUse, PeerSelection},
        pool::{Key, Pool},
    },
    wire::answer::Answer,
};

/// One worker's connections to n4n.
pub struct UpstreamConnections {
    /// The idle ones.
    pub pool: Pool,
    /// Pingora's connector, which makes new ones.
    pub connector: TransportConnector,
}

impl Default for UpstreamConnections {
    fn default() -> Self {
        Self { pool: Pool::default(), connector: TransportConnector::new(None) }
    }
}

/// Sends a call to the first peer that can be connected to, and returns the whole answer. Another peer is tried only
/// where no connection could be made, so the call is sent at most once.
///
/// # Errors
/// `upstream_unavailable`, `upstream_unreachable`, `upstream_broken` or `upstream_timeout`.
pub async fn send(
    request: &mut Request,
    call: OutgoingCall,
    upstream: &UpstreamConnections,
    alarm: &mut Alarm,
) -> Result<Answer, Reason> {
    let OutgoingCall { bytes, mut peers } = call;
    let live = request.live.clone();
    let settings = &live.settings.upstream;
    let admitted_at = Instant::now();
    let due = admitted_at + settings.response_timeout;
    let (peer, key, mut connection) = connect(request, &mut peers, upstream, admitted_at, due).await?;
    let connected_at = Instant::now();
    let outgoing = connection::WireCall {
        bytes: &bytes,
        is_head: request.head.method() == "HEAD",
        due,
        body_within: settings.response_timeout,
    };
    request.begin_sending();
    let answered = connection.exchange(outgoing, alarm).await;
    drop(peer);
    match answered {
        Ok(Answered { answer, head_at }) => {
            request.upstream.duration = Some(head_at.saturating_duration_since(connected_at));
            if answer.persists {
                let until = head_at + settings.idle_timeout;
                upstream.pool.put(key, connection, until, live.shares.kept);
            }
            Ok(answer)
        }
        Err(unanswered) => {
            request.upstream.unlock = Some(crate::outcome::UnlockResult::Unreadable);
            let reason = match unanswered {
                Unanswered::Late => Reason::UpstreamTimeout,
                Unanswered::Broken(_) | Unanswered::Bad(_) => Reason::UpstreamBroken,
            };
            fault::tell(request.id, request.upstream.peer, reason, fault::cause_of(&unanswered));
            Err(reason)
        }
    }
}

/// Takes an idle connection to the peer that is chosen, or makes one.
async fn connect(
    request: &mut Request,
    peers: &mut PeerSelection,
    upstream: &UpstreamConnections,
    mut now: Instant,
    due: Instant,
) -> Result<(InUse, Key, UpstreamConnection), Reason> {
    let live = request.live.clone();
    let settings = &live.settings.upstream;
    let mut failed = None;
    while let Some(chosen) = peers.next(now) {
        let address = chosen.peer().address();
        request.upstream.peer = Some(address);
        let tls_generation = settings.tls.as_ref().map(|_| live.generation);
        let key = Key { address, name: chosen.peer().name().cloned(), tls_generation };
        if let Some(connection) = upstream.pool.take(&key, now) {
            chosen.peer().connected();
            return Ok((chosen, key, connection));
        }
        let within = settings.connect_timeout.min(due.saturating_duration_since(now));
        let peer = connector::peer(chosen.peer(), settings, live.generation, within);
        // In a box, so that every client's connection does not carry the room for it.
        match Box::pin(upstream.connector.new_stream(&peer)).await {
            Ok(stream) => {
                chosen.peer().connected();
                return Ok((chosen, key, UpstreamConnection::new(stream)));
            }
            Err(error) => {
                now = Instant::now();
                let cause = fault::cause(&error);
                // A peer is not to blame for the time that others took, nor for what this machine lacks.
                let is_cut_short = failed.is_some() && within < settings.connect_timeout;
                if !is_cut_short && !fault::is_local(&error) {
                    chosen.peer().eject(now, cause);
                }
                failed = Some(cause);
            }
        }
        if now >= due {
            break;
        }
    }
    let reason = fault::without_peer(failed);
    if let Some(cause) = failed {
        fault::tell(request.id, request.upstream.peer, reason, cause);
    }
    Err(reason)
}
