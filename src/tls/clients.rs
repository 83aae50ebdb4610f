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

use super::validity::{ByDate, Seconds};

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one there is no connection.
    Required,
    /// They may call without one; one that is shown must be good.
    Optional,
}

/// Whose certificates clients show.
#[derive(Debug, Clone, Copy)]
pub struct Callers<'a> {
    /// Those who issue them.
    pub authorities: &'a [CertificateDer<'static>],
    /// Whether a client must have one.
    pub auth: ClientAuth,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Accepts client certificates from these authorities while those are valid.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// Believes all of them, whatever their dates.
    dateless: Verifier,
    /// Believes those that are valid; none: there are none.
    valid: ByDate<Option<Verifier>>,
    auth: ClientAuth,
}

impl ClientVerifier {
    /// # Errors
    /// When a certificate is none of an authority.
    pub(super) fn of(Callers { authorities, auth }: Callers<'_>) -> Result<Self, Error> {
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
