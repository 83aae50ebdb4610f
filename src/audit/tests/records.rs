//! What a record says, and who may read it.

use std::{os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

use super::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_digest_is_sha_256_in_lower_case_hexadecimal() {
    assert_eq!(Digest::of(b"").to_string(), EMPTY);
    assert_eq!(Digest::START.to_string(), "0".repeat(64));
    for (case, text, want) in [
        ("whole", EMPTY.to_owned(), Some(Digest::of(b""))),
        ("upper case", EMPTY.to_uppercase(), None),
        ("a digit short", EMPTY[1..].to_owned(), None),
        ("a byte short", EMPTY[2..].to_owned(), None),
        ("a byte long", format!("00{EMPTY}"), None),
        ("not hexadecimal", "g".repeat(64), None),
        ("empty", String::new(), None),
    ] {
        assert_eq!(Digest::parse(&text), want, "{case}");
    }
}

#[test]
fn records_say_what_is_known_and_nothing_else() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let request_id = RequestId::next();
    let full = Intent { time: some_time(), request_id, ..an_intent() };
    let bare =
        Intent { client: None, client_certificate: None, user: None, lookup: None, value: None, ..full };
    let unlocked = Conclusion { time: some_time(), ..its_outcome(&full) };
    let refused = Seen::Answer { status: 404, result: UnlockResult::Refused };
    let refused = Conclusion { seen: refused, ..unlocked };
    let unsent = Conclusion {
        seen: Seen::NotSent,
        reason: Some(Reason::UpstreamUnreachable),
        time: UNIX_EPOCH,
        ..unlocked
    };
    let unknown = Conclusion { seen: Seen::Nothing, reason: Some(Reason::UpstreamTimeout), ..unlocked };
    trail.intent(&full).unwrap();
    trail.intent(&bare).unwrap();
    for outcome in [unlocked, refused, unknown, unsent] {
        trail.outcome(&outcome).unwrap();
    }

    let mut prev = Digest::START;
    let lines = lines(&scratch.trail);
    let wants = [
        r#""event":"intent","request_id":"ID","client":"192.0.2.7","client_certificate":"CN=billing","user":"n4n_admin","lookup":"customer_id","value":"191""#,
        r#""event":"intent","request_id":"ID""#,
        r#""event":"outcome","request_id":"ID","status":200,"result":"unlocked""#,
        r#""event":"outcome","request_id":"ID","status":404,"result":"refused""#,
        r#""event":"outcome","request_id":"ID","result":"unknown","code":"upstream_timeout""#,
        r#""event":"outcome","request_id":"ID","result":"not_sent","code":"upstream_unreachable""#,
    ];
    assert_eq!(lines.len(), wants.len());
    for (line, want) in lines.iter().zip(wants) {
        let want = want.replace("ID", &request_id.to_string());
        let second =
            if want.contains("not_sent") { "1970-01-01T00:00:00.0" } else { "2026-11-24T10:00:01.125" };
        let time = format!("{second:0<29}Z");
        assert_eq!(*line, format!(r#"{{"v":2,"time":"{time}",{want},"prev":"{prev}"}}"#));
        prev = Digest::of(line.as_bytes());
    }
}

#[test]
fn a_value_stays_in_its_line() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let value = "a\nb\r\0\"},{\u{2028}ü\\";
    trail.intent(&Intent { value: Some(value), user: Some(value), ..an_intent() }).unwrap();
    let [line] = &lines(&scratch.trail)[..] else { panic!("one line") };
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(record["value"], value);
    assert_eq!(record["user"], value);
}

#[test]
fn only_the_owner_may_read_a_trail() {
    let scratch = Scratch::new();
    record_a_call(&scratch.open());
    assert_eq!(fs::metadata(&scratch.trail).unwrap().permissions().mode() & 0o777, 0o600);
}
