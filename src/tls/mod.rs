//! TLS on both sides: certificates and keys, who is trusted, and when certificates expire.
//!
//! Pingora can be built on rustls or on OpenSSL; the gateway takes rustls. It is memory-safe and maintained
//! with Pingora's other back ends as of 0.9; it speaks TLS 1.2 and 1.3 with current suites and nothing else,
//! so there is no old version or suite to forget switching off; chain, validity and name are verified by
//! default on the upstream side. A listener's whole configuration is one value behind an `Arc`, so a reload
//! swaps certificates, SNI and client CAs for the next handshake and leaves open connections alone, where
//! OpenSSL's acceptor has a callback for certificates but fixes its client CAs when it is built. It needs a C
//! compiler for ring, where a vendored OpenSSL needs perl and make as well. What is given up: revocation
//! lists, OCSP, and suites for clients from before TLS 1.2.

mod clients;
mod expiry;
pub mod handshake;
mod kinds;
mod listener;
mod material;
mod pem;
mod subject;
mod upstream;
mod validity;

pub use clients::{ClientAuth, ClientCa};
pub use expiry::{Expiring, Use};
pub use handshake::HandshakeFailure;
pub use listener::server_config;
pub use material::{Beside, Unusable, authorities, certificates, pair, private_key};
pub use subject::subject;
pub use upstream::{Name, Trust};
