//! The metrics of what users ask for.

use prometheus::{IntCounter, IntGauge};

use super::series::{Maker, counter};
use crate::{outcome::Record, reason::Reason};

/// What is counted of users who ask for many different customers.
#[derive(Debug)]
pub struct EnumerationMetrics {
    /// Calls that were one too many: those let pass, and those refused for it.
    suspected: [IntCounter; 2],
    users: IntGauge,
    evictions: IntCounter,
}

impl EnumerationMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let suspected = make.counters(
            "enumeration_suspected_total",
            "Calls for another customer than before, over the user's limit, by whether they were let pass (observe) or refused (enforce).",
            &["mode"],
        );
        Self {
            suspected: ["observe", "enforce"].map(|mode| counter(&suspected, &[mode])),
            users: make.gauge("enumeration_users", "Unlisted users whose lookup values are remembered."),
            evictions: make.counter(
                "enumeration_evictions_total",
                "Unlisted users forgotten for want of room while their lookup values still counted.",
            ),
        }
    }

    /// Tells how many unlisted users are remembered, and counts those who were forgotten.
    pub fn remembers(&self, users: usize, evicted: u64) {
        self.users.set(i64::try_from(users).unwrap_or(i64::MAX));
        self.evictions.inc_by(evicted);
    }

    pub(super) fn record(&self, record: &Record<'_>) {
        if record.suspicion.is_some() {
            let is_refused = record.outcome.reason() == Some(Reason::EnumerationSuspected);
            self.suspected[usize::from(is_refused)].inc();
        }
    }
}
