//! When calls pass, when they may come again, and how many users are remembered.

use std::{
    cell::Cell,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::*;

fn quota(requests: u32, per: Duration, burst: u32) -> Quota {
    Quota { requests: NonZeroU32::new(requests).unwrap(), per, burst: NonZeroU32::new(burst).unwrap() }
}

fn ten_a_second() -> Quota {
    quota(10, Duration::from_secs(1), 20)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A clock that goes when it is told to.
struct Clock(Cell<Instant>);

impl Clock {
    fn new() -> Self {
        Self(Cell::new(Instant::now()))
    }

    fn now(&self) -> Instant {
        self.0.get()
    }

    fn advance(&self, by: Duration) {
        self.0.set(self.now() + by);
    }
}

fn ledger(max_users: usize, listed: &[(&str, Option<Quota>)]) -> (Ledger, Clock) {
    let clock = Clock::new();
    let quotas = Quotas { users: Some(UnlistedQuota { quota: ten_a_second(), max_users }), clients: None };
    (Ledger::open(quotas, listed.iter().copied(), None, clock.now()), clock)
}

fn passed(ledger: &Ledger, clock: &Clock, user: &str, calls: usize) -> usize {
    (0..calls).filter(|_| ledger.spend(user, clock.now()).is_ok()).count()
}

#[test]
fn a_burst_passes_at_once_and_then_one_call_per_interval() {
    let (ledger, clock) = ledger(10, &[("listed", None)]);
    for user in ["ada", "listed"] {
        assert_eq!(passed(&ledger, &clock, user, 100), 20, "{user}");
    }
    for user in ["ada", "listed"] {
        clock.advance(millis(100));
        assert_eq!(passed(&ledger, &clock, user, 100), if user == "ada" { 1 } else { 2 }, "{user}");
    }
    assert_eq!(passed(&ledger, &clock, "bob", 100), 20, "another user is not touched");
}

#[test]
fn the_balance_tells_what_is_left_and_when_the_burst_is_whole() {
    let (ledger, clock) = ledger(10, &[("listed", Some(quota(1, Duration::from_secs(60), 2)))]);
    let spend = |user: &str| ledger.spend(user, clock.now()).map(|balance| balance.unwrap());
    let first = spend("listed").unwrap();
    assert_eq!((first.remaining, first.whole_in), (1, Duration::from_secs(60)));
    let second = spend("listed").unwrap();
    assert_eq!((second.remaining, second.whole_in), (0, Duration::from_secs(120)));
    clock.advance(Duration::from_secs(45));
    let refused = spend("listed").unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(15));
    assert_eq!((refused.balance.remaining, refused.balance.whole_in), (0, Duration::from_secs(75)));
    clock.advance(Duration::from_secs(15));
    assert!(spend("listed").is_ok(), "one more passes after retry_after");
    assert!(spend("listed").is_err());
    assert_eq!(spend("ada").unwrap().remaining, 19);
}

#[test]
fn a_refused_call_spends_nothing() {
    let (ledger, clock) = ledger(10, &[]);
    passed(&ledger, &clock, "ada", 20);
    let before = ledger.spend("ada", clock.now()).unwrap_err();
    assert_eq!(passed(&ledger, &clock, "ada", 1000), 0);
    assert_eq!(ledger.spend("ada", clock.now()).unwrap_err(), before);
    clock.advance(before.retry_after);
    assert!(ledger.spend("ada", clock.now()).is_ok());
}

#[test]
fn without_a_quota_every_call_passes() {
    let clock = Clock::new();
    let own = quota(1, Duration::from_secs(1), 1);
    let ledger = Ledger::open(Quotas::default(), [("free", None), ("bound", Some(own))], None, clock.now());
    for user in ["free", "anyone"] {
        assert_eq!(ledger.spend(user, clock.now()), Ok(None), "{user}");
    }
    assert_eq!(passed(&ledger, &clock, "bound", 5), 1);
}

#[test]
fn past_the_bound_newcomers_share_one_account() {
    let (ledger, clock) = ledger(2, &[("listed", None)]);
    assert_eq!(passed(&ledger, &clock, "ada", 1) + passed(&ledger, &clock, "bob", 1), 2);
    let newcomers: usize = (0..100).map(|n| passed(&ledger, &clock, &format!("new{n}"), 1)).sum();
    assert_eq!(newcomers, 20, "all of them together have one burst");
    assert_eq!(ledger.remembered(), 2);
    assert_eq!(
        (passed(&ledger, &clock, "ada", 100), passed(&ledger, &clock, "bob", 100)),
        (19, 19),
        "the remembered keep theirs"
    );
    assert_eq!(passed(&ledger, &clock, "listed", 100), 20, "and so do the listed");
    clock.advance(Duration::from_secs(2));
    assert_eq!(passed(&ledger, &clock, "new1", 100), 20, "the idle are forgotten to make room");
    assert_eq!((ledger.remembered(), ledger.take_forgotten()), (1, 2));
}

#[test]
fn a_million_names_take_a_bounded_place() {
    let (ledger, clock) = ledger(100_000, &[("listed", None)]);
    let name = |n: u32| format!("{n:0>200}");
    for n in 0..1_000_000 {
        let _ = ledger.spend(&name(n), clock.now());
    }
    let remembered = ledger.remembered();
    assert!((90_000..=100_000).contains(&remembered), "{remembered}");
    assert_eq!(passed(&ledger, &clock, "listed", 100), 20);
    clock.advance(Duration::from_secs(2));
    ledger.forget_idle(clock.now());
    assert_eq!((ledger.remembered(), ledger.take_forgotten()), (0, remembered as u64));
}

#[test]
fn an_ipv6_client_counts_as_its_64() {
    let clock = Clock::new();
    let quotas = Quotas { users: None, clients: Some(quota(1, Duration::from_secs(1), 2)) };
    let ledger = Ledger::open(quotas, [], None, clock.now());
    let passed = |client: &str| {
        (0..5).filter(|_| ledger.spend_client(client.parse().unwrap(), clock.now()).is_ok()).count()
    };
    for (client, passes) in [
        ("192.0.2.1", 2),
        ("::ffff:192.0.2.1", 0),
        ("192.0.2.2", 2),
        ("2001:db8::1", 2),
        ("2001:db8::2:1", 0),
        ("2001:db8:0:1::1", 2),
        ("::192.0.2.1", 2),
    ] {
        assert_eq!(passed(client), passes, "{client}");
    }
}

#[test]
fn accounts_whose_numbers_stay_survive_a_reload() {
    let clock = Clock::new();
    let own = |burst| Some(quota(1, Duration::from_secs(60), burst));
    let quotas = |max_users| Quotas {
        users: Some(UnlistedQuota { quota: ten_a_second(), max_users }),
        clients: own(3),
    };
    let client = "192.0.2.1".parse().unwrap();
    let before = Ledger::open(
        quotas(10),
        [("same", own(5)), ("changed", own(5)), ("default", None)],
        None,
        clock.now(),
    );
    for user in ["same", "changed", "default", "ada"] {
        assert!(passed(&before, &clock, user, 100) > 1, "{user}");
    }
    while before.spend_client(client, clock.now()).is_ok() {}
    let listed = [("same", own(5)), ("changed", own(6)), ("default", None), ("new", own(2))];
    let after = Ledger::open(quotas(20), listed, Some(&before), clock.now());
    for (user, passes) in [("same", 0), ("changed", 6), ("default", 0), ("ada", 0), ("new", 2), ("bob", 20)] {
        assert_eq!(passed(&after, &clock, user, 100), passes, "{user}");
    }
    assert!(after.spend_client(client, clock.now()).is_err());
}

#[test]
fn a_reload_may_lower_and_raise_how_many_users_are_remembered() {
    let clock = Clock::new();
    let slow = quota(1, Duration::from_secs(60), 2);
    let open = |max_users, previous: Option<&Ledger>| {
        let quotas = Quotas { users: Some(UnlistedQuota { quota: slow, max_users }), clients: None };
        Ledger::open(quotas, [], previous, clock.now())
    };
    let spend_all = |ledger: &Ledger, names: std::ops::Range<u32>| -> usize {
        names.map(|n| passed(ledger, &clock, &format!("user{n}"), 9)).sum()
    };
    for (from, to) in [(100_000, 5), (100_000, 1), (100_000, 4097), (5, 100_000), (4097, 4100)] {
        let before = open(from, None);
        assert_eq!(spend_all(&before, 0..5), 10, "{from}");
        let after = open(to, Some(&before));
        assert_eq!(spend_all(&after, 0..5), 0, "from {from} to {to}: what was spent stays spent");
        // Whole again, the old ones make room.
        clock.advance(Duration::from_secs(120));
        after.forget_idle(clock.now());
        assert_eq!(spend_all(&after, 5..6), 2, "from {from} to {to}: a newcomer has an account of its own");
        let rest = spend_all(&after, 6..6 + u32::try_from(to).unwrap());
        assert!(after.remembered() <= to, "from {from} to {to}: {}", after.remembered());
        if to < 4096 {
            assert_eq!(after.remembered(), to, "from {from} to {to}");
            assert_eq!(rest, 2 * to, "from {from} to {to}: one more than there is room shares an account");
        }
        clock.advance(Duration::from_secs(120));
    }
}
