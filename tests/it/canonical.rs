//! A good call reaches the upstream in one form, byte by byte, and its answer comes back unchanged.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::harness::{API_KEY, API_USERNAME, Call, Gateway, Message, Reply, Upstream};

fn gateway_before(upstream: &Upstream) -> Gateway {
    Gateway::before(upstream.address()).set("upstream", "host = \"n4n.test\"").start()
}

/// The fields in order of their names, the names in lower case.
fn sorted(message: &Message) -> Vec<(String, String)> {
    let mut fields: Vec<_> =
        message.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    fields.sort();
    fields
}

/// Checks every field and byte of a request that must be canonical but for some fields of the caller's.
fn assert_canonical(case: &str, request: &Message, answer: &Message, body: &str, own: &[(&str, &str)]) {
    assert_eq!(request.start_line, "PATCH /api/customer/unlock HTTP/1.1", "{case}");
    assert_eq!(request.text(), body, "{case}");
    let length = body.len().to_string();
    let mut want: Vec<(String, String)> = [
        ("host", "n4n.test"),
        ("content-length", &length),
        ("content-type", "application/x-www-form-urlencoded"),
        ("api-key", API_KEY),
        ("api-username", API_USERNAME),
        ("x-request-id", answer.one("X-Request-Id")),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "gateway.test"),
    ]
    .iter()
    .chain(own)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    want.sort();
    assert_eq!(sorted(request), want, "{case}");

    // Nothing is between the fields and the body but what was read.
    let lines: Vec<String> =
        request.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let written = format!("{}\r\n{}\r\n{body}", request.start_line, lines.concat());
    assert_eq!(String::from_utf8_lossy(&request.raw), written, "{case}");
}

#[test]
fn a_good_call_is_forwarded_in_canonical_form() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    let plain = "customer_id=191";
    for (case, call, body, own) in [
        ("as documented", Call::unlock(), plain, &[][..]),
        ("an encoded value", Call::unlock().body("customer_id=%31%39%31"), plain, &[]),
        ("an encoded name", Call::unlock().body("%63ustomer%5Fid=191"), plain, &[]),
        ("empty pieces", Call::unlock().body("&&customer_id=191&"), plain, &[]),
        ("another lookup", Call::unlock().body("subscription_id=a-B_c.9"), "subscription_id=a-B_c.9", &[]),
        ("a value to encode", Call::unlock().body("orderid=a:b"), "orderid=a%3Ab", &[]),
        ("in chunks", Call::unlock().chunked(4), plain, &[]),
        ("in one chunk", Call::unlock().chunked(100), plain, &[]),
        (
            "allowed fields",
            Call::unlock()
                .with("Accept", "application/json")
                .with("Accept-Language", "en")
                .with("User-Agent", "test/1")
                .with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                .with("tracestate", "a=1"),
            plain,
            &[
                ("accept", "application/json"),
                ("accept-language", "en"),
                ("user-agent", "test/1"),
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                ("tracestate", "a=1"),
            ],
        ),
        (
            "fields of the caller's own",
            Call::unlock()
                .with("Accept-Encoding", "gzip")
                .with("Cookie", "session=1")
                .with("Authorization", "Basic eDp5")
                .with("X-Request-Id", "chosen-by-the-caller")
                .with("X-Forwarded-For", "192.0.2.1")
                .with("X-Forwarded-Proto", "https")
                .with("X-Forwarded-Host", "elsewhere.test")
                .with("Forwarded", "for=192.0.2.1")
                .with("X-Real-IP", "192.0.2.1")
                .with("True-Client-IP", "192.0.2.1")
                .with("Range", "bytes=0-1")
                .with("If-Match", "*")
                .with("TE", "trailers")
                .with("Upgrade", "websocket")
                .with("Keep-Alive", "timeout=5")
                .with("Priority", "u=1"),
            plain,
            &[],
        ),
        (
            "other spellings of the same",
            Call::unlock()
                .without("api-key")
                .with("API-KEY", API_KEY)
                .set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"),
            plain,
            &[],
        ),
    ] {
        let answer = gateway.call(&call);
        assert_eq!((answer.status(), answer.text()), (200, "true"), "{case}");
        assert_canonical(case, upstream.requests().last().unwrap(), &answer, body, own);
    }
    let whole: usize = upstream.requests().iter().map(|request| request.raw.len()).sum();
    assert_eq!(upstream.bytes().len(), whole, "the upstream was sent bytes beside the requests");
}

