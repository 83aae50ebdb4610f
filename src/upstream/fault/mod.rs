//! Errors between the gateway and n4n, as reasons of the contract and as causes in the log.

use pingora::{Error, ErrorSource, ErrorType};
use rustix::io::Errno;

use std::{io, net::SocketAddr};

use super::connection::Unanswered;
use crate::{outcome::RequestId, reason::Reason, wire::answer::BadAnswer};

/// The reason for an error of Pingora's; `None` where the client is gone.
///
/// `forwarded` tells whether a connection to the upstream had been made.
pub fn reason(error: &Error, forwarded: bool) -> Option<Reason> {
    let is_late = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    match error.esource() {
        ErrorSource::Upstream if !forwarded => Some(Reason::UpstreamUnreachable),
        ErrorSource::Upstream if is_late => Some(Reason::UpstreamTimeout),
        ErrorSource::Upstream => Some(Reason::UpstreamBroken),
        ErrorSource::Downstream if is_connection_lost(error.etype()) => None,
        // What Pingora takes for its own: the system had no port, file descriptor or right to connect with.
        ErrorSource::Internal | ErrorSource::Unset if !forwarded && system_cause(error).is_some() => {
            Some(Reason::UpstreamUnreachable)
        }
        ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset => Some(Reason::Internal),
    }
}

/// The reason where no peer is left to try, and why the last one could not be connected to, if one was tried. None was
/// where checks have found all of them unfit since the request was admitted.
pub fn without_peer(tried: Option<Cause>) -> Reason {
    if tried.is_some() { Reason::UpstreamUnreachable } else { Reason::UpstreamUnavailable }
}

/// Tells the log that a call failed, and why.
pub fn tell(id: RequestId, peer: Option<SocketAddr>, reason: Reason, cause: Cause) {
    let peer = peer.map(tracing::field::display);
    let (code, why) = (reason.code(), cause.words());
    tracing::warn!(request_id = %id, peer, code, cause = cause.label(), why, "a call failed");
}

/// Why a call that was sent has no answer.
pub fn cause_of(unanswered: &Unanswered) -> Cause {
    match unanswered {
        Unanswered::Late => Cause::Timeout,
        Unanswered::Bad(BadAnswer::Cut) => Cause::Closed,
        Unanswered::Bad(_) => Cause::BadAnswer,
        // Under TLS 1.3 a client certificate is refused after the handshake.
        Unanswered::Broken(error) => of_tls(&error.to_string()).unwrap_or(Cause::ConnectionBroken),
    }
}

/// What the system said, where that is the cause.
pub fn system_cause(error: &Error) -> Option<&io::Error> {
    let mut cause: &(dyn std::error::Error + 'static) = error.root_cause();
    loop {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        cause = cause.source()?;
    }
}

/// Whether it is this machine that lacks what a connection takes, so that the peer is not to blame.
pub fn is_local(error: &Error) -> bool {
    let errno = system_cause(error).and_then(Errno::from_io_error);
    matches!(
        errno,
        Some(
            Errno::ADDRNOTAVAIL
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRINUSE
        )
    )
}

/// What went wrong between the gateway and n4n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing listens there.
    ConnectRefused,
    /// No connection, or no handshake, in time.
    ConnectTimeout,
    /// No way to the network or host.
    NoRoute,
    /// This machine has no local port left for another connection.
    NoLocalPort,
    /// No connection for another reason.
    ConnectFailed,
    /// The certificate is for other names.
    CertificateName,
    /// The certificate has no subjectAltName.
    CertificateNoName,
    /// The certificate is from an authority that is not believed.
    CertificateUnknownCa,
    /// No authority that `upstream.tls.ca` names is valid today.
    CaNotValid,
    /// The certificate has expired.
    CertificateExpired,
    /// The certificate is not valid yet.
    CertificateNotYetValid,
    /// The certificate is that of an authority.
    CertificateIsCa,
    /// The certificate is of X.509's first version.
    CertificateVersion1,
    /// The certificate is not for servers.
    CertificatePurpose,
    /// The certificate's key or signature is of a kind that cannot be verified.
    CertificateKey,
    /// The certificate cannot be read or verified for another reason.
    CertificateBroken,
    /// n4n wants a client certificate, or another one.
    ClientCertificate,
    /// n4n knows no certificate for the name asked for.
    NameUnknown,
    /// TLS versions or suites have nothing in common.
    NoCommonTls,
    /// What answers does not speak TLS.
    NotTls,
    /// n4n ended the handshake.
    HandshakeEnded,
    /// The handshake failed for another reason.
    HandshakeFailed,
    /// n4n said nothing, or took nothing, in time.
    Timeout,
    /// n4n closed the connection.
    Closed,
    /// The connection broke.
    ConnectionBroken,
    /// The answer is no HTTP, or no answer that can be passed on.
    BadAnswer,
    /// None of these.
    Other,
}

