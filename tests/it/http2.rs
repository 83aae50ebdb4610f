//! HTTP/2 over TLS: the same rules and the same answers as HTTP/1.1.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request};

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, frame, kept_field};
use crate::harness::{
    API_KEY, API_USERNAME, Gate, Gateway, Http2, Http2Answer, NAME, Reply, Secured, Signal, Upstream, tool,
};

const BODY: &[u8] = b"customer_id=191";

fn unlock() -> http::request::Builder {
    Http2::unlock(NAME)
}

#[test]
fn the_documented_call_works_with_curl() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let ca = secured.authority.write(secured.folder.path(), "ca.pem");
    let port = secured.gateway.https().port();
    let output = tool("curl", "install curl")
        .args(["--silent", "--http2", "--request", "PATCH", "--data", "customer_id=191"])
        .args(["--write-out", " %{http_version}", "--resolve", &format!("{NAME}:{port}:127.0.0.1")])
        .args([
            "--header",
            &format!("api-key: {API_KEY}"),
            "--header",
            &format!("api-username: {API_USERNAME}"),
        ])
        .arg("--cacert")
        .arg(ca)
        .arg(format!("https://{NAME}:{port}/api/customer/unlock"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "true 2");
    let request = upstream.wait_for(1);
    assert_eq!(request.start_line, "PATCH /api/customer/unlock HTTP/1.1");
    assert_eq!(request.one("X-Forwarded-Proto"), "https");
    assert_eq!(request.one("X-Forwarded-Host"), format!("{NAME}:{port}"));
    assert_eq!(request.one("Content-Length"), "15");
}

#[test]
fn calls_meet_the_same_rules() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let many = (0..64).fold(unlock(), |head, index| head.header(format!("x-{index}"), "1"));
    let at = |target: &str| {
        let mut head = Request::patch(format!("https://{NAME}{target}"));
        head.headers_mut().unwrap().clone_from(unlock().headers_ref().unwrap());
        head
    };
    let cases: Vec<(&str, http::request::Builder, &[u8], u16, &str)> = vec![
        ("another host", unlock().header("host", "other.test"), BODY, 400, "framing_ambiguous"),
        ("two hosts", unlock().header("host", NAME).header("host", NAME), BODY, 400, "framing_ambiguous"),
        ("userinfo", Http2::unlock("me@gateway.test"), BODY, 400, "framing_ambiguous"),
        ("a disguised length", unlock().header("content_length", "3"), BODY, 400, "framing_ambiguous"),
        (
            "two lengths",
            unlock().header("content-length", "15").header("content-length", "15"),
            BODY,
            400,
            "framing_ambiguous",
        ),
        ("too many fields", many, BODY, 431, "header_too_large"),
        ("another path", at("/api/customer//unlock"), BODY, 404, "path_unknown"),
        ("a query", at("/api/customer/unlock?customer_id=1"), BODY, 400, "query_not_allowed"),
        ("another method", unlock().method("POST"), BODY, 405, "method_not_allowed"),
        ("an override", unlock().header("x-http-method", "GET"), BODY, 400, "method_override"),
        ("two keys", unlock().header("api-key", API_KEY), BODY, 400, "credential_ambiguous"),
        ("a disguised key", unlock().header("api_key", API_KEY), BODY, 400, "credential_ambiguous"),
        ("an expectation", unlock().header("expect", "miracles"), BODY, 417, "expectation_failed"),
        ("no lookup", unlock(), b"", 400, "lookup_missing"),
        ("two lookups", unlock(), b"customer_id=1&orderid=2", 400, "lookup_ambiguous"),
        ("a long body", unlock(), &[b'a'; 8193], 413, "body_too_large"),
    ];
    let count = cases.len();
    for (case, head, body, status, code) in cases {
        let answer = connection.call(head, body, None).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{case}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{case}");
        assert!(!answer.headers.contains_key("connection"), "{case}: {answer:?}");
    }
    assert!(upstream.bytes().is_empty());
    secured.gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"rejected\"}", count as f64);
    // And all that on a connection that is still good.
    assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true");
    assert_eq!(connection.max_streams(), 16);
}

