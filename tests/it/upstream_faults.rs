//! An upstream that fails is told apart from a call that is refused, and is never asked twice.

use std::time::{Duration, Instant};

use crate::harness::{Broken, Call, Gateway, Message, Reply, Upstream, refusing_address, silent_address};

/// Checks the answer, what was counted and what was logged about a call the upstream failed.
fn assert_fails(case: &str, gateway: &Gateway, answer: &Message, status: u16, code: &str) {
    assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{case}: {answer:?}");
    assert_eq!(answer.one("Content-Type"), "application/problem+json", "{case}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:n4n-gateway:{code}"), "{case}");
    assert_eq!(problem["status"], status, "{case}");
    for member in ["title", "detail", "request_id"] {
        assert!(
            problem[member].as_str().is_some_and(|text| !text.is_empty()),
            "{case}: {member} in {problem}"
        );
    }

    gateway.wait_for_metric(
        &format!("n4n_gateway_requests_total{{outcome=\"failed\",code=\"{code}\",status_class=\"5xx\"}}"),
        1.0,
    );
    // What never left is no unlock that went wrong.
    let sent = if code == "upstream_unreachable" { 0.0 } else { 1.0 };
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unreadable\"}", sent);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("n4n_gateway_requests_total"), 1.0, "{case}: counted once");

    let line = gateway.log_of(problem["request_id"].as_str().unwrap());
    assert_eq!(line["outcome"], "failed", "{case}: {line}");
    assert_eq!(line["code"], code, "{case}: {line}");
    assert_eq!(line["status"], status, "{case}: {line}");
    assert_eq!(line["lookup"], "customer_id", "{case}: {line}");
}

#[test]
fn no_connection_is_upstream_unreachable() {
    let (address, _guard) = refusing_address();
    let gateway = Gateway::before(address).start();
    let mut wire = gateway.connect();
    assert_fails("refused", &gateway, &wire.call(&Call::unlock()), 502, "upstream_unreachable");
}

#[test]
fn no_connection_in_time_is_upstream_unreachable() {
    let (address, _guard) = silent_address();
    let timeout = Duration::from_millis(300);
    let gateway = Gateway::before(address).set("upstream", "connect_timeout = \"300ms\"").start();
    let start = Instant::now();
    let answer = gateway.call(&Call::unlock());
    assert!(start.elapsed() >= timeout, "given up too early");
    assert!(start.elapsed() < 20 * timeout, "took {:?}", start.elapsed());
    assert_fails("silent", &gateway, &answer, 502, "upstream_unreachable");
}

#[test]
fn without_a_known_address_the_upstream_is_unavailable() {
    let gateway = Gateway::before_all(&["n4n.invalid:80"]).set("quota", "requests = 1").start();
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert!(answer.one("Retry-After").parse::<u32>().unwrap() >= 1);
    assert_eq!(answer.field("RateLimit"), None, "the quota was not reached");
    gateway.wait_for_metric(
        "n4n_gateway_requests_total{outcome=\"failed\",code=\"upstream_unavailable\",status_class=\"5xx\"}",
        1.0,
    );
}

#[test]
fn what_is_not_an_http_answer_is_upstream_broken() {
    let cases: [(&str, Upstream, usize); 6] = [
        ("accepts and closes", Upstream::closing_at_once(), 0),
        ("reads the call and closes", Upstream::scripted(|_| Reply::Last(Vec::new())), 1),
        ("garbage", Upstream::answering("\x16\x03\x01 this is not HTTP\r\n\r\n"), 1),
        ("garbage and close", Upstream::scripted(|_| Reply::Last(b"true\n".to_vec())), 1),
        ("half a head", Upstream::scripted(|_| Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec())), 1),
        (
            "a status that is no number",
            Upstream::answering("HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
            1,
        ),
    ];
    for (case, upstream, requests) in cases {
        let gateway = Gateway::before(upstream.address()).start();
        let answer = gateway.call(&Call::unlock());
        assert_fails(case, &gateway, &answer, 502, "upstream_broken");
        assert_eq!(upstream.count(), requests, "{case}: asked more than once");
    }
}

