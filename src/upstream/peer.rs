//! One address of an n4n host: whether it can be used, and how busy it is.

use std::{
    borrow::Cow,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::fault::Cause;
use crate::tls::Name;

/// How long a peer that could not be connected to is ejected. After that one call probes it, and the others go on
/// passing it over until that call has connected.
const EJECTION: Duration = Duration::from_secs(10);

/// One address of an n4n host.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    name: Option<Arc<Name>>,
    in_flight: AtomicUsize,
    /// Whether checks have found it unfit.
    is_unfit: AtomicBool,
    /// Consecutive checks that contradict the current state.
    contradictions: AtomicU32,
    /// Until when it is passed over for a failed connect, in milliseconds after `since`; zero: it is not.
    ejected_until: AtomicU64,
    /// What was last found to be wrong with it.
    trouble: Mutex<Option<Cow<'static, str>>>,
    since: Instant,
}

/// Whether a call may go to a peer, as of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Open,
    /// The ejection is over; one call may probe it.
    HalfOpen,
    /// The last connect failed; only where no other peer is left.
    Ejected,
    /// Checks have found it unfit; no call may.
    Unfit,
}

impl Peer {
    /// A peer that no check or connect has failed on yet.
    pub fn new(address: SocketAddr, name: Option<Arc<Name>>) -> Self {
        Self {
            address,
            name,
            in_flight: AtomicUsize::new(0),
            is_unfit: AtomicBool::new(false),
            contradictions: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            trouble: Mutex::default(),
            since: Instant::now(),
        }
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name that its certificate must be for; none: that of all peers.
    pub const fn name(&self) -> Option<&Arc<Name>> {
        self.name.as_ref()
    }

    /// Calls that have been given to it and have not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a call may go to it.
    pub fn standing(&self, now: Instant) -> Standing {
        if self.is_unfit() {
            return Standing::Unfit;
        }
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => Standing::Open,
            until if until <= self.millis(now) => Standing::HalfOpen,
            _ => Standing::Ejected,
        }
    }

    /// Whether checks have found it unfit.
    pub fn is_unfit(&self) -> bool {
        self.is_unfit.load(Ordering::Relaxed)
    }

    /// Whether it passes its checks and could be connected to.
    pub fn is_healthy(&self) -> bool {
        !self.is_unfit() && self.ejected_until.load(Ordering::Relaxed) == 0
    }

    /// Claims the half-open probe: one call may try the peer, the others go on passing it over.
    pub fn claim(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        let next = self.millis(now + EJECTION);
        until != 0
            && until <= self.millis(now)
            && self.ejected_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes note that it could not be connected to.
    pub fn eject(&self, now: Instant, cause: Cause) {
        let until = self.millis(now + EJECTION);
        self.set_trouble(Some(cause.words().into()));
        if self.ejected_until.swap(until, Ordering::Relaxed) == 0 {
            tracing::warn!(
                peer = %self.address,
                cause = cause.label(),
                why = cause.words(),
                "no connection; the peer is passed over where there is another"
            );
        }
    }

    /// What was last found to be wrong with it; it may be well again.
    pub fn trouble(&self) -> Option<Cow<'static, str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<Cow<'static, str>>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Takes note that there is a connection to it.
    pub fn connected(&self) {
        // Most calls find nothing to change, and leave the memory that all workers share alone.
        if self.ejected_until.load(Ordering::Relaxed) != 0
            && self.ejected_until.swap(0, Ordering::Relaxed) != 0
        {
            if !self.is_unfit() {
                self.set_trouble(None);
            }
            tracing::info!(peer = %self.address, "the peer can be connected to again");
        }
    }

    /// Takes note of a check. `rise` consecutive passes make an unfit peer fit, `fall` consecutive faults a fit one unfit.
    pub fn checked(&self, result: Result<(), String>, rise: NonZeroU32, fall: NonZeroU32) {
        let is_unfit = self.is_unfit();
        if result.is_err() == is_unfit {
            self.contradictions.store(0, Ordering::Relaxed);
            return;
        }
        let enough = if is_unfit { rise } else { fall };
        if self.contradictions.fetch_add(1, Ordering::Relaxed) + 1 < enough.get() {
            return;
        }
        self.contradictions.store(0, Ordering::Relaxed);
        self.is_unfit.store(!is_unfit, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.set_trouble(None);
                tracing::info!(peer = %self.address, "the peer is healthy again");
            }
            Err(cause) => {
                tracing::warn!(peer = %self.address, cause, "the peer is unhealthy");
                self.set_trouble(Some(cause.into()));
            }
        }
    }

    /// Forgets what checks have found, where there are none any more.
    pub fn unchecked(&self) {
        self.is_unfit.store(false, Ordering::Relaxed);
        self.contradictions.store(0, Ordering::Relaxed);
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Never zero, so that zero can mean "not ejected".
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new("192.0.2.1:80".parse().unwrap(), None)
    }

    #[test]
    fn a_failed_connect_passes_a_peer_over_until_one_call_has_found_it_back() {
        let (peer, now) = (peer(), Instant::now());
        assert!(peer.is_healthy());
        assert!(!peer.claim(now));
        peer.eject(now, Cause::ConnectRefused);
        assert_eq!(peer.standing(now), Standing::Ejected);
        assert!(!peer.is_healthy());
        let later = now + EJECTION;
        assert_eq!(peer.standing(later), Standing::HalfOpen);
        assert!(peer.claim(later), "one call tries it");
        assert!(!peer.claim(later), "and no other");
        assert_eq!(peer.standing(later), Standing::Ejected);
        assert_eq!(peer.standing(later + EJECTION), Standing::HalfOpen, "should the one never tell");
        peer.connected();
        assert_eq!(peer.standing(later), Standing::Open);
    }

    #[test]
    fn checks_count_in_a_row() {
        let count = |number| NonZeroU32::new(number).unwrap();
        let (peer, now) = (peer(), Instant::now());
        let check = |is_passed: bool| {
            peer.checked(if is_passed { Ok(()) } else { Err("refused".into()) }, count(2), count(3));
            peer.standing(now) == Standing::Open
        };
        let checks = [
            (false, true),
            (false, true),
            (true, true),
            (false, true),
            (false, true),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
        ];
        for (number, (is_passed, is_open)) in checks.into_iter().enumerate() {
            assert_eq!(check(is_passed), is_open, "check {number}");
        }
        for _ in 0..3 {
            check(false);
        }
        assert_eq!(peer.standing(now), Standing::Unfit);
        peer.unchecked();
        assert_eq!(peer.standing(now), Standing::Open);
    }
}
