//! The client's side: connections, their requests and answers, and what Pingora has of them.

mod answer;
pub mod chunked;
pub mod connection;
mod frames;
mod http2;
pub mod patience;
pub mod reply;
pub mod service;
pub mod session;
pub mod transport;
