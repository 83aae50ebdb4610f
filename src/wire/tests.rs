//! Heads, framing and answers: what is read, and what is refused.

use bytes::Bytes;

use super::{
    ambiguity::Ambiguity,
    answer::{AnswerReader, BadAnswer, MAX_ANSWER_HEAD},
    request::ambiguity,
    *,
};
use crate::reason::Reason;

fn judge(head: &[u8]) -> Result<BodyFraming, &'static str> {
    let mut scanner = HeadScanner::default();
    let range = scanner.scan(head).map_err(Reason::code)?.ok_or("incomplete")?;
    RequestHead::read(Bytes::copy_from_slice(&head[range])).map(|head| head.body).map_err(Reason::code)
}

fn with(fields: &str) -> Result<BodyFraming, &'static str> {
    judge(format!("PATCH / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes())
}

#[test]
fn clear_framing_passes() {
    for (fields, body) in [
        ("", BodyFraming::Length(0)),
        ("Content-Length: 0\r\n", BodyFraming::Length(0)),
        ("content-length:\t13 \r\n", BodyFraming::Length(13)),
        ("Transfer-Encoding: Chunked\r\n", BodyFraming::Chunked),
        ("Connection: close, TE\r\n", BodyFraming::Length(0)),
        ("X: \t caf\u{e9}\r\n", BodyFraming::Length(0)),
    ] {
        assert_eq!(with(fields), Ok(body), "{fields}");
    }
    for head in [
        "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
        "GET http://H:80/ HTTP/1.1\r\nHost: h:80\r\n\r\n",
        "GET http://h:80/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: H:80\r\n\r\n",
        "GET http://h:?a HTTP/1.1\r\nHost: h:80\r\n\r\n",
        "GET HTTPS://h:443 HTTP/1.1\r\nHost: h:\r\n\r\n",
        "GET https://[::1]:443/ HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    ] {
        assert_eq!(judge(head.as_bytes()), Ok(BodyFraming::Length(0)), "{head}");
    }
}

#[test]
fn what_two_readers_could_take_differently_is_ambiguous() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Content_Length: 1\r\n",
        "Content.Type: x\r\n",
        "Transfer~Encoding: chunked\r\n",
        "Connection: api-key\r\n",
        "Connection: keep-alive, Content-Length\r\n",
        "Connection: transfer-encoding\r\n",
        "Host: h\r\n",
        "X: y\n",
    ] {
        assert_eq!(with(fields), Err("framing_ambiguous"), "{fields}");
    }
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h:8a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h:443/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET https://h:80/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h:080/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h:80:80/ HTTP/1.1\r\nHost: h:80\r\n\r\n",
        "GET http://h80/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://u@h:80/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://:80/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://[::80]/ HTTP/1.1\r\nHost: [:]\r\n\r\n",
        "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET abc HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "PATCH / HTTP/1.1\n",
        "GET / HTTP/1.2\n",
        "GET /\n",
        "GET \t/\n HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhello\n",
    ] {
        assert_eq!(judge(head.as_bytes()), Err("framing_ambiguous"), "{head}");
    }
}

#[test]
fn what_is_no_http_is_malformed() {
    for fields in [
        "X : y\r\n",
        " X: y\r\n",
        "X: a\r\n folded\r\n",
        "X\r\n",
        ": y\r\n",
        "X: a\rb\r\n",
        "X: a\r\r\n",
        "X: \x0ca\r\n",
        "X: \0\r\n",
        "X: \u{7f}\r\n",
        "(X): y\r\n",
    ] {
        assert_eq!(with(fields), Err("request_malformed"), "{fields}");
    }
    for head in [
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        " / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET /\tHTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
        "\x16",
        "\x16\x03\x01\x02\n",
        "SSH-2.0-x\n",
        "hello\n",
        "EHLO gateway.test\r\nQUIT\n",
        "\0\n",
    ] {
        assert_eq!(judge(head.as_bytes()), Err("request_malformed"), "{head}");
    }
}

#[test]
fn heads_are_bounded_in_bytes_and_fields() {
    assert_eq!(with(&"X: y\r\n".repeat(63)), Ok(BodyFraming::Length(0)));
    assert_eq!(with(&"X: y\r\n".repeat(64)), Err("header_too_large"));
    let rest = "PATCH / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n".len();
    let filler = |length: usize| format!("X: {}\r\n", "y".repeat(length - rest));
    assert_eq!(with(&filler(MAX_HEAD)), Ok(BodyFraming::Length(0)));
    assert_eq!(with(&filler(MAX_HEAD + 1)), Err("header_too_large"));
    assert_eq!(judge(&[b'a'; MAX_HEAD + 1]), Err("header_too_large"));
    assert_eq!(judge(&[&[b'a'; MAX_HEAD + 1][..], b"\n"].concat()), Err("header_too_large"));
    assert_eq!(judge("\r\n".repeat(MAX_HEAD / 2 + 1).as_bytes()), Err("header_too_large"));
}

