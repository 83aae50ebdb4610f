//! Accounts in Redis that an operator looks at or resets: a connection for each question.

use std::time::Duration;

use redis::{RedisError, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{
    account,
    store::{RedisFault, Store},
};
use crate::quota::{Balance, Quota};

/// How long one question may take, connect and login included.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is left in the account of the user with this name in lower case.
///
/// # Errors
/// Why Redis does not say.
pub async fn balance(store: &Store, folded: &str, quota: Quota) -> Result<Balance, RedisFault> {
    let key = account::key(folded);
    asked(store, async |mut server| account::balance(&mut server, &key, quota).await).await
}

/// Makes the account of the user with this name in lower case whole.
///
/// # Errors
/// Why Redis does not.
pub async fn reset(store: &Store, folded: &str) -> Result<(), RedisFault> {
    let key = account::key(folded);
    asked(store, async |mut server| account::reset(&mut server, &key).await).await
}

async fn asked<T>(
    store: &Store,
    ask: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
) -> Result<T, RedisFault> {
    let answer = async {
        let (connection, driver) = store.connect().await?;
        let asking = ask(connection);
        tokio::pin!(asking, driver);
        tokio::select! {
            answer = &mut asking => Ok(answer?),
            // What it has read last is there to be taken.
            () = &mut driver => Ok(asking.await?),
        }
    };
    timeout(ANSWER_WITHIN, answer).await.unwrap_or(Err(RedisFault::Late))
}
