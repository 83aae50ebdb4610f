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
mod faulty_answers;
mod floods;
mod harness;
mod http2;
mod lifecycle;
mod network_faults;
mod observe;
mod openapi;
mod page;
mod paths;
mod peers;
mod prometheus;
mod quota;
mod refusals;
mod reload;
mod rotation;
mod schemathesis;
mod secrets;
mod slow_clients;
mod spellings;
mod sslyze;
mod timing;
mod tls;
mod trail;
mod upgrade;
mod upstream_faults;
