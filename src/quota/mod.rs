//! How many calls each user may make, and when to come back.

mod accounts;
mod limiter;

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use governor::clock::{Clock, MonotonicClock};

use accounts::{Accounts, Cell};
use limiter::Limiter;

/// Requests per period, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many requests come back in each period.
    pub requests: NonZeroU32,
    /// The period.
    pub per: Duration,
    /// The most requests at once.
    pub burst: NonZeroU32,
}

impl Quota {
    /// How long one request takes to come back; at least a nanosecond.
    pub fn interval(&self) -> Duration {
        (self.per / self.requests.get()).max(Duration::from_nanos(1))
    }

    /// How long a whole burst takes to come back.
    pub fn window(&self) -> Duration {
        self.interval().saturating_mul(self.burst.get())
    }
}

/// What is left of a quota after a call was judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// The quota that the call was judged by.
    pub quota: Quota,
    /// How many calls are possible now.
    pub remaining: u32,
    /// How long until the burst is whole.
    pub whole_in: Duration,
}

/// A call over its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// What is left, which is nothing.
    pub balance: Balance,
    /// How long until one more call passes.
    pub retry_after: Duration,
}

/// The quota of users who are not listed, and how many of them are remembered.
#[derive(Debug, Clone, Copy)]
pub struct UnlistedQuota {
    /// What each of them may do.
    pub quota: Quota,
    /// How many are remembered at once; newcomers past it share one account.
    pub max_users: usize,
}

/// Every user's account, in this process.
#[derive(Debug)]
pub struct Ledger<C: Clock = MonotonicClock> {
    listed: HashMap<Box<str>, Option<Limiter<Cell, C>>>,
    unlisted: Option<Limiter<Accounts, C>>,
}

impl<C: Clock + Clone> Ledger<C> {
    /// Opens an account for each listed user, by its own quota or else the one for all, and a table of
    /// accounts for the others.
    pub fn open<'a>(
        unlisted: Option<UnlistedQuota>,
        listed: impl IntoIterator<Item = (&'a str, Option<Quota>)>,
        clock: &C,
    ) -> Self {
        let open_listed = |(name, own): (&'a str, Option<Quota>)| {
            let quota = own.or(unlisted.map(|unlisted| unlisted.quota));
            (name.into(), quota.map(|quota| Limiter::new(quota, Cell::default(), clock)))
        };
        Self {
            listed: listed.into_iter().map(open_listed).collect(),
            unlisted: unlisted
                .map(|unlisted| Limiter::new(unlisted.quota, Accounts::up_to(unlisted.max_users), clock)),
        }
    }

    /// Takes one call from the user's account; `None` where no quota applies.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    pub fn spend(&self, username: &str) -> Result<Option<Balance>, Exhausted> {
        match (self.listed.get(username), &self.unlisted) {
            (Some(Some(limiter)), _) => limiter.spend(()).map(Some),
            (None, Some(limiter)) => limiter.spend(limiter.accounts().fingerprint(username)).map(Some),
            (Some(None), _) | (None, None) => Ok(None),
        }
    }

    /// How many unlisted users are remembered.
    pub fn remembered(&self) -> usize {
        self.unlisted.as_ref().map_or(0, |limiter| limiter.accounts().len())
    }

    /// How many unlisted users have been forgotten so far, their quota whole again.
    pub fn forgotten(&self) -> u64 {
        self.unlisted.as_ref().map_or(0, |limiter| limiter.accounts().forgotten())
    }

    /// Forgets every unlisted user whose quota is whole again, and gives the memory back.
    pub fn forget_idle(&self) {
        if let Some(limiter) = &self.unlisted {
            limiter.accounts().forget_idle(limiter.now());
        }
    }
}

#[cfg(test)]
mod tests;
