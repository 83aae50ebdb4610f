//! The harness itself: what it claims to read and record, it does.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::secrets::{base64, digest_in, key_in};
use super::*;

fn read_request(bytes: &str) -> Result<Message, Broken> {
    MessageReader::new(bytes.as_bytes()).request()
}

#[test]
fn the_upstream_reads_strictly() {
    let good = "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    let request = read_request(good).unwrap();
    assert_eq!((request.one("host"), request.text(), request.raw.as_slice()), ("a", "ab", good.as_bytes()));

    let chunked = "PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    assert_eq!(read_request(chunked).unwrap().text(), "abc");

    for (bytes, broken) in [
        ("", "Closed"),
        ("PATCH / HTTP/1.1\r\nHost", "Truncated"),
        ("PATCH / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", "Truncated"),
        ("PATCH / HTTP/1.1\nHost: a\r\n\r\n", "Malformed"),
        ("PATCH  / HTTP/1.1\r\n\r\n", "Malformed"),
        ("PATCH / HTTP/1.0\r\n\r\n", "Malformed"),
        ("PATCH / HTTP/1.1\r\nHost : a\r\n\r\n", "Malformed"),
        ("PATCH / HTTP/1.1\r\n folded\r\n\r\n", "Malformed"),
        ("PATCH / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na", "Malformed"),
        ("PATCH / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "Malformed"),
        ("PATCH / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", "Malformed"),
        ("PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "Malformed"),
        ("PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "Malformed"),
    ] {
        let error = format!("{:?}", read_request(bytes).unwrap_err());
        assert!(error.starts_with(broken), "{bytes:?}: {error}");
    }
}

#[test]
fn the_upstream_records_every_byte_and_splits_the_requests() {
    let upstream = Upstream::start();
    let mut wire = Wire::connect(upstream.address());
    let calls = [Call::unlock(), Call::unlock().body("orderid=1").chunked(3)];
    for call in &calls {
        assert_eq!(wire.call(call).text(), "true");
    }
    wire.send("PATCH /rest");
    drop(wire);
    upstream.wait_for(2);
    let raw: Vec<Vec<u8>> = upstream.requests().into_iter().map(|request| request.raw).collect();
    assert_eq!(raw, calls.each_ref().map(Call::bytes));
    assert!(upstream.bytes().starts_with(&raw.concat()));
}

#[test]
fn upstreams_fail_as_they_are_told() {
    let answer_of = |address| {
        let mut wire = Wire::connect(address);
        wire.send(Call::unlock().bytes());
        wire.try_answer().map(|answer| answer.status())
    };
    assert_eq!(answer_of(Upstream::closing_at_once().address()), Err(Broken::Closed));
    assert_eq!(answer_of(Upstream::scripted(|_| Reply::Last(Vec::new())).address()), Err(Broken::Closed));
    let half = Upstream::scripted(|_| Reply::Last(b"HTTP/1.1 200".to_vec()));
    assert_eq!(answer_of(half.address()), Err(Broken::Truncated));
    let dripping = Upstream::scripted(|_| Reply::Drip(b"HTTP/1.1 204 No\r\n\r\n".to_vec()));
    assert_eq!(answer_of(dripping.address()), Ok(204));

    let (address, _guard) = refusing_address();
    let error = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn php_reads_the_body_as_applications_do_and_tells_what_it_saw() {
    let php = Php::start();
    for (call, status, body, pairs) in [
        (Call::unlock(), 200, "true", json!({"customer_id": "191"})),
        (Call::unlock().body("orderid=90191"), 200, "true", json!({"orderid": "90191"})),
        (Call::unlock().body("customer.id=191"), 200, "true", json!({"customer_id": "191"})),
        (
            Call::unlock().body("customer_id=1"),
            200,
            r#"{"error":"Customer not found"}"#,
            json!({"customer_id": "1"}),
        ),
        (
            Call::unlock().user("ada"),
            401,
            r#"{"error":"Invalid api-key or api-username"}"#,
            json!({"customer_id": "191"}),
        ),
        (
            Call::unlock().method("POST").with("X-HTTP-Method", "PATCH"),
            200,
            "true",
            json!({"customer_id": "191"}),
        ),
    ] {
        let answer = Wire::connect(php.address()).call(&call);
        assert_eq!((answer.status(), answer.text()), (status, body));
        assert_eq!(php.seen().last().unwrap()["pairs"], pairs);
    }
    let seen = Wire::connect(php.address())
        .call(&Call::unlock().method("GET").path("/_seen").query("last=1"))
        .json();
    assert_eq!(seen[0]["method"], "POST");
    assert_eq!(seen[0]["effective_method"], "PATCH");
    assert_eq!(seen[0]["overrides"], json!({"HTTP_X_HTTP_METHOD": "PATCH"}));
    assert_eq!(seen[0]["server"]["HTTP_API_USERNAME"], API_USERNAME);
    assert_eq!(seen[0]["body_base64"], "Y3VzdG9tZXJfaWQ9MTkx");
}

#[test]
fn metrics_are_summed_over_the_series_that_match() {
    let metrics = Metrics::parse(
        "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\na{x=\"2\",y=\"2\"} 5\nb 1.5e3\n",
    );
    for (selector, sum) in
        [("a", 12.0), ("a{x=\"1\"}", 7.0), ("a{y=\"2\",x=\"1\"}", 3.0), ("b", 1500.0), ("c", 0.0)]
    {
        assert_eq!(metrics.sum(selector), sum, "{selector}");
    }
    assert!(metrics.has("a{y=\"3\"}") && !metrics.has("a{y=\"4\"}"));
    assert_eq!(metrics.count(), 4);
}

#[test]
fn a_secret_is_seen_in_every_form() {
    let digest = "4f1ae6ee4ab0e1b8b5a2b4ba8f2a2c62".repeat(2);
    let of_key: String = Sha256::digest(API_KEY).iter().map(|byte| format!("{byte:02X}")).collect();
    for (case, text) in [
        ("plain", API_KEY.to_owned()),
        ("cut off", API_KEY[..16].to_owned()),
        ("of another user", secret_key("other")),
        ("upper case", API_KEY.to_uppercase()),
        ("percent-encoded", API_KEY.bytes().map(|byte| format!("%{byte:02X}")).collect()),
        ("hexadecimal", API_KEY.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ("a byte string's Debug", format!("{:?}", API_KEY.as_bytes())),
        ("base64", base64(API_KEY.as_bytes())),
        ("base64 behind a name", base64(format!("n4n_admin:{API_KEY}").as_bytes())),
        ("base64 behind another", base64(format!("ada:ada:{API_KEY}").as_bytes())),
        ("a digest", of_key),
        ("a configured digest", digest.clone()),
    ] {
        let config = format!("key_sha256 = [\"{digest}\"]");
        let text = format!("before {text} behind").into_bytes();
        let seen = key_in(&text).or_else(|| digest_in(&text, &config));
        assert!(seen.is_some(), "{case}: {}", String::from_utf8_lossy(&text));
    }
    let harmless = b"api-key api-username n4n_admin 191 200 44b5 4f1ae6ee";
    assert_eq!((key_in(harmless), digest_in(harmless, "")), (None, None));
}

#[test]
fn all_that_a_gateway_shows_is_looked_through() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", "audit = \"audit.jsonl\"").start();
    gateway.log_of(gateway.call(&Call::unlock()).one("X-Request-Id"));
    let shown: Vec<_> = gateway.shown();
    let (pages, texts): (Vec<_>, Vec<_>) = shown.into_iter().unzip();
    assert_eq!(pages, ["/metrics", "/events"]);
    assert!(texts[0].contains("n4n_gateway_requests_total{") && texts[1].contains("\"codes\":"), "{texts:?}");
    assert_eq!(gateway.written(), [gateway.file("audit.jsonl")]);
}
