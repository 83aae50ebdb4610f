//! Gateways that share a Redis share each user's quota, and go on without it when it fails.

mod contract;
mod cutter;
mod failing;
mod load;
mod policies;
mod reaching;
mod sharing;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::harness::{Gateway, GatewayBuilder};

/// A gateway whose quotas are in the Redis at a URL.
fn sharing(upstream: SocketAddr, redis: &str, quota: &str) -> GatewayBuilder {
    Gateway::before(upstream)
        .set("listen", "threads = 2")
        .set("quota", quota)
        .set("quota", &format!("redis = \"{redis}\""))
}

/// A quota that gives nothing back while a test runs.
const TWENTY_ONCE: &str = "requests = 1\nper = \"1h\"\nburst = 20";

/// A quota that no test uses up, and whose accounts stay.
const NO_END: &str = "requests = 1\nper = \"1h\"\nburst = 80000";

/// Proves what holds while a healthy Redis answers in time, as it does unless the machine is short of time.
///
/// So nothing else of this kind runs beside it, and what was disturbed is done again, a few times.
fn calmly(prove: impl Fn()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..7 {
        if catch_unwind(AssertUnwindSafe(&prove)).is_ok() {
            return;
        }
        println!("^ the machine may be short of time; once more");
    }
    prove();
}

/// What the metric of failed questions is at.
fn errors(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("n4n_gateway_quota_store_errors_total")
}