#[test]
fn a_forwarded_call_looks_so() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    let answer =
        gateway.call(&Call::unlock().body("customer%5fid=191").with("Accept", "*/*").with("Cookie", "a=b"));
    let id = answer.one("X-Request-Id");
    let want = format!(
        "PATCH /api/customer/unlock HTTP/1.1\r\n\
         Host: n4n.test\r\n\
         x-request-id: {id}\r\n\
         x-forwarded-for: 127.0.0.1\r\n\
         x-forwarded-proto: http\r\n\
         x-forwarded-host: gateway.test\r\n\
         api-key: {API_KEY}\r\n\
         api-username: {API_USERNAME}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 15\r\n\
         accept: */*\r\n\
         \r\n\
         customer_id=191"
    );
    assert_eq!(String::from_utf8(upstream.bytes()).unwrap(), want);
}

#[test]
fn configured_fields_are_forwarded_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("upstream", "host = \"n4n.test\"")
        .set("policy", "forward_headers = [\"X-Tenant\"]")
        .start();
    let answer = gateway.call(&Call::unlock().with("x-tenant", "7").with("X-Tenants", "8"));
    assert_canonical("X-Tenant", &upstream.requests()[0], &answer, "customer_id=191", &[("x-tenant", "7")]);
}

#[test]
fn a_field_that_is_forwarded_anyway_is_sent_once_when_it_is_named() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("policy", "forward_headers = [\"accept\", \"User-Agent\"]")
        .start();
    let call = Call::unlock().set("Accept", "text/plain").set("User-Agent", "curl/8");
    assert_eq!(gateway.call(&call).status(), 200);
    let sent = String::from_utf8(upstream.bytes()).unwrap().to_ascii_lowercase();
    for name in ["accept", "user-agent"] {
        assert_eq!(sent.matches(&format!("\r\n{name}: ")).count(), 1, "{sent}");
    }
}

#[test]
fn the_host_is_the_first_peers_unless_told_otherwise() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.requests()[0].one("Host"), "127.0.0.1");
}

#[test]
fn an_expected_body_is_asked_for_and_the_upstream_is_spared_it() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    for call in [
        Call::unlock().with("Expect", "100-continue"),
        Call::unlock().with("Expect", "100-Continue").chunked(4),
    ] {
        let mut wire = gateway.connect();
        wire.send(call.head());
        assert_eq!(wire.answer().status(), 100);
        wire.send(call.framed_body());
        let answer = wire.answer();
        assert_eq!(answer.status(), 200);
        assert_canonical("expected", upstream.requests().last().unwrap(), &answer, "customer_id=191", &[]);
        match answer.field("Connection") {
            Some("close") => wire.assert_closes(),
            _ => assert_eq!(wire.call(&Call::unlock()).status(), 200, "the connection is kept"),
        }
    }
}

#[test]
fn a_call_may_arrive_byte_by_byte() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    for call in [Call::unlock(), Call::unlock().chunked(3)] {
        let mut wire = gateway.connect();
        for byte in call.bytes() {
            wire.send([byte]);
        }
        let answer = wire.answer();
        assert_canonical("dripped", upstream.requests().last().unwrap(), &answer, "customer_id=191", &[]);
    }
}

#[test]
fn nothing_goes_upstream_before_the_body_is_whole() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    let mut wire = gateway.connect();
    wire.send(Call::unlock().head());
    wire.send("customer_i");
    // Another connection's call goes through meanwhile, which proves that the gateway had its chance.
    assert_eq!(gateway.call(&Call::unlock().body("customer_id=192")).status(), 200);
    assert_eq!(upstream.count(), 1);
    wire.send("d=191");
    assert_eq!(wire.answer().status(), 200);
    assert_eq!(upstream.requests()[1].text(), "customer_id=191");
}

#[test]
fn calls_on_one_connection_are_each_their_own() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    let mut wire = gateway.connect();
    let mut ids = std::collections::BTreeSet::new();
    for number in 1..=20 {
        let body = format!("customer_id={number}");
        let answer = wire.call(&Call::unlock().body(&body));
        assert_eq!(answer.status(), 200);
        assert_canonical("kept", upstream.requests().last().unwrap(), &answer, &body, &[]);
        ids.insert(answer.one("X-Request-Id").to_owned());
    }
    assert_eq!(ids.len(), 20, "each call has a request id of its own");
}

/// The fields of an answer that are the upstream's to set.
fn end_to_end(answer: &Message) -> Vec<(String, String)> {
    // An upstream without a Date is given one (RFC 9110 section 6.6.1).
    let hop_by_hop =
        ["connection", "keep-alive", "transfer-encoding", "content-length", "x-request-id", "date"];
    let of_the_upstream =
        answer.fields.iter().filter(|(name, _)| !hop_by_hop.contains(&name.to_ascii_lowercase().as_str()));
    of_the_upstream.cloned().collect()
}

