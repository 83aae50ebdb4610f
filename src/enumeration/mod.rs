//! How many different customers each user asks for, so that whoever walks through ids is told from whoever works.
//!
//! A window remembers what one user asked for lately, as keyed hashes: each value by itself while there are few, an estimate
//! of how many there were beyond that. Listed users have a window each, those of all others are in a bounded table. A value
//! counts once however often it is asked for, and one that n4n refused counts as several, since whoever knows their customers
//! seldom asks for one that is not there.

mod entry;
mod sketch;
mod table;
mod unsettled;
mod window;

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use table::Table;
use unsettled::Unsettled;
use window::Window;

/// As how many values one counts that n4n refused.
pub const MISS_WEIGHT: u32 = 3;

/// The most that [`Limit::distinct`] can be: above it an estimate would be off by more than 11 %.
pub const MOST_DISTINCT: u32 = 1000;

/// The shortest [`Limit::per`].
pub const SHORTEST: Duration = Duration::from_secs(1);

/// The longest [`Limit::per`]: a month. What is counted does not outlive the process.
pub const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// How many different values a user may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The most values in any such period, one that n4n refused counting as [`MISS_WEIGHT`].
    pub distinct: NonZeroU32,
    /// The period. What was asked for counts until it is over, and for a fourteenth of it longer at most.
    pub per: Duration,
    /// Whether calls over the limit are refused; else they are told.
    pub enforces: bool,
}

/// The limit of users who are not listed, and how many of them are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnlistedLimit {
    /// What each of them may do.
    pub limit: Limit,
    /// How many are remembered at once; past it those with the fewest values are forgotten.
    pub max_users: usize,
}

/// A call for a value that its user had not asked for, over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// The limit.
    pub limit: Limit,
    /// What the user's values of the period count, this one included.
    pub count: u32,
    /// How long until there is room for one more value, if no other comes first.
    pub retry_after: Duration,
}

/// What became of a call's value.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// None: the call is within the limit, or asks for what its user asked for before.
    pub suspicion: Option<Suspicion>,
    value: Value,
    /// Whether it is to be [settled](Watched::settle) or [taken back](Watched::take_back).
    is_unsettled: bool,
}

/// What stands for a lookup value: some bits of a hash whose key is this process' own, so that nobody can aim at the
/// same bits with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(u32);

/// The keys of the hashes of names and of values.
static SECRETS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

impl Value {
    /// How many bits it has.
    const BITS: u32 = 27;

    /// What stands for a value of that parameter.
    pub fn of(parameter: &str, value: &str) -> Self {
        Self((SECRETS[0].hash_one((parameter, value)) >> (u64::BITS - Self::BITS)) as u32)
    }
}

/// What stands for a user, however the name's ASCII letters are written: one user to the database behind n4n.
fn user(name: &str) -> u64 {
    /// As long as an api-username can be; the few that are not are hashed without the allocation as well.
    const LONGEST_NAME: usize = 256;
    let mut buffer = [0; LONGEST_NAME];
    let folded = &mut buffer[..name.len().min(LONGEST_NAME)];
    folded.copy_from_slice(&name.as_bytes()[..folded.len()]);
    folded.make_ascii_lowercase();
    SECRETS[1].hash_one((&*folded, name.get(LONGEST_NAME..)))
}

/// The steps in which a window moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    epoch: Instant,
    /// How long one is, in nanoseconds.
    length: u64,
}

impl Steps {
    fn of(per: Duration, epoch: Instant) -> Self {
        Self { epoch, length: nanos(per / (entry::STEPS - 1)) }
    }

    /// The step that a moment lies in. It starts anew after 2³², as those who compare steps know.
    fn at(&self, now: Instant) -> u32 {
        (self.elapsed(now) / self.length) as u32
    }

    /// How long until so many more have begun, one at least.
    fn until(&self, more: u32, now: Instant) -> Duration {
        Duration::from_nanos(self.length * u64::from(more) - self.elapsed(now) % self.length)
    }

