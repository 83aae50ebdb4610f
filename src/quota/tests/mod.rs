//! When calls pass, when they may come again, and how many users are remembered.

mod places;

use std::{
    cell::Cell,
    net::Ipv4Addr,
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

/// A ledger of unlisted users, and a listed user with the same quota.
fn accounts(max_users: usize) -> (Ledger, ListedAccount, Clock) {
    let clock = Clock::new();
    let quotas = Quotas { users: Some(UnlistedQuota { quota: ten_a_second(), max_users }), clients: None };
    (Ledger::open(quotas, None, clock.now()), ListedAccount::open(ten_a_second(), clock.now()), clock)
}

/// An address of its own for each number.
fn client(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

/// The account of a user of whom there is nothing but the name, and who calls from where nobody else does.
fn of<'a>(ledger: &'a Ledger, user: &str) -> Account<'a> {
    let number = user.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    ledger.account(user, client(number)).unwrap()
}

fn passed(account: Account<'_>, clock: &Clock, calls: usize) -> usize {
    (0..calls).filter(|_| account.spend(clock.now()).is_ok()).count()
}

#[test]
fn a_burst_passes_at_once_and_then_one_call_per_interval() {
    let (ledger, listed, clock) = accounts(10);
    let (ada, listed) = (of(&ledger, "ada"), Account::from(&listed));
    assert_eq!((passed(ada, &clock, 100), passed(listed, &clock, 100)), (20, 20));
    clock.advance(millis(100));
    assert_eq!(passed(ada, &clock, 100), 1);
    clock.advance(millis(100));
    assert_eq!((passed(ada, &clock, 100), passed(listed, &clock, 100)), (1, 2));
    assert_eq!(passed(of(&ledger, "bob"), &clock, 100), 20, "another user is not touched");
}

#[test]
fn the_balance_tells_what_is_left_and_when_the_burst_is_whole() {
    let (ledger, _, clock) = accounts(10);
    let listed = ListedAccount::open(quota(1, Duration::from_secs(60), 2), clock.now());
    let spend = || Account::from(&listed).spend(clock.now());
    let first = spend().unwrap();
    assert_eq!((first.remaining, first.whole_in), (1, Duration::from_secs(60)));
    assert_eq!(listed.balance(clock.now()), first, "looking takes nothing");
    let second = spend().unwrap();
    assert_eq!((second.remaining, second.whole_in), (0, Duration::from_secs(120)));
    clock.advance(Duration::from_secs(45));
    let refused = spend().unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(15));
    assert_eq!((refused.balance.remaining, refused.balance.whole_in), (0, Duration::from_secs(75)));
    clock.advance(Duration::from_secs(15));
    assert!(spend().is_ok(), "one more passes after retry_after");
    assert!(spend().is_err());
    assert_eq!(of(&ledger, "ada").spend(clock.now()).unwrap().remaining, 19);
}

#[test]
fn a_refused_call_spends_nothing() {
    let (ledger, _, clock) = accounts(10);
    let ada = of(&ledger, "ada");
    passed(ada, &clock, 20);
    let before = ada.spend(clock.now()).unwrap_err();
    assert_eq!(passed(ada, &clock, 1000), 0);
    assert_eq!(ada.spend(clock.now()).unwrap_err(), before);
    clock.advance(before.retry_after);
    assert!(ada.spend(clock.now()).is_ok());
}

#[test]
fn what_is_known_from_elsewhere_takes_the_place_of_what_was_counted() {
    let (ledger, listed, clock) = accounts(10);
    for account in [of(&ledger, "ada"), Account::from(&listed)] {
        clock.advance(Duration::from_secs(60));
        account.sync(&account.quota().balance(millis(1500)), clock.now());
        assert_eq!(passed(account, &clock, 100), 5);
        account.sync(&account.quota().balance(Duration::ZERO), clock.now());
        assert_eq!(passed(account, &clock, 100), 20);
    }
}

#[test]
fn without_a_quota_there_is_no_account() {
    let ledger = Ledger::open(Quotas::default(), None, Instant::now());
    assert!(ledger.account("anyone", [192, 0, 2, 1].into()).is_none());
}

#[test]
fn past_the_bound_newcomers_share_an_account_by_network_and_past_that_one() {
    let (ledger, _, clock) = accounts(2);
    let passed = |user: &str, from, calls| passed(ledger.account(user, client(from)).unwrap(), &clock, calls);
    assert_eq!(passed("ada", 1, 1) + passed("bob", 2, 1), 2);
    let newcomers = |from| (0..100).map(|n| passed(&format!("new{n}"), from, 1)).sum::<usize>();
    assert_eq!((newcomers(3), newcomers(1)), (20, 20), "those from one network together have one burst");
    assert_eq!(
        (newcomers(4), newcomers(5)),
        (20, 0),
        "and so have all where that is not remembered any more"
    );
    assert_eq!(ledger.remembered(), 2);
    assert_eq!((passed("ada", 3, 100), passed("bob", 3, 100)), (19, 19), "the remembered keep theirs");
    clock.advance(Duration::from_secs(2));
    assert_eq!(passed("new1", 1, 100), 20, "the idle are forgotten to make room");
    assert_eq!((ledger.remembered(), ledger.take_forgotten()), (1, 2));
}

#[test]
fn a_million_names_take_a_bounded_place() {
    let (ledger, _, clock) = accounts(100_000);
    let name = |n: u32| format!("{n:0>200}");
    for n in 0..1_000_000 {
        let _ = of(&ledger, &name(n)).spend(clock.now());
    }
    let remembered = ledger.remembered();
    assert!((90_000..=100_000).contains(&remembered), "{remembered}");
    clock.advance(Duration::from_secs(2));
    ledger.forget_idle(clock.now());
    assert_eq!((ledger.remembered(), ledger.take_forgotten()), (0, remembered as u64));
}

#[test]
fn an_ipv6_client_counts_as_its_64() {
    let clock = Clock::new();
    let quotas = Quotas { users: None, clients: Some(quota(1, Duration::from_secs(1), 2)) };
    let ledger = Ledger::open(quotas, None, clock.now());
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
    let clients = Some(quota(1, Duration::from_secs(60), 3));
    let quotas =
        |max_users| Quotas { users: Some(UnlistedQuota { quota: ten_a_second(), max_users }), clients };
    let client = "192.0.2.1".parse().unwrap();
    let before = Ledger::open(quotas(10), None, clock.now());
    assert_eq!(passed(of(&before, "ada"), &clock, 100), 20);
    while before.spend_client(client, clock.now()).is_ok() {}
    let after = Ledger::open(quotas(20), Some(&before), clock.now());
    for (user, passes) in [("ada", 0), ("bob", 20)] {
        assert_eq!(passed(of(&after, user), &clock, 100), passes, "{user}");
    }
    assert!(after.spend_client(client, clock.now()).is_err());
}

#[test]
fn a_reload_may_lower_and_raise_how_many_users_are_remembered() {
    let clock = Clock::new();
    let slow = quota(1, Duration::from_secs(60), 2);
    let open = |max_users, previous: Option<&Ledger>| {
        let quotas = Quotas { users: Some(UnlistedQuota { quota: slow, max_users }), clients: None };
        Ledger::open(quotas, previous, clock.now())
    };
    let spend_all = |ledger: &Ledger, names: std::ops::Range<u32>| -> usize {
        names.map(|n| passed(of(ledger, &format!("user{n}")), &clock, 9)).sum()
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
