//! Certificates and keys, read from PEM files.

use std::{io, path::Path, sync::Arc};

use rustls::{
    InconsistentKeys,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    x509::X509Version,
};
use zeroize::Zeroizing;

use super::{
    kinds::{KeyKind, TAKEN},
    pem::{self, Block, BlockKind, PemFlaw},
};
use crate::files;

/// Why a file is of no use. Nothing of its content is told: it may be a key.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unread(#[from] io::Error),
    /// It is no PEM file.
    #[error(transparent)]
    NotPem(#[from] PemFlaw),
    /// No certificate stands in it, but perhaps something else, at a line.
    #[error("has no certificate in it")]
    NoCertificate(Option<BlockPlace>),
    /// The certificate at a line cannot be read.
    #[error("has a certificate in it that cannot be read")]
    BrokenCertificate(usize),
    /// The certificate at a line is of the first version.
    #[error("has an X.509 version 1 certificate in it, at line {0}, which clients refuse")]
    Version1(usize),
    /// No private key stands in it, but perhaps something else, at a line.
    #[error("has no private key in it")]
    NoKey(Option<BlockPlace>),
    /// The key in it cannot be used.
    #[error("has a private key in it that cannot be used")]
    BrokenKey,
    /// The key in it is of a kind that cannot be used.
    #[error("has {0} in it, which is not taken")]
    UnfitKey(String),
    /// The certificate at a line has a key with which nothing can be verified here.
    #[error(
        "has a CA certificate in it, at line {line}, with {kind}: nothing that it signed can be verified"
    )]
    UnfitAuthority {
        /// Where it begins.
        line: usize,
        /// What kind of key it has.
        kind: String,
    },
    /// Something else stands in it too, at a line.
    #[error("has {0} in it, at line {1}")]
    Stray(BlockKind, usize),
    /// A second key stands in it, at a line.
    #[error("has a second private key in it, at line {0}")]
    SecondKey(usize),
    /// It is the key of a certificate that stands behind others.
    #[error("is the key of a certificate that does not come first in its file")]
    LeafNotFirst,
    /// Certificate and key are not of one pair.
    #[error("is not the key of the certificate")]
    Mismatch,
}

impl Unusable {
    /// What to do about it.
    pub fn mend(&self) -> String {
        let certificates = "name a PEM file of X.509 certificates, the leaf first";
        let key = "name a PEM file with one unencrypted RSA, ECDSA or Ed25519 private key";
        let but = |found: &Option<BlockPlace>| {
            found.map(|(kind, line)| format!("; this one has {kind} at line {line}")).unwrap_or_default()
        };
        match self {
            Self::Unread(_) => "name a file that the gateway's user can read".into(),
            Self::NotPem(flaw) => flaw.mend().into(),
            Self::NoCertificate(found) => format!("{certificates}{}", but(found)),
            Self::BrokenCertificate(line) => format!("{certificates}; it is the one at line {line}"),
            Self::Version1(_) => {
                "issue it with extensions, as with `openssl x509 -req … -extfile`, among them the subjectAltName".into()
            }
            Self::NoKey(found) => format!("{key}{}", but(found)),
            Self::BrokenKey => format!("{key}: {TAKEN}"),
            Self::UnfitKey(_) | Self::UnfitAuthority { .. } => TAKEN.into(),
            Self::Stray(kind, _) => kind.mend().into(),
            Self::SecondKey(_) => "leave the certificate's own in it".into(),
            Self::LeafNotFirst => "put that certificate before those that issued it".into(),
            Self::Mismatch => "name the private key that the certificate was made with".into(),
        }
    }
}

/// What else a file may have in it than what it is named for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// A key beside certificates, or certificates beside a key: it is named for both.
    TheOther,
}

/// The certificates in a file, each of them readable.
///
/// # Errors
/// Why there are none, or what else is in it.
pub fn certificates(file: &Path, beside: Beside) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    read_certificates(file, beside, |line, certificate| match certificate.version() {
        X509Version::V1 => Err(Unusable::Version1(line)),
        _ => Ok(()),
    })
}

