//! Whose values are remembered, how many users' at most, and across a reload.

use super::*;

fn unlisted(distinct: u32, max_users: usize) -> UnlistedLimit {
    UnlistedLimit { limit: limit(distinct), max_users }
}

/// How many of the values numbered so pass.
fn passed(watchlist: &Watchlist, name: &str, values: std::ops::Range<u32>, now: Instant) -> usize {
    let watched = watchlist.watched(name);
    values.filter(|number| watched.ask(value(*number), now, true).suspicion.is_none()).count()
}

#[test]
fn each_user_has_values_of_their_own_however_the_name_is_written() {
    let now = Instant::now();
    let watchlist = Watchlist::open(unlisted(5, 100), None, now);
    assert_eq!(passed(&watchlist, "ada", 0..10, now), 5);
    assert_eq!(passed(&watchlist, "bob", 0..10, now), 5);
    assert_eq!(passed(&watchlist, "ADA", 100..110, now), 0);
    let long = |end: &str| format!("{}{end}", "n".repeat(256));
    assert_eq!(passed(&watchlist, &long("a"), 0..10, now), 5);
    assert_eq!(passed(&watchlist, &long("b"), 0..10, now), 5);
    assert_eq!(watchlist.remembered(), 4);
}

#[test]
fn invented_names_are_bounded_and_do_not_have_a_walk_forgotten() {
    let now = Instant::now();
    let watchlist = Watchlist::open(unlisted(50, 4000), None, now);
    assert_eq!(passed(&watchlist, "walker", 0..60, now), 50);
    for number in 0..40_000 {
        let name = format!("invented-{number}");
        assert_eq!(passed(&watchlist, &name, 0..1, now), 1, "a newcomer is never refused for others");
    }
    assert!(watchlist.remembered() <= 4000, "{}", watchlist.remembered());
    let evicted = watchlist.take_evicted();
    assert_eq!(evicted, 40_001 - watchlist.remembered() as u64);
    assert_eq!(passed(&watchlist, "walker", 100..160, now), 0);
    assert_eq!(watchlist.take_evicted(), 0);
}

#[test]
fn who_asks_for_nothing_is_forgotten() {
    let start = Instant::now();
    let watchlist = Watchlist::open(unlisted(5, 1000), None, start);
    for number in 0..500 {
        passed(&watchlist, &number.to_string(), 0..3, start);
    }
    passed(&watchlist, "late", 0..5, start + MINUTE * 30);
    watchlist.forget_idle(start + HOUR);
    assert_eq!(watchlist.remembered(), 501);
    watchlist.forget_idle(start + HOUR + MINUTE * 20);
    assert_eq!((watchlist.remembered(), watchlist.take_evicted()), (1, 0));
    assert_eq!(passed(&watchlist, "late", 5..6, start + HOUR + MINUTE * 20), 0);
}

#[test]
fn what_is_over_makes_room_before_anybody_is_forgotten() {
    let start = Instant::now();
    let watchlist = Watchlist::open(unlisted(5, 16), None, start);
    for round in 0..5 {
        for number in 0..200 {
            passed(&watchlist, &number.to_string(), 0..1, start + HOUR * 2 * round);
        }
        assert!(watchlist.remembered() <= 16);
    }
    let evicted = watchlist.take_evicted();
    assert!(evicted <= 5 * (200 - 16) + 16, "{evicted}");
}

#[test]
fn a_reload_keeps_what_was_asked_for_while_the_period_stays() {
    let now = Instant::now();
    let first = Watchlist::open(unlisted(5, 100), None, now);
    assert_eq!(passed(&first, "ada", 0..10, now), 5);
    let raised = Watchlist::open(unlisted(8, 50), Some(&first), now + MINUTE);
    assert_eq!(passed(&raised, "ada", 0..20, now), 5 + 3);
    let mut other = unlisted(8, 50);
    other.limit.per = HOUR * 2;
    assert_eq!(passed(&Watchlist::open(other, Some(&raised), now), "ada", 100..110, now), 8);

    let mut caller = Caller::new(5);
    for number in 0..5 {
        caller.ask(value(number)).unwrap();
    }
    caller.watch = Watch::open(limit(6), Some(&caller.watch), caller.now + MINUTE);
    assert!(caller.ask(value(5)).is_ok() && caller.ask(value(6)).is_err());
    caller.watch = Watch::open(other.limit, Some(&caller.watch), caller.now);
    assert!(caller.ask(value(6)).is_ok());
}
