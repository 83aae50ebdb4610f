//! Who asked for which customer, and what n4n said: one chain of records, appended to a file.
//!
//! A [`Trail`] takes two records a call: the [`Intent`] before it is forwarded and the [`Conclusion`] before
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
mod lock;
mod queue;
mod record;
mod tail;
mod trail;
mod verify;
mod writer;

use std::{net::IpAddr, time::SystemTime};

use ipnet::IpNet;

pub use chain::Digest;
pub use file::inspect;
pub use queue::Unwritable;
pub use trail::{Recording, Trail};
pub use verify::{BrokenTrail, TrailFault, Verified, verify};

use crate::{
    outcome::{RequestId, UnlockResult},
    policy::LookupKey,
    reason::Reason,
};

/// A call that is about to be forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// When the record was made.
    pub time: SystemTime,
    /// The id of the request.
    pub request_id: RequestId,
    /// The client's address; none where it is not known.
    pub client: Option<IpAddr>,
    /// Whom the certificate is for that the client has shown; none: it has shown none.
    pub client_certificate: Option<&'a str>,
    /// The api-username; none where it was not readable.
    pub user: Option<&'a str>,
    /// By what the customer is looked up; none where it was not readable.
    pub lookup: Option<LookupKey>,
    /// The lookup's value, decoded; none where it was not readable.
    pub value: Option<&'a str>,
}

/// What became of an [`Intent`].
#[derive(Debug, Clone, Copy)]
pub struct Conclusion {
    /// When the record was made.
    pub time: SystemTime,
    /// The id of the request.
    pub request_id: RequestId,
    /// What was seen of n4n's answer.
    pub seen: Seen,
    /// Why the gateway answered in n4n's place, where it did.
    pub reason: Option<Reason>,
}

impl Conclusion {
    /// The outcome of a call that was not forwarded although its intent was written.
    fn never_forwarded(request_id: RequestId) -> Self {
        let reason = Some(Reason::AuditUnavailable);
        Self { time: SystemTime::now(), request_id, seen: Seen::NotSent, reason }
    }
}

/// What somebody does to the running gateway.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// When the record was made.
    pub time: SystemTime,
    /// An id of its own.
    pub request_id: RequestId,
    /// The user of the system who asks for it.
    pub uid: u32,
    /// What is done.
    pub deed: Deed<'a>,
}

/// What can be done to a running gateway.
#[derive(Debug, Clone, Copy)]
pub enum Deed<'a> {
    /// A user's quota is made whole.
    QuotaReset {
        /// The api-username.
        user: &'a str,
    },
    /// Client networks are let in again that were shut out.
    ClientsForgiven {
        /// All that meet this one.
        network: IpNet,
    },
}

/// What the gateway saw of n4n's answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A whole answer.
    Answer {
        /// The answer's status.
        status: u16,
        /// What the answer means.
        result: UnlockResult,
    },
    /// No answer, whether n4n gave one or not.
    Nothing,
    /// No answer, because certainly no byte of the call was sent.
    NotSent,
}

#[cfg(test)]
mod tests;
