//! What a configuration needs of TLS, as in the gateway but for what Pingora has a hand in.

#[path = "../../../src/tls/clients.rs"]
mod clients;
#[path = "../../../src/tls/expiry.rs"]
mod expiry;
#[path = "../../../src/tls/kinds.rs"]
mod kinds;
#[path = "../../../src/tls/listener.rs"]
mod listener;
#[path = "../../../src/tls/material.rs"]
mod material;
#[path = "../../../src/tls/pem.rs"]
mod pem;
#[path = "../../../src/tls/validity.rs"]
mod validity;

use std::fmt;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

pub use clients::{ClientAuth, ClientCa};
pub use expiry::{Expiring, Use};
pub use listener::server_config;
pub use material::{Beside, Unusable, authorities, certificates, pair, private_key};

/// The name that an upstream's certificate must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(ServerName<'static>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

impl Name {
    /// The name in a Host.
    pub fn of_host(host: &str) -> Option<Self> {
        let name = host.split(':').next().unwrap_or(host);
        ServerName::try_from(name).ok().map(|name| Self(name.to_owned()))
    }
}

/// Whom to believe to be the upstream.
#[derive(Debug, Clone)]
pub struct Trust(#[expect(dead_code, reason = "shown by Debug")] Name);

impl Trust {
    /// Believes who has a certificate for the name.
    pub fn new(
        name: Name,
        _ca: Option<&[CertificateDer<'static>]>,
        _client: Option<(&[CertificateDer<'static>], &PrivateKeyDer<'static>)>,
    ) -> Self {
        Self(name)
    }
}
