//! One account by itself, which is never forgotten.

use std::sync::atomic::{AtomicU64, Ordering};

use governor::{nanos::Nanos, state::StateStore};

use super::limiter::{Inquiry, Store};

/// When an account is whole again, zero while it was never used.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// When it is whole again; zero while it was never used.
    pub(super) fn whole_at(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Makes it whole at another time.
    pub(super) fn set(&self, whole_at: u64) {
        self.0.store(whole_at, Ordering::Release);
    }

    /// Decides by when it is whole; leaves that in `observed`.
    pub(super) fn decide<T, F, E>(&self, observed: &std::cell::Cell<u64>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut whole_at = self.0.load(Ordering::Acquire);
        loop {
            observed.set(whole_at);
            let (outcome, next) = decide((whole_at != 0).then(|| Nanos::new(whole_at)))?;
            let next = next.as_u64();
            match self.0.compare_exchange_weak(whole_at, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    observed.set(next);
                    return Ok(outcome);
                }
                Err(current) => whole_at = current,
            }
        }
    }
}

impl StateStore for Cell {
    type Key = Inquiry<()>;

    fn measure_and_replace<T, F, E>(&self, inquiry: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.decide(&inquiry.whole_at, decide)
    }
}

impl Store for Cell {
    type Account = ();
}
