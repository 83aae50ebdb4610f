//! What n4n made of a call, read from its answer.

use serde::de::IgnoredAny;

use crate::{operation::UNLOCK, outcome::UnlockResult, wire::answer::Answer};

/// The most of an answer's body that is read for it; n4n's are a few bytes.
const MAX_READ: usize = 4096;

/// The result that an answer tells of.
pub fn of(answer: &Answer) -> UnlockResult {
    let is_coded = answer.fields().has("content-encoding");
    result(answer.head.status, Some(answer.body()).filter(|body| !is_coded && body.len() <= MAX_READ))
}

/// `body` is none where it cannot be read.
fn result(status: u16, body: Option<&[u8]>) -> UnlockResult {
    match (status, body) {
        (400..500, _) => UnlockResult::Refused,
        (200..300, Some(body)) if UNLOCK.is_success(body) => UnlockResult::Unlocked,
        (200..300, Some(body)) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => UnlockResult::Refused,
        _ => UnlockResult::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer::AnswerReader;

    #[test]
    fn an_answer_is_read_by_status_and_body() {
        let long = format!("[{}1]", "1,".repeat(MAX_READ));
        for (status, field, body, expected) in [
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
            (200, "Content-Encoding: gzip\r\n", "true", UnlockResult::Unreadable),
            (200, "", &long, UnlockResult::Unreadable),
            (302, "", "true", UnlockResult::Unreadable),
            (500, "", "true", UnlockResult::Unreadable),
        ] {
            let length = body.len();
            let mut bytes =
                format!("HTTP/1.1 {status} X\r\n{field}Content-Length: {length}\r\n\r\n{body}").into();
            let answer = AnswerReader::new(false, 1 << 20).advance(&mut bytes, false).unwrap().unwrap();
            assert_eq!(of(&answer), expected, "{status} {field} {}", &body[..body.len().min(40)]);
        }
    }
}