#[test]
fn another_protocol_that_nobody_asked_for_is_upstream_broken() {
    let upstream =
        Upstream::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    let gateway = Gateway::before(upstream.address()).start();
    let answer = gateway.call(&Call::unlock());
    assert_fails("101", &gateway, &answer, 502, "upstream_broken");
}

#[test]
fn no_answer_in_time_is_upstream_timeout() {
    for (case, reply) in [
        ("silence", &b""[..]),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-"),
        ("interim answers alone", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let upstream = Upstream::answering(reply);
        let gateway =
            Gateway::before(upstream.address()).set("upstream", "response_timeout = \"300ms\"").start();
        let start = Instant::now();
        let mut wire = gateway.connect();
        wire.send(Call::unlock().bytes());
        let answer = std::iter::repeat_with(|| wire.answer()).find(|answer| answer.status() >= 200).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(300), "{case}: given up too early");
        assert_fails(case, &gateway, &answer, 504, "upstream_timeout");
        assert_eq!(upstream.count(), 1, "{case}: asked more than once");
    }
}

#[test]
fn an_answer_that_drips_meets_the_same_deadline() {
    // Each byte is in time for a time-out per read; the deadline is for the whole header.
    let upstream =
        Upstream::scripted(|_| Reply::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue".to_vec()));
    let gateway = Gateway::before(upstream.address()).set("upstream", "response_timeout = \"500ms\"").start();
    let answer = gateway.call(&Call::unlock());
    assert_fails("dripping", &gateway, &answer, 504, "upstream_timeout");
}

#[test]
fn half_an_answer_is_never_passed_off_as_whole() {
    for (case, answer) in [
        ("by length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ntrue"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n"),
    ] {
        let upstream = Upstream::scripted(move |_| Reply::Last(answer.as_bytes().to_vec()));
        let gateway = Gateway::before(upstream.address()).start();
        let mut wire = gateway.connect();
        wire.send(Call::unlock().bytes());
        match wire.try_answer() {
            Err(Broken::Truncated | Broken::Closed) => {}
            Ok(answer) => {
                assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_broken"), "{case}")
            }
            Err(broken) => panic!("{case}: {broken:?}"),
        }
        gateway
            .wait_for_metric("n4n_gateway_requests_total{outcome=\"failed\",code=\"upstream_broken\"}", 1.0);
        gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unreadable\"}", 1.0);
        assert_eq!(upstream.count(), 1, "{case}: asked more than once");
    }
}

#[test]
fn a_kept_connection_that_breaks_is_not_tried_again() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let upstream =
        Upstream::scripted(move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::json("200 OK", "true"),
            _ => Reply::Last(Vec::new()),
        });
    let gateway = Gateway::before(upstream.address()).start();
    let mut wire = gateway.connect();
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    let answer = wire.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_broken"));
    assert_eq!(upstream.count(), 2, "the second call was sent more than once");
}

#[test]
fn a_failed_connect_is_tried_on_another_peer() {
    let (refusing, _guard) = refusing_address();
    let upstream = Upstream::start();
    let gateway = Gateway::before_all(&[refusing, upstream.address()]).start();
    for _ in 0..10 {
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    }
    assert_eq!(upstream.count(), 10);
}

#[test]
fn the_connection_to_the_client_outlives_a_fault() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let upstream =
        Upstream::scripted(move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::Last(Vec::new()),
            _ => Reply::json("200 OK", "true"),
        });
    let gateway = Gateway::before(upstream.address()).start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 502);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}

#[test]
fn a_fault_of_the_upstreams_own_words_is_forwarded_not_failed() {
    let upstream =
        Upstream::scripted(|_| Reply::json("500 Internal Server Error", "{\"error\":\"database\"}"));
    let gateway = Gateway::before(upstream.address()).start();
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.text()), (500, "{\"error\":\"database\"}"));
    gateway.wait_for_metric(
        "n4n_gateway_requests_total{outcome=\"forwarded\",code=\"ok\",status_class=\"5xx\"}",
        1.0,
    );
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unreadable\"}", 1.0);
    let line = gateway.log_of(answer.one("X-Request-Id"));
    assert_eq!(
        (&line["outcome"], &line["code"], &line["status"]),
        (&"forwarded".into(), &"ok".into(), &500.into())
    );
}
