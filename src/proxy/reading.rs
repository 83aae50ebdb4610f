//! What n4n made of a call, read from its answer as that passes by.

use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use serde::de::IgnoredAny;

use crate::{audit::Answer, operation::UNLOCK, outcome::UnlockResult};

/// The most of an answer that is kept to be read; n4n's are a few bytes.
const MAX_KEPT: usize = 4096;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct AnswerReader {
    status: u16,
    /// The body so far; none where it is not to be read.
    body: Option<Vec<u8>>,
}

impl AnswerReader {
    pub(super) fn of(response: &ResponseHeader) -> Self {
        let status = response.status.as_u16();
        let readable =
            response.status.is_success() && !response.headers.contains_key(header::CONTENT_ENCODING);
        Self { status, body: readable.then(Vec::new) }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        if let Some(body) = &mut self.body {
            if body.len() + bytes.len() > MAX_KEPT {
                self.body = None;
            } else {
                body.extend_from_slice(bytes);
            }
        }
    }

    /// What was seen of it, for the audit trail.
    pub(super) fn seen(&self) -> Answer {
        Answer::Seen { status: self.status, result: self.result() }
    }

    /// Whether it has no body to wait for.
    pub(super) fn is_bodiless(response: &ResponseHeader) -> bool {
        let is_empty = response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        is_empty || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    pub(super) fn result(&self) -> UnlockResult {
        match &self.body {
            _ if (400..500).contains(&self.status) => UnlockResult::Refused,
            None => UnlockResult::Unreadable,
            Some(body) if UNLOCK.is_success(body) => UnlockResult::Unlocked,
            Some(body) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => UnlockResult::Refused,
            Some(_) => UnlockResult::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_status_and_body() {
        let long = format!("[{}]", "1,".repeat(MAX_KEPT));
        for (status, fields, body, result) in [
            (200, "", "true", UnlockResult::Unlocked),
            (201, "", " true\n", UnlockResult::Unlocked),
            (200, "", "false", UnlockResult::Refused),
            (200, "", "1", UnlockResult::Refused),
            (200, "", "\"true\"", UnlockResult::Refused),
            (200, "", "{\"result\":\"Error\"}", UnlockResult::Refused),
            (404, "", "<html>", UnlockResult::Refused),
            (422, "", "true", UnlockResult::Refused),
            (200, "", "<html>", UnlockResult::Unreadable),
            (200, "", "", UnlockResult::Unreadable),
            (200, "gzip", "true", UnlockResult::Unreadable),
            (200, "", &long, UnlockResult::Unreadable),
            (302, "", "true", UnlockResult::Unreadable),
            (500, "", "true", UnlockResult::Unreadable),
        ] {
            let mut response = ResponseHeader::build(status, None).unwrap();
            if !fields.is_empty() {
                response.insert_header("content-encoding", fields).unwrap();
            }
            let mut reader = AnswerReader::of(&response);
            body.as_bytes().chunks(3).for_each(|piece| reader.read(piece));
            assert_eq!(reader.result(), result, "{status} {fields} {}", &body[..body.len().min(40)]);
        }
    }
}
