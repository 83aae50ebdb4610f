//! The TLS of a listener: its certificates by SNI, and the client CA.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::ring,
    pki_types::ServerName,
    server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::clients::ClientCa;

/// The protocols offered, the preferred one first. Some clients that are told to speak HTTP/1.0 offer that alone.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The configuration of one listener: these certificates, the first by default, and, where there is a client CA, what
/// clients must show.
pub fn server_config(
    certificates: Vec<Arc<CertifiedKey>>,
    client_ca: Option<&ClientCa>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring's suites serve TLS 1.2 and 1.3");
    let resolver = Arc::new(ByName(certificates));
    let mut config = match client_ca {
        None => builder.with_no_client_auth().with_cert_resolver(resolver),
        Some(ca) => builder.with_client_cert_verifier(ca.verifier()).with_cert_resolver(resolver),
    };
    if client_ca.is_some() {
        // A resumed session would not show its certificate again, however old that is by then.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Arc::new(config)
}

/// Certificates by the name the client asks for; without a name that fits, the first.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().filter(|_| self.0.len() > 1);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let fits = |certified: &&Arc<CertifiedKey>| {
            name.as_ref().is_some_and(|name| is_for(certified, name))
                && certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    certified
        .cert
        .first()
        .and_then(|leaf| ParsedCertificate::try_from(leaf).ok())
        .is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
}
