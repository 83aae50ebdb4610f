//! PEM files, block by block: one that is not what was asked for is told, never skipped.

use std::fmt;

/// Why a file is no PEM file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemFlaw {
    /// It is in a Unicode encoding, so that its first line is not what it seems to be.
    #[error("begins with a byte order mark")]
    ByteOrderMark,
    /// It is in another form.
    #[error("is DER or PKCS #12, not PEM")]
    Der,
    /// The block that begins, or should begin, at a line is not whole.
    #[error("has a PEM block in it that does not begin and end as it should, at line {0}")]
    BrokenBlock(usize),
}

impl PemFlaw {
    pub(super) const fn mend(self) -> &'static str {
        match self {
            Self::ByteOrderMark => "save it as plain text, without the mark",
            Self::Der => {
                "convert it with `openssl x509 -inform DER`, `openssl pkey -inform DER` or `openssl pkcs12`"
            }
            Self::BrokenBlock(_) => {
                "copy it again, whole, each block between its BEGIN and END lines, with nothing before them"
            }
        }
    }
}

/// What a block says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// A certificate.
    Certificate,
    /// A private key in a form that can be read.
    PrivateKey,
    /// A private key that takes a passphrase.
    EncryptedKey,
    /// What stands before a key in some files and says nothing that the key does not.
    EcParameters,
    /// A certificate with OpenSSL's own remarks on what to trust it for.
    TrustedCertificate,
    /// What a certificate is asked for with.
    Request,
    /// A public key alone.
    PublicKey,
    /// A DSA key, or what belongs to one.
    Dsa,
    /// A key as OpenSSH keeps it.
    OpensshKey,
    /// Certificates in one PKCS #7 structure.
    Pkcs7,
    /// A revocation list.
    RevocationList,
    /// Diffie-Hellman parameters.
    DhParameters,
    /// None of these.
    Other,
}

impl BlockKind {
    fn of(label: &[u8]) -> Self {
        match label {
            b"CERTIFICATE" => Self::Certificate,
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" => Self::PrivateKey,
            b"ENCRYPTED PRIVATE KEY" => Self::EncryptedKey,
            b"EC PARAMETERS" => Self::EcParameters,
            b"TRUSTED CERTIFICATE" => Self::TrustedCertificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Self::Request,
            b"PUBLIC KEY" | b"RSA PUBLIC KEY" => Self::PublicKey,
            b"DSA PRIVATE KEY" | b"DSA PARAMETERS" => Self::Dsa,
            b"OPENSSH PRIVATE KEY" => Self::OpensshKey,
            b"PKCS7" | b"CMS" => Self::Pkcs7,
            b"X509 CRL" => Self::RevocationList,
            b"DH PARAMETERS" | b"X9.42 DH PARAMETERS" => Self::DhParameters,
            _ => Self::Other,
        }
    }

    /// What to do about one where it does not belong.
    pub(super) const fn mend(self) -> &'static str {
        match self {
            Self::EncryptedKey => {
                "decrypt it with `openssl pkey -in OLD -out NEW`, and let only the gateway's user read that"
            }
            Self::TrustedCertificate => "write it plainly with `openssl x509 -in OLD -out NEW`",
            Self::Request => "name the certificate that was issued for it",
            Self::Pkcs7 => "write its certificates out with `openssl pkcs7 -print_certs -in OLD -out NEW`",
            Self::OpensshKey => "write it plainly with `ssh-keygen -p -m PEM -f KEY`",
            Self::RevocationList => "take it out: revocation lists are not followed",
            Self::Dsa => super::kinds::TAKEN,
            Self::Certificate
            | Self::PrivateKey
            | Self::EcParameters
            | Self::PublicKey
            | Self::DhParameters
            | Self::Other => "take it out: the file may have nothing else in it",
        }
    }
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate",
            Self::PrivateKey => "a private key",
            Self::EncryptedKey => "an encrypted private key",
            Self::EcParameters => "EC parameters",
            Self::TrustedCertificate => "an OpenSSL TRUSTED CERTIFICATE",
            Self::Request => "a certificate request",
            Self::PublicKey => "a public key",
            Self::Dsa => "a DSA key",
            Self::OpensshKey => "an OpenSSH private key",
            Self::Pkcs7 => "a PKCS #7 structure",
            Self::RevocationList => "a revocation list",
            Self::DhParameters => "Diffie-Hellman parameters",
            Self::Other => "a block of a kind that is not known here",
        })
    }
}

