//! How a request ended: the one record that metrics and logs are made from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use prometheus::IntCounter;
use uuid::Uuid;

use crate::{enumeration::Suspicion, policy::LookupKey, reason::Reason};

/// A request's unique id, sortable by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(Uuid);

impl RequestId {
    /// The bytes of its text.
    pub const LENGTH: usize = 36;

    /// A new one.
    pub fn next() -> Self {
        Self(Uuid::now_v7())
    }

    /// Its text, written into `buffer`.
    pub fn encode(self, buffer: &mut [u8; Self::LENGTH]) -> &str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// n4n answered, whatever it said.
    Forwarded {
        /// The status of its answer.
        status: u16,
    },
    /// The gateway refused it.
    Rejected(Reason),
    /// n4n, or the gateway itself, failed.
    Failed(Reason),
    /// The client left before its call was forwarded.
    Abandoned,
}

impl Outcome {
    /// Every outcome's label.
    pub const LABELS: [&'static str; 4] = ["forwarded", "rejected", "failed", "abandoned"];

    /// The outcome of a request that ended for a reason.
    pub const fn of(reason: Reason) -> Self {
        if matches!(reason, Reason::ClientGone) {
            Self::Abandoned
        } else if matches!(
            reason,
            Reason::UpstreamUnavailable
                | Reason::UpstreamUnreachable
                | Reason::UpstreamBroken
                | Reason::UpstreamTimeout
                | Reason::Internal
        ) {
            Self::Failed(reason)
        } else {
            Self::Rejected(reason)
        }
    }

    /// The position of its label in [`Self::LABELS`].
    pub const fn index(self) -> usize {
        match self {
            Self::Forwarded { .. } => 0,
            Self::Rejected(_) => 1,
            Self::Failed(_) => 2,
            Self::Abandoned => 3,
        }
    }

    /// Its label.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// The reason, where there is one.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Forwarded { .. } => None,
            Self::Rejected(reason) | Self::Failed(reason) => Some(reason),
            Self::Abandoned => Some(Reason::ClientGone),
        }
    }

    /// The reason's code, or `ok`.
    pub const fn code(self) -> &'static str {
        match self.reason() {
            Some(reason) => reason.code(),
            None => "ok",
        }
    }

    /// The status the client got, or would have got.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Forwarded { status } => Some(status),
            Self::Rejected(reason) | Self::Failed(reason) => {
                reason.face().status.map(|status| status.as_u16())
            }
            Self::Abandoned => None,
        }
    }
}

/// What n4n made of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockResult {
    /// 2xx and the JSON `true`.
    Unlocked,
    /// 4xx, or 2xx with other JSON.
    Refused,
    /// Anything else, no answer included.
    Unreadable,
}

impl UnlockResult {
    /// Every result's label.
    pub const LABELS: [&'static str; 3] = ["unlocked", "refused", "unreadable"];

    /// The position of its label in [`Self::LABELS`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One user's requests, by how they ended.
pub type UserCounters = [IntCounter; Outcome::LABELS.len()];

/// One request, ended.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it began.
    pub time: SystemTime,
    /// Its id.
    pub request_id: RequestId,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The api-username, once it was read.
    pub user: Option<&'a str>,
    /// What is counted of that user, where it is listed and showed the right key, if one is configured.
    pub listed: Option<&'a UserCounters>,
    /// The method, once it was read.
    pub method: Option<&'a str>,
    /// The path without its query, once it was read.
    pub path: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// The status the client was sent; another than the outcome's where an answer broke off.
    pub status: Option<u16>,
    /// From its first byte to its end.
    pub duration: Duration,
    /// From when there was a connection to n4n to the header of its answer.
    pub upstream_duration: Option<Duration>,
    /// The peer it was sent to, or that could not be reached.
    pub peer: Option<SocketAddr>,
    /// By what the customer was looked up.
    pub lookup: Option<LookupKey>,
    /// What n4n made of it; none where nothing was forwarded or another path was called.
    pub unlock: Option<UnlockResult>,
    /// The rule that would have refused it, had observe mode not let it pass.
    pub observed: Option<Reason>,
    /// Whom the certificate is for that the client has shown.
    pub client_certificate: Option<&'a str>,
    /// That it asks for more different customers than its user may, whether it was refused for that or not.
    pub suspicion: Option<Suspicion>,
}

/// When something began, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// For durations.
    pub instant: Instant,
    /// For people.
    pub time: SystemTime,
}

impl Beginning {
    /// Now.
    pub fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}
