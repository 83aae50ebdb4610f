//! The users' accounts in a Redis or Valkey that many gateways share.
//!
//! Each worker has a [`StoreConnection`] of its own: a query goes out on the thread that waits for its answer, so
//! another thread that is busy, with a page of metrics say, does not make it late. Of the two
//! client libraries that are maintained, `redis` and `fred`, the first can be had as a multiplexed connection
//! and little else; when to reconnect and whom to let wait is then decided here, in one place.

mod account;
mod address;
mod connection;
mod fallback;
mod single;
mod store;

use std::time::{Duration, Instant};

pub use address::{Address, BadAddress};
pub use connection::{ANSWER_WITHIN, StoreConnection};
pub use fallback::WhenRedisFails;
pub use single::{balance, reset};
pub use store::{RedisFault, Store};

use crate::quota::{Account, Balance, Exhausted};

/// When a call may come back that was refused because the accounts could not be asked.
const COME_BACK: Duration = Duration::from_secs(1);

/// The accounts in Redis, and what is done while they cannot be reached.
#[derive(Debug, Clone, Copy)]
pub struct SharedAccounts<'a> {
    /// The connection to Redis.
    pub connection: &'a StoreConnection,
    /// What is done while Redis fails.
    pub when_redis_fails: WhenRedisFails,
}

impl SharedAccounts<'_> {
    /// Takes one call from the account of the user with this name in lower case; `account` is what this process has of it, kept in step with Redis. `None`
    /// where it is not counted.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    pub async fn spend(&self, folded: &str, account: Account<'_>) -> Result<Option<Balance>, Exhausted> {
        let quota = account.quota();
        if let Some(spent) = self.connection.spend(folded, quota).await {
            let balance = match &spent {
                Ok(balance) => balance,
                Err(exhausted) => &exhausted.balance,
            };
            // Counting in this process, should it come to that, goes on from here.
            account.sync(balance, Instant::now());
            return spent.map(Some);
        }
        match self.when_redis_fails {
            WhenRedisFails::Local => account.spend(Instant::now()).map(Some),
            WhenRedisFails::Reject => Err(Exhausted {
                balance: Balance { quota, remaining: 0, whole_in: quota.window() },
                retry_after: COME_BACK,
            }),
            WhenRedisFails::Forward => Ok(None),
        }
    }
}
