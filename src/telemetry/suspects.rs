//! The users who asked for too many different customers last, each with one line in the log.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use super::{limited::Limited, refusals::beginning};
use crate::{enumeration::Suspicion, outcome::Record, reason::Reason};

/// The most users that are kept.
const CAPACITY: usize = 40;

/// A user who asks for too many different customers.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// When the last call that was one too many began.
    pub time: SystemTime,
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// The beginning of the api-username.
    pub user: Box<str>,
    /// Whether that user is listed, and showed the right key where one is configured.
    pub is_listed: bool,
    /// What the user's values counted by then, and what they may.
    pub suspicion: Suspicion,
    /// Whether that call was refused for it.
    pub is_refused: bool,
    /// How many calls were too many since it began.
    pub times: u64,
    is_told: bool,
}

/// Who asked for too many different customers last, the latest first.
#[derive(Debug, Default)]
pub struct Suspects {
    users: Mutex<VecDeque<Suspect>>,
    /// Lines about users who are not listed, and about those who are: invented names shall not leave these out.
    lines: [Limited; 2],
}

impl Suspects {
    /// Remembers a call that was one too many, and tells the log of whoever made it, once for as long as it goes on.
    pub fn record(&self, record: &Record<'_>) {
        let (Some(suspicion), Some(name)) = (record.suspicion, record.user) else { return };
        let (user, is_listed) = (beginning(name), record.listed.is_some());
        let is_alike =
            |suspect: &Suspect| suspect.is_listed == is_listed && suspect.user.eq_ignore_ascii_case(user);
        // A panic cannot leave the list half-changed, so a poisoned lock is as good as any.
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let known = users.iter().position(is_alike).and_then(|position| users.remove(position));
        let goes_on = |known: &Suspect| {
            let since = record.time.duration_since(known.time).unwrap_or_default();
            since <= suspicion.limit.per
        };
        let known = known.filter(goes_on);
        let is_told = known.as_ref().is_some_and(|known| known.is_told);
        let line = if is_told { None } else { self.lines[usize::from(is_listed)].admit(Instant::now()) };
        if users.len() >= CAPACITY {
            let least = users.iter().rposition(|suspect| !suspect.is_listed).unwrap_or(CAPACITY - 1);
            users.remove(least);
        }
        users.push_front(Suspect {
            time: record.time,
            client: record.client,
            user: user.into(),
            is_listed,
            suspicion,
            is_refused: record.outcome.reason() == Some(Reason::EnumerationSuspected),
            times: known.map_or(1, |known| known.times + 1),
            is_told: is_told || line.is_some(),
        });
        drop(users);
        if let Some(left_out) = line {
            let Suspicion { limit, count, .. } = suspicion;
            tracing::warn!(
                user,
                is_listed,
                client = record.client.map(tracing::field::display),
                request_id = %record.request_id,
                count,
                distinct = limit.distinct,
                per_seconds = limit.per.as_secs(),
                enforced = limit.enforces,
                left_out,
                "a user asks for too many different customers"
            );
        }
    }

    /// The latest first.
    pub fn latest(&self) -> Vec<Suspect> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::{
        enumeration::Limit,
        outcome::{Outcome, RequestId, UserCounters},
        telemetry::metrics::Metrics,
    };

    const PER: Duration = Duration::from_secs(60);

    fn one_too_many<'a>(user: &'a str, listed: Option<&'a UserCounters>, time: SystemTime) -> Record<'a> {
        let limit = Limit { distinct: NonZeroU32::new(50).unwrap(), per: PER, enforces: false };
        Record {
            time,
            request_id: RequestId::next(),
            client: Some([192, 0, 2, 1].into()),
            user: Some(user),
            listed,
            method: None,
            path: None,
            outcome: Outcome::Forwarded { status: 200 },
            status: None,
            duration: Duration::ZERO,
            upstream_duration: None,
            peer: None,
            lookup: None,
            unlock: None,
            observed: Some(Reason::EnumerationSuspected),
            client_certificate: None,
            suspicion: Some(Suspicion { limit, count: 51, retry_after: PER }),
        }
    }

    #[test]
    fn a_user_stands_once_in_whichever_spelling_until_the_period_is_over() {
        let (suspects, start) = (Suspects::default(), SystemTime::now());
        let times = |user: &str, after: u32| {
            suspects.record(&one_too_many(user, None, start + PER * after));
            suspects.latest().iter().map(|suspect| suspect.times).collect::<Vec<_>>()
        };
        assert_eq!(times("eve", 0), [1]);
        assert_eq!(times("EVE", 1), [2]);
        assert_eq!(times("bob", 1), [1, 2]);
        assert_eq!(times("eve", 3), [1, 1], "another spell");
        suspects.record(&Record { suspicion: None, ..one_too_many("ada", None, start) });
        assert_eq!(suspects.latest().len(), 2);
    }

    #[test]
    fn invented_names_are_bounded_and_push_out_no_listed_one() {
        let (suspects, counters) = (Suspects::default(), Metrics::new().user_counters("ada"));
        suspects.record(&one_too_many("ada", Some(&counters), SystemTime::now()));
        for number in 0..1000 {
            let name = format!("{number}{}", "x".repeat(200));
            suspects.record(&one_too_many(&name, None, SystemTime::now()));
        }
        let latest = suspects.latest();
        assert_eq!(latest.len(), CAPACITY);
        assert!(latest.iter().any(|suspect| suspect.is_listed && &*suspect.user == "ada"));
        assert!(latest.iter().all(|suspect| suspect.user.len() <= 64));
    }
}