/// What the protocol's own layer would make good by leaving it out, and what a Host of HTTP/1.1 may not be either.
#[test]
fn what_http_1_1_refuses_is_not_repaired() {
    let upstream = Upstream::start();
    let secured = Secured::of(
        Gateway::before(upstream.address()).set("policy", "other_paths = \"forward\"\nmax_body = \"1KiB\""),
    );
    let mut frames = Frames::connect(&secured.client(), secured.gateway.https(), 65535);
    let mut streams = (1..).step_by(2);
    let mut call = |pseudo: &[(&str, &str)], trailers: Option<(&str, &str)>| {
        let stream = streams.next().unwrap();
        let own = [
            ("api-key", API_KEY),
            ("api-username", API_USERNAME),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let block: Vec<u8> =
            pseudo.iter().chain(&own).flat_map(|(name, value)| kept_field(name, value)).collect();
        let last = if trailers.is_some() { 0 } else { END_STREAM };
        let mut sent =
            [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, last, stream, BODY)].concat();
        if let Some((name, value)) = trailers {
            sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &kept_field(name, value)));
        }
        frames.send(&sent).unwrap();
    };
    let good =
        [(":method", "PATCH"), (":scheme", "https"), (":authority", NAME), (":path", "/api/customer/unlock")];
    let with = |name: &'static str, value: &'static str| {
        good.map(|(other, usual)| if other == name { (name, value) } else { (other, usual) })
    };
    let without_authority = |scheme: &'static str| {
        [(":method", "PATCH"), (":scheme", scheme), (":path", "/api/customer/unlock"), ("host", NAME)]
    };
    let (mut passed, mut refused) = (0.0, 0.0);
    for (case, pseudo, passes) in [
        ("as it should be", good, true),
        ("a fragment", with(":path", "/api/customer/unlock#x?y"), false),
        ("a fragment behind another path", with(":path", "/other#/../x"), false),
        ("a fragment alone", with(":path", "#"), false),
        ("another scheme", with(":scheme", "ftp"), false),
        ("the other scheme", with(":scheme", "http"), true),
        ("a Host in place of an authority", without_authority("https"), true),
        ("another scheme without an authority", without_authority("ftp"), false),
        ("a list of hosts", with(":authority", "gateway.test,other.test"), false),
        ("no path", with(":path", "?x"), false),
    ] {
        println!("{case}");
        // Twice, the second time by the numbers under which the fields are kept.
        for _ in 0..2 {
            call(&pseudo, None);
            *(if passes { &mut passed } else { &mut refused }) += 1.0;
            secured.gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", passed);
            secured
                .gateway
                .wait_for_metric("n4n_gateway_requests_total{code=\"framing_ambiguous\"}", refused);
        }
    }
    for (malformed, trailers) in [(0.0, ("x-other", "1")), (1.0, (":path", "/")), (2.0, (":status", "200"))] {
        call(&good, Some(trailers));
        passed += f64::from(u8::from(malformed == 0.0));
        secured.gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", passed);
        secured.gateway.wait_for_metric("n4n_gateway_requests_total{code=\"body_malformed\"}", malformed);
    }
    assert_eq!(upstream.count() as f64, passed);
}

/// Those are looked at before any stream is served, and more of them are repaired than are remembered.
#[test]
fn nothing_repaired_is_lost_behind_streams_that_are_refused() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut frames = Frames::connect(&secured.client(), secured.gateway.https(), 65535);
    let block = |path: &str| -> Vec<u8> {
        let fields = [
            (":method", "PATCH"),
            (":scheme", "https"),
            (":authority", NAME),
            (":path", path),
            ("api-key", API_KEY),
            ("api-username", API_USERNAME),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        fields.iter().flat_map(|(name, value)| kept_field(name, value)).collect()
    };
    let mut sent = frame(HEADERS, END_HEADERS, 1, &block("/api/customer/unlock#x"));
    sent.extend(frame(DATA, END_STREAM, 1, BODY));
    for number in 1..=1000 {
        sent.extend(frame(HEADERS, END_HEADERS, 1 + 2 * number, b"\x82\x87\x41\x01x\x04\x02/#"));
    }
    frames.send(&sent).unwrap();
    for line in secured.gateway.wait_for_log(16) {
        assert_eq!(line["code"], "framing_ambiguous", "{line}");
    }
    assert!(upstream.bytes().is_empty());
}

