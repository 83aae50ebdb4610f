//! File descriptors: how many the process may have open, and how they are shared out.
//!
//! Each connection takes one. Without a share of their own, calls could not go on to n4n, and nobody could ask the
//! admin listener why, once idle clients have taken all there are.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// What the process takes whatever is configured: log files, look-ups, reloads, an upgrade, its own runtime.
const BASE: usize = 32;

/// What each worker takes beside its listeners: its runtime, Redis, and a connection that is refused.
const PER_WORKER: usize = 8;

/// The most connections of the admin listener.
const ADMIN: usize = 64;

/// How many connections and calls the limit on open files has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Client connections at once.
    pub connections: usize,
    /// Calls in flight at once, each with a connection to n4n.
    pub in_flight: usize,
    /// Connections of the admin listener at once.
    pub admin: usize,
    shortage: Option<Shortage>,
}

/// What a limit has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortage {
    limit: usize,
    needed: usize,
}

impl Shares {
    /// How so many open files are shared out; `None`: there is no limit.
    pub fn of(settings: &Settings, limit: Option<u64>) -> Self {
        let listen = &settings.listen;
        let listeners = listen.http.len() + listen.https.len();
        // A check of each peer may be under way.
        let fixed = BASE
            + settings.upstream.peers.len()
            + (listeners + 1)
            + listen.threads.get().saturating_mul(PER_WORKER + listeners);
        Self::divide(fixed, listen.max_connections, listen.max_in_flight, limit)
    }

    fn divide(fixed: usize, max_connections: usize, max_in_flight: usize, limit: Option<u64>) -> Self {
        let needed = [ADMIN, max_connections, max_in_flight].into_iter().fold(fixed, usize::saturating_add);
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if limit >= needed {
            return Self {
                connections: max_connections,
                in_flight: max_in_flight,
                admin: ADMIN,
                shortage: None,
            };
        }
        let admin = (limit / 8).clamp(1, ADMIN);
        let left = limit.saturating_sub(fixed + admin);
        // A call takes two: its client's connection and the one to n4n.
        let in_flight = max_in_flight.min((left / 2).max(left.saturating_sub(max_connections))).max(1);
        let connections = max_connections.min(left.saturating_sub(in_flight)).max(1);
        Self { connections, in_flight, admin, shortage: Some(Shortage { limit, needed }) }
    }

    /// What to tell the operator where not everything that is configured has room.
    pub fn warning(&self) -> Option<Warning<'_>> {
        self.shortage.map(|shortage| Warning { shares: self, shortage })
    }
}

/// A limit that is too low for what is configured.
#[derive(Debug)]
pub struct Warning<'a> {
    shares: &'a Shares,
    shortage: Shortage,
}

impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shares: Shares { connections, in_flight, .. }, shortage: Shortage { limit, needed } } =
            self;
        write!(
            f,
            "the limit of {limit} open files has room for {connections} connections and {in_flight} calls in \
             flight; for all of listen.max_connections and listen.max_in_flight raise it to {needed} \
             (LimitNOFILE=, `ulimit -Hn`), or lower these"
        )
    }
}

/// How many files the process may have open; `None`: there is no limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How high the process may raise that by itself; `None`: there is no limit.
pub fn hard_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Raises the soft limit to the hard one. The soft one is there for programs that use select(2).
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, soft = current, hard = maximum, "the limit on open files cannot be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(limit: u64) -> (usize, usize, usize) {
        let Shares { connections, in_flight, admin, .. } = Shares::divide(100, 10_000, 1000, Some(limit));
        (connections, in_flight, admin)
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(shares(11_164), (10_000, 1000, 64));
        assert_eq!(
            Shares::divide(100, 10_000, 1000, Some(11_164)).warning().map(|told| told.to_string()),
            None
        );
        assert!(Shares::divide(100, usize::MAX, 1000, None).warning().is_none());
    }

    #[test]
    fn connections_give_way_before_calls_in_flight_do() {
        assert_eq!(shares(11_163), (9_999, 1000, 64));
        assert_eq!(shares(4096), (2932, 1000, 64));
        assert_eq!(shares(1164), (500, 500, 64));
        assert_eq!(shares(256), (62, 62, 32));
        let few_clients = Shares::divide(100, 10, 1000, Some(1000));
        assert_eq!((few_clients.connections, few_clients.in_flight), (10, 826));
    }

    #[test]
    fn whatever_the_limit_all_shares_fit_under_it_or_are_one() {
        for limit in 0..12_000 {
            let (connections, in_flight, admin) = shares(limit);
            let fits = 100 + connections + in_flight + admin <= limit as usize;
            assert!(fits || (connections, in_flight) == (1, 1), "{limit}: {connections} {in_flight} {admin}");
        }
    }

    #[test]
    fn the_warning_names_the_limit_that_would_do() {
        let told = Shares::divide(100, 10_000, 1000, Some(4096)).warning().unwrap().to_string();
        assert!(told.contains("limit of 4096") && told.contains("2932 connections"), "{told}");
        assert!(told.contains("raise it to 11164"), "{told}");
    }
}
