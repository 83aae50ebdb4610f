//! The n4n hosts: which one a call goes to, and what it means when that fails.

pub mod answer;
pub mod fault;
pub mod health;
pub mod peer;
pub mod peers;

pub use peers::Peers;
