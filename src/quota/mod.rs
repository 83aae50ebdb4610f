//! How many calls each user may make, and when to come back.

mod account;
mod accounts;
mod cell;
mod limiter;
mod shard;

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

pub use account::{Account, AccountId, ListedAccount};
use accounts::{Accounts, Sought};
use limiter::Limiter;

use crate::client_network::ClientNetwork;

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
    /// How many are remembered at once, of which those whom n4n has never let in may be a part from each client network;
    /// newcomers past it share an account with others from their network.
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

/// How many client addresses are remembered at once.
const MAX_CLIENTS: usize = 100_000;

/// The accounts of unlisted users and of client addresses, in this process.
#[derive(Debug)]
pub struct Ledger {
    users: Option<Arc<Limiter<Accounts>>>,
    clients: Option<Arc<Limiter<Accounts>>>,
}

impl Ledger {
    /// Opens the tables of accounts. Accounts of `previous` whose numbers are still the same are carried over as they
    /// stand.
    pub fn open(quotas: Quotas, previous: Option<&Self>, now: Instant) -> Self {
        let open_table =
            |kept: Option<&Arc<Limiter<Accounts>>>, quota, capacity, table: fn(usize) -> Accounts| {
                let Some(kept) = kept.filter(|kept| kept.quota() == quota) else {
                    return Arc::new(Limiter::new(quota, table(capacity), now));
                };
                match kept.accounts().bound(capacity) {
                    None => kept.clone(),
                    Some(table) => Arc::new(Limiter::new(quota, table, kept.epoch())),
                }
            };
        Self {
            users: quotas.users.map(|users| {
                let kept = previous.and_then(|previous| previous.users.as_ref());
                open_table(kept, users.quota, users.max_users, Accounts::of_users)
            }),
            clients: quotas.clients.map(|quota| {
                let kept = previous.and_then(|previous| previous.clients.as_ref());
                open_table(kept, quota, MAX_CLIENTS, Accounts::up_to)
            }),
        }
    }

    /// The account of an unlisted user, by its name in lower case, who calls from `client`; none where no quota applies.
    pub fn account(&self, folded: &str, client: IpAddr) -> Option<Account<'_>> {
        let from = ClientNetwork::of(client);
        self.users.as_deref().map(|table| Account::among(table, folded, from))
    }

    /// The quota of unlisted users, if there is one.
    pub fn quota(&self) -> Option<Quota> {
        self.users.as_ref().map(|limiter| limiter.quota())
    }

    /// What an unlisted user has left, by its name in lower case; none where the user has no account of its own.
    pub fn balance(&self, folded: &str, now: Instant) -> Option<Balance> {
        let limiter = self.users.as_ref()?;
        let accounts = limiter.accounts();
        let whole_at = accounts.whole_at(accounts.fingerprint(folded))?;
        let whole_in = Duration::from_nanos(whole_at.saturating_sub(limiter.nanos(now)));
        Some(limiter.quota().balance(whole_in))
    }

    /// Makes the account of an unlisted user whole, by its name in lower case; tells whether the user has one.
    pub fn reset(&self, folded: &str, now: Instant) -> bool {
        self.users.as_ref().is_some_and(|limiter| {
            let accounts = limiter.accounts();
            accounts.reset(accounts.fingerprint(folded), limiter.nanos(now))
        })
    }

    /// Takes note that n4n has let an unlisted user in.
    pub fn know(&self, user: AccountId, now: Instant) {
        if let Some(limiter) = &self.users {
            limiter.accounts().know(user.0, limiter.nanos(now));
        }
    }

    /// Takes one request from the account of the client's network.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    pub fn spend_client(&self, client: IpAddr, now: Instant) -> Result<(), Exhausted> {
        let Some(limiter) = &self.clients else {
            return Ok(());
        };
        let account = limiter.accounts().fingerprint(ClientNetwork::of(client));
        limiter.spend(Sought { account, from: None }, now).map(|_| ())
    }

    /// How many unlisted users are remembered.
    pub fn remembered(&self) -> usize {
        self.users.as_ref().map_or(0, |limiter| limiter.accounts().len())
    }

    /// How many unlisted users have been forgotten since this was last asked, each when its quota was whole again.
    pub fn take_forgotten(&self) -> u64 {
        self.users.as_ref().map_or(0, |limiter| limiter.accounts().take_forgotten())
    }

    /// Forgets clients whose quota is whole again, and unlisted users too: those whom n4n has let in when that is long ago.
    /// Gives the memory back.
    pub fn forget_idle(&self, now: Instant) {
        for limiter in self.users.iter().chain(&self.clients) {
            limiter.accounts().forget_idle(limiter.nanos(now));
        }
    }
}

#[cfg(test)]
mod tests;
