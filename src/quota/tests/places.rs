//! Whose account is remembered when there are more users than places, and who shares one.

use super::*;

/// A clock and a ledger with so many places, and calls made by it.
struct Table {
    ledger: Ledger,
    clock: Clock,
}

impl Table {
    fn of(max_users: usize) -> Self {
        let (ledger, _, clock) = accounts(max_users);
        Self { ledger, clock }
    }

    /// How many calls of a user from a network pass now.
    fn passed(&self, user: &str, from: u32, calls: usize) -> usize {
        passed(self.ledger.account(user, client(from)).unwrap(), &self.clock, calls)
    }

    /// One call each of so many invented users.
    fn invent(&self, names: std::ops::Range<u32>, from: u32) -> usize {
        names.map(|n| self.passed(&format!("invented{from}.{n}"), from, 1)).sum()
    }

    /// n4n lets a user in.
    fn know(&self, user: &str) {
        let account = self.ledger.account(user, client(0)).unwrap();
        self.ledger.know(account.id().unwrap(), self.clock.now());
    }
}

#[test]
fn newcomers_from_one_network_take_a_sixteenth_of_the_places_and_share_an_account_beyond() {
    let table = Table::of(160);
    assert_eq!(table.passed("ada", 1, 1), 1);
    assert_eq!(table.invent(0..1000, 6), 10 + 20, "ten places, and one burst for all others");
    assert_eq!(table.ledger.remembered(), 11);
    assert_eq!(table.passed("invented6.5", 6, 100), 19, "who has a place has an account");
    assert_eq!(table.passed("ada", 1, 100), 19);
    assert_eq!(table.passed("bob", 2, 100), 20, "a newcomer from elsewhere has an account");
    assert_eq!(table.passed("eve", 6, 100), 0, "one from there shares");
}

#[test]
fn the_idle_of_a_network_make_room_for_its_newcomers() {
    let table = Table::of(160);
    assert_eq!(table.invent(0..10, 6), 10);
    table.clock.advance(millis(100));
    assert_eq!(table.invent(10..20, 6), 10);
    assert_eq!((table.ledger.remembered(), table.ledger.take_forgotten()), (10, 10));
}

#[test]
fn whom_n4n_has_let_in_takes_no_place_of_the_network() {
    let table = Table::of(160);
    for n in 0..100 {
        let user = format!("user{n}");
        assert_eq!(table.passed(&user, 6, 100), 20, "{user}");
        table.know(&user);
        table.know(&user);
    }
    assert_eq!((table.ledger.remembered(), table.invent(0..1000, 6)), (100, 30));
    assert_eq!(table.passed("user0", 6, 100), 0, "nothing is given back");
}

#[test]
fn whom_n4n_lets_in_for_the_first_time_while_there_is_no_place_gets_one() {
    let table = Table::of(160);
    table.invent(0..1000, 6);
    assert_eq!(table.passed("ada", 6, 100), 0);
    table.clock.advance(millis(100));
    assert_eq!(table.passed("ada", 6, 100), 20, "the idle have made room");

    table.clock.advance(Duration::from_secs(60));
    table.invent(0..1000, 6);
    table.know("bob");
    assert_eq!(table.passed("bob", 6, 100), 20);
}

#[test]
fn idle_names_that_n4n_never_let_in_go_first() {
    let table = Table::of(160);
    for n in 0..100 {
        table.passed(&format!("user{n}"), n, 1);
        table.know(&format!("user{n}"));
    }
    for network in 1000..1006 {
        assert_eq!(table.invent(0..10, network), 10, "they take the other sixty");
    }
    table.clock.advance(Duration::from_secs(2));
    assert_eq!(table.passed("new", 999, 1), 1);
    assert_eq!((table.ledger.remembered(), table.ledger.take_forgotten()), (101, 60));
}

#[test]
fn those_who_keep_coming_leave_half_of_the_places_to_users_whom_n4n_has_let_in() {
    let table = Table::of(160);
    let known: Vec<String> = (0..160).map(|n| format!("user{n}")).collect();
    for (number, user) in (0..).zip(&known) {
        table.passed(user, number, 1);
        table.know(user);
        table.clock.advance(millis(1));
    }
    // Idle for long, but not for a week.
    table.clock.advance(Duration::from_secs(24 * 60 * 60));
    table.ledger.forget_idle(table.clock.now());
    assert_eq!(table.ledger.remembered(), 160);
    for network in 1000..2000 {
        table.invent(0..20, network);
    }
    assert!(table.ledger.remembered() <= 160);
    let gone = table.ledger.take_forgotten();
    assert!((80..=100).contains(&gone), "{gone}");
    let kept = known.iter().rev().take(60).filter(|user| table.passed(user, 1000, 100) == 20);
    assert_eq!(kept.count(), 60, "those who called last have accounts of their own");
}

#[test]
fn who_has_been_away_for_a_week_is_forgotten() {
    let table = Table::of(160);
    table.passed("ada", 1, 20);
    table.know("ada");
    table.passed("eve", 2, 20);
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    for (after, remembered) in [(Duration::from_secs(2), 1), (week, 0)] {
        table.clock.advance(after);
        table.ledger.forget_idle(table.clock.now());
        assert_eq!(table.ledger.remembered(), remembered, "{after:?}");
    }
    assert_eq!(table.ledger.take_forgotten(), 2);
}

#[test]
fn what_is_known_from_elsewhere_takes_a_place_by_the_same_rules() {
    let table = Table::of(160);
    let sync = |user: &str, from| {
        let account = table.ledger.account(user, client(from)).unwrap();
        account.sync(&account.quota().balance(Duration::from_secs(2)), table.clock.now());
    };
    for n in 0..1000 {
        sync(&format!("invented{n}"), 6);
    }
    assert_eq!(table.ledger.remembered(), 10);
    sync("ada", 1);
    assert_eq!((table.passed("ada", 1, 100), table.passed("invented0", 6, 100)), (0, 0));
}

#[test]
fn standing_and_places_survive_a_reload_that_changes_how_many_there_are() {
    for (before, after) in [(160, 320), (160, 8000), (8000, 160), (100_000, 50_000)] {
        let Table { ledger, clock } = Table::of(before);
        let table = Table { ledger, clock };
        table.passed("ada", 1, 100);
        table.know("ada");
        table.invent(0..8_000, 6);
        let quotas =
            Quotas { users: Some(UnlistedQuota { quota: ten_a_second(), max_users: after }), clients: None };
        let ledger = Ledger::open(quotas, Some(&table.ledger), table.clock.now());
        let table = Table { ledger, clock: table.clock };
        assert_eq!(table.passed("ada", 9, 100), 0, "{before} {after}");
        table.clock.advance(Duration::from_secs(2));
        table.ledger.forget_idle(table.clock.now());
        assert_eq!(table.ledger.remembered(), 1, "{before} {after}: ada alone");
        table.invent(0..8_000, 6);
        let places = table.ledger.remembered() - 1;
        let share = after / 16;
        assert!((share - share / 8..=share).contains(&places), "{before} {after}: {places} of {share}");
    }
}
