//! How many calls each user may make, and when to come back.

mod accounts;
mod limiter;

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use accounts::{Accounts, Cell};
use limiter::{Limiter, nanos};

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

    /// What is left of it while the burst is whole only after some time.
    pub fn balance(self, whole_in: Duration) -> Balance {
        let free = self.window().saturating_sub(whole_in);
        let remaining = free.as_nanos() / self.interval().as_nanos();
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX).min(self.burst.get());
        Balance { quota: self, remaining, whole_in }
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

/// The quotas in force.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quotas {
    /// Of unlisted users, and of listed ones without a quota of their own.
    pub users: Option<UnlistedQuota>,
    /// Of each client address.
    pub clients: Option<Quota>,
}

/// What is asked of users' accounts, wherever they are kept.
pub trait Spend {
    /// Takes one call from the user's account; `None` where no quota applies.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    fn spend(&self, username: &str) -> impl Future<Output = Result<Option<Balance>, Exhausted>> + Send;
}

/// The accounts in this process at one moment.
#[derive(Debug, Clone, Copy)]
pub struct InProcess<'a> {
    /// The accounts.
    pub ledger: &'a Ledger,
    /// The moment.
    pub now: Instant,
}

impl Spend for InProcess<'_> {
    async fn spend(&self, username: &str) -> Result<Option<Balance>, Exhausted> {
        self.ledger.spend(username, self.now)
    }
}

/// How many client addresses are remembered at once.
const MAX_CLIENTS: usize = 100_000;

/// Every account, in this process.
#[derive(Debug)]
pub struct Ledger {
    /// Times are counted from here.
    epoch: Instant,
    listed: HashMap<Box<str>, Option<Arc<Limiter<Cell>>>>,
    unlisted: Option<Arc<Limiter<Accounts>>>,
    clients: Option<Arc<Limiter<Accounts>>>,
}

impl Ledger {
    /// Opens an account for each listed user, by its own quota or else the one for all, and tables of
    /// accounts for the others and for client addresses.
    ///
    /// Accounts of `previous` whose numbers are still the same are carried over as they stand.
    pub fn open<'a>(
        quotas: Quotas,
        listed: impl IntoIterator<Item = (&'a str, Option<Quota>)>,
        previous: Option<&Self>,
        now: Instant,
    ) -> Self {
        let open_listed = |(name, own): (&'a str, Option<Quota>)| {
            let limiter = own.or(quotas.users.map(|users| users.quota)).map(|quota| {
                let kept = previous.and_then(|previous| previous.listed.get(name)?.clone());
                kept.filter(|kept| kept.quota() == quota)
                    .unwrap_or_else(|| Arc::new(Limiter::new(quota, Cell::default())))
            });
            (name.into(), limiter)
        };
        let open_table = |kept: Option<&Arc<Limiter<Accounts>>>, quota, capacity| {
            let table = match kept.filter(|kept| kept.quota() == quota) {
                None => Accounts::up_to(capacity),
                Some(kept) => match kept.accounts().bound(capacity) {
                    None => return kept.clone(),
                    Some(table) => table,
                },
            };
            Arc::new(Limiter::new(quota, table))
        };
        Self {
            epoch: previous.map_or(now, |previous| previous.epoch),
            listed: listed.into_iter().map(open_listed).collect(),
            unlisted: quotas.users.map(|users| {
                let kept = previous.and_then(|previous| previous.unlisted.as_ref());
                open_table(kept, users.quota, users.max_users)
            }),
            clients: quotas.clients.map(|quota| {
                let kept = previous.and_then(|previous| previous.clients.as_ref());
                open_table(kept, quota, MAX_CLIENTS)
            }),
        }
    }

    /// Takes one call from the user's account; `None` where no quota applies.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    pub fn spend(&self, username: &str, now: Instant) -> Result<Option<Balance>, Exhausted> {
        let now = now.saturating_duration_since(self.epoch);
        match (self.listed.get(username), &self.unlisted) {
            (Some(Some(limiter)), _) => limiter.spend((), now).map(Some),
            (None, Some(limiter)) => limiter.spend(limiter.accounts().fingerprint(username), now).map(Some),
            (Some(None), _) | (None, None) => Ok(None),
        }
    }

    /// The quota that applies to the user, if any does.
    pub fn quota_of(&self, username: &str) -> Option<Quota> {
        match self.listed.get(username) {
            Some(own) => own.as_ref().map(|limiter| limiter.quota()),
            None => self.unlisted.as_ref().map(|limiter| limiter.quota()),
        }
    }

    /// Sets the user's account to what is known of it from elsewhere. A user whom there is no room to
    /// remember is left out.
    pub fn level(&self, username: &str, balance: &Balance, now: Instant) {
        let now = nanos(now.saturating_duration_since(self.epoch));
        let whole_at = now.saturating_add(nanos(balance.whole_in));
        match (self.listed.get(username), &self.unlisted) {
            (Some(Some(limiter)), _) => limiter.accounts().set(whole_at),
            (None, Some(limiter)) => {
                let accounts = limiter.accounts();
                accounts.set(accounts.fingerprint(username), whole_at, now);
            }
            (Some(None), _) | (None, None) => {}
        }
    }

    /// Takes one request from the client address' account. An IPv6 client counts as its /64, which is what
    /// one subscriber has.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    pub fn spend_client(&self, client: IpAddr, now: Instant) -> Result<(), Exhausted> {
        let Some(limiter) = &self.clients else {
            return Ok(());
        };
        let account = match client.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
        };
        limiter
            .spend(limiter.accounts().fingerprint(account), now.saturating_duration_since(self.epoch))
            .map(|_| ())
    }

    /// What each listed user with a quota has left; nothing is taken.
    pub fn listed(&self, now: Instant) -> impl Iterator<Item = (&str, Balance)> {
        let now = nanos(now.saturating_duration_since(self.epoch));
        self.listed.iter().filter_map(move |(name, limiter)| {
            let limiter = limiter.as_ref()?;
            let whole_in = limiter.accounts().whole_at().saturating_sub(now);
            Some((&**name, limiter.quota().balance(Duration::from_nanos(whole_in))))
        })
    }

    /// How many unlisted users are remembered.
    pub fn remembered(&self) -> usize {
        self.unlisted.as_ref().map_or(0, |limiter| limiter.accounts().len())
    }

    /// How many unlisted users have been forgotten since this was last asked, their quota whole again.
    pub fn take_forgotten(&self) -> u64 {
        self.unlisted.as_ref().map_or(0, |limiter| limiter.accounts().take_forgotten())
    }

    /// Forgets every unlisted user and client whose quota is whole again, and gives the memory back.
    pub fn forget_idle(&self, now: Instant) {
        for limiter in self.unlisted.iter().chain(&self.clients) {
            limiter.accounts().forget_idle(nanos(now.saturating_duration_since(self.epoch)));
        }
    }
}

#[cfg(test)]
mod tests;
