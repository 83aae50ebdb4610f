//! What users of the gateway may rely on, proven on the wire: one file per promise.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod attacks;
mod canonical;
mod check;
mod clients;
mod demo;
mod differential;
mod explain;
mod harness;
mod http2;
mod lifecycle;
mod observe;
mod openapi;
mod page;
mod paths;
mod prometheus;
mod quota;
mod quota_store;
mod refusals;
mod reload;
mod schemathesis;
mod spellings;
mod tls;
mod trail;
mod upstream_faults;