/// The cause of an error of Pingora's.
pub fn cause(error: &Error) -> Cause {
    let text = error.to_string();
    if let Some(found) = of_tls(&text) {
        return found;
    }
    match error.root_etype() {
        ErrorType::ConnectRefused => Cause::ConnectRefused,
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Cause::ConnectTimeout,
        ErrorType::ConnectNoRoute => Cause::NoRoute,
        ErrorType::BindError => Cause::NoLocalPort,
        ErrorType::ConnectError | ErrorType::SocketError | ErrorType::ConnectProxyFailure => {
            Cause::ConnectFailed
        }
        ErrorType::TLSHandshakeFailure | ErrorType::HandshakeError | ErrorType::InvalidCert => {
            Cause::HandshakeFailed
        }
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Cause::Timeout,
        ErrorType::ConnectionClosed => Cause::Closed,
        ErrorType::ReadError | ErrorType::WriteError => Cause::ConnectionBroken,
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => Cause::BadAnswer,
        ErrorType::TLSWantX509Lookup
        | ErrorType::AcceptError
        | ErrorType::H2Error
        | ErrorType::H2Downgrade
        | ErrorType::InvalidH2
        | ErrorType::HTTPStatus(_)
        | ErrorType::FileOpenError
        | ErrorType::FileCreateError
        | ErrorType::FileReadError
        | ErrorType::FileWriteError
        | ErrorType::InternalError
        | ErrorType::UnknownError
        | ErrorType::Custom(_)
        | ErrorType::CustomCode(..) => Cause::Other,
    }
}

/// What an error says of TLS. Pingora passes on of rustls' errors what they print and nothing else; names that n4n's
/// certificate holds come last in that, so that they cannot be taken for anything before them.
fn of_tls(text: &str) -> Option<Cause> {
    const CERTIFICATE: &str = "invalid peer certificate: ";
    const ALERT: &str = "received fatal alert: ";
    let behind = |marker: &str| text.find(marker).map(|at| &text[at + marker.len()..]);
    if let Some(what) = behind(CERTIFICATE) {
        return Some(of_certificate(what));
    }
    if let Some(alert) = behind(ALERT) {
        let alert = alert.split(|letter: char| !letter.is_ascii_alphanumeric()).next()?;
        return Some(of_alert(alert));
    }
    [
        ("per-peer CA list is empty", Cause::CaNotValid),
        ("received corrupt message of type", Cause::NotTls),
        ("tls handshake eof", Cause::HandshakeEnded),
        ("peer is incompatible", Cause::NoCommonTls),
    ]
    .into_iter()
    .find_map(|(marker, cause)| text.contains(marker).then_some(cause))
}

fn of_certificate(what: &str) -> Cause {
    const NAME: &str = "certificate not valid for name ";
    if what.starts_with(NAME) {
        // The name asked for comes first, in quotes; it is the configuration's own.
        let presented = what.split_once("\"; certificate ").map_or("", |(_, presented)| presented);
        let has_none = presented.starts_with("is not valid for any names");
        return if has_none { Cause::CertificateNoName } else { Cause::CertificateName };
    }
    [
        ("UnknownIssuer", Cause::CertificateUnknownCa),
        // Its issuer is called as one that is believed, and has another key.
        ("BadSignature", Cause::CertificateUnknownCa),
        ("certificate expired", Cause::CertificateExpired),
        ("Expired", Cause::CertificateExpired),
        ("certificate not valid yet", Cause::CertificateNotYetValid),
        ("NotValidYet", Cause::CertificateNotYetValid),
        ("NotValidForName", Cause::CertificateName),
        ("Other(OtherError(CaUsedAsEndEntity))", Cause::CertificateIsCa),
        ("Other(OtherError(UnsupportedCertVersion))", Cause::CertificateVersion1),
        ("certificate does not allow extended key usage", Cause::CertificatePurpose),
        ("InvalidPurpose", Cause::CertificatePurpose),
        ("UnsupportedSignatureAlgorithm", Cause::CertificateKey),
    ]
    .into_iter()
    .find_map(|(marker, cause)| what.starts_with(marker).then_some(cause))
    .unwrap_or(Cause::CertificateBroken)
}

