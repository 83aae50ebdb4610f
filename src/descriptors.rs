//! The limit on open files, and how many connections and calls it has room for.
//!
//! Each connection takes one. Without a share of their own, calls could not go on to n4n, and nobody could ask the
//! admin listener why, once idle clients have taken all there are.

use std::{fmt, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{config::Settings, policy::OtherPaths};

/// What the process takes whatever is configured: log files, look-ups, reloads, an upgrade, its own runtime.
const BASE: usize = 32;

/// How many connections may be on their way out while others already have their places.
pub const LEAVING: usize = 8;

/// What each worker takes beside its listeners: its runtime, Redis, and a connection that is refused.
const PER_WORKER: usize = 8;

/// How long accepting pauses when there are none left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most connections of the admin listener.
const ADMIN: usize = 128;

/// How many connections and calls the limit on open files has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Client connections at once.
    pub connections: usize,
    /// Unlock calls in flight at once, each with a connection to n4n.
    pub in_flight: usize,
    /// Requests for other paths in flight at once, each with a connection to n4n; zero where they are refused.
    pub passing: usize,
    /// Connections to n4n that each worker may keep for calls to come, and as many for other paths.
    pub kept: usize,
    /// Connections of the admin listener at once.
    pub admin: usize,
    shortage: Option<Shortage>,
}

/// A limit that is lower than what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortage {
    limit: usize,
    needed: usize,
}

impl Shares {
    /// How so many open files are shared out; `None`: there is no limit.
    pub fn of(settings: &Settings, limit: Option<u64>) -> Self {
        let listen = &settings.listen;
        let (threads, listeners) = (listen.threads.get(), listen.http.len() + listen.https.len());
        // A check of each peer may be under way.
        let fixed = (BASE + LEAVING)
            .saturating_add(settings.upstream.peers.len() + listeners + 1)
            .saturating_add(threads.saturating_mul(PER_WORKER + listeners));
        let passes = !matches!(settings.policy.other_paths, OtherPaths::Reject);
        Self::divide(fixed, threads, (listen.max_connections, listen.max_in_flight), passes, limit)
    }

    fn divide(
        fixed: usize,
        threads: usize,
        (max_connections, max_in_flight): (usize, usize),
        passes: bool,
        limit: Option<u64>,
    ) -> Self {
        // Unlock calls, and what passes through beside them: neither takes the other's.
        let routes = if passes { 2 } else { 1 };
        // As many connections to n4n may be kept as are in use.
        let shares = [ADMIN, max_connections, max_in_flight.saturating_mul(2 * routes)];
        let needed = shares.into_iter().fold(fixed, usize::saturating_add);
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let is_short = limit < needed;
        let admin = if is_short { (limit / 8).clamp(1, ADMIN) } else { ADMIN };
        let left = limit.saturating_sub(fixed.saturating_add(admin));
        // A call takes three: its client's connection, one to n4n, and one that may be kept.
        let room = (left / (3 * routes)).max(left.saturating_sub(max_connections) / (2 * routes));
        let in_flight = max_in_flight.min(room).max(1);
        let connections = max_connections.min(left.saturating_sub(2 * routes * in_flight)).max(1);
        let kept = left.saturating_sub(connections.saturating_add(routes * in_flight)) / (routes * threads);
        Self {
            connections,
            in_flight,
            passing: if passes { in_flight } else { 0 },
            kept: kept.clamp(1, max_in_flight),
            admin,
            shortage: is_short.then_some(Shortage { limit, needed }),
        }
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

    fn divide(limit: u64) -> Shares {
        Shares::divide(100, 4, (10_000, 1000), false, Some(limit))
    }

    fn shares(limit: u64) -> (usize, usize, usize, usize) {
        let Shares { connections, in_flight, kept, admin, .. } = divide(limit);
        (connections, in_flight, kept, admin)
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(shares(12_228), (10_000, 1000, 250, 128));
        assert_eq!(shares(20_000), (10_000, 1000, 1000, 128));
        assert!(divide(12_228).warning().is_none());
        let unlimited = Shares::divide(100, 4, (usize::MAX, 1000), false, None);
        assert_eq!((unlimited.in_flight, unlimited.warning().map(|told| told.to_string())), (1000, None));
    }

    #[test]
    fn connections_give_way_before_calls_in_flight_do() {
        assert_eq!(shares(12_227), (9_999, 1000, 250, 128));
        assert_eq!(shares(4096), (1868, 1000, 250, 128));
        assert_eq!(shares(1064), (280, 278, 69, 128));
        assert_eq!(shares(256), (42, 41, 10, 32));
        let few_clients = Shares::divide(100, 4, (10, 1000), false, Some(1000));
        assert_eq!((few_clients.connections, few_clients.in_flight), (10, 382));
    }

    #[test]
    fn whatever_the_limit_all_shares_fit_under_it_or_are_one() {
        for limit in 0..13_000 {
            let (connections, in_flight, kept, admin) = shares(limit);
            let fits = 100 + connections + in_flight + 4 * kept + admin <= limit as usize;
            let is_least = (connections, kept) == (1, 1) || in_flight < 4;
            assert!(fits || is_least, "{limit}: {connections} {in_flight} {kept} {admin}");
        }
    }

    #[test]
    fn what_passes_through_has_as_much_room_again() {
        let divide = |limit| {
            let shares = Shares::divide(100, 4, (10_000, 1000), true, Some(limit));
            (shares.connections, shares.in_flight, shares.passing, shares.kept)
        };
        assert_eq!(divide(14_228), (10_000, 1000, 1000, 250));
        assert_eq!(divide(14_227), (9_999, 1000, 1000, 250));
        assert_eq!(divide(1064), (280, 139, 139, 34));
        for limit in 0..15_000 {
            let (connections, in_flight, passing, kept) = divide(limit);
            let admin = Shares::divide(100, 4, (10_000, 1000), true, Some(limit)).admin;
            let fits = 100 + connections + in_flight + passing + 8 * kept + admin <= limit as usize;
            assert!(
                fits || (connections, kept) == (1, 1) || in_flight < 4,
                "{limit}: {connections} {in_flight}"
            );
        }
    }

    #[test]
    fn the_warning_names_the_limit_that_would_do() {
        let told = divide(4096).warning().unwrap().to_string();
        assert!(told.contains("limit of 4096") && told.contains("1868 connections"), "{told}");
        assert!(told.contains("raise it to 12228"), "{told}");
    }
}