/// The certificates of authorities in a file, each of them readable and of use.
///
/// # Errors
/// Why there are none, or what else is in it.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    read_certificates(file, Beside::Nothing, |line, certificate| {
        let kind = KeyKind::of_public(certificate.public_key());
        if kind.can_be_verified_with() {
            Ok(())
        } else {
            Err(Unusable::UnfitAuthority { line, kind: kind.to_string() })
        }
    })
}

fn read_certificates(
    file: &Path,
    beside: Beside,
    judge: impl Fn(usize, &X509Certificate<'_>) -> Result<(), Unusable>,
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    // It may have a key in it all the same.
    let text = Zeroizing::new(files::read(file)?);
    let found = sort(&text, BlockKind::Certificate, BlockKind::PrivateKey, |kind| {
        beside == Beside::TheOther && matches!(kind, BlockKind::PrivateKey | BlockKind::EcParameters)
    })?
    .map_err(Unusable::NoCertificate)?;
    let read = |Block { line, text, .. }: &Block<'_>| {
        let certificate =
            CertificateDer::from_pem_slice(text).map_err(|_| Unusable::BrokenCertificate(*line))?;
        match X509Certificate::from_der(&certificate) {
            Ok(([], readable)) => judge(*line, &readable)?,
            Ok(_) | Err(_) => return Err(Unusable::BrokenCertificate(*line)),
        }
        Ok(certificate)
    };
    found.iter().map(read).collect()
}

/// The private key in a file.
///
/// # Errors
/// Why there is none, or what else is in it.
pub fn private_key(file: &Path, beside: Beside) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = Zeroizing::new(files::read(file)?);
    let found = sort(&text, BlockKind::PrivateKey, BlockKind::Certificate, |kind| {
        kind == BlockKind::EcParameters || (beside == Beside::TheOther && kind == BlockKind::Certificate)
    })?
    .map_err(Unusable::NoKey)?;
    match found.as_slice() {
        [] => Err(Unusable::NoKey(None)),
        [key] => PrivateKeyDer::from_pem_slice(key.text).map_err(|_| Unusable::BrokenKey),
        [_, second, ..] => Err(Unusable::SecondKey(second.line)),
    }
}

/// A block's kind, and the line it begins at.
type BlockPlace = (BlockKind, usize);

/// The blocks of the wanted kind, or, where there are none, the first of the kind that it is mistaken for.
///
/// # Errors
/// The file is no PEM, or has a block in it that may not be there.
fn sort(
    text: &[u8],
    wanted: BlockKind,
    mistaken: BlockKind,
    may_be_there: impl Fn(BlockKind) -> bool,
) -> Result<Result<Vec<Block<'_>>, Option<BlockPlace>>, Unusable> {
    let (found, others): (Vec<_>, Vec<_>) =
        pem::blocks(text)?.into_iter().partition(|block| block.kind == wanted);
    let place = |block: &Block<'_>| (block.kind, block.line);
    if found.is_empty() && others.iter().all(|block| block.kind == mistaken || may_be_there(block.kind)) {
        return Ok(Err(others.iter().find(|block| block.kind == mistaken).map(place)));
    }
    match others.iter().find(|block| !may_be_there(block.kind)).map(place) {
        Some((kind, line)) => Err(Unusable::Stray(kind, line)),
        None => Ok(Ok(found)),
    }
}

/// Puts a chain and its key together.
///
/// # Errors
/// When they do not belong together.
pub fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, Unusable> {
    let Ok(signing) = ring::sign::any_supported_type(&key) else {
        let kind = KeyKind::of(&key);
        let is_taken = kind.can_be_verified_with() && !matches!(kind, KeyKind::Rsa(4097..));
        // Of a kind that is taken, and broken all the same.
        let is_broken = is_taken || kind == KeyKind::Other;
        return Err(if is_broken { Unusable::BrokenKey } else { Unusable::UnfitKey(kind.to_string()) });
    };
    let fits = |certificate: &CertificateDer<'static>| {
        match CertifiedKey::new(vec![certificate.clone()], signing.clone()).keys_match() {
            // What cannot be compared is taken to belong together, as rustls itself does.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => true,
            Err(_) => false,
        }
    };
    match chain.iter().position(fits) {
        Some(0) => Ok(Arc::new(CertifiedKey::new(chain, signing))),
        Some(_) => Err(Unusable::LeafNotFirst),
        None => Err(Unusable::Mismatch),
    }
}
