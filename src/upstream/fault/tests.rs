//! What an upstream error is said to be, error by error.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, CertificateError, InvalidMessage, OtherError, PeerIncompatible,
    pki_types::{ServerName, UnixTime},
};

use super::*;

/// The error as Pingora makes it of one of rustls'.
fn in_a_handshake(error: rustls::Error) -> Box<Error> {
    let inner = Error::because(
        ErrorType::TLSHandshakeFailure,
        "tls connect error",
        io::Error::new(io::ErrorKind::InvalidData, error),
    );
    let context = format!("TLS connect() failed: {inner}, SNI: n4n.test");
    Error::explain(ErrorType::TLSHandshakeFailure, context).into_up()
}

#[test]
fn what_rustls_says_is_told_apart() {
    let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let not_for = |presented: &[&str]| CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("n4n.test").unwrap(),
        presented: presented.iter().map(ToString::to_string).collect(),
    };
    #[derive(Debug, thiserror::Error)]
    #[error("another error")]
    enum Webpki {
        CaUsedAsEndEntity,
        UnsupportedCertVersion,
    }
    let other = |error: Webpki| CertificateError::Other(OtherError(Arc::new(error)));
    let trap = "\"; certificate is not valid for any names, invalid peer certificate: UnknownIssuer";
    for (error, cause) in [
        (not_for(&["DnsName(\"other.test\")"]), Cause::CertificateName),
        (not_for(&[trap]), Cause::CertificateName),
        (not_for(&[]), Cause::CertificateNoName),
        (CertificateError::UnknownIssuer, Cause::CertificateUnknownCa),
        (CertificateError::ExpiredContext { time: time(2), not_after: time(1) }, Cause::CertificateExpired),
        (
            CertificateError::NotValidYetContext { time: time(1), not_before: time(2) },
            Cause::CertificateNotYetValid,
        ),
        (other(Webpki::CaUsedAsEndEntity), Cause::CertificateIsCa),
        (other(Webpki::UnsupportedCertVersion), Cause::CertificateVersion1),
        (CertificateError::InvalidPurpose, Cause::CertificatePurpose),
        (CertificateError::BadSignature, Cause::CertificateUnknownCa),
        (CertificateError::BadEncoding, Cause::CertificateBroken),
    ] {
        assert_eq!(super::cause(&in_a_handshake(error.into())), cause);
    }
    for (error, cause) in [
        (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), Cause::ClientCertificate),
        (rustls::Error::AlertReceived(AlertDescription::UnrecognisedName), Cause::NameUnknown),
        (rustls::Error::AlertReceived(AlertDescription::ProtocolVersion), Cause::NoCommonTls),
        (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), Cause::HandshakeEnded),
        (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), Cause::NotTls),
        (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), Cause::NoCommonTls),
    ] {
        assert_eq!(super::cause(&in_a_handshake(error)), cause);
    }
}

#[test]
fn what_is_none_of_tls_has_its_cause_too() {
    let refused = Error::because(
        ErrorType::ConnectRefused,
        "Fail to connect to 192.0.2.1:80",
        io::Error::from(io::ErrorKind::ConnectionRefused),
    );
    assert_eq!(cause(&refused.into_up()), Cause::ConnectRefused);
    // Under TLS 1.3 a client certificate is refused after the handshake, in what is read.
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    let read = Error::because(ErrorType::ReadError, "while reading", io::Error::other(alert));
    assert_eq!(cause(&read.into_up()), Cause::ClientCertificate);
    assert_eq!(cause(&Error::new_up(ErrorType::ReadTimedout)), Cause::Timeout);
}

#[test]
fn what_this_machine_lacks_is_told_from_what_the_peer_refuses() {
    let error = |errno: Errno| Error::because(ErrorType::InternalError, "connecting", io::Error::from(errno));
    for (errno, local) in [
        (Errno::ADDRNOTAVAIL, true),
        (Errno::MFILE, true),
        (Errno::NFILE, true),
        (Errno::CONNREFUSED, false),
        (Errno::ACCESS, false),
    ] {
        assert_eq!(is_local(&error(errno)), local, "{errno}");
        assert_eq!(reason(&error(errno), false), Some(Reason::UpstreamUnreachable), "{errno}");
    }
    assert_eq!(reason(&Error::new(ErrorType::InternalError), false), Some(Reason::Internal));
}
