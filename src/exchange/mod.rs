//! Judged calls: one straight way from admission to n4n and back.
//!
//! [`admit`] judges a request and builds what goes upstream, [`send`](fn@send::send) sends that at most once and has the whole
//! answer, [`relay`] passes the answer on.

pub mod admit;
pub mod canonical;
pub mod relay;
pub mod result;
pub mod send;