#[test]
fn a_head_is_found_however_it_arrives() {
    let bytes = b"\r\nPATCH / HTTP/1.1\r\nHost: h\r\n\r\nbody";
    let mut scanner = HeadScanner::default();
    let found = (0..=bytes.len()).find_map(|end| scanner.scan(&bytes[..end]).unwrap());
    assert_eq!(found, Some(2..bytes.len() - 4));
}

#[test]
fn every_field_is_there_in_order_and_in_the_case_it_came_in() {
    let head = b"PATCH /p HTTP/1.1\r\nHost: h\r\napi-key:  k \r\nEmpty:\r\n\r\n";
    let read = RequestHead::read(Bytes::from_static(head)).unwrap();
    assert_eq!((read.method(), read.target()), ("PATCH", "/p"));
    let fields: Vec<_> = read.fields().iter().collect();
    assert_eq!(fields, [(&b"Host"[..], &b"h"[..]), (b"api-key", b"k"), (b"Empty", b"")]);
    assert_eq!(read.fields().first("API-KEY"), Some(&b"k"[..]));
}

#[test]
fn parts_are_judged_as_the_lines_they_stand_for() {
    let parts = |target: &str, fields: &[(&'static str, &'static str)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        RequestHead::of_parts("PATCH", target, &fields, false).map(|head| head.body).map_err(Reason::code)
    };
    assert_eq!(parts("/p", &[("host", "h"), ("content-length", "13")]), Ok(BodyFraming::Length(13)));
    for (target, fields, code) in [
        ("/p#f", &[("host", "h")][..], "framing_ambiguous"),
        ("", &[("host", "h")], "request_malformed"),
        ("/p", &[], "framing_ambiguous"),
        ("/p", &[("host", "h"), ("host", "h")], "framing_ambiguous"),
        ("/p", &[("host", "a b")], "framing_ambiguous"),
        ("/p", &[("host", "h"), ("content-length", "1, 1")], "framing_ambiguous"),
        ("/p", &[("host", "h"), ("content_length", "1")], "framing_ambiguous"),
        ("/p", &[("host", "h"), ("x", "a\rb")], "request_malformed"),
    ] {
        assert_eq!(parts(target, fields), Err(code), "{target} {fields:?}");
    }
    let many = vec![("x", "y"); MAX_FIELDS];
    assert_eq!(parts("/p", &[&[("host", "h")], &many[..]].concat()), Err("header_too_large"));
    let long = "y".repeat(MAX_HEAD).leak();
    assert_eq!(parts("/p", &[("host", "h"), ("x", long)]), Err("header_too_large"));
}

/// The answer in these pieces: status, body, and whether its connection can be used again.
fn answer(pieces: &[&str], is_closed: bool) -> Result<Option<(u16, String, bool)>, BadAnswer> {
    let mut reader = AnswerReader::new(false, 64);
    let mut bytes = Vec::new();
    let mut found = None;
    for (at, piece) in pieces.iter().enumerate() {
        bytes.extend_from_slice(piece.as_bytes());
        found = reader.advance(&mut bytes, is_closed && at + 1 == pieces.len())?;
    }
    Ok(found.map(|answer| {
        (answer.head.status, String::from_utf8(answer.body().to_vec()).unwrap(), answer.persists)
    }))
}

#[test]
fn an_answer_is_whole_once_its_end_is_there() {
    let is = |status, body: &str, persists| Ok(Some((status, body.to_owned(), persists)));
    let head = "HTTP/1.1 200 OK\r\n";
    let text = |rest: &str| format!("{head}{rest}");
    assert_eq!(answer(&[&text("Content-Length: 4\r\n\r\ntrue")], false), is(200, "true", true));
    assert_eq!(answer(&[&text("Content-Length: 4\r\n\r\ntr"), "ue"], false), is(200, "true", true));
    assert_eq!(answer(&[&text("Content-Length: 4\r\n\r\ntrueX")], false), is(200, "true", false));
    assert_eq!(
        answer(&[&text("Content-Length: 4\r\nConnection: close\r\n\r\ntrue")], false),
        is(200, "true", false)
    );
    assert_eq!(answer(&[&text("\r\ntrue")], true), is(200, "true", false));
    assert_eq!(answer(&[&text("\r\ntrue")], false), Ok(None));
    let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\ntr\r\n2\r\n";
    assert_eq!(answer(&[&text(chunked), "ue\r\n0\r\n", "\r\n"], false), is(200, "true", true));
    assert_eq!(answer(&["HTTP/1.1 204 No Content\r\n\r\n"], false), is(204, "", true));
    assert_eq!(answer(&["HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"], false), is(204, "", true));
    assert_eq!(answer(&["HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"], false), is(204, "", false));
    assert_eq!(answer(&["HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"], false), is(304, "", true));
    assert_eq!(
        answer(&["HTTP/1.1 100 Continue\r\n\r\n", &text("Content-Length: 0\r\n\r\n")], false),
        is(200, "", true)
    );
    assert_eq!(answer(&["HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1"], false), is(200, "1", false));
    assert_eq!(answer(&["HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"], false), is(200, "", true));
}

