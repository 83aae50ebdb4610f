//! The peers' addresses, looked up in the background, and which of them a call goes to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::peer::{Peer, Standing};
use crate::{
    config::{HostPort, PeerHost},
    lookup,
    tls::Name,
};

/// How often names are looked up again.
pub const LOOKUP_EVERY: Duration = Duration::from_secs(10);

/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The n4n hosts and where they are.
#[derive(Debug)]
pub struct Peers {
    names: Vec<PeerHost>,
    /// Requests take a copy of the handle and never wait for a look-up.
    known: ArcSwap<Known>,
    turn: AtomicUsize,
}

/// The result of the last look-up of every name.
#[derive(Debug)]
struct Known {
    /// For each name in order.
    by_name: Vec<NameAddresses>,
    /// All of them, each once.
    all: Vec<Arc<Peer>>,
}

/// The result of the last look-up of one name.
#[derive(Debug)]
struct NameAddresses {
    /// The last addresses that were found.
    peers: Vec<Arc<Peer>>,
    /// Whether the last look-up failed.
    is_stale: bool,
}

impl Known {
    /// Peers that were known before stay the same.
    fn new(
        names: &[PeerHost],
        found: impl Iterator<Item = (Vec<SocketAddr>, bool)>,
        before: &[Arc<Peer>],
    ) -> Self {
        let mut all: Vec<Arc<Peer>> = Vec::new();
        let mut peer = |address: SocketAddr, name: &Option<Arc<Name>>| {
            let is_it = |peer: &&Arc<Peer>| peer.address() == address && peer.name() == name.as_ref();
            if let Some(peer) = all.iter().find(is_it) {
                return peer.clone();
            }
            let peer = before
                .iter()
                .find(is_it)
                .cloned()
                .unwrap_or_else(|| Arc::new(Peer::new(address, name.clone())));
            all.push(peer.clone());
            peer
        };
        let by_name = found
            .zip(names)
            .map(|((addresses, is_stale), name)| NameAddresses {
                peers: addresses.into_iter().map(|address| peer(address, &name.name)).collect(),
                is_stale,
            })
            .collect();
        Self { by_name, all }
    }
}

impl Peers {
    /// Peers whose names have not been looked up yet; those written as addresses need not be.
    pub fn new(names: &[PeerHost]) -> Self {
        let literal = |peer: &HostPort| Some(SocketAddr::new(peer.host.parse::<IpAddr>().ok()?, peer.port));
        let addresses = names.iter().map(|name| (literal(&name.address).into_iter().collect(), false));
        Self {
            names: names.to_vec(),
            known: ArcSwap::from_pointee(Known::new(names, addresses, &[])),
            turn: AtomicUsize::new(0),
        }
    }

    /// Looks every name up. A name that cannot be looked up keeps the addresses it had.
    pub async fn look_up(&self) {
        let known = self.known.load_full();
        let found = join_all(self.names.iter().map(|name| look_up(&name.address))).await;
        let found = found.into_iter().zip(&self.names).zip(&known.by_name).map(|((found, name), known)| {
            match (&found, known.is_stale) {
                (Err(cause), false) => {
                    tracing::warn!(peer = %name.address, cause, "the peer's name cannot be looked up")
                }
                (Ok(_), true) => {
                    tracing::info!(peer = %name.address, "the peer's name can be looked up again")
                }
                (Err(_), true) | (Ok(_), false) => {}
            }
            let is_stale = found.is_err();
            let mut addresses =
                found.unwrap_or_else(|_| known.peers.iter().map(|peer| peer.address()).collect());
            addresses.sort_unstable();
            addresses.dedup();
            (addresses, is_stale)
        });
        let found = Known::new(&self.names, found, &known.all);
        let addresses = |known: &Known| known.all.iter().map(|peer| peer.address()).collect::<Vec<_>>();
        if addresses(&found) != addresses(&known) {
            let found: Vec<_> = addresses(&found).iter().map(ToString::to_string).collect();
            tracing::info!(addresses = found.join(", "), "peers");
        }
        self.known.store(Arc::new(found));
    }

    /// Whether every peer is written as an address.
    pub fn are_literal(&self) -> bool {
        self.names.iter().all(|peer| peer.address.host.parse::<IpAddr>().is_ok())
    }

    /// What one call may try: every usable peer once.
    pub fn select(&self) -> PeerSelection {
        let known = self.known.load_full();
        PeerSelection {
            known,
            start: self.turn.fetch_add(1, Ordering::Relaxed),
            current: None,
            tried: Vec::new(),
        }
    }

    /// Every address of every peer.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.known.load().all.clone()
    }

    /// Each name with what it was found to be.
    pub fn by_name(&self) -> Vec<(&HostPort, Vec<Arc<Peer>>)> {
        let known = self.known.load();
        let names = self.names.iter().map(|name| &name.address);
        names.zip(known.by_name.iter().map(|found| found.peers.clone())).collect()
    }
}

async fn look_up(peer: &HostPort) -> Result<Vec<SocketAddr>, String> {
    match timeout(LOOKUP_TIMEOUT, lookup::look_up(&peer.host, peer.port)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {LOOKUP_TIMEOUT:?}")),
    }
}