/// A block and where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) kind: BlockKind,
    /// The line of its BEGIN, counted from one.
    pub(super) line: usize,
    /// From its BEGIN to its END.
    pub(super) text: &'a [u8],
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// What a file in a Unicode encoding may begin with: UTF-8's mark, and those of UTF-16.
const BYTE_ORDER_MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// The blocks of a file, each whole; what stands between them is of no concern.
///
/// # Errors
/// The file is no PEM, or one of its blocks does not begin or end as it should.
pub(super) fn blocks(file: &[u8]) -> Result<Vec<Block<'_>>, PemFlaw> {
    if BYTE_ORDER_MARKS.iter().any(|mark| file.starts_with(mark)) {
        return Err(PemFlaw::ByteOrderMark);
    }
    let mut blocks = Vec::new();
    let mut open: Option<(Block<'_>, usize, &[u8])> = None;
    let mut at = 0;
    for (index, whole) in file.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let (start, number, line) = (at, index + 1, whole.trim_ascii_end());
        at += whole.len();
        let label = |edge: &[u8]| line.strip_prefix(edge).and_then(|rest| rest.strip_suffix(DASHES));
        match &mut open {
            None if line.starts_with(BEGIN) => {
                let label = label(BEGIN).ok_or(PemFlaw::BrokenBlock(number))?;
                open = Some((Block { kind: BlockKind::of(label), line: number, text: &[] }, start, label));
            }
            None if holds(line, BEGIN) || line.starts_with(END) => return Err(PemFlaw::BrokenBlock(number)),
            None => {}
            Some((block, from, begun)) if line.starts_with(END) => {
                if label(END) != Some(*begun) {
                    return Err(PemFlaw::BrokenBlock(block.line));
                }
                blocks.push(Block { text: &file[*from..at], ..*block });
                open = None;
            }
            Some((block, ..)) if holds(line, BEGIN) => return Err(PemFlaw::BrokenBlock(block.line)),
            // The old form of encryption leaves the label as it is.
            Some((block, ..)) if line.starts_with(b"Proc-Type:") && holds(line, b"ENCRYPTED") => {
                block.kind = BlockKind::EncryptedKey;
            }
            Some(_) => {}
        }
    }
    match open {
        Some((block, ..)) => Err(PemFlaw::BrokenBlock(block.line)),
        // A SEQUENCE, as everything begins that this file could hold in DER.
        None if blocks.is_empty() && file.first() == Some(&0x30) => Err(PemFlaw::Der),
        None => Ok(blocks),
    }
}

fn holds(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(file: &[u8]) -> Result<Vec<(BlockKind, usize)>, String> {
        let blocks = blocks(file).map_err(|flaw| flaw.to_string())?;
        Ok(blocks.iter().map(|block| (block.kind, block.line)).collect())
    }

    #[test]
    fn a_file_is_its_blocks_and_what_stands_between_them_is_of_no_concern() {
        let file = b"subject=CN = a\n-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----\r\n\n\
            -----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n-----BEGIN RSA PRIVATE KEY-----\n\
            Proc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        let all = [(BlockKind::Certificate, 2), (BlockKind::EcParameters, 6), (BlockKind::EncryptedKey, 9)];
        assert_eq!(kinds(file).unwrap(), all);
        assert_eq!(kinds(b"no block").unwrap(), []);
        assert_eq!(kinds(b"").unwrap(), []);
    }

    #[test]
    fn what_begins_or_ends_otherwise_is_told() {
        let broken =
            |line| format!("has a PEM block in it that does not begin and end as it should, at line {line}");
        for (file, said) in [
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", broken(1)),
            ("\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE", broken(2)),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n", broken(1)),
            ("-----BEGIN CERTIFICATE----\nAAAA\n-----END CERTIFICATE-----\n", broken(1)),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN CERTIFICATE-----\n", broken(1)),
            ("AAAA\n-----END CERTIFICATE-----\n", broken(2)),
            ("  -----BEGIN CERTIFICATE-----\nAAAA\n  -----END CERTIFICATE-----\n", broken(1)),
            ("-----BEGIN CERTIFICATE-----\rAAAA\r-----END CERTIFICATE-----\r", broken(1)),
            ("\u{feff}-----BEGIN CERTIFICATE-----\n", "begins with a byte order mark".into()),
            ("0\u{1}\u{2}", "is DER or PKCS #12, not PEM".into()),
        ] {
            assert_eq!(kinds(file.as_bytes()).unwrap_err(), said, "{file:?}");
        }
    }
}
