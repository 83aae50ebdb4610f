//! TLS to the upstream: the name and CAs that it is verified by, and the client certificate.

use std::{fmt, net::SocketAddr, sync::Arc};

use pingora::{
    upstreams::peer::HttpPeer,
    utils::tls::{CertKey, WrappedX509, parse_x509},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::validity::{ByDate, now};

/// The name that an n4n host's certificate must be for.
///
/// Without one Pingora would verify nothing at all, without a word; so there is no such value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(ServerName<'static>);

impl Name {
    /// The name in a Host, its port left out.
    ///
    /// There is none for a name with an underscore: Pingora would have another name verified in its place.
    pub fn of_host(host: &str) -> Option<Self> {
        let name = if host.parse::<std::net::IpAddr>().is_ok() {
            host
        } else if let Some(literal) = host.strip_prefix('[') {
            literal.split_once(']')?.0
        } else {
            host.split(':').next().unwrap_or(host)
        };
        let name = ServerName::try_from(name).ok()?.to_owned();
        (!name.to_str().contains('_')).then_some(Self(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

/// How the upstream is verified, and the client certificate that it is shown.
#[derive(Clone)]
pub struct Trust {
    name: Name,
    /// None: the system's roots.
    ca: Option<Arc<ByDate<Arc<[WrappedX509]>>>>,
    client: Option<Arc<CertKey>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Trust {
    /// Believes who has a certificate for the name from one of these CAs while that is valid, or else from one of
    /// the system's.
    ///
    /// The chain shown to it, where there is one, must have been read by this module and fit its key.
    pub fn new(
        name: Name,
        ca: Option<&[CertificateDer<'static>]>,
        client: Option<(&[CertificateDer<'static>], &PrivateKeyDer<'static>)>,
    ) -> Self {
        let der = |certificate: &CertificateDer<'static>| certificate.to_vec();
        let client = client.map(|(chain, key)| {
            Arc::new(CertKey::new(chain.iter().map(der).collect(), key.secret_der().to_vec()))
        });
        Self { name, ca: ca.map(|ca| Arc::new(ByDate::of(ca, wrap))), client }
    }

    /// The peer at an address, verified for its own name where it has one. Pooled connections to it are shared within a generation alone: they were
    /// verified under what was trusted then.
    pub fn peer(&self, address: SocketAddr, name: Option<&Name>, generation: u64) -> HttpPeer {
        let Name(name) = name.unwrap_or(&self.name);
        let mut peer = HttpPeer::new(address, true, name.to_str().into_owned());
        peer.options.verify_cert = true;
        peer.options.verify_hostname = true;
        peer.options.ca = self.ca.as_ref().map(|ca| ca.at(now(), wrap));
        peer.client_cert_key = self.client.clone();
        peer.group_key = generation;
        peer
    }
}

fn wrap(authorities: &[CertificateDer<'static>]) -> Arc<[WrappedX509]> {
    authorities.iter().map(|authority| WrappedX509::new(authority.to_vec(), parse_x509)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_empty_nor_another_one() {
        let name = |host| Name::of_host(host).map(|name| name.0.to_str().into_owned());
        for (host, is) in [
            ("n4n.example.com", "n4n.example.com"),
            ("n4n.example.com:8443", "n4n.example.com"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(name(host).as_deref(), Some(is), "{host}");
        }
        for host in ["", ":443", "[]", "[]:443", "n4n_1.example.com", "*.example.com", "a b"] {
            assert_eq!(name(host), None, "{host}");
        }
    }
}
