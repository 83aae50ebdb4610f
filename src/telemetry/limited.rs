//! What may be told over and over without filling the log: a line a second at most, and one for the beginning and
//! one for the end of what lasts.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often one kind of line is written at most.
const EVERY: Duration = Duration::from_secs(1);

/// How long nothing must have failed until what lasted is over.
pub const QUIET: Duration = Duration::from_secs(5);

/// One kind of line that strangers can bring about.
#[derive(Debug, Default)]
pub struct Limited(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl Limited {
    /// How many lines were left out since the last one, where another may be written; `None`: leave it out too.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut lines = lock(&self.0);
        if lines.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            lines.left_out += 1;
            return None;
        }
        lines.last = Some(now);
        Some(std::mem::take(&mut lines.left_out))
    }
}

/// Something that fails again and again, for as long as it does.
#[derive(Debug, Default)]
pub struct Spell(Mutex<Option<Failures>>);

/// The failures of one spell.
#[derive(Debug, Clone, Copy)]
pub struct Failures {
    /// When the first was.
    pub since: Instant,
    last: Instant,
    /// How many there were.
    pub count: u64,
}

impl Spell {
    /// Takes note of a failure; tells whether it is the first.
    pub fn begin(&self, now: Instant) -> bool {
        let mut spell = lock(&self.0);
        match &mut *spell {
            Some(failures) => {
                failures.last = now;
                failures.count += 1;
                false
            }
            None => {
                *spell = Some(Failures { since: now, last: now, count: 1 });
                true
            }
        }
    }

    /// Ends it, where nothing has failed for [`QUIET`].
    pub fn end(&self, now: Instant) -> Option<Failures> {
        lock(&self.0).take_if(|failures| now.saturating_duration_since(failures.last) >= QUIET)
    }
}

/// Whoever panicked with the lock held has left numbers that are still numbers.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_line_a_second_that_tells_how_many_were_left_out() {
        let (limited, start) = (Limited::default(), Instant::now());
        let told = (0..2500).map(|millis| limited.admit(start + Duration::from_millis(millis)));
        assert_eq!(told.flatten().collect::<Vec<_>>(), [0, 999, 999]);
    }

    #[test]
    fn a_spell_begins_once_and_ends_when_it_has_been_quiet() {
        let (spell, start) = (Spell::default(), Instant::now());
        let begun = (0..100).filter(|&second| spell.begin(start + Duration::from_secs(second))).count();
        assert_eq!(begun, 1);
        let last = start + Duration::from_secs(99);
        assert!(spell.end(last + QUIET / 2).is_none());
        assert_eq!(spell.end(last + QUIET).unwrap().count, 100);
        assert!(spell.end(last + QUIET).is_none(), "told once");
        assert!(spell.begin(last + QUIET), "another one");
    }
}
