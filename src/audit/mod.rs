//! Who asked for which customer, and what n4n said: one chain of records, appended to a file.
//!
//! A [`Trail`] takes two records a call: the [`Intent`] before it is forwarded and the [`Outcome`] before
//! its answer ends. Every record carries the SHA-256 of the line before it, over restarts, rotation and
//! several processes, so that [`verify`](verify()) finds whatever was changed or taken out later; the hash
//! of the last line, kept elsewhere, proves the end.
//!
//! One thread writes a trail, so that whatever holds up its file, a full disk or another process that keeps the
//! lock, holds up nothing but the calls that need a record, and those not for long.
//!
//! A record is handed to the operating system, so it outlives the process however that ends. It is not
//! forced to the disk: that would cost every call milliseconds, to guard against the loss of the whole
//! machine's last moments alone.

mod chain;
mod earlier;
mod file;
mod hold;
mod queue;
mod record;
mod tail;
mod trail;
mod verify;
mod writer;

use std::{net::IpAddr, time::SystemTime};

pub use chain::Digest;
pub use queue::Unwritable;
pub use trail::{Recording, Trail};
pub use verify::{Broken, Fault, Verified, run_verify, verify};

use crate::{
    outcome::{RequestId, UnlockResult},
    policy::LookupKey,
    reason::Reason,
};

/// What is about to be forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// When.
    pub time: SystemTime,
    /// Which request it is.
    pub request_id: RequestId,
    /// From where; none where it is not known.
    pub client: Option<IpAddr>,
    /// Who, by the api-username; none where it was not readable.
    pub user: Option<&'a str>,
    /// By what the customer is looked up; none where it was not readable.
    pub lookup: Option<LookupKey>,
    /// The lookup's value, decoded; none where it was not readable.
    pub value: Option<&'a str>,
}

/// What became of an [`Intent`].
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// When.
    pub time: SystemTime,
    /// Which request it was.
    pub request_id: RequestId,
    /// What n4n said.
    pub answer: Answer,
    /// Why the gateway answered in n4n's place, where it did.
    pub reason: Option<Reason>,
}

impl Outcome {
    /// The outcome of a call that was not forwarded although its intent was written.
    fn never_forwarded(request_id: RequestId) -> Self {
        let reason = Some(Reason::AuditUnavailable);
        Self { time: SystemTime::now(), request_id, answer: Answer::Unknown, reason }
    }
}

/// What n4n said to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answered.
    Seen {
        /// The answer's status.
        status: u16,
        /// What the answer means.
        result: UnlockResult,
    },
    /// Its answer was not seen, if there was one.
    Unknown,
}

#[cfg(test)]
mod tests;
