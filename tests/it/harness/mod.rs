//! What the wire tests stand on: a gateway process, upstreams that remember, a client of raw bytes.

mod builder;
mod call;
pub(crate) mod frames;
mod gateway;
mod http;
mod http2;
mod lines;
mod mariadb;
mod metrics;
mod namespace;
mod php;
mod programs;
mod random;
mod redis;
mod secrets;
mod secured;
mod servers;
mod tests;
mod tls;
mod upstream;
mod wire;

use std::time::Duration;

pub(crate) use builder::GatewayBuilder;
pub(crate) use call::Call;
pub(crate) use gateway::{Gateway, Signal};
pub(crate) use http::{Broken, Message, MessageReader};
pub(crate) use http2::{Exchange, Http2, Http2Answer};
pub(crate) use lines::Lines;
pub(crate) use mariadb::MariaDb;
pub(crate) use metrics::Metrics;
pub(crate) use namespace::Namespace;
pub(crate) use php::{Php, PhpFpm};
pub(crate) use programs::{binary, key_line, package_root, test_tools, tool};
pub(crate) use random::{Random, seed, setting};
pub(crate) use redis::Redis;
pub(crate) use secrets::{assert_unseen, secret_key};
pub(crate) use secured::{NAME, Secured};
pub(crate) use servers::{Apache, Nginx, Process, server};
pub(crate) use tls::{Authority, Issued, TlsClient, TlsWire, VALID};
pub(crate) use upstream::{Gate, Reply, Upstream, refusing_address, silent_address};
pub(crate) use wire::Wire;

/// How long anything may take before a test gives up on it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The documented sample pair.
pub(crate) const API_KEY: &str = "44b5498dbcb481a0d00b404c0169af62";
/// The user of the documented sample pair.
pub(crate) const API_USERNAME: &str = "n4n_admin";
