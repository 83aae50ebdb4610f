//! Wrong keys, counted by the client network they come from, and the networks that are shut out for them.
//!
//! A network that has shown as many as are allowed is refused for a while, whatever it sends; the users that it named are
//! not touched. What is kept is bounded, and nobody is ever shut out for what another network did: where there is no room,
//! the one that would be forgotten next gives way. A block that stands is not among what gives way to guesses, so that a
//! guesser who has others guess from everywhere does not free itself.

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::client_network::ClientNetwork;

/// How many networks are remembered that have shown wrong keys, and as many again that are shut out.
const MAX_NETWORKS: usize = 50_000;

/// How many wrong keys a network may show, and what comes then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many wrong keys it takes: with the last of them the network is shut out.
    pub wrong_keys: NonZeroU32,
    /// The time in which that many are forgiven, one after the other.
    pub per: Duration,
    /// How long the network is shut out.
    pub block: Duration,
}

impl Allowance {
    /// How long it takes until one wrong key is forgiven.
    fn interval(&self) -> u64 {
        nanos(self.per / self.wrong_keys.get()).max(1)
    }
}

/// Who has shown wrong keys, and who is shut out.
#[derive(Debug)]
pub struct Guessing {
    allowance: Allowance,
    /// Times are counted from here.
    epoch: Instant,
    networks: Mutex<Networks>,
    /// How many are shut out: while there are none, a request costs no more than to see that.
    blocked: AtomicUsize,
}

#[derive(Debug, Default)]
struct Networks {
    /// Each until the last of its wrong keys is forgiven.
    suspects: Dated,
    /// Each until it is let in again.
    blocked: Dated,
}

/// Networks, each with a time; no more than [`MAX_NETWORKS`] of them.
#[derive(Debug, Default)]
struct Dated {
    times: HashMap<ClientNetwork, u64>,
    /// The same, the earliest first.
    order: BTreeSet<(u64, ClientNetwork)>,
}

