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
    pub fn of(authorities: Vec<CertificateDer<'static>>) -> Result<Self, Unusable> {
        let verifier = ClientVerifier::of(&authorities).map_err(|_| Unusable::BrokenCertificate(1))?;
        Ok(Self { authorities, verifier: Arc::new(verifier) })
    }

    /// Whether the same authorities are believed.
    pub fn is_same(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }

    /// Whether a client that shows this certificate, with what it rests on, would be let in now.
    pub fn vouches_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((client, intermediates)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(client, intermediates, UnixTime::now()).is_ok()
    }

    /// What asks clients for their certificates.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Accepts client certificates from these authorities while those are valid.
#[derive(Debug)]
struct ClientVerifier {
    /// Believes all of them, whatever their dates.
    dateless: Verifier,
    /// Believes those that are valid; none: there are none.
    valid: ByDate<Option<Verifier>>,
}

impl ClientVerifier {
    /// # Errors
    /// When a certificate is none of an authority.
    fn of(authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let dateless =
            verifier(authorities).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(Self { dateless, valid: ByDate::of(authorities, verifier) })
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
