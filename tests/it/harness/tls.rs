//! Certificates made for a test, and a client and an upstream that use them.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::http::{Broken, Message, MessageReader};
use super::{Call, DEADLINE};

/// The years a certificate of the tests is good for.
pub(crate) const VALID: (i32, i32) = (2020, 4000);

/// A certificate authority of one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate chain with its key.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::of(VALID)
    }

    /// One whose own certificate is good from one year to another.
    pub(crate) fn of((from, to): (i32, i32)) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for names or addresses, good from one year to another.
    pub(crate) fn issue(&self, names: &[&str], (from, to): (i32, i32)) -> Issued {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes the authority's own certificate to a file.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        std::fs::write(&file, &self.pem).unwrap();
        file
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

impl Issued {
    /// Writes both to `name.pem` and `name.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.certificate).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }

    /// The certificate as it is sent.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// A server that shows this, whatever may be wrong with it.
    pub(crate) fn careless_server(&self) -> Arc<ServerConfig> {
        let provider = ring::default_provider();
        let key = provider.key_provider.load_private_key(self.private_key()).unwrap();
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let certified = CertifiedKey::new(chain.map(Result::unwrap).collect(), key);
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver))
    }

    /// A server that shows this, and wants a client's certificate from `client_ca`.
    pub(crate) fn server(&self, client_ca: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(ca.roots());
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_single_cert(vec![self.der()], self.private_key()).unwrap())
    }
}

/// A client that believes one authority.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    pub(crate) fn trusting(authority: &Authority, shows: Option<&Issued>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(authority.roots());
        Self(Arc::new(match shows {
            None => builder.with_no_client_auth(),
            Some(issued) => builder.with_client_auth_cert(vec![issued.der()], issued.private_key()).unwrap(),
        }))
    }

    /// What it is made of.
    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.0)
    }

    /// A connection to an address, as if it had this name; the handshake comes with the first bytes.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> TlsWire {
        let socket = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        TlsWire { reader: MessageReader::new(StreamOwned::new(session, socket)) }
    }
}

/// One connection under TLS.
pub(crate) struct TlsWire {
    reader: MessageReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsWire {
    /// Sends a call and reads its answer.
    pub(crate) fn call(&mut self, call: &Call) -> Message {
        self.try_call(call).unwrap_or_else(|broken| panic!("no answer: {broken:?}"))
    }

    /// Sends a call and reads its answer, or why there is none.
    pub(crate) fn try_call(&mut self, call: &Call) -> Result<Message, Broken> {
        // That the other side has left shows when its answer is read.
        let _ = std::io::Write::write_all(self.reader.source(), &call.bytes());
        self.reader.answer()
    }

    /// The certificate that was shown.
    pub(crate) fn certificate(&mut self) -> CertificateDer<'static> {
        self.reader.source().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
