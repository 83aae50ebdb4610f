//! A gateway for one privileged call: what n4n reads is what was judged.
//!
//! A request's life, in the order in which it meets the modules:
//!
//! 1. [`server`] accepts its connection, within [`config`]'s bounds, and hands it to a worker's [`serve`].
//! 2. [`downstream`] reads its head and its body, each in time; [`wire`] parses what HTTP/1.1 brings.
//! 3. [`request`] carries it from there on, until its record is made.
//! 4. [`exchange`] admits it: [`policy`] judges client, path, head, access, and a body read as [`php`] reads it;
//!    [`enumeration`] counts what its user asks for; [`quota`], or the [`quota_store`] that gateways share, counts it;
//!    [`audit`] has its intent; or a [`reason`] names what is wrong.
//! 5. A judged call is sent by [`exchange`] in its canonical form, at most once, to a peer that [`upstream`] chooses. A
//!    request for another path streams through Pingora's proxy in [`passage`].
//! 6. [`outcome`] is how it ended: the one record that [`telemetry`] counts and logs.
//!
//! [`operation`] is what all of this protects, [`gateway`] holds what requests share, [`users`] who is listed, [`blocks`] who
//! is shut out for [`guessing`], [`stream_memory`] bounds what HTTP/2 costs, [`admin`] shows it and the [`admin_socket`] acts on it, [`explain`] judges a request
//! offline, and [`demo`] runs it all before a [`stand_in`] of n4n. Imports lead one way through these layers;
//! `tests/it/architecture` has the list.
pub mod admin;
pub mod admin_socket;
pub mod alarm;
mod as_it_is;
pub mod audit;
pub mod blocks;
pub mod check;
pub mod cli;
pub mod client_network;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod downstream;
pub mod enumeration;
pub mod exchange;
pub mod explain;
pub mod files;
pub mod gateway;
pub mod guessing;
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
pub mod running;
pub mod secret_input;
pub mod serve;
pub mod server;
pub mod stand_in;
pub mod stream_memory;
pub mod telemetry;
mod threads;
pub mod tls;
mod unix_socket;
pub mod unserved;
pub mod upstream;
pub mod users;
pub mod wire;
