//! When certificates are valid: authorities are trusted within their dates only.
//!
//! The path building under rustls takes trust anchors without their dates, so that what an expired authority
//! signed would go on being believed.

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Seconds since 1970.
pub(super) type Seconds = i64;

pub(super) fn now() -> Seconds {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Seconds::try_from(now).unwrap_or(Seconds::MAX)
}

/// When a certificate is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Seconds,
    pub(super) until: Seconds,
}

impl Validity {
    /// A certificate that cannot be read is never valid.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        X509Certificate::from_der(certificate).map_or(
            Self { from: Seconds::MAX, until: Seconds::MIN },
            |(_, certificate)| {
                let validity = certificate.validity();
                Self { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() }
            },
        )
    }

    const fn holds(self, now: Seconds) -> bool {
        self.from <= now && now <= self.until
    }
}

/// What is made of those authorities that are valid at the moment; made anew when others are.
pub(super) struct ByDate<T> {
    authorities: Vec<(CertificateDer<'static>, Validity)>,
    current: ArcSwap<Current<T>>,
}

struct Current<T> {
    /// In which time the same authorities are valid.
    span: Range<Seconds>,
    made: T,
}

impl<T> fmt::Debug for ByDate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByDate").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

impl<T: Clone> ByDate<T> {
    pub(super) fn of(
        authorities: &[CertificateDer<'static>],
        make: impl FnOnce(&[CertificateDer<'static>]) -> T,
    ) -> Self {
        let dated = |authority: &CertificateDer<'static>| (authority.clone(), Validity::of(authority));
        let authorities: Vec<_> = authorities.iter().map(dated).collect();
        let current = ArcSwap::from_pointee(Current::at(now(), &authorities, make));
        Self { authorities, current }
    }

    /// What was made of the authorities valid now, or is made of them by this.
    pub(super) fn at(&self, now: Seconds, make: impl FnOnce(&[CertificateDer<'static>]) -> T) -> T {
        let current = self.current.load();
        if current.span.contains(&now) {
            return current.made.clone();
        }
        let current = Arc::new(Current::at(now, &self.authorities, make));
        let made = current.made.clone();
        self.current.store(current);
        made
    }
}

impl<T> Current<T> {
    fn at(
        now: Seconds,
        authorities: &[(CertificateDer<'static>, Validity)],
        make: impl FnOnce(&[CertificateDer<'static>]) -> T,
    ) -> Self {
        let edges = || authorities.iter().flat_map(|(_, at)| [at.from, at.until.saturating_add(1)]);
        let span = edges().filter(|&edge| edge <= now).max().unwrap_or(Seconds::MIN)
            ..edges().filter(|&edge| edge > now).min().unwrap_or(Seconds::MAX);
        let valid = authorities.iter().filter(|(_, at)| at.holds(now));
        let valid: Vec<_> = valid.map(|(authority, _)| authority.clone()).collect();
        Self { span, made: make(&valid) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn it_is_made_anew_exactly_when_other_authorities_are_valid() {
        let dated = |name: u8, from, until| (CertificateDer::from(vec![name]), Validity { from, until });
        let authorities = vec![dated(1, 0, 9), dated(2, 5, 20)];
        let made = Cell::new(0);
        let names = |valid: &[CertificateDer<'static>]| -> Vec<u8> {
            made.set(made.get() + 1);
            valid.iter().map(|authority| authority[0]).collect()
        };
        let current = ArcSwap::from_pointee(Current::at(0, &authorities, names));
        let by_date = ByDate { authorities, current };
        for (now, valid, times) in [
            (0, &[1][..], 1),
            (4, &[1], 1),
            (5, &[1, 2], 2),
            (9, &[1, 2], 2),
            (10, &[2], 3),
            (20, &[2], 3),
            (21, &[], 4),
            (1000, &[], 4),
            (-1, &[], 5),
            (3, &[1], 6),
        ] {
            assert_eq!(by_date.at(now, names), valid, "at {now}");
            assert_eq!(made.get(), times, "at {now}");
        }
    }
}
