//! Gateways that share a Redis share each user's quota, and go on without it when it fails.

mod contract;
mod cutter;
mod failing;
mod load;
mod policies;
mod reaching;
mod sharing;

use std::net::SocketAddr;

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

/// A quota that nobody ever uses up.
const NO_END: &str = "requests = 1000000\nper = \"1s\"\nburst = 1000000";

/// What the metric of failed questions is at.
fn errors(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("n4n_gateway_quota_store_errors_total")
}
