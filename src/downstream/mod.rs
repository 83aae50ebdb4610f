//! The client's side: connections, and a gate that hands Pingora one request at a time.

pub mod chunked;
pub mod connection;
pub mod gate;
mod http2;
pub mod transport;