#[test]
fn the_upstreams_answer_comes_back_unchanged() {
    let many: Vec<String> = (0..100).map(|number| format!("X-Many-{number}: {number}")).collect();
    let many = many.join("\r\n");
    let long = "x".repeat(100_000);
    let answer = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::clone(&answer);
    let upstream = Upstream::scripted(move |_| Reply::Bytes(next.lock().unwrap().clone()));
    let gateway = gateway_before(&upstream);
    let mut wire = gateway.connect();
    for (case, status_line, fields, body) in [
        ("unlocked", "200 OK", "Content-Type: application/json", "true"),
        (
            "a 200 that says no",
            "200 OK",
            "Content-Type: application/json",
            r#"{"error":"Customer not found"}"#,
        ),
        ("another success", "201 Created", "Content-Type: application/json\r\nLocation: /x", "1"),
        ("a redirect", "302 Found", "Location: http://n4n.test/login", ""),
        ("not found", "404 Not Found", "Content-Type: text/html; charset=utf-8", "<h1>Not Found</h1>"),
        ("a teapot", "418 I'm a teapot", "X-Powered-By: PHP/8.2", "short and stout"),
        ("a failure", "500 Internal Server Error", "Content-Type: text/plain", "Fatal error"),
        ("unavailable", "503 Service Unavailable", "Retry-After: 120", "later"),
        ("cookies", "200 OK", "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nVary: a\r\nVary: b", "true"),
        ("an own limit", "429 Too Many Requests", "RateLimit-Limit: 1\r\nRetry-After: 7", "no"),
        ("many fields", "200 OK", many.as_str(), "true"),
        ("bytes that are no text", "200 OK", "Content-Type: application/octet-stream", "\0\u{1}\r\n\r\n"),
        ("a long body", "200 OK", "ETag: \"1\"", long.as_str()),
    ] {
        let head = format!("HTTP/1.1 {status_line}\r\n{fields}\r\n");
        let by_length = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let chunks = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        for (framing, bytes) in [("by length", by_length), ("chunked", chunked)] {
            *answer.lock().unwrap() = bytes.into_bytes();
            for turn in ["first", "second"] {
                let answer = wire.call(&Call::unlock());
                let case = format!("{case}, {framing}, {turn}");
                assert_eq!(answer.start_line, format!("HTTP/1.1 {status_line}"), "{case}");
                let given: Vec<(String, String)> = fields
                    .split("\r\n")
                    .map(|line| line.split_once(": ").unwrap())
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                assert_eq!(end_to_end(&answer), given, "{case}");
                assert_eq!(answer.text(), body, "{case}");
            }
        }
    }
}

#[test]
fn the_upstreams_own_date_stays() {
    let date = "Sat, 01 Jan 2000 00:00:00 GMT";
    let upstream =
        Upstream::answering(format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 4\r\n\r\ntrue"));
    let gateway = gateway_before(&upstream);
    assert_eq!(gateway.call(&Call::unlock()).one("Date"), date);
}

#[test]
fn an_answer_that_ends_with_its_connection_comes_back_whole() {
    let upstream = Upstream::scripted(|_| Reply::Last(b"HTTP/1.1 200 OK\r\nX-Own: 1\r\n\r\ntrue".to_vec()));
    let gateway = gateway_before(&upstream);
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.text(), answer.one("X-Own")), (200, "true", "1"));
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", 1.0);
}

#[test]
fn hop_by_hop_fields_of_the_answer_stay_behind() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\ntrue",
    );
    let gateway = gateway_before(&upstream);
    let mut wire = gateway.connect();
    let answer = wire.call(&Call::unlock());
    for name in ["X-Hop", "Keep-Alive"] {
        assert_eq!(answer.field(name), None, "{answer:?}");
    }
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
}

#[test]
fn interim_answers_do_not_confuse_the_final_one() {
    let upstream = Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue",
    );
    let gateway = gateway_before(&upstream);
    let mut wire = gateway.connect();
    for _ in 0..2 {
        wire.send(Call::unlock().bytes());
        let answer = std::iter::repeat_with(|| wire.answer()).find(|answer| answer.status() >= 200).unwrap();
        assert_eq!((answer.status(), answer.text()), (200, "true"));
    }
    gateway.wait_for_metric(
        "n4n_gateway_requests_total{outcome=\"forwarded\",code=\"ok\",status_class=\"2xx\"}",
        2.0,
    );
}

#[test]
fn a_client_that_leaves_halfway_costs_nothing() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream);
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.write_all(&Call::unlock().head()).unwrap();
    stream.write_all(b"customer_i").unwrap();
    drop(stream);
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"abandoned\",code=\"client_gone\"}", 1.0);
    assert_eq!(upstream.bytes(), b"");
}
