//! Why a client's TLS handshake failed, in a closed set of reasons.

use std::io;

use rustls::{CertificateError, Error, PeerIncompatible};

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// A client certificate is required, and none was shown.
    CertificateMissing,
    /// The client's certificate is not from `client_ca`.
    CertificateUnknownCa,
    /// The client's certificate, or one that it rests on, has expired.
    CertificateExpired,
    /// The client's certificate is not valid yet.
    CertificateNotYetValid,
    /// The client's certificate is for another use.
    CertificateWrongUsage,
    /// The client's certificate is of X.509 version 1, which has no extensions.
    CertificateVersion1,
    /// The client's certificate is of no use for another reason.
    CertificateInvalid,
    /// Plain HTTP on the TLS port.
    PlainHttp,
    /// Bytes that are no TLS.
    NotTls,
    /// The client speaks neither TLS 1.2 nor 1.3.
    NoCommonVersion,
    /// Client and gateway have no cipher, group or signature in common.
    NoCommonCipher,
    /// The client wants protocols that the gateway does not speak.
    NoCommonProtocol,
    /// The client broke it off: it does not accept what the gateway showed.
    RefusedByClient,
    /// What came was TLS, but broke its rules.
    ProtocolError,
    /// It took too long.
    Timeout,
    /// The client left in the middle of it.
    ClientGone,
}

impl HandshakeFailure {
    /// Every variant, at the index of its discriminant.
    pub const ALL: [Self; 16] = [
        Self::CertificateMissing,
        Self::CertificateUnknownCa,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificateWrongUsage,
        Self::CertificateVersion1,
        Self::CertificateInvalid,
        Self::PlainHttp,
        Self::NotTls,
        Self::NoCommonVersion,
        Self::NoCommonCipher,
        Self::NoCommonProtocol,
        Self::RefusedByClient,
        Self::ProtocolError,
        Self::Timeout,
        Self::ClientGone,
    ];

    /// What metric and log call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateUnknownCa => "certificate_unknown_ca",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateWrongUsage => "certificate_wrong_usage",
            Self::CertificateVersion1 => "certificate_version_1",
            Self::CertificateInvalid => "certificate_invalid",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::NoCommonVersion => "no_common_version",
            Self::NoCommonCipher => "no_common_cipher",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::RefusedByClient => "refused_by_client",
            Self::ProtocolError => "protocol_error",
            Self::Timeout => "timeout",
            Self::ClientGone => "client_gone",
        }
    }

    /// What that means, and who can mend it how.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::CertificateMissing => "the client shows no certificate, and client_ca requires one",
            Self::CertificateUnknownCa => {
                "the client's certificate is not from client_ca, or the chain to it is not sent"
            }
            Self::CertificateExpired => "the client's certificate has expired, or one that it rests on",
            Self::CertificateNotYetValid => "the client's certificate is not valid yet; compare the clocks",
            Self::CertificateWrongUsage => "the client's certificate lacks the extended key usage clientAuth",
            Self::CertificateVersion1 => {
                "the client's certificate is of X.509 version 1; issue it with extensions (openssl x509 -req -extfile)"
            }
            Self::CertificateInvalid => "the client's certificate cannot be used",
            Self::PlainHttp => "plain HTTP on the TLS port; the client should use https://",
            Self::NotTls => "what came is no TLS",
            Self::NoCommonVersion => "the client speaks neither TLS 1.2 nor 1.3",
            Self::NoCommonCipher => "client and gateway have no cipher, group or signature in common",
            Self::NoCommonProtocol => "the client offers by ALPN nothing that the gateway speaks",
            Self::RefusedByClient => {
                "the client does not accept what it is shown; does it trust the certificate's issuer?"
            }
            Self::ProtocolError => "what came broke the rules of TLS",
            Self::Timeout => "the handshake was not done in time",
            Self::ClientGone => "the client left in the middle of the handshake",
        }
    }

    /// What an error of a handshake means that began with these bytes.
    pub fn of(error: &io::Error, beginning: &[u8]) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of_rustls(error, beginning),
            None => Self::ClientGone,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls' list grows; ours is closed")]
    fn of_rustls(error: &Error, beginning: &[u8]) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                // Which clients have sent since TLS 1.2.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::NoCommonVersion,
            Error::PeerIncompatible(_) => Self::NoCommonCipher,
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::AlertReceived(_) => Self::RefusedByClient,
            Error::InvalidMessage(_) if METHODS.iter().any(|method| beginning.starts_with(method)) => {
                Self::PlainHttp
            }
            Error::InvalidMessage(_) if beginning.first() != Some(&HANDSHAKE) => Self::NotTls,
            _ => Self::ProtocolError,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls' list grows; ours is closed")]
    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::CertificateUnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::CertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::CertificateNotYetValid
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::CertificateWrongUsage
            }
            // rustls has no name of its own for it, and hands on that of the crate below.
            CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => {
                Self::CertificateVersion1
            }
            _ => Self::CertificateInvalid,
        }
    }
}

/// What an error of a handshake says, without what is only written out for programmers.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string().replace("Other(OtherError(", "").replace("))", "");
    text.split(" {").next().unwrap_or_default().to_owned()
}

/// How many bytes of a handshake tell what it is.
pub const BEGINNING: usize = 8;

/// How a request of plain HTTP begins.
const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PRI * H"];

/// The first byte of every TLS connection: the type of a handshake's record.
pub const HANDSHAKE: u8 = 0x16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_at_its_number() {
        assert!(HandshakeFailure::ALL.iter().enumerate().all(|(place, why)| *why as usize == place));
    }

    #[test]
    fn an_error_is_told_in_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("not shown")]
        struct UnsupportedCertVersion;
        let other = rustls::OtherError(std::sync::Arc::new(UnsupportedCertVersion));
        let context = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![1],
            supported_algorithms: Vec::new(),
        };
        for (error, told) in [
            (CertificateError::Other(other), "UnsupportedCertVersion"),
            (context, "UnsupportedSignatureAlgorithmContext"),
            (CertificateError::BadSignature, "BadSignature"),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(error));
            assert_eq!(words(&error), format!("invalid peer certificate: {told}"));
        }
    }

    #[test]
    fn what_is_no_error_of_tls_is_the_client_s_leaving() {
        let error = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(HandshakeFailure::of(&error, &[HANDSHAKE]), HandshakeFailure::ClientGone);
    }
}
