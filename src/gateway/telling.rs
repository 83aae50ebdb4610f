//! What the gateway tells its log of strangers and of its own troubles: counted each time, told a limited number of times.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use tokio::time::sleep;

use super::Gateway;
use crate::{
    outcome::RequestId,
    policy::{Misplaced, Place},
    telemetry::limited::{Limited, QUIET},
    tls::{HandshakeFailure, handshake},
    unserved::{ConnectionRefused, StreamRefused},
};

/// Log lines that strangers can bring about, each kind limited by itself.
#[derive(Debug, Default)]
pub(super) struct Lines {
    handshakes: [Limited; HandshakeFailure::ALL.len()],
    connections: [Limited; ConnectionRefused::ALL.len()],
    streams: [Limited; StreamRefused::ALL.len()],
    misplaced: [Limited; Place::ALL.len()],
    evicted: Limited,
}

impl Gateway {
    /// Counts and tells of a TLS handshake that failed.
    pub fn handshake_failed(&self, failure: HandshakeFailure, client: SocketAddr, error: &io::Error) {
        self.metrics.handshake_failed(failure);
        if let Some(left_out) = self.lines.handshakes[failure as usize].admit(Instant::now()) {
            let (reason, detail, cause) = (failure.label(), failure.detail(), handshake::words(error));
            tracing::warn!(%client, reason, detail, %cause, left_out, "a TLS handshake failed");
        }
    }

    /// Counts and tells of a connection that was closed without serving what came on it.
    pub fn connection_refused(&self, why: ConnectionRefused, client: SocketAddr) {
        self.metrics.connection_refused(why);
        if let Some(left_out) = self.lines.connections[why as usize].admit(Instant::now()) {
            let (reason, detail) = (why.label(), why.detail());
            tracing::warn!(%client, reason, detail, left_out, "a connection was refused");
        }
    }

    /// Counts and tells of an idle connection that was closed so that another could be opened.
    pub fn gave_way(&self, client: SocketAddr, idle_since: Instant) {
        self.metrics.connections_evicted.inc();
        if let Some(left_out) = self.lines.evicted.admit(Instant::now()) {
            let idle_seconds = idle_since.elapsed().as_secs();
            tracing::warn!(%client, idle_seconds, left_out, "an idle connection was closed to make room");
        }
    }

    /// Counts and tells of a stream of HTTP/2 that was reset without an answer to its request.
    pub fn stream_refused(&self, why: StreamRefused, client: SocketAddr) {
        self.metrics.stream_refused(why);
        if let Some(left_out) = self.lines.streams[why as usize].admit(Instant::now()) {
            let (reason, detail) = (why.label(), why.detail());
            tracing::warn!(%client, reason, detail, left_out, "a stream of HTTP/2 was refused");
        }
    }

    /// Counts and tells of an api-key that stood where something else belongs, and was masked.
    pub fn key_misplaced(&self, misplaced: &Misplaced, client: Option<IpAddr>, request_id: RequestId) {
        let Misplaced { place, owner } = misplaced;
        self.metrics.key_misplaced(*place);
        if let Some(left_out) = self.lines.misplaced[*place as usize].admit(Instant::now()) {
            let (client, place) = (client.map(tracing::field::display), place.label());
            let owner = owner.as_deref().unwrap_or("not known");
            tracing::warn!(
                client,
                place,
                owner,
                %request_id,
                left_out,
                "an api-key stands where something else belongs, and is masked here; it may be in logs on its way: change it"
            );
        }
    }

    /// Counts a connection that could not be accepted for want of something of the system's; tells when that begins,
    /// and when it is over.
    pub fn accept_failed(self: &Arc<Self>, error: &io::Error) {
        self.metrics.accept_errors.inc();
        if !self.not_accepting.begin(Instant::now()) {
            return;
        }
        tracing::error!(%error, "connections cannot be accepted; trying on");
        let gateway = self.clone();
        tokio::spawn(async move {
            let failures = loop {
                sleep(QUIET).await;
                if let Some(failures) = gateway.not_accepting.end(Instant::now()) {
                    break failures;
                }
            };
            let seconds = failures.since.elapsed().as_secs();
            tracing::info!(seconds, failures = failures.count, "connections can be accepted again");
        });
    }
}
