//! A gateway for one privileged call: what n4n reads is what was judged.
//!
//! A request's life, in the order in which it meets the modules:
//!
//! 1. [`server`] accepts its connection, within [`config`]'s bounds.
//! 2. [`downstream`] reads its head and its body, each in time, and answers what is refused.
//! 3. [`policy`] judges it: framing, client, path, head, access, and a body read as [`php`] reads it.
//! 4. [`quota`] takes it from its user's account, in this process or in the [`quota_store`] that gateways share.
//! 5. [`audit`] has its intent before anything is sent.
//! 6. [`proxy`] admits it, or names the [`reason`] against it; what is admitted Pingora forwards, in canonical form.
//! 7. [`upstream`] says which n4n host it goes to, and what it means when that fails.
//! 8. [`outcome`] is how it ended: the one record that [`telemetry`] counts and logs.
//!
//! [`operation`] is what all of this protects, [`gateway`] holds what requests share, [`users`] is who is listed, [`admin`] shows it, [`explain`] judges a request offline, and
//! [`demo`] runs it all before a [`stand_in`] of n4n.
pub mod admin;
pub mod alarm;
pub mod audit;
pub mod cli;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod downstream;
pub mod exchange;
pub mod explain;
pub mod files;
pub mod gateway;
mod lookup;
pub mod operation;
pub mod outcome;
pub mod passage;
pub mod php;
pub mod policy;
pub mod print;
pub mod quota;
pub mod quota_store;
pub mod reason;
pub mod request;
pub mod serve;
pub mod server;
pub mod stand_in;
pub mod telemetry;
mod threads;
pub mod tls;
pub mod unserved;
pub mod upstream;
pub mod users;
pub mod wire;