    fn elapsed(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The values of one listed user, who is never forgotten.
#[derive(Debug, Clone)]
pub struct Watch {
    limit: Limit,
    values: Arc<Values>,
}

#[derive(Debug)]
struct Values {
    steps: Steps,
    window: Mutex<(Window, Unsettled)>,
}

/// What stands for a user whose values are kept alone.
const ALONE: u64 = 0;

impl Watch {
    /// Nothing asked for yet, or what `previous` remembers, where that is of the same period.
    pub fn open(limit: Limit, previous: Option<&Self>, now: Instant) -> Self {
        let kept = previous.filter(|previous| previous.limit.per == limit.per);
        let begin = || {
            Arc::new(Values {
                steps: Steps::of(limit.per, now),
                window: Mutex::new((Window::at(0), Unsettled::default())),
            })
        };
        Self { limit, values: kept.map_or_else(begin, |kept| kept.values.clone()) }
    }

    /// The limit that it is judged by.
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// The user's values.
    pub fn watched(&self) -> Watched<'_> {
        Watched { limit: self.limit, kept: Kept::Alone(&self.values) }
    }
}

/// The values of everyone who is not listed.
#[derive(Debug, Clone)]
pub struct Watchlist {
    limit: Limit,
    users: Arc<Table>,
}

impl Watchlist {
    /// Nobody remembered yet, or whom `previous` remembers, where that is for the same period.
    pub fn open(
        UnlistedLimit { limit, max_users }: UnlistedLimit,
        previous: Option<&Self>,
        now: Instant,
    ) -> Self {
        let users = match previous.filter(|previous| previous.limit.per == limit.per) {
            Some(previous) => previous.users.clone(),
            None => Arc::new(Table::new(Steps::of(limit.per, now))),
        };
        users.bound(max_users);
        Self { limit, users }
    }

    /// The values of the user with this name.
    pub fn watched(&self, name: &str) -> Watched<'_> {
        Watched { limit: self.limit, kept: Kept::Among(&self.users, user(name)) }
    }

    /// How many users are remembered.
    pub fn remembered(&self) -> usize {
        self.users.len()
    }

    /// How many users have been forgotten for want of room since this was last asked.
    pub fn take_evicted(&self) -> u64 {
        self.users.take_evicted()
    }

    /// Forgets every user who has asked for nothing lately, and gives the memory back.
    pub fn forget_idle(&self, now: Instant) {
        self.users.forget_idle(now);
    }
}

/// The values of one user, wherever they are.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    limit: Limit,
    kept: Kept<'a>,
}

/// Where a user's values are kept.
#[derive(Debug, Clone, Copy)]
enum Kept<'a> {
    /// By themselves.
    Alone(&'a Values),
    /// In a table.
    Among(&'a Table, u64),
}

impl Watched<'_> {
    /// The limit that they are judged by.
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// Judges a call for a value. It counts from now on, unless it is over the limit and `is_refused` then.
    pub fn ask(&self, value: Value, now: Instant, is_refused: bool) -> Asked {
        let limit = self.limit.distinct.get();
        let steps = self.steps();
        let step = steps.at(now);
        let user = self.user();
        let ask = |window: &mut Window, unsettled: &mut Unsettled| {
            let (is_unsettled, over) = if unsettled.has(user, value) {
                window.ask_again(value, step);
                (true, None)
            } else {
                window.ask(value, step, limit, is_refused)
            };
            if is_unsettled {
                unsettled.add(user, value);
            }
            (is_unsettled, over)
        };
        let (is_unsettled, over) = match self.kept {
            Kept::Alone(values) => {
                let (window, unsettled) = &mut *lock(&values.window);
                ask(window, unsettled)
            }
            Kept::Among(table, _) => table.with(user, step, ask),
        };
        let suspicion = over.map(|over| Suspicion {
            limit: self.limit,
            count: over.count,
            retry_after: steps.until(over.room_in, now),
        });
        Asked { suspicion, value, is_unsettled }
    }

    /// Takes note that n4n refused what a call asked for.
    pub fn missed(&self, asked: &Asked, now: Instant) {
        let step = self.steps().at(now);
        self.amend(|window, _| {
            if let Some(window) = window {
                window.missed(asked.value, step);
            }
        });
    }

    /// Has the value count for good: the call was its user's.
    pub fn settle(&self, asked: &mut Asked) {
        if std::mem::take(&mut asked.is_unsettled) {
            self.amend(|_, unsettled| unsettled.settle(self.user(), asked.value));
        }
    }

    /// Takes back what a call made count that was refused for something else. What other calls made count stays.
    pub fn take_back(&self, asked: &mut Asked, now: Instant) {
        if std::mem::take(&mut asked.is_unsettled) {
            let step = self.steps().at(now);
            self.amend(|window, unsettled| {
                if unsettled.take_back(self.user(), asked.value)
                    && let Some(window) = window
                {
                    window.take_back(asked.value, step);
                }
            });
        }
    }

    fn amend(&self, amend: impl FnOnce(Option<&mut Window>, &mut Unsettled)) {
        match self.kept {
            Kept::Alone(values) => {
                let (window, unsettled) = &mut *lock(&values.window);
                amend(Some(window), unsettled);
            }
            Kept::Among(table, user) => table.amend(user, amend),
        }
    }

    const fn user(&self) -> u64 {
        match self.kept {
            Kept::Alone(_) => ALONE,
            Kept::Among(_, user) => user,
        }
    }

    fn steps(&self) -> Steps {
        match self.kept {
            Kept::Alone(values) => values.steps,
            Kept::Among(table, _) => table.steps(),
        }
    }
}

/// A panic elsewhere cannot leave a window half-changed, so a poisoned lock is as good as any.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
