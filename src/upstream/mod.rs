//! The n4n hosts: which one a call goes to, and what it means when that fails.

pub mod connection;
pub mod connector;
pub mod fault;
pub mod peer;
pub mod peers;
pub mod pool;

pub use peers::Peers;
