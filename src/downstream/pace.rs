//! The pace that a client must keep, at what it sends or takes: a byte now and then is none.

use std::time::{Duration, Instant};

/// How many bytes earn a second of waiting back.
const BYTES_A_SECOND: usize = 4096;

/// The time that may still be spent on waiting for a client. What it sends or takes earns some back, up to what there
/// was at first.
#[derive(Debug)]
pub struct Pace {
    most: Duration,
    left: Duration,
}

impl Pace {
    /// A client that may be waited for so long before anything has come of it.
    pub const fn new(most: Duration) -> Self {
        Self { most, left: most }
    }

    /// How long it may still be waited for.
    pub const fn left(&self) -> Duration {
        self.left
    }

    /// Takes what was waited.
    pub fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    /// Gives back what so many bytes are worth.
    pub fn earn(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / BYTES_A_SECOND as f64);
        self.left = self.most.min(self.left + earned);
    }

    /// Spends time until what it returns is dropped, as a wait that is given up drops it too.
    pub fn wait(&mut self) -> Waiting<'_> {
        Waiting { pace: self, since: Instant::now() }
    }
}

/// A client that is being waited for.
#[derive(Debug)]
pub struct Waiting<'a> {
    pace: &'a mut Pace,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pace.spend(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bytes_now_and_then_do_not_stretch_it_and_a_steady_stream_goes_on() {
        let mut dripping = Pace::new(10 * SECOND);
        let drops = (0..).take_while(|_| {
            dripping.spend(3 * SECOND);
            dripping.earn(1);
            dripping.left() >= 3 * SECOND
        });
        assert_eq!(drops.count(), 2);
        let mut steady = Pace::new(10 * SECOND);
        for _ in 0..1000 {
            steady.spend(SECOND);
            steady.earn(BYTES_A_SECOND);
        }
        assert_eq!(steady.left(), 10 * SECOND);
    }

    #[test]
    fn what_is_earned_is_no_more_than_there_was() {
        let mut pace = Pace::new(10 * SECOND);
        pace.earn(usize::MAX / 2);
        assert_eq!(pace.left(), 10 * SECOND);
        pace.spend(60 * SECOND);
        assert_eq!(pace.left(), Duration::ZERO);
        pace.earn(BYTES_A_SECOND / 2);
        assert_eq!(pace.left(), SECOND / 2);
    }

    #[test]
    fn a_wait_that_is_given_up_is_spent_all_the_same() {
        let mut pace = Pace::new(10 * SECOND);
        let waiting = pace.wait();
        while waiting.since.elapsed().is_zero() {}
        drop(waiting);
        assert!(pace.left() < 10 * SECOND);
    }
}
