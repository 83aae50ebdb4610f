//! The peers' addresses, looked up in the background, and the next one's turn.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::lookup_host, time::timeout};

use crate::config::HostPort;

/// How often names are looked up again.
pub const LOOKUP_EVERY: Duration = Duration::from_secs(10);

/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The n4n hosts and where they are.
#[derive(Debug)]
pub struct Peers {
    names: Vec<HostPort>,
    /// Every address of every peer; requests take a copy of the handle and never wait for a look-up.
    addresses: RwLock<Arc<[SocketAddr]>>,
    turn: AtomicUsize,
}

impl Peers {
    /// Peers whose names have not been looked up yet; those written as addresses need not be.
    pub fn new(names: &[HostPort]) -> Self {
        let literal = |peer: &HostPort| Some(SocketAddr::new(peer.host.parse::<IpAddr>().ok()?, peer.port));
        Self {
            addresses: RwLock::new(names.iter().filter_map(literal).collect()),
            names: names.to_vec(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Looks every name up. A name that cannot be looked up keeps the addresses it had.
    pub async fn look_up(&self) {
        let known = self.addresses();
        let mut addresses = Vec::with_capacity(known.len());
        let mut is_partial = false;
        for peer in &self.names {
            match timeout(LOOKUP_TIMEOUT, lookup_host((peer.host.as_str(), peer.port))).await {
                Ok(Ok(found)) => addresses.extend(found),
                Ok(Err(error)) => {
                    tracing::warn!(%peer, %error, "the peer's name does not resolve");
                    is_partial = true;
                }
                Err(_) => {
                    tracing::warn!(%peer, "looking up the peer's name took too long");
                    is_partial = true;
                }
            }
        }
        if is_partial {
            addresses.extend(known.iter().copied());
        }
        addresses.sort_unstable();
        addresses.dedup();
        if *addresses != *known {
            tracing::info!(?addresses, "peers");
            *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses.into();
        }
    }

    /// Whether every peer is written as an address.
    pub fn are_literal(&self) -> bool {
        self.names.iter().all(|peer| peer.host.parse::<IpAddr>().is_ok())
    }

    /// The order in which one call may try the peers: all of them once, each call beginning one further.
    pub fn turns(&self) -> Turns {
        let addresses = self.addresses();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        Turns { left: addresses.len(), next: first, addresses }
    }

    fn addresses(&self) -> Arc<[SocketAddr]> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The peers that one call has not tried yet.
#[derive(Debug)]
pub struct Turns {
    addresses: Arc<[SocketAddr]>,
    next: usize,
    left: usize,
}

impl Turns {
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Turns {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.left = self.left.checked_sub(1)?;
        let address = self.addresses[self.next % self.addresses.len()];
        self.next = self.next.wrapping_add(1);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_tries_every_peer_once_and_begins_one_further() {
        let peers =
            Peers::new(&["192.0.2.1:80", "[2001:db8::1]:80"].map(|peer| HostPort::parse(peer).unwrap()));
        let first: Vec<_> = peers.turns().collect();
        let second: Vec<_> = peers.turns().collect();
        assert_eq!(first.len(), 2);
        assert_eq!((first[0], first[1]), (second[1], second[0]));
        assert!(Peers::new(&[HostPort::parse("n4n.invalid:80").unwrap()]).turns().is_empty());
    }

    #[tokio::test]
    async fn names_are_looked_up_and_a_failed_look_up_forgets_nothing() {
        let peers = Peers::new(&["localhost:80", "192.0.2.1:80"].map(|peer| HostPort::parse(peer).unwrap()));
        assert!(!peers.are_literal());
        peers.look_up().await;
        let known: Vec<_> = peers.turns().collect();
        assert!(known.iter().any(|address| address.ip().is_loopback()), "{known:?}");
        let unknown = Peers { names: vec![HostPort::parse("n4n.invalid:80").unwrap()], ..peers };
        unknown.look_up().await;
        assert_eq!(unknown.turns().count(), known.len());
    }
}
