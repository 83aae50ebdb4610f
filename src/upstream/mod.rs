//! The n4n hosts: which of them a call goes to, by which connection, and what an error there means.

pub mod connection;
pub mod connector;
pub mod fault;
pub mod peer;
pub mod peers;
pub mod pool;

pub use peers::Peers;
