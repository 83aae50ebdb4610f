//! One quota over one store of accounts, decided by governor's GCRA.

use std::{
    cell::Cell as Observed,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore};

use super::{Balance, Exhausted, Quota};

/// An account's key on its way into a store, and the account's state on its way back.
///
/// governor tells what is left only in whole calls; the time at which the account is whole again tells
/// the rest, and the store that keeps it leaves it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inquiry<K> {
    pub(super) key: K,
    /// The time of the question, in nanoseconds since the limiter's epoch.
    pub(super) now: u64,
    /// When the account is whole again, on the same scale.
    pub(super) whole_at: Observed<u64>,
}

impl<K: Hash> Hash for Inquiry<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// A store that governor decides by and that can still be looked into.
#[derive(Debug)]
struct Shared<S>(Arc<S>);

impl<S: StateStore> StateStore for Shared<S> {
    type Key = S::Key;

    fn measure_and_replace<T, F, E>(&self, key: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, decide)
    }
}

/// The time of the question that is being decided, which governor asks a clock for.
///
/// The time is given with the question, so that one question has one time throughout: a second reading of a clock,
/// nanoseconds later, would tell a balance that is one call short.
#[derive(Debug, Clone, Copy)]
struct Asked;

thread_local! {
    static NOW: Observed<Duration> = const { Observed::new(Duration::ZERO) };
}

impl Clock for Asked {
    type Instant = Duration;

    fn now(&self) -> Duration {
        NOW.get()
    }
}

type Governor<S> = RateLimiter<Inquiry<<S as Store>::Account>, Shared<S>, Asked, NoOpMiddleware<Duration>>;

#[derive(Debug)]
pub(super) struct Limiter<S: Store> {
    quota: Quota,
    /// Times are counted from here.
    epoch: Instant,
    store: Arc<S>,
    governor: Governor<S>,
}

/// A [`StateStore`] that answers inquiries.
pub(super) trait Store: StateStore<Key = Inquiry<Self::Account>> {
    /// What an account is found by.
    type Account: Clone + Eq + Hash + std::fmt::Debug;
}

impl<S: Store> Limiter<S> {
    pub(super) fn new(quota: Quota, store: S, epoch: Instant) -> Self {
        let gcra = governor::Quota::with_period(quota.interval())
            .expect("an interval is at least a nanosecond")
            .allow_burst(quota.burst);
        let store = Arc::new(store);
        // governor counts from the time at which it is made: from zero, as all times here do.
        NOW.set(Duration::ZERO);
        let governor = RateLimiter::new(gcra, Shared(store.clone()), Asked);
        Self { quota, epoch, store, governor }
    }

    /// Takes one call from an account.
    pub(super) fn spend(&self, account: S::Account, now: Instant) -> Result<Balance, Exhausted> {
        let now = now.saturating_duration_since(self.epoch);
        NOW.set(now);
        let now = nanos(now);
        let inquiry = Inquiry { key: account, now, whole_at: Observed::new(now) };
        let decision = self.governor.check_key(&inquiry);
        let whole_in = Duration::from_nanos(inquiry.whole_at.get().saturating_sub(now));
        let balance = self.quota.balance(whole_in);
        match decision {
            Ok(()) => Ok(balance),
            Err(_) => {
                let free = self.quota.window().saturating_sub(whole_in);
                Err(Exhausted { balance, retry_after: self.quota.interval().saturating_sub(free) })
            }
        }
    }

    pub(super) const fn quota(&self) -> Quota {
        self.quota
    }

    pub(super) const fn epoch(&self) -> Instant {
        self.epoch
    }

    pub(super) fn accounts(&self) -> &S {
        &self.store
    }

    /// A time as the accounts keep it: in nanoseconds since the epoch.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}

/// A duration in nanoseconds, as far as they can be counted.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
