//! One user's account, found: a listed user's own, or one of the many in the table.

use std::time::{Duration, Instant};

use super::{
    Balance, Exhausted, Quota,
    accounts::{Accounts, Sought},
    cell::Cell,
    limiter::{Limiter, nanos},
    shard::Fingerprint,
};
use crate::client_network::ClientNetwork;

/// The account of one listed user, which is never forgotten.
#[derive(Debug)]
pub struct ListedAccount(Limiter<Cell>);

/// One user's account.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a>(Kept<'a>);

/// Where an account is kept.
#[derive(Debug, Clone, Copy)]
enum Kept<'a> {
    /// By itself.
    Alone(&'a Limiter<Cell>),
    /// In a table.
    Among(&'a Limiter<Accounts>, Sought),
}

/// What an unlisted user's account is found by again.
#[derive(Debug, Clone, Copy)]
pub struct AccountId(pub(super) Fingerprint);

impl ListedAccount {
    /// An account that is whole.
    pub fn open(quota: Quota, now: Instant) -> Self {
        Self(Limiter::new(quota, Cell::default(), now))
    }

    /// The quota that it is judged by.
    pub const fn quota(&self) -> Quota {
        self.0.quota()
    }

    /// Makes it whole.
    pub fn reset(&self) {
        self.0.accounts().set(0);
    }

    /// What is left in it; nothing is taken.
    pub fn balance(&self, now: Instant) -> Balance {
        let whole_in = self.0.accounts().whole_at().saturating_sub(self.0.nanos(now));
        self.0.quota().balance(Duration::from_nanos(whole_in))
    }
}

impl<'a> From<&'a ListedAccount> for Account<'a> {
    fn from(account: &'a ListedAccount) -> Self {
        Self(Kept::Alone(&account.0))
    }
}

impl<'a> Account<'a> {
    /// The account in a table of the user with this name in lower case, who calls from that network.
    pub(super) fn among(table: &'a Limiter<Accounts>, folded: &str, from: ClientNetwork) -> Self {
        let account = table.accounts().fingerprint(folded);
        Self(Kept::Among(table, Sought { account, from: Some(from) }))
    }

    /// What it is found by again; none for a listed user's.
    pub const fn id(self) -> Option<AccountId> {
        match self.0 {
            Kept::Alone(_) => None,
            Kept::Among(_, sought) => Some(AccountId(sought.account)),
        }
    }

    /// The quota that it is judged by.
    pub const fn quota(self) -> Quota {
        match self.0 {
            Kept::Alone(limiter) => limiter.quota(),
            Kept::Among(limiter, _) => limiter.quota(),
        }
    }

    /// Takes one call from it.
    ///
    /// # Errors
    /// [`Exhausted`] when it has none left; then nothing is taken.
    pub fn spend(self, now: Instant) -> Result<Balance, Exhausted> {
        match self.0 {
            Kept::Alone(limiter) => limiter.spend((), now),
            Kept::Among(limiter, sought) => limiter.spend(sought, now),
        }
    }

    /// Sets it to what is known of it from elsewhere. One that there is no room to remember is left out.
    pub fn sync(self, balance: &Balance, now: Instant) {
        let whole_at = |now: u64| now.saturating_add(nanos(balance.whole_in));
        match self.0 {
            Kept::Alone(limiter) => limiter.accounts().set(whole_at(limiter.nanos(now))),
            Kept::Among(limiter, sought) => {
                let now = limiter.nanos(now);
                limiter.accounts().set(sought, whole_at(now), now);
            }
        }
    }
}
