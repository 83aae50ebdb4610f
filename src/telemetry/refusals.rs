//! The last calls that were refused or failed, alike ones counted together.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use crate::outcome::{Outcome, Record};

/// The most entries that are kept.
const CAPACITY: usize = 40;

/// How much of a user's name is kept.
const NAME_LENGTH: usize = 64;

/// Calls that were refused or failed for one reason, of one user, from one address.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// When the last of them began.
    pub time: SystemTime,
    /// Whose they were.
    pub client: Option<IpAddr>,
    /// The beginning of the api-username, once it was read; of spellings in several cases, the first.
    pub user: Option<Box<str>>,
    /// Whether that user is listed, and showed the right key where one is configured.
    pub is_listed: bool,
    /// How they ended.
    pub outcome: Outcome,
    /// The peer that failed.
    pub peer: Option<SocketAddr>,
    /// How many there were since the first that is still remembered.
    pub times: u64,
}

/// The last calls that were refused or failed, the latest first.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<VecDeque<Refusal>>);

impl Refusals {
    /// Remembers a call, if it was refused or failed.
    pub fn record(&self, record: &Record<'_>) {
        if !matches!(record.outcome, Outcome::Rejected(_) | Outcome::Failed(_)) {
            return;
        }
        let user = record.user.map(beginning);
        let is_alike = |refusal: &Refusal| {
            let is_same_user = match (refusal.user.as_deref(), user) {
                (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
                (one, other) => one == other,
            };
            is_same_user
                && (refusal.outcome, refusal.client, refusal.is_listed, refusal.peer)
                    == (record.outcome, record.client, record.listed.is_some(), record.peer)
        };
        // A panic cannot leave the list half-changed, so a poisoned lock is as good as any.
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refusals.iter().position(is_alike).and_then(|position| refusals.remove(position));
        let refusal = match known {
            Some(known) => Refusal { time: record.time.max(known.time), times: known.times + 1, ..known },
            None => Refusal {
                time: record.time,
                client: record.client,
                user: user.map(Box::from),
                is_listed: record.listed.is_some(),
                outcome: record.outcome,
                peer: record.peer,
                times: 1,
            },
        };
        refusals.truncate(CAPACITY - 1);
        refusals.push_front(refusal);
    }

    /// The latest first.
    pub fn latest(&self) -> Vec<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

pub(super) fn beginning(name: &str) -> &str {
    name.char_indices().nth(NAME_LENGTH).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{outcome::RequestId, reason::Reason};

    fn ended<'a>(user: &'a str, outcome: Outcome) -> Record<'a> {
        Record {
            time: SystemTime::now(),
            request_id: RequestId::next(),
            client: Some([192, 0, 2, 1].into()),
            user: Some(user),
            listed: None,
            method: None,
            path: None,
            outcome,
            status: None,
            duration: Duration::ZERO,
            upstream_duration: None,
            peer: None,
            lookup: None,
            unlock: None,
            observed: None,
            client_certificate: None,
            suspicion: None,
        }
    }

    #[test]
    fn alike_ones_stand_together_and_the_latest_first() {
        let refusals = Refusals::default();
        let unknown = Outcome::Rejected(Reason::CredentialUnknown);
        refusals.record(&ended("ada", unknown));
        refusals.record(&ended("bob", Outcome::Failed(Reason::UpstreamTimeout)));
        refusals.record(&ended("ada", unknown));
        refusals.record(&ended("ada", Outcome::Forwarded { status: 200 }));
        refusals.record(&ended("ada", Outcome::Abandoned));
        let told: Vec<_> = refusals.latest().iter().map(|refusal| (refusal.outcome, refusal.times)).collect();
        assert_eq!(told, [(unknown, 2), (Outcome::Failed(Reason::UpstreamTimeout), 1)]);
    }

    #[test]
    fn a_storm_of_invented_names_is_bounded_in_number_and_length() {
        let refusals = Refusals::default();
        for number in 0..1000 {
            let name = format!("{number}{}", "é".repeat(200));
            refusals.record(&ended(&name, Outcome::Rejected(Reason::QuotaExceeded)));
        }
        let latest = refusals.latest();
        assert_eq!(latest.len(), CAPACITY);
        let name = latest[0].user.as_deref().unwrap();
        assert!(name.starts_with("999é"));
        assert_eq!(name.chars().count(), NAME_LENGTH);
    }
}
