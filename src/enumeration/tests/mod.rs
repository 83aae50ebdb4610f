//! What a window lets pass, tells and forgets, on a clock of the test's own.

mod memory;
mod rates;
mod sketching;
mod users;

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn limit(distinct: u32) -> Limit {
    Limit { distinct: NonZeroU32::new(distinct).unwrap(), per: HOUR, enforces: true }
}

/// Numbers that are the same in every run (SplitMix64).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// What stands for a value that was not asked for yet.
    fn value(&mut self) -> Value {
        Value((self.next() >> (u64::BITS - Value::BITS)) as u32)
    }
}

/// A user who is watched, and the time.
struct Caller {
    watch: Watch,
    now: Instant,
}

impl Caller {
    fn new(distinct: u32) -> Self {
        let now = Instant::now();
        Self { watch: Watch::open(limit(distinct), None, now), now }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Asks where what is over the limit is refused.
    fn ask(&self, value: Value) -> Result<Asked, Suspicion> {
        let asked = self.watch.watched().ask(value, self.now, true);
        asked.suspicion.map_or(Ok(asked), Err)
    }

    /// Asks where what is over the limit is only told.
    fn ask_observed(&self, value: Value) -> Option<u32> {
        self.watch.watched().ask(value, self.now, false).suspicion.map(|suspicion| suspicion.count)
    }

    fn miss(&self, value: Value) -> Result<(), Suspicion> {
        self.ask(value).map(|asked| self.watch.watched().missed(&asked, self.now))
    }
}

fn value(number: u32) -> Value {
    Value(number)
}

#[test]
fn so_many_different_values_pass_and_each_of_them_as_often_as_one_likes() {
    let caller = Caller::new(50);
    for number in 0..50 {
        assert!(caller.ask(value(number)).is_ok(), "{number}");
    }
    for _ in 0..3 {
        let refused = caller.ask(value(50)).unwrap_err();
        assert_eq!((refused.count, refused.limit), (51, limit(50)), "what is refused does not count");
        assert!((0..50).all(|number| caller.ask(value(number)).is_ok()));
    }
}

#[test]
fn a_value_counts_for_the_period_and_a_fourteenth_longer_at_most() {
    for offset in 0..60 {
        let mut caller = Caller::new(1);
        caller.wait(MINUTE * offset);
        assert!(caller.ask(value(1)).is_ok());
        caller.wait(HOUR - Duration::from_nanos(1));
        assert!(caller.ask(value(2)).is_err(), "{offset}");
        caller.wait(HOUR / 14 + Duration::from_micros(1));
        assert!(caller.ask(value(2)).is_ok(), "{offset}");
    }
}

#[test]
fn a_refusal_tells_when_there_is_room_and_not_a_moment_before() {
    // So many that each is remembered, and so many that they are estimated.
    for distinct in [1, 7, 60, 300] {
        let mut caller = Caller::new(distinct);
        let mut seeded = Seeded(distinct.into());
        let mut refused = None;
        while refused.is_none() {
            refused = caller.ask(seeded.value()).err();
            caller.wait(Duration::from_millis(seeded.below(20_000)));
        }
        for _ in 0..5 {
            let strange = seeded.value();
            let retry_after = caller.ask(strange).unwrap_err().retry_after;
            assert!(retry_after > Duration::ZERO && retry_after <= HOUR + HOUR / 14, "{retry_after:?}");
            caller.wait(retry_after - Duration::from_nanos(1));
            assert!(caller.ask(strange).is_err(), "{distinct}: before");
            caller.wait(Duration::from_micros(1));
            assert!(caller.ask(strange).is_ok(), "{distinct}: then");
            while caller.ask(seeded.value()).is_ok() {}
        }
    }
}

#[test]
fn what_n4n_refuses_weighs_more() {
    let caller = Caller::new(50);
    for number in 0..16 {
        caller.miss(value(number)).unwrap();
    }
    // Sixteen times three, and two.
    assert!(caller.ask(value(16)).is_ok() && caller.ask(value(17)).is_ok());
    assert_eq!(caller.ask(value(18)).unwrap_err().count, 51);
    // Asked for again it weighs no more, and one that is found then weighs what it did.
    assert!(caller.miss(value(3)).is_ok() && caller.ask(value(3)).is_ok());
    assert_eq!(caller.ask(value(18)).unwrap_err().count, 51);
}

#[test]
fn what_is_refused_for_something_else_does_not_count() {
    for counted in [0, 200] {
        let caller = Caller::new(1000);
        let mut seeded = Seeded(1);
        for _ in 0..counted {
            caller.ask(seeded.value()).unwrap();
        }
        let count = |caller: &Caller| caller.watch.values.window.lock().unwrap().0.last_count();
        let before = count(&caller);
        for _ in 0..20 {
            let mut asked = caller.ask(seeded.value()).unwrap();
            caller.watch.watched().take_back(&mut asked, caller.now);
            assert_eq!(count(&caller), before);
        }
        let known = seeded.value();
        caller.ask(known).unwrap();
        let after = count(&caller);
        let mut again = caller.ask(known).unwrap();
        caller.watch.watched().take_back(&mut again, caller.now);
        assert_eq!(count(&caller), after, "what an earlier call made count stays");
    }
}

/// Else whoever walks through ids would have each call covered by one with a wrong key.
#[test]
fn a_call_that_is_taken_back_takes_no_others_with_it() {
    for counted in [0, 200] {
        let caller = Caller::new(1000);
        let mut seeded = Seeded(1);
        for _ in 0..counted {
            caller.watch.watched().settle(&mut caller.ask(seeded.value()).unwrap());
        }
        let watched = caller.watch.watched();
        let window = || caller.watch.values.window.lock().unwrap();
        for is_taken_back_first in [true, false] {
            let mut batch: Vec<_> = (0..20).map(|_| seeded.value()).collect();
            batch.retain(|value| {
                let before = window().0.last_count();
                let mut alone = caller.ask(*value).unwrap();
                let counts = window().0.last_count() > before;
                watched.take_back(&mut alone, caller.now);
                counts
            });
            let ask_all = || batch.iter().map(|value| caller.ask(*value).unwrap()).collect::<Vec<_>>();
            let (mut strangers, mut own) = (ask_all(), ask_all());
            let counted = window().0.last_count();
            if is_taken_back_first {
                strangers.iter_mut().for_each(|asked| watched.take_back(asked, caller.now));
            }
            own.iter_mut().for_each(|asked| watched.settle(asked));
            strangers.iter_mut().for_each(|asked| watched.take_back(asked, caller.now));
            assert_eq!(window().0.last_count(), counted);
            assert!(batch.len() > 10);
        }
        assert!(window().1.is_empty());
    }
}

#[test]
fn a_clock_that_is_read_a_moment_earlier_changes_nothing() {
    let mut caller = Caller::new(3);
    caller.wait(MINUTE * 30);
    for number in 0..3 {
        caller.ask(value(number)).unwrap();
    }
    caller.now -= MINUTE * 10;
    assert!(caller.ask(value(3)).is_err() && caller.ask(value(0)).is_ok());
}

#[test]
fn what_is_observed_counts_on() {
    let caller = Caller::new(50);
    let told: Vec<_> = (0..60).filter_map(|number| caller.ask_observed(value(number))).collect();
    assert_eq!(told, (51..=60).collect::<Vec<_>>());
    assert_eq!(caller.ask_observed(value(55)), None, "it was asked for before");
}

#[test]
fn a_value_of_another_parameter_is_another() {
    assert_eq!(Value::of("customer_id", "191"), Value::of("customer_id", "191"));
    assert_ne!(Value::of("customer_id", "191"), Value::of("orderid", "191"));
    assert_ne!(Value::of("customer_id", "191"), Value::of("customer_id", "192"));
}
