//! What users of the gateway may rely on, proven on the wire: one file per promise.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod canonical;
mod check;
mod clients;
mod harness;
mod http2;
mod lifecycle;
mod quota;
mod refusals;
mod tls;
mod upstream_faults;