#[test]
fn what_frames_the_chunks_of_an_answer_is_not_kept() {
    let mut reader = AnswerReader::new(false, 64);
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(200));
    for _ in 0..64 {
        assert!(reader.advance(&mut bytes, false).unwrap().is_none());
        bytes.extend_from_slice(chunk.as_bytes());
        assert!(bytes.len() < 2 * chunk.len() + 100, "{} bytes are kept", bytes.len());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let answer = reader.advance(&mut bytes, false).unwrap().unwrap();
    assert_eq!((answer.body(), answer.persists), (&[b'a'; 64][..], true));
}

#[test]
fn an_answer_that_ends_in_no_clear_place_is_bad() {
    let text = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    for (bytes, is_closed, bad) in [
        (text("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"), false, BadAnswer::Length),
        (text("Content-Length: 4\r\nContent-Length: 4\r\n\r\n"), false, BadAnswer::Length),
        (text("Content-Length: 4, 4\r\n\r\n"), false, BadAnswer::Length),
        (text("Content-Length:\r\n\r\n"), false, BadAnswer::Length),
        (text("Content-Length: +4\r\n\r\n"), false, BadAnswer::Length),
        (text("Transfer-Encoding: gzip\r\n\r\n"), false, BadAnswer::Length),
        (text("Transfer-Encoding: gzip, chunked\r\n\r\n"), false, BadAnswer::Length),
        (text("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), false, BadAnswer::Length),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), false, BadAnswer::Length),
        (text("Transfer-Encoding: chunked\r\n\r\nx"), false, BadAnswer::Chunks),
        (text("Name : value\r\n\r\n"), false, BadAnswer::Head),
        (text("Name: value\r\n folded\r\n\r\n"), false, BadAnswer::Head),
        ("HTTP/2 200 OK\r\n\r\n".into(), false, BadAnswer::Head),
        ("HTTP/1.1 099 X\r\n\r\n".into(), false, BadAnswer::Head),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n".into(), false, BadAnswer::Upgrade),
        ("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33), false, BadAnswer::Interim),
        (text(&"a: b\r\n".repeat(257)), false, BadAnswer::HeadTooLarge),
        (text(&format!("a: {}", "b".repeat(MAX_ANSWER_HEAD))), false, BadAnswer::HeadTooLarge),
        (text("Content-Length: 65\r\n\r\n"), false, BadAnswer::TooLong),
        (text("Content-Length: 4\r\n\r\ntru"), true, BadAnswer::Cut),
        (text("Content-Length"), true, BadAnswer::Cut),
    ] {
        assert_eq!(answer(&[&bytes], is_closed), Err(bad), "{bytes}");
    }
}

#[test]
fn each_cause_of_ambiguity_is_told_by_itself() {
    let of = |line: &str, fields: &str| {
        let text = format!("{line}\r\n{}\r\n\r\n", fields.replace('|', "\r\n"));
        let is_refused = match HeadScanner::default().scan(text.as_bytes()) {
            Ok(range) => RequestHead::read(text.clone().into_bytes()[range.unwrap()].to_vec().into()).err(),
            Err(reason) => Some(reason),
        };
        assert_eq!(
            is_refused == Some(Reason::FramingAmbiguous),
            ambiguity(text.as_bytes()).is_some(),
            "{text}"
        );
        ambiguity(text.as_bytes())
    };
    let get = "GET / HTTP/1.1";
    for (line, fields, cause) in [
        (get, "Host: h", None),
        (get, "Host: h\nA: b", Some(Ambiguity::BareLf)),
        ("GET /a b HTTP/1.1", "Host: h", Some(Ambiguity::Target)),
        ("GET /#a HTTP/1.1", "Host: h", Some(Ambiguity::Target)),
        (get, "A: b", Some(Ambiguity::NoHost)),
        (get, "Host: h|Host: h", Some(Ambiguity::RepeatedHost)),
        (get, "Host: a, b", Some(Ambiguity::Host)),
        ("GET http://other/ HTTP/1.1", "Host: h", Some(Ambiguity::OtherHost)),
        (get, "Host: h|Connection: api-key", Some(Ambiguity::NominatedField)),
        (get, "Host: h|Content_Length: 1", Some(Ambiguity::DisguisedField)),
        (get, "Host: h|Content-Length: +1", Some(Ambiguity::Length)),
        (get, "Host: h|Content-Length: 1|Content-Length: 1", Some(Ambiguity::RepeatedLength)),
        (get, "Host: h|Content-Length: 1|Transfer-Encoding: chunked", Some(Ambiguity::LengthAndCoding)),
        (get, "Host: h|Transfer-Encoding: gzip, chunked", Some(Ambiguity::Coding)),
        ("GET / HTTP/1.0", "Host: h|Transfer-Encoding: chunked", Some(Ambiguity::Coding)),
    ] {
        assert_eq!(of(line, fields), cause, "{line} {fields}");
    }
}