fn of_alert(alert: &str) -> Cause {
    match alert {
        "CertificateRequired"
        | "BadCertificate"
        | "UnsupportedCertificate"
        | "CertificateRevoked"
        | "CertificateExpired"
        | "CertificateUnknown"
        | "UnknownCA"
        | "AccessDenied"
        | "NoCertificate" => Cause::ClientCertificate,
        "UnrecognisedName" => Cause::NameUnknown,
        // Servers say the first also for want of a client certificate under TLS 1.2, and for much else.
        "ProtocolVersion" | "InsufficientSecurity" => Cause::NoCommonTls,
        _ => Cause::HandshakeEnded,
    }
}

impl Cause {
    /// Its name in log lines.
    pub const fn label(self) -> &'static str {
        self.face().0
    }

    /// What is wrong, and the mend.
    pub const fn words(self) -> &'static str {
        self.face().1
    }

    const fn face(self) -> (&'static str, &'static str) {
        match self {
            Self::ConnectRefused => {
                ("connect_refused", "nothing listens there; start n4n, or mend upstream.peers")
            }
            Self::ConnectTimeout => (
                "connect_timeout",
                "no connection within upstream.connect_timeout; look for a packet filter, or a host that is down",
            ),
            Self::NoRoute => {
                ("no_route", "no way to that network or host; mend the routes, or upstream.peers")
            }
            Self::NoLocalPort => (
                "no_local_port",
                "this machine has no local port left; widen net.ipv4.ip_local_port_range, or raise upstream.idle_timeout",
            ),
            Self::ConnectFailed => ("connect_failed", "the system makes no connection"),
            Self::CertificateName => (
                "certificate_name",
                "its certificate is for other names; set upstream.host, or the peer's own name, to one of them, or have it issued for that",
            ),
            Self::CertificateNoName => (
                "certificate_no_name",
                "its certificate has no subjectAltName, and a common name alone names nobody; have it issued with one",
            ),
            Self::CertificateUnknownCa => (
                "certificate_unknown_ca",
                "its certificate is from a CA that is not believed, perhaps one of the same name, or comes without its intermediates; name the CA in upstream.tls.ca, or have the whole chain sent",
            ),
            Self::CaNotValid => (
                "ca_not_valid",
                "no certificate in upstream.tls.ca is valid today; name one of a CA that has not expired",
            ),
            Self::CertificateExpired => (
                "certificate_expired",
                "its certificate, or one of those that vouch for it, has expired; renew it, or set the clock",
            ),
            Self::CertificateNotYetValid => {
                ("certificate_not_yet_valid", "its certificate is not valid yet; set the clock, or wait")
            }
            Self::CertificateIsCa => (
                "certificate_is_ca",
                "it shows a CA's certificate as its own (CA:TRUE); have one issued for the host, with CA:FALSE",
            ),
            Self::CertificateVersion1 => (
                "certificate_version_1",
                "its certificate is of X.509 version 1; issue it with extensions, among them the subjectAltName",
            ),
            Self::CertificatePurpose => (
                "certificate_purpose",
                "its certificate is not for servers; issue it with extendedKeyUsage serverAuth",
            ),
            Self::CertificateKey => (
                "certificate_key",
                "its certificate's key or signature cannot be verified; use RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519, with SHA-256 or more",
            ),
            Self::CertificateBroken => {
                ("certificate_broken", "its certificate cannot be read or verified; have it issued anew")
            }
            Self::ClientCertificate => (
                "client_certificate",
                "it wants a client certificate, or another one; set client_certificate and client_key in upstream.tls",
            ),
            Self::NameUnknown => {
                ("name_unknown", "it has no certificate for upstream.host; mend that name, or n4n's")
            }
            Self::NoCommonTls => {
                ("no_common_tls", "it speaks no TLS 1.2 or 1.3 with a suite of today; let it")
            }
            Self::NotTls => {
                ("not_tls", "what answers there is not TLS; leave upstream.tls out, or name the TLS port")
            }
            Self::HandshakeEnded => {
                ("handshake_ended", "it ended the TLS handshake; its own log should say why")
            }
            Self::HandshakeFailed => ("handshake_failed", "the TLS handshake failed"),
            Self::Timeout => ("timeout", "nothing came, or was taken, in time"),
            Self::Closed => {
                ("closed", "it closed the connection; keep upstream.idle_timeout below its own keep-alive")
            }
            Self::ConnectionBroken => ("connection_broken", "the connection broke"),
            Self::BadAnswer => {
                ("bad_answer", "its answer is not HTTP, or does not say clearly where it ends")
            }
            Self::Other => ("other", "none of the usual causes; look at n4n's own log"),
        }
    }
}

fn is_connection_lost(etype: &ErrorType) -> bool {
    matches!(
        etype,
        ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed
    )
}

#[cfg(test)]
mod tests;
