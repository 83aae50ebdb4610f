//! Pingora's description of a peer: its address, TLS and time limits.

use std::{sync::Arc, time::Duration};

use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use super::peer::Peer;
use crate::config::Upstream;

/// An n4n host as Pingora describes it, to be connected to within so long, with the other limits as configured. Connections that
/// were verified under settings of another generation are not used for it.
pub fn peer(peer: &Peer, upstream: &Upstream, generation: u64, connect_within: Duration) -> HttpPeer {
    let address = peer.address();
    let mut peer = match &upstream.tls {
        Some(tls) => tls.trust.peer(address, peer.name().map(Arc::as_ref), generation),
        None => HttpPeer::new(address, false, String::new()),
    };
    let options = &mut peer.options;
    options.connection_timeout = Some(connect_within);
    options.total_connection_timeout = Some(connect_within);
    options.read_timeout = Some(upstream.response_timeout);
    options.write_timeout = Some(upstream.response_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}
