//! When the gateway's certificates and trusted CAs expire, and the warnings about it.

use rustls::pki_types::CertificateDer;

use super::validity::{Seconds, Validity, now};

/// How long ahead of it an expiry is worth a warning, in seconds.
const AHEAD: Seconds = 30 * DAY;
const DAY: Seconds = 24 * 60 * 60;

/// What the certificates of a file are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To be shown to others.
    Shown,
    /// To verify clients' certificates with.
    ClientCa,
    /// To verify the upstream's certificate with.
    UpstreamCa,
}

/// A file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// The file, as the configuration names it.
    pub file: String,
    /// When the first of its certificates expires, in seconds since 1970.
    pub at: Seconds,
    /// When the last of its certificates becomes valid, in seconds since 1970.
    from: Seconds,
    used: Use,
}

impl Expiring {
    /// The dates of certificates read from a file.
    pub fn of(file: &str, certificates: &[CertificateDer<'_>], used: Use) -> Self {
        let dates = || certificates.iter().map(Validity::of);
        Self {
            file: file.to_owned(),
            at: dates().map(|date| date.until).min().unwrap_or_default(),
            from: dates().map(|date| date.from).max().unwrap_or_default(),
            used,
        }
    }

    /// What the operator should hear about it today; nothing while there is time.
    pub fn warning(&self) -> Option<String> {
        self.warning_at(now())
    }

    fn warning_at(&self, now: Seconds) -> Option<String> {
        let time = |at: Seconds| {
            jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
        };
        let left = self.at.saturating_sub(now);
        if left < 0 {
            Some(format!("certificate `{}` has expired ({}){}", self.file, time(self.at), self.consequence()))
        } else if self.from > now {
            Some(format!(
                "certificate `{}` is not valid yet (before {}){}",
                self.file,
                time(self.from),
                self.consequence()
            ))
        } else if left < AHEAD {
            Some(format!("certificate `{}` expires in {} days ({})", self.file, left / DAY, time(self.at)))
        } else {
            None
        }
    }

    const fn consequence(&self) -> &'static str {
        match self.used {
            Use::Shown => "",
            Use::ClientCa => ": no client is let in by it",
            Use::UpstreamCa => ": no n4n host is believed by it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_thirty_days_ahead() {
        let certificate =
            Expiring { file: "cert.pem".into(), at: 1_800_000_000, from: 1_700_000_000, used: Use::Shown };
        assert_eq!(certificate.warning_at(1_800_000_000 - AHEAD), None);
        assert_eq!(certificate.warning_at(1_700_000_000), None);
        let warning = certificate.warning_at(1_800_000_000 - AHEAD + 1).unwrap();
        assert_eq!(warning, "certificate `cert.pem` expires in 29 days (2027-01-15T08:00:00Z)");
        let warning = certificate.warning_at(1_800_000_001).unwrap();
        assert_eq!(warning, "certificate `cert.pem` has expired (2027-01-15T08:00:00Z)");
        let warning = certificate.warning_at(1_699_999_999).unwrap();
        assert_eq!(warning, "certificate `cert.pem` is not valid yet (before 2023-11-14T22:13:20Z)");
        let ca = Expiring { used: Use::ClientCa, ..certificate };
        let warning = ca.warning_at(1_800_000_001).unwrap();
        assert!(warning.ends_with("(2027-01-15T08:00:00Z): no client is let in by it"), "{warning}");
    }
}