/// The peers that one call has not tried yet.
#[derive(Debug)]
pub struct PeerSelection {
    known: Arc<Known>,
    /// Where to begin among peers that are equally busy.
    start: usize,
    current: Option<usize>,
    tried: Vec<usize>,
}

impl PeerSelection {
    /// Whether no peer is left to try.
    pub fn is_empty(&self) -> bool {
        self.left().all(|(_, peer)| peer.is_unfit())
    }

    /// The next to try: the least busy of the open and half-open peers; where there is none, the least busy of the
    /// ejected ones.
    pub fn next(&mut self, now: Instant) -> Option<InUse> {
        self.tried.extend(self.current.take());
        let place = loop {
            let standing = |peer: &Peer| match peer.standing(now) {
                Standing::Open | Standing::HalfOpen => Some(false),
                Standing::Ejected => Some(true),
                Standing::Unfit => None,
            };
            let usable =
                self.left().filter_map(|(place, peer)| Some((standing(peer)?, peer.in_flight(), place)));
            let (is_ejected, _, place) = usable.min_by_key(|&(is_ejected, busy, _)| (is_ejected, busy))?;
            let peer = &self.known.all[place];
            // Another call may have claimed the probe first.
            if is_ejected || peer.standing(now) != Standing::HalfOpen || peer.claim(now) {
                break place;
            }
        };
        self.current = Some(place);
        let peer = self.known.all[place].clone();
        peer.begin();
        Some(InUse(peer))
    }

    fn left(&self) -> impl Iterator<Item = (usize, &Peer)> {
        let peers = &self.known.all;
        let places = (0..peers.len()).map(|step| self.start.wrapping_add(step) % peers.len());
        let is_left = |place: &usize| self.current != Some(*place) && !self.tried.contains(place);
        places.filter(is_left).map(|place| (place, &*peers[place]))
    }
}

/// A peer that a call goes to, until it is dropped.
#[derive(Debug)]
pub struct InUse(Arc<Peer>);

impl InUse {
    /// The peer.
    pub fn peer(&self) -> &Peer {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::upstream::fault::Cause;

    fn host(address: &str) -> PeerHost {
        PeerHost { address: HostPort::parse(address).unwrap(), name: None }
    }

    fn peers() -> Peers {
        Peers::new(&["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"].map(host))
    }

    fn addresses(mut selection: PeerSelection) -> Vec<SocketAddr> {
        let mut next = || Some(selection.next(Instant::now())?.peer().address());
        std::iter::from_fn(&mut next).collect()
    }

    #[test]
    fn each_call_tries_every_peer_once_and_begins_one_further() {
        let peers = peers();
        let (first, second) = (addresses(peers.select()), addresses(peers.select()));
        assert_eq!(first.len(), 3);
        assert_eq!(&first[1..], &second[..2]);
        assert_eq!(first[0], second[2]);
        assert!(Peers::new(&[host("n4n.invalid:80")]).select().is_empty());
    }

    #[test]
    fn a_call_goes_to_the_least_busy_peer() {
        let (peers, now) = (peers(), Instant::now());
        let take = || peers.select().next(now).unwrap();
        let mut held = [take(), take(), take()];
        held.sort_by_key(|chosen| chosen.peer().address());
        let [first, second, third] = held;
        let idle = second.peer().address();
        drop(second);
        for _ in 0..5 {
            assert_eq!(take().peer().address(), idle);
        }
        drop((first, third));
        assert!(peers.all().iter().all(|peer| peer.in_flight() == 0));
    }

    #[test]
    fn a_peer_whose_connect_failed_comes_last_and_the_last_one_stays() {
        let (peers, now) = (peers(), Instant::now());
        let all = peers.all();
        all[1].eject(now, Cause::ConnectRefused);
        for _ in 0..6 {
            let order = addresses(peers.select());
            assert_eq!((order.len(), order[2]), (3, all[1].address()));
        }
        all[0].eject(now, Cause::ConnectRefused);
        all[2].eject(now, Cause::ConnectRefused);
        assert_eq!(addresses(peers.select()).len(), 3);
        assert!(!peers.select().is_empty());
    }

    #[test]
    fn an_unfit_peer_gets_no_call() {
        let (peers, one) = (peers(), NonZeroU32::MIN);
        let all = peers.all();
        all[1].checked(Err("status 500".into()), one, one);
        for _ in 0..6 {
            assert!(!addresses(peers.select()).contains(&all[1].address()));
        }
        all[0].checked(Err("status 500".into()), one, one);
        all[2].checked(Err("status 500".into()), one, one);
        assert!(peers.select().is_empty());
        assert!(peers.select().next(Instant::now()).is_none());
    }

    #[tokio::test]
    async fn names_are_looked_up_and_a_failed_look_up_forgets_nothing() {
        let peers = Peers::new(&["localhost:80", "192.0.2.1:80"].map(host));
        assert!(!peers.are_literal());
        peers.look_up().await;
        let known = addresses(peers.select());
        assert!(known.iter().any(|address| address.ip().is_loopback()), "{known:?}");
        let before = peers.all();
        peers.look_up().await;
        assert!(before.iter().zip(peers.all()).all(|(before, now)| Arc::ptr_eq(before, &now)));
        let unknown = Peers { names: ["n4n.invalid:80"; 2].map(host).into(), ..peers };
        unknown.look_up().await;
        assert_eq!(unknown.all().len(), known.len());
    }
}