/// Header blocks that are longer than any that is followed leave those behind them unread.
#[test]
fn a_connection_of_which_no_more_is_believed_ends() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let long = unlock().header("x-long", "v".repeat(80_000));
    assert_eq!(connection.call(long, BODY, None).unwrap().status, 431);
    let has_ended = (0..100).any(|_| match connection.call(unlock(), BODY, None) {
        Ok(answer) => {
            assert_eq!(answer.code(), "framing_ambiguous");
            false
        }
        Err(_) => true,
    });
    assert!(has_ended);
    assert_eq!(secured.connect().call(unlock(), BODY, None).unwrap().body, "true");
}

#[test]
fn head_is_answered_without_a_body_whatever_is_wrong_with_it() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let many = (0..64).fold(unlock(), |head, index| head.header(format!("x-{index}"), "1"));
    for (case, head, status) in [
        ("framing", unlock().header("host", "other.test"), 400),
        ("too many fields", many, 431),
        ("the method", unlock(), 405),
    ] {
        let exchange = connection.open(head.method("HEAD"), true).unwrap();
        let answer = connection.answer(exchange).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{case}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{case}");
    }
    assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true");
}

#[test]
fn a_body_may_come_with_a_length_or_without_and_with_trailers_and_must_be_as_long_as_declared() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let trailers = || Some(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]));
    let declared = || unlock().header("content-length", BODY.len());
    let good: [(&str, http::request::Builder, Option<HeaderMap>); 5] = [
        ("no length", unlock(), None),
        ("a length", declared(), None),
        ("trailers", unlock(), trailers()),
        ("both", declared(), trailers()),
        ("an expectation that is met", unlock().header("expect", "100-continue"), None),
    ];
    let count = good.len();
    for (case, head, trailers) in good {
        let answer = connection.call(head, BODY, trailers).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "true"), "{case}");
    }
    for request in upstream.requests() {
        assert_eq!(request.one("Content-Length"), "15");
        assert_eq!(request.body, BODY);
        assert!(request.field("etag").is_none());
    }
    for (case, length, trailers) in
        [("short", 16, None), ("short, with trailers", 16, trailers()), ("long", 14, None)]
    {
        let head = unlock().header("content-length", length);
        let broken = connection.call(head, BODY, trailers);
        assert!(broken.is_err(), "{case}: {broken:?}");
    }
    assert_eq!(connection.call(unlock(), BODY, None).unwrap().status, 200);
    assert_eq!(upstream.count(), count + 1);
}

#[test]
fn answers_of_every_framing_come_back_whole() {
    let long = "a".repeat(200_000);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntru\r\n1\r\ne\r\n0\r\n\r\n";
    let with_length = format!("HTTP/1.1 404 Not Found\r\nContent-Length: 200000\r\n\r\n{long}");
    let until_close = format!("HTTP/1.1 200 OK\r\nX-Kept: yes\r\nConnection: close\r\n\r\n{long}");
    for (case, answer, status, body) in [
        ("chunked", Reply::Bytes(chunked.as_bytes().to_vec()), 200, "true"),
        ("a length", Reply::Bytes(with_length.into_bytes()), 404, long.as_str()),
        ("until close", Reply::Last(until_close.into_bytes()), 200, &long),
        ("none", Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), 204, ""),
    ] {
        let answer = std::sync::Mutex::new(Some(answer));
        let upstream = Upstream::scripted(move |_| answer.lock().unwrap().take().unwrap());
        let secured = Secured::before(&upstream, "");
        let Http2Answer { status: is, headers, body: got } =
            secured.connect().call(unlock(), BODY, None).unwrap();
        assert_eq!((is, got.len()), (status, body.len()), "{case}: {headers:?}");
        assert_eq!(got, body, "{case}");
        assert!(headers.contains_key("x-request-id"), "{case}");
        for field in ["connection", "transfer-encoding", "keep-alive"] {
            assert!(!headers.contains_key(field), "{case}: {headers:?}");
        }
    }
    // What breaks off is not made to look whole.
    let upstream =
        Upstream::scripted(|_| Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntrue".to_vec()));
    let secured = Secured::before(&upstream, "");
    assert_eq!(secured.connect().call(unlock(), BODY, None).unwrap().status, 502);
}

