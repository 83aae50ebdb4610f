//! One record as a line of JSON.

use std::{io, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{Act, Conclusion, Deed, Digest, Intent, Seen};
use crate::outcome::UnlockResult;

/// The version of the records that are written, and the highest that is read. Those of before it have none.
///
/// Members and events may be added to a version, since readers pass over what they do not know; a member that comes to
/// mean something else makes a new one.
pub(super) const VERSION: u32 = 2;

/// More than any record has: the largest body, each of its bytes escaped.
pub(super) const MAX_LINE: u64 = 1024 * 1024;

/// How every record begins, and how those without a version did.
const STARTS: [&[u8]; 2] = [b"{\"v\":", b"{\"time\":\""];

/// The event that opens a call.
pub(super) const INTENT: &str = "intent";
/// The event that closes it.
pub(super) const OUTCOME: &str = "outcome";

/// A record, as it is written.
#[derive(Serialize)]
pub(super) struct RecordLine<'a> {
    v: u32,
    #[serde(serialize_with = "with_nanoseconds")]
    time: Timestamp,
    event: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lookup: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

/// What stands between a record's text and the digest of the line before it.
const PREV: &[u8] = b",\"prev\":\"";
/// What stands behind that digest, without the line break.
pub(super) const END: &[u8] = b"\"}";

impl<'a> RecordLine<'a> {
    /// An intent; `id` lends the text of its request id a place.
    pub(super) fn intent(intent: &Intent<'a>, id: &'a mut [u8; 36]) -> Self {
        Self {
            v: VERSION,
            time: Timestamp::try_from(intent.time).unwrap_or_default(),
            event: INTENT,
            request_id: intent.request_id.encode(id),
            client: intent.client,
            client_certificate: intent.client_certificate,
            user: intent.user,
            network: None,
            uid: None,
            lookup: intent.lookup.map(|key| key.name()),
            value: intent.value,
            status: None,
            result: None,
            code: None,
        }
    }

    /// An outcome; `id` lends the text of its request id a place.
    pub(super) fn outcome(outcome: &Conclusion, id: &'a mut [u8; 36]) -> Self {
        let (status, result) = match outcome.seen {
            Seen::Answer { status, result } => (Some(status), UnlockResult::LABELS[result.index()]),
            Seen::Nothing => (None, "unknown"),
            Seen::NotSent => (None, "not_sent"),
        };
        Self {
            v: VERSION,
            time: Timestamp::try_from(outcome.time).unwrap_or_default(),
            event: OUTCOME,
            request_id: outcome.request_id.encode(id),
            client: None,
            client_certificate: None,
            user: None,
            network: None,
            uid: None,
            lookup: None,
            value: None,
            status,
            result: Some(result),
            code: outcome.reason.map(|reason| reason.code()),
        }
    }

    /// What somebody does to the gateway; `id` lends the text of its id a place.
    pub(super) fn act(act: &Act<'a>, id: &'a mut [u8; 36]) -> Self {
        let (event, user, network) = match act.deed {
            Deed::QuotaReset { user } => ("quota_reset", Some(user), None),
            Deed::ClientsForgiven { network } => ("clients_forgiven", None, Some(network.to_string())),
        };
        Self {
            v: VERSION,
            time: Timestamp::try_from(act.time).unwrap_or_default(),
            event,
            request_id: act.request_id.encode(id),
            client: None,
            client_certificate: None,
            user,
            network,
            uid: Some(act.uid),
            lookup: None,
            value: None,
            status: None,
            result: None,
            code: None,
        }
    }

    /// Its line as far as it is known before the chain: the digest of the line before goes behind it, then
    /// [`END`].
    pub(super) fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(384);
        serde_json::to_writer(&mut text, self)?;
        // The object's closing brace.
        text.pop();
        text.extend_from_slice(PREV);
        Ok(text)
    }
}

/// A time with all nine digits of its fraction, so that times sort as text and have one form.
fn with_nanoseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.9}"))
}

/// Whether bytes without a line break can be what there is of a record that was being written: its beginning, or the
/// zeros that a file system leaves where it had no time for more.
pub(super) fn is_torn(bytes: &[u8]) -> bool {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, of_start)| byte == of_start);
    STARTS.into_iter().any(begins) || bytes.iter().all(|&byte| byte == 0)
}

/// Of a record, what matters to the chain; the rest is covered by its hash.
#[derive(Deserialize)]
pub(super) struct Link {
    v: Option<u64>,
    pub(super) time: Option<Timestamp>,
    pub(super) event: Option<String>,
    pub(super) request_id: Option<String>,
    prev: Option<String>,
}

impl Link {
    /// Reads a line; none where it is no link of a chain.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        Self::parse(line).ok().filter(|link| link.prev().is_some())
    }

    /// Reads a line that may not say which one it follows.
    ///
    /// # Errors
    /// How far a line could be read that is no JSON object, or has members of other kinds than a record's.
    pub(super) fn parse(line: &[u8]) -> Result<Self, usize> {
        // An array would be read member by member.
        match line.first() {
            Some(b'{') => serde_json::from_slice(line).map_err(|error| error.column()),
            first => Err(first.iter().count()),
        }
    }

    /// Its version, where that is higher than any that is known here.
    pub(super) fn later_version(&self) -> Option<u64> {
        self.v.filter(|version| *version > u64::from(VERSION))
    }

    /// The line before; none where the record does not say.
    pub(super) fn prev(&self) -> Option<Digest> {
        self.prev.as_deref().and_then(Digest::parse)
    }
}
