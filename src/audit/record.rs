//! One record as a line of JSON.

use std::{io, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Conclusion, Digest, Intent, Seen};
use crate::outcome::UnlockResult;

/// The event that opens a call.
pub(super) const INTENT: &str = "intent";
/// The event that closes it.
pub(super) const OUTCOME: &str = "outcome";

/// A record, as it is written.
#[derive(Serialize)]
pub(super) struct RecordLine<'a> {
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
            time: Timestamp::try_from(intent.time).unwrap_or_default(),
            event: INTENT,
            request_id: intent.request_id.encode(id),
            client: intent.client,
            client_certificate: intent.client_certificate,
            user: intent.user,
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
        };
        Self {
            time: Timestamp::try_from(outcome.time).unwrap_or_default(),
            event: OUTCOME,
            request_id: outcome.request_id.encode(id),
            client: None,
            client_certificate: None,
            user: None,
            lookup: None,
            value: None,
            status,
            result: Some(result),
            code: outcome.reason.map(|reason| reason.code()),
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

/// Of a record, what matters to the chain; the rest is covered by its hash.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) time: Option<Timestamp>,
    pub(super) event: Option<String>,
    pub(super) request_id: Option<String>,
    prev: Option<String>,
}

impl Link {
    /// Reads a line, with or without its line break; none where it is no link of a chain.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|link: &Self| link.prev().is_some())
    }

    /// The line before; none where the record does not say.
    pub(super) fn prev(&self) -> Option<Digest> {
        self.prev.as_deref().and_then(Digest::parse)
    }
}
