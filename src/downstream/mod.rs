//! The client's side: connections, and a gate that hands Pingora one request at a time.

mod answer;
pub mod chunked;
pub mod connection;
pub mod gate;
mod http2;
pub mod patience;
pub mod transport;
