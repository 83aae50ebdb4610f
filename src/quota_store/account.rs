//! An account in Redis: its key, and how a call is taken from it.

use std::{num::NonZeroU32, sync::LazyLock, time::Duration};

use redis::{RedisError, Script, aio::ConnectionLike, cmd};
use sha2::{Digest, Sha256};

use crate::quota::{Balance, Exhausted, Quota};

/// What every key begins with.
const PREFIX: &str = "n4n-gateway:quota:";

static SPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("spend.lua")));

/// The key of the account of the user with this name in lower case.
///
/// The name's digest stands in it, so that every name is as long and none can pass for another key.
pub(super) fn key(folded: &str) -> String {
    let mut digits = [0; 64];
    hex::encode_to_slice(Sha256::digest(folded), &mut digits).expect("32 bytes have 64 digits");
    [PREFIX, str::from_utf8(&digits).expect("hexadecimal digits are ASCII")].concat()
}

/// Makes the server know the script.
pub(super) async fn prepare(server: &mut impl ConnectionLike) -> Result<(), RedisError> {
    SPEND.load_async(server).await.map(|_| ())
}

/// Takes one call from an account, in one round trip while the server knows the script.
pub(super) async fn spend(
    server: &mut impl ConnectionLike,
    key: &str,
    quota: Quota,
) -> Result<Result<Balance, Exhausted>, RedisError> {
    let (interval, window) = (quota.interval(), quota.window());
    let (passes, whole_in): (bool, u64) =
        SPEND.key(key).arg(nanos(interval)).arg(nanos(window)).invoke_async(server).await?;
    let whole_in = Duration::from_nanos(whole_in);
    let balance = quota.balance(whole_in);
    Ok(if passes {
        Ok(balance)
    } else {
        Err(Exhausted { balance, retry_after: (whole_in + interval).saturating_sub(window) })
    })
}

/// Takes a call from an account that is nobody's: only a server that can be written to lets it pass.
pub(super) async fn prove(server: &mut impl ConnectionLike) -> Result<(), RedisError> {
    let quota = Quota { requests: NonZeroU32::MIN, per: Duration::from_millis(1), burst: NonZeroU32::MAX };
    spend(server, &format!("{PREFIX}proof"), quota).await.map(|_| ())
}

/// What is left in an account, by the server's clock; nothing is taken.
pub(super) async fn balance(
    server: &mut impl ConnectionLike,
    key: &str,
    quota: Quota,
) -> Result<Balance, RedisError> {
    let account: Option<String> = cmd("GET").arg(key).query_async(server).await?;
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(server).await?;
    let now = Duration::from_secs(seconds) + Duration::from_micros(micros);
    // It is the time at which the burst is whole, in nanoseconds since 1970; `spend.lua` says more.
    let whole_at = account.and_then(|account| account.parse().ok()).map_or(now, Duration::from_nanos);
    Ok(quota.balance(whole_at.saturating_sub(now).min(quota.window())))
}

/// Makes an account whole: it was whole long ago, and is forgotten at once. A login need not be allowed to delete.
pub(super) async fn reset(server: &mut impl ConnectionLike, key: &str) -> Result<(), RedisError> {
    cmd("SET").arg(key).arg("1000000000").arg("PX").arg(1).query_async(server).await
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_prefix_and_the_names_digest() {
        assert_eq!(
            key("abc"),
            "n4n-gateway:quota:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(key(&"a".repeat(256)).len(), key("a").len());
    }
}
