//! When the certificates that the gateway shows expire.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long ahead of it an expiry is worth a warning, in seconds.
const AHEAD: i64 = 30 * DAY;

const DAY: i64 = 24 * 60 * 60;

/// A chain of certificates that the gateway shows to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// The file, as the configuration names it.
    pub file: String,
    /// When the first certificate of the chain expires, in seconds since 1970.
    pub at: i64,
}

impl Expiring {
    /// The expiry of a chain read from a file.
    pub fn of(file: &str, chain: &[CertificateDer<'_>]) -> Self {
        let expiry = |certificate: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
            Some(certificate.validity().not_after.timestamp())
        };
        Self { file: file.to_owned(), at: chain.iter().filter_map(expiry).min().unwrap_or_default() }
    }

    /// What the operator should hear about it today; nothing while there is time.
    pub fn warning(&self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.warning_at(i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn warning_at(&self, now: i64) -> Option<String> {
        let left = self.at.saturating_sub(now);
        let when =
            jiff::Timestamp::from_second(self.at).map_or_else(|_| self.at.to_string(), |at| at.to_string());
        if left < 0 {
            Some(format!("certificate `{}` has expired ({when})", self.file))
        } else {
            (left < AHEAD)
                .then(|| format!("certificate `{}` expires in {} days ({when})", self.file, left / DAY))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_thirty_days_ahead() {
        let certificate = Expiring { file: "cert.pem".into(), at: 1_800_000_000 };
        assert_eq!(certificate.warning_at(1_800_000_000 - AHEAD), None);
        let warning = certificate.warning_at(1_800_000_000 - AHEAD + 1).unwrap();
        assert_eq!(warning, "certificate `cert.pem` expires in 29 days (2027-01-15T08:00:00Z)");
        let warning = certificate.warning_at(1_800_000_001).unwrap();
        assert_eq!(warning, "certificate `cert.pem` has expired (2027-01-15T08:00:00Z)");
    }
}