/// An upstream that answers only once the gate is open.
fn held_upstream() -> (Upstream, Gate) {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    (upstream, gate)
}

#[test]
fn draining_says_goodbye_and_finishes_what_is_under_way() {
    let (upstream, gate) = held_upstream();
    let mut secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let mut exchange = connection.open(unlock(), false).unwrap();
    exchange.body.send_data(BODY.into(), true).unwrap();
    connection.run_while(|| upstream.wait_for(1));
    secured.gateway.send(Signal::Terminate);
    connection.wait_refusal();
    gate.open();
    assert_eq!(connection.answer(exchange).unwrap().body, "true");
    connection.wait_end().unwrap();
    assert!(secured.gateway.wait_exit().success());
}

#[test]
fn a_call_is_carried_to_its_end_when_its_stream_is_reset() {
    let (upstream, gate) = held_upstream();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let mut exchange = connection.open(unlock(), false).unwrap();
    exchange.body.send_data(BODY.into(), true).unwrap();
    connection.run_while(|| upstream.wait_for(1));
    connection.reset(exchange);
    drop(connection);
    gate.open();
    secured.gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", 1.0);
    secured.gateway.wait_for_metric("n4n_gateway_connections", 0.0);
}

#[test]
fn a_connection_without_a_live_stream_is_ended() {
    let (upstream, gate) = held_upstream();
    let secured = Secured::before(&upstream, "idle_timeout = \"300ms\"");
    let mut connection = secured.connect();
    let mut exchange = connection.open(unlock(), false).unwrap();
    exchange.body.send_data(BODY.into(), true).unwrap();
    connection.run_while(|| upstream.wait_for(1));
    // Longer than a connection may idle: this one does not.
    connection.run_for(Duration::from_millis(700));
    gate.open();
    assert_eq!(connection.answer(exchange).unwrap().body, "true");
    connection.wait_end().unwrap();
}

#[test]
fn bodies_that_do_not_come_hold_up_nobody_on_their_connection() {
    let upstream = Upstream::start();
    for stalled in [4, 15] {
        let secured = Secured::before(&upstream, "[policy]\nbody_timeout = \"1h\"");
        let mut connection = secured.connect();
        let held: Vec<_> = (0..stalled)
            .map(|number| {
                let mut exchange = connection.open(unlock(), false).unwrap();
                // Some have not begun, and of others a byte is missing.
                if number % 2 == 0 {
                    exchange.body.send_data(BODY[..BODY.len() - 1].into(), false).unwrap();
                }
                exchange
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true", "beside {stalled}");
        }
        for (number, mut exchange) in held.into_iter().enumerate() {
            let rest = if number % 2 == 0 { &BODY[BODY.len() - 1..] } else { BODY };
            exchange.body.send_data(rest.into(), true).unwrap();
            assert_eq!(connection.answer(exchange).unwrap().body, "true", "one of {stalled}");
        }
    }
}

#[test]
fn what_an_upstream_spoils_is_told_on_its_stream_and_costs_no_other() {
    for (spoilt, status, code) in [
        (Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntrue".to_vec()), 502, "upstream_broken"),
        (Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntrue".to_vec()), 504, "upstream_timeout"),
        (Reply::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue".to_vec()), 504, "upstream_timeout"),
    ] {
        let spoilt = std::sync::Mutex::new(Some(spoilt));
        let upstream = Upstream::scripted(move |_| {
            spoilt.lock().unwrap().take().unwrap_or_else(|| Reply::json("200 OK", "true"))
        });
        let timeout = "response_timeout = \"1s\"";
        let secured = Secured::of(Gateway::before(upstream.address()).set("upstream", timeout));
        let mut connection = secured.connect();
        let answer = connection.call(unlock(), BODY, None).unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true");
        assert_eq!(upstream.requests().len(), 2, "{code}: sent more than once");
    }
}
