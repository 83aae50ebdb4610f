//! The kinds of keys, told apart to say which of them cannot be used.

use std::fmt;

use rustls::pki_types::PrivateKeyDer;
use x509_parser::{
    der_parser::{
        ber::{BerObject, BerObjectContent},
        der::parse_der,
    },
    x509::SubjectPublicKeyInfo,
};

/// The kinds of keys that can be used.
pub(super) const TAKEN: &str = "use RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519";

/// What kind of key one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// RSA, and its bits.
    Rsa(usize),
    /// RSA that may sign by PSS alone.
    RsaPss,
    /// ECDSA, on this curve.
    Ec(&'static str),
    Ed25519,
    Ed448,
    Dsa,
    /// Another kind.
    Other,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "an RSA key of {bits} bits"),
            Self::RsaPss => f.write_str("an RSA-PSS key"),
            Self::Ec(curve) => write!(f, "an ECDSA key on {curve}"),
            Self::Ed25519 => f.write_str("an Ed25519 key"),
            Self::Ed448 => f.write_str("an Ed448 key"),
            Self::Dsa => f.write_str("a DSA key"),
            Self::Other => f.write_str("a key of a kind that is not known here"),
        }
    }
}

impl KeyKind {
    /// The kind of a private key.
    pub(super) fn of(key: &PrivateKeyDer<'_>) -> Self {
        let kind = match key {
            PrivateKeyDer::Pkcs1(key) => modulus(key.secret_pkcs1_der()).map(Self::Rsa),
            PrivateKeyDer::Sec1(key) => sec1(key.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
            _ => None,
        };
        kind.unwrap_or(Self::Other)
    }

    /// The kind of a certificate's key.
    pub(super) fn of_public(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let parameters = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let curve = parameters.map(|oid| oid.to_id_string());
        // A public key and a private one hold the modulus at different places.
        let modulus =
            || Some(bits(parse_der(&key.subject_public_key.data).ok()?.1.as_sequence().ok()?.first()?));
        let kind = Self::named(&key.algorithm.algorithm.to_id_string(), curve.as_deref(), modulus);
        kind.unwrap_or(Self::Other)
    }

    /// Whether what was signed with it can be verified.
    pub(super) fn can_be_verified_with(self) -> bool {
        match self {
            Self::Rsa(bits) => (2048..=8192).contains(&bits),
            Self::Ec(curve) => curve == P256 || curve == P384,
            Self::Ed25519 => true,
            Self::RsaPss | Self::Ed448 | Self::Dsa | Self::Other => false,
        }
    }

    fn named(algorithm: &str, curve: Option<&str>, modulus: impl FnOnce() -> Option<usize>) -> Option<Self> {
        match algorithm {
            "1.2.840.113549.1.1.1" => modulus().map(Self::Rsa),
            "1.2.840.113549.1.1.10" => Some(Self::RsaPss),
            "1.2.840.10045.2.1" => Some(Self::Ec(curve_called(curve))),
            "1.2.840.10040.4.1" => Some(Self::Dsa),
            "1.3.101.112" => Some(Self::Ed25519),
            "1.3.101.113" => Some(Self::Ed448),
            _ => None,
        }
    }
}

const P256: &str = "P-256";
const P384: &str = "P-384";

fn curve_called(oid: Option<&str>) -> &'static str {
    match oid {
        Some("1.2.840.10045.3.1.7") => P256,
        Some("1.3.132.0.34") => P384,
        Some("1.3.132.0.35") => "P-521",
        Some("1.3.132.0.10") => "secp256k1",
        Some(_) => "another curve",
        None => "a curve without a name",
    }
}

/// The bits of an RSA key in its own form (RFC 8017 A.1.2): a version, then the modulus.
fn modulus(der: &[u8]) -> Option<usize> {
    let (_, key) = parse_der(der).ok()?;
    Some(bits(key.as_sequence().ok()?.get(1)?))
}

fn bits(integer: &BerObject<'_>) -> usize {
    let bytes = integer.as_slice().unwrap_or_default();
    let bytes = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
    bytes.first().map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize)
}

/// An ECDSA key by its own form (RFC 5915): a version, the key, and its curve in brackets.
fn sec1(der: &[u8]) -> Option<KeyKind> {
    let (_, key) = parse_der(der).ok()?;
    let curve = key.as_sequence().ok()?.iter().find_map(|item| {
        let BerObjectContent::Unknown(any) = &item.content else { return None };
        if any.header.tag().0 == 0 { oid(&parse_der(any.data).ok()?.1) } else { None }
    });
    Some(KeyKind::Ec(curve_called(curve.as_deref())))
}

/// A key of any kind (RFC 5208): a version, the algorithm with its parameters, and the key's own form.
fn pkcs8(der: &[u8]) -> Option<KeyKind> {
    let (_, key) = parse_der(der).ok()?;
    let [_, algorithm, own, ..] = key.as_sequence().ok()?.as_slice() else { return None };
    let algorithm = algorithm.as_sequence().ok()?;
    let curve = algorithm.get(1).and_then(oid);
    let modulus = || modulus(own.as_slice().ok()?);
    KeyKind::named(&oid(algorithm.first()?)?, curve.as_deref(), modulus)
}

fn oid(object: &BerObject<'_>) -> Option<String> {
    object.as_oid().ok().map(|oid| oid.to_id_string())
}
