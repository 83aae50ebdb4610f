//! Whether a client's certificate is from an authority that is itself valid.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use x509_parser::{
    prelude::{FromDer, X509Certificate},
    x509::X509Version,
};

use super::{
    Unusable,
    validity::{ByDate, Seconds},
};

/// The authorities whose clients a listener lets in.
#[derive(Debug)]
pub struct ClientCa {
    authorities: Vec<CertificateDer<'static>>,
    verifier: Arc<ClientVerifier>,
}

impl ClientCa {
    /// Believes these authorities.
    ///
    /// # Errors
    /// When a certificate is none of an authority.
    pub fn of(authorities: Vec<CertificateDer<'static>>, auth: ClientAuth) -> Result<Self, Unusable> {
        let verifier = ClientVerifier::of(&authorities, auth).map_err(|_| Unusable::BrokenCertificate(1))?;
        Ok(Self { authorities, verifier: Arc::new(verifier) })
    }

    /// How many of the certificates are of somebody who may issue none (RFC 5280, 4.2.1.9). What they signed themselves
    /// is let in, and nothing else.
    pub fn leaves(&self) -> usize {
        let is_leaf = |certificate: &&CertificateDer<'static>| {
            X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
                certificate.version() == X509Version::V3 && !certificate.is_ca()
            })
        };
        self.authorities.iter().filter(is_leaf).count()
    }

    /// What is asked of clients.
    pub fn auth(&self) -> ClientAuth {
        self.verifier.auth
    }

    /// Whether the same authorities are believed, and the same is asked of clients.
    pub fn is_same(&self, other: &Self) -> bool {
        self.authorities == other.authorities && self.verifier.auth == other.verifier.auth
    }

    /// Whether a client that shows this certificate, with what it rests on, or none, would be let in now.
    pub fn lets_in(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((client, intermediates)) = chain.split_first() else {
            return self.verifier.auth == ClientAuth::Optional;
        };
        self.verifier.verify_client_cert(client, intermediates, UnixTime::now()).is_ok()
    }

    /// What asks clients for their certificates.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }
}

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one there is no connection.
    Required,
    /// They may call without one; one that is shown must be good.
    Optional,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Accepts client certificates from these authorities while those are valid.
#[derive(Debug)]
struct ClientVerifier {
    /// Believes all of them, whatever their dates.
    dateless: Verifier,
    /// Believes those that are valid; none: there are none.
    valid: ByDate<Option<Verifier>>,
    auth: ClientAuth,
}

impl ClientVerifier {
    /// # Errors
    /// When a certificate is none of an authority.
    fn of(authorities: &[CertificateDer<'static>], auth: ClientAuth) -> Result<Self, Error> {
        let dateless =
            verifier(authorities).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(Self { dateless, valid: ByDate::of(authorities, verifier), auth })
    }
}

fn verifier(authorities: &[CertificateDer<'static>]) -> Option<Verifier> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).ok()?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.dateless.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let seconds = Seconds::try_from(now.as_secs()).unwrap_or(Seconds::MAX);
        let refused = match self.valid.at(seconds, verifier) {
            None => Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Some(valid) => match valid.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok(verified),
                Err(refused) => refused,
            },
        };
        let is_unknown = refused == Error::InvalidCertificate(CertificateError::UnknownIssuer);
        // It is the authority's age and not the authority that is wrong; the client should hear which.
        if is_unknown && self.dateless.verify_client_cert(end_entity, intermediates, now).is_ok() {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.dateless.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.dateless.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.dateless.supported_verify_schemes()
    }
}
