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

use crate::quota::{Balance, Exhausted, Ledger, Spend};

/// When a call may come back that was refused because the accounts could not be asked.
const COME_BACK: Duration = Duration::from_secs(1);

/// The accounts in Redis, as one worker reaches them, and what is done while it cannot.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The way to Redis.
    pub line: &'a Line,
    /// Whose quota is which; and the accounts in this process, kept level with those in Redis.
    pub ledger: &'a Ledger,
    /// What is done while Redis fails.
    pub when_redis_fails: WhenRedisFails,
}

impl Spend for Shared<'_> {
    async fn spend(&self, username: &str) -> Result<Option<Balance>, Exhausted> {
        let Some(quota) = self.ledger.quota_of(username) else {
            return Ok(None);
        };
        if let Some(spent) = self.line.spend(username, quota).await {
            let balance = match &spent {
                Ok(balance) => balance,
                Err(exhausted) => &exhausted.balance,
            };
            // Counting in this process, should it come to that, goes on from here.
            self.ledger.level(username, balance, Instant::now());
            return spent.map(Some);
        }
        match self.when_redis_fails {
            WhenRedisFails::Local => self.ledger.spend(username, Instant::now()),
            WhenRedisFails::Reject => Err(Exhausted {
                balance: Balance { quota, remaining: 0, whole_in: quota.window() },
                retry_after: COME_BACK,
            }),
            WhenRedisFails::Forward => Ok(None),
        }
    }
}