impl Guessing {
    /// Nobody has guessed yet.
    pub fn open(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, epoch: now, networks: Mutex::default(), blocked: AtomicUsize::new(0) }
    }

    /// By what it judges.
    pub const fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Whether a network is shut out.
    pub fn is_blocked(&self, network: ClientNetwork, now: Instant) -> bool {
        self.blocked.load(Ordering::Relaxed) > 0
            && self.networks().blocked.time(network).is_some_and(|until| until > self.nanos(now))
    }

    /// Takes note of a wrong key; tells whether the network is shut out with it.
    pub fn wrong_key(&self, network: ClientNetwork, now: Instant) -> bool {
        let now = self.nanos(now);
        let interval = self.allowance.interval();
        let mut networks = self.networks();
        if networks.blocked.time(network).is_some_and(|until| until > now) {
            // It was under way already when the network was shut out.
            return false;
        }
        let forgiven_at = networks.suspects.time(network).unwrap_or(now).max(now).saturating_add(interval);
        let is_too_many =
            forgiven_at - now > interval.saturating_mul(u64::from(self.allowance.wrong_keys.get()) - 1);
        if is_too_many {
            networks.suspects.forget(network);
            networks.blocked.set(network, now.saturating_add(nanos(self.allowance.block)));
            self.blocked.store(networks.blocked.len(), Ordering::Relaxed);
        } else {
            networks.suspects.set(network, forgiven_at);
        }
        is_too_many
    }

    /// Lets those in again whose time is over, and forgets whose wrong keys are forgiven; gives who is let in.
    pub fn let_in(&self, now: Instant) -> Vec<ClientNetwork> {
        let now = self.nanos(now);
        let mut networks = self.networks();
        while networks.suspects.take_due(now).is_some() {}
        let let_in: Vec<_> = std::iter::from_fn(|| networks.blocked.take_due(now)).collect();
        self.blocked.store(networks.blocked.len(), Ordering::Relaxed);
        let_in
    }

    /// Lets those in again that meet a network, and forgets their wrong keys; gives how many were shut out.
    pub fn forgive(&self, network: IpNet) -> usize {
        let mut networks = self.networks();
        networks.suspects.forget_all(network);
        let forgiven = networks.blocked.forget_all(network);
        self.blocked.store(networks.blocked.len(), Ordering::Relaxed);
        forgiven
    }

    /// How many networks are shut out.
    pub fn blocked(&self) -> usize {
        self.blocked.load(Ordering::Relaxed)
    }

    /// At most so many of the networks that are shut out, with the time until each is let in: the latest blocked first.
    pub fn latest_blocked(&self, count: usize, now: Instant) -> Vec<(ClientNetwork, Duration)> {
        let now = self.nanos(now);
        let networks = self.networks();
        let latest = networks.blocked.order.iter().rev().take(count);
        latest.map(|&(until, network)| (network, Duration::from_nanos(until.saturating_sub(now)))).collect()
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// A panic cannot leave them half-changed, so a poisoned lock is as good as any.
    fn networks(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dated {
    fn len(&self) -> usize {
        self.times.len()
    }

    fn time(&self, network: ClientNetwork) -> Option<u64> {
        self.times.get(&network).copied()
    }

    /// Dates a network; where there is no room for another, the earliest gives way.
    fn set(&mut self, network: ClientNetwork, time: u64) {
        self.forget(network);
        if self.len() >= MAX_NETWORKS
            && let Some((_, earliest)) = self.order.pop_first()
        {
            self.times.remove(&earliest);
        }
        self.times.insert(network, time);
        self.order.insert((time, network));
    }

    fn forget(&mut self, network: ClientNetwork) {
        if let Some(time) = self.times.remove(&network) {
            self.order.remove(&(time, network));
        }
    }

    /// Forgets those that meet a network; gives how many.
    fn forget_all(&mut self, network: IpNet) -> usize {
        let before = self.len();
        self.times.retain(|known, _| !known.meets(network));
        self.order.retain(|(_, known)| !known.meets(network));
        before - self.len()
    }

    /// Takes out the earliest, if its time has come.
    fn take_due(&mut self, now: u64) -> Option<ClientNetwork> {
        let &(time, network) = self.order.first().filter(|(time, _)| *time <= now)?;
        self.order.remove(&(time, network));
        self.times.remove(&network);
        Some(network)
    }
}

/// A duration in nanoseconds, as far as they can be counted.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ten_in_ten_minutes(now: Instant) -> Guessing {
        let wrong_keys = NonZeroU32::new(10).unwrap();
        Guessing::open(Allowance { wrong_keys, per: 10 * MINUTE, block: 15 * MINUTE }, now)
    }

    fn network(client: &str) -> ClientNetwork {
        ClientNetwork::of(client.parse().unwrap())
    }

    /// One of many.
    fn stranger(number: u32) -> ClientNetwork {
        ClientNetwork::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    /// How many wrong keys it takes at one moment.
    fn wrong_keys_until_blocked(guessing: &Guessing, network: ClientNetwork, now: Instant) -> Option<usize> {
        (1..=100).find(|_| guessing.wrong_key(network, now))
    }

    #[test]
    fn a_network_is_shut_out_with_the_last_wrong_key_it_may_show_and_let_in_again() {
        let start = Instant::now();
        let guessing = ten_in_ten_minutes(start);
        let (guesser, other) = (network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(wrong_keys_until_blocked(&guessing, guesser, start), Some(10));
        assert!(guessing.is_blocked(network("2001:db8::9:9"), start), "its whole /64");
        assert!(!guessing.is_blocked(other, start));
        // Those that were under way do not make it any longer.
        assert_eq!(wrong_keys_until_blocked(&guessing, guesser, start + MINUTE), None);
        assert_eq!(
            (guessing.blocked(), guessing.latest_blocked(9, start)),
            (1, vec![(guesser, 15 * MINUTE)])
        );

        let end = start + 15 * MINUTE;
        assert!(guessing.is_blocked(guesser, end - Duration::from_nanos(1)));
        assert!(!guessing.is_blocked(guesser, end), "to the moment, whenever it is looked at");
        assert_eq!(guessing.let_in(end - Duration::from_nanos(1)), []);
        assert_eq!((guessing.let_in(end), guessing.blocked()), (vec![guesser], 0));
        assert_eq!(guessing.let_in(end), [], "told once");
        assert_eq!(wrong_keys_until_blocked(&guessing, guesser, end), Some(10), "it begins anew");
    }

    #[test]
    fn wrong_keys_are_forgiven_one_after_the_other() {
        let start = Instant::now();
        let guessing = ten_in_ten_minutes(start);
        let slow = network("192.0.2.1");
        assert!((0..1000).all(|n| !guessing.wrong_key(slow, start + n * MINUTE)), "one a minute");
        let after = start + 1000 * MINUTE;
        assert_eq!(wrong_keys_until_blocked(&guessing, slow, after), Some(10));
        let hasty = network("192.0.2.2");
        let shut_out_at = (0..1000).find(|&n| guessing.wrong_key(hasty, after + n * MINUTE / 2));
        assert_eq!(shut_out_at, Some(17), "two a minute, of which one is forgiven");
    }

    #[test]
    fn one_wrong_key_may_be_all_that_it_takes() {
        let start = Instant::now();
        let once = Allowance { wrong_keys: NonZeroU32::MIN, per: MINUTE, block: MINUTE };
        let guessing = Guessing::open(once, start);
        assert!(guessing.wrong_key(network("192.0.2.1"), start));
        assert!(!guessing.is_blocked(network("192.0.2.2"), start));
    }

    #[test]
    fn a_million_guessers_free_nobody_and_shut_out_nobody_else() {
        let start = Instant::now();
        let guessing = ten_in_ten_minutes(start);
        let (blocked, near) = (network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(wrong_keys_until_blocked(&guessing, blocked, start), Some(10));
        assert!((0..9).all(|_| !guessing.wrong_key(near, start)));
        assert!((0..1_000_000).all(|n| !guessing.wrong_key(stranger(n), start)), "one guess each");
        assert!(guessing.is_blocked(blocked, start));
        assert!(guessing.wrong_key(near, start), "who has shown most is forgotten last");
        let networks = guessing.networks();
        assert_eq!((networks.suspects.len(), networks.blocked.len()), (MAX_NETWORKS - 1, 2));
        assert_eq!(networks.suspects.order.len(), networks.suspects.len());
    }

    #[test]
    fn where_there_is_no_room_for_another_block_the_one_that_ends_next_gives_way() {
        let start = Instant::now();
        let once = Allowance { wrong_keys: NonZeroU32::MIN, per: MINUTE, block: 15 * MINUTE };
        let guessing = Guessing::open(once, start);
        let all = u32::try_from(MAX_NETWORKS).unwrap();
        for n in 0..=all {
            assert!(guessing.wrong_key(stranger(n), start + Duration::from_millis(n.into())));
        }
        let now = start + MINUTE;
        assert_eq!(guessing.blocked(), MAX_NETWORKS);
        let free: Vec<_> = (0..=all).filter(|&n| !guessing.is_blocked(stranger(n), now)).collect();
        assert_eq!(free, [0]);
    }
}
