use super::*;

fn judge(head: &[u8]) -> Result<BodyFraming, &'static str> {
    let mut scanner = HeadScanner::default();
    let range = scanner.scan(head).map_err(Reason::code)?.ok_or("incomplete")?;
    read(&head[range], |_, _| {}).map(|head| head.body).map_err(Reason::code)
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
fn every_field_is_handed_on_in_order() {
    let mut seen = Vec::new();
    let head = b"PATCH /p HTTP/1.1\r\nHost: h\r\napi-key:  k \r\n\r\n";
    let read = read(head, |name, value| seen.push((name, value))).unwrap();
    assert_eq!((read.method, read.target), ("PATCH", "/p"));
    assert_eq!(seen, [("Host", &b"h"[..]), ("api-key", b"k")]);
}
