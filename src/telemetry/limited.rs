//! Log lines that strangers can bring about, limited: one a second, or one at the beginning and one at the end of a spell.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The least time between two lines of a kind.
const EVERY: Duration = Duration::from_secs(1);

/// How long nothing must have failed for a spell to be over.
pub const QUIET: Duration = Duration::from_secs(5);

/// One kind of line that strangers can bring about.
#[derive(Debug, Default)]
pub struct Limited(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    last: Option<Instant>,
    left_out: u64,
}

impl Limited {
    /// Lets a line pass, with the number of lines left out since the last one; `None`: leave this one out too.
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

/// A time in which something keeps going wrong.
#[derive(Debug, Default)]
pub struct Spell(Mutex<Option<Occurrences>>);

/// How often it went wrong in one spell, and when.
#[derive(Debug, Clone, Copy)]
pub struct Occurrences {
    /// The first time.
    pub since: Instant,
    last: Instant,
    /// How many times.
    pub count: u64,
}

impl Spell {
    /// Takes note that it went wrong; tells whether that is the first time.
    pub fn begin(&self, now: Instant) -> bool {
        let mut spell = lock(&self.0);
        match &mut *spell {
            Some(occurrences) => {
                occurrences.last = now;
                occurrences.count += 1;
                false
            }
            None => {
                *spell = Some(Occurrences { since: now, last: now, count: 1 });
                true
            }
        }
    }

    /// Ends it, where nothing has failed for [`QUIET`].
    pub fn end(&self, now: Instant) -> Option<Occurrences> {
        lock(&self.0).take_if(|occurrences| now.saturating_duration_since(occurrences.last) >= QUIET)
    }
}

/// A panic cannot leave the numbers half-written, so a poisoned lock is as good as any.
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
