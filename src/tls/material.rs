//! Certificates and keys as they stand in PEM files.

use std::{io, path::Path, sync::Arc};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::files;

/// Why a file is of no use. Nothing of its content is told: it may be a key.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unread(#[from] io::Error),
    /// No certificate stands in it.
    #[error("has no certificate in it")]
    NoCertificate,
    /// A certificate in it cannot be read.
    #[error("has a certificate in it that cannot be read")]
    BrokenCertificate,
    /// No private key stands in it.
    #[error("has no private key in it")]
    NoKey,
    /// The key in it cannot be used.
    #[error("has a private key in it that cannot be used")]
    BrokenKey,
    /// Certificate and key are not of one pair.
    #[error("is not the key of the certificate")]
    Mismatch,
}

impl Unusable {
    /// What to do about it.
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Unread(_) => "name a file that the gateway's user can read",
            Self::NoCertificate | Self::BrokenCertificate => {
                "name a PEM file of X.509 certificates, the leaf first"
            }
            Self::NoKey | Self::BrokenKey => {
                "name a PEM file with one unencrypted RSA, ECDSA or Ed25519 private key"
            }
            Self::Mismatch => "name the private key that the certificate was made with",
        }
    }
}

/// The certificates in a file, each of them readable.
///
/// # Errors
/// Why there are none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = files::read(file)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Unusable::BrokenCertificate)?;
    if chain.is_empty() {
        return Err(Unusable::NoCertificate);
    }
    let is_readable = |certificate: &CertificateDer<'_>| {
        X509Certificate::from_der(certificate).is_ok_and(|(rest, _)| rest.is_empty())
    };
    if chain.iter().all(is_readable) { Ok(chain) } else { Err(Unusable::BrokenCertificate) }
}

/// The private key in a file.
///
/// # Errors
/// Why there is none.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = Zeroizing::new(files::read(file)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| Unusable::NoKey)
}

/// Puts a chain and its key together.
///
/// # Errors
/// When they do not belong together.
pub fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, Unusable> {
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Unusable::Mismatch),
        Err(rustls::Error::InvalidCertificate(_)) => Err(Unusable::BrokenCertificate),
        Err(_) => Err(Unusable::BrokenKey),
    }
}
