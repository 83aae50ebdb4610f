//! The users' accounts in a Redis or Valkey that many gateways share.
//!
//! Each worker has a [`Line`] of its own to the server: a question goes out on the thread that waits for its
//! answer, and whatever keeps another thread busy, a page of metrics say, does not make it late. Of the two
//! client libraries that are maintained, `redis` and `fred`, the first can be had as a multiplexed connection
//! and little else; when to reconnect and whom to let wait is then decided here, in one place.

mod account;
mod address;
mod fallback;
mod line;
mod store;

use std::time::{Duration, Instant};

pub use address::{Address, Unusable};
pub use fallback::WhenRedisFails;
pub use line::{ANSWER_WITHIN, Line};
pub use store::Store;

use crate::quota::{Account, Balance, Exhausted};

/// When a call may come back that was refused because the accounts could not be asked.
const COME_BACK: Duration = Duration::from_secs(1);

/// The accounts in Redis, as one worker reaches them, and what is done while it cannot.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The way to Redis.
    pub line: &'a Line,
    /// What is done while Redis fails.
    pub when_redis_fails: WhenRedisFails,
}

impl Shared<'_> {
    /// Takes one call from a user's account; `account` is what this process has of it, kept level with Redis. `None`
    /// where it is not counted.
    ///
    /// # Errors
    /// [`Exhausted`] when the account has none left; then nothing is taken.
    pub async fn spend(&self, username: &str, account: Account<'_>) -> Result<Option<Balance>, Exhausted> {
        let quota = account.quota();
        if let Some(spent) = self.line.spend(username, quota).await {
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
