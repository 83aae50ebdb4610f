//! Observe mode: broken rules are told, and the call passes as it came.

use crate::harness::{Call, Gateway, Upstream};

#[test]
fn a_tunnel_is_refused_all_the_same() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("", "mode = \"observe\"").start();
    let mut wire = gateway.connect();
    let answer = wire.call(&Call::unlock().method("CONNECT"));
    assert_eq!((answer.status(), answer.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.one("Allow"), "PATCH");
    assert_eq!(gateway.log_of(answer.one("x-request-id"))["code"], "method_not_allowed");
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn what_was_never_forwarded_has_no_intent() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("", "mode = \"observe\"")
        .set("policy", "max_body = \"20B\"")
        .set("log", "audit = \"audit.jsonl\"")
        .start();
    // A rule on its head would let it pass before its body is read.
    let call = Call::unlock().method("POST").body("x".repeat(30)).chunked(10);
    assert_eq!(gateway.call(&call).code(), "body_too_large");
    assert_eq!(std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap(), "");
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_call_that_would_be_refused_passes_as_it_came() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("", "mode = \"observe\"").start();
    for (call, code, start, body) in [
        (
            Call::unlock().body("customer_id=1&customer.id=2"),
            "parameter_disguised",
            "PATCH /api/customer/unlock HTTP/1.1",
            "customer_id=1&customer.id=2",
        ),
        (
            Call::unlock().body("customer_id=%zz").chunked(4),
            "body_malformed",
            "PATCH /api/customer/unlock HTTP/1.1",
            "customer_id=%zz",
        ),
        (
            Call::unlock().method("POST"),
            "method_not_allowed",
            "POST /api/customer/unlock HTTP/1.1",
            "customer_id=191",
        ),
        (
            Call::unlock().query("a=b"),
            "query_not_allowed",
            "PATCH /api/customer/unlock?a=b HTTP/1.1",
            "customer_id=191",
        ),
        (
            Call::unlock().without("api-key").with("x-own", "1"),
            "credential_missing",
            "PATCH /api/customer/unlock HTTP/1.1",
            "customer_id=191",
        ),
    ] {
        let seen = upstream.count();
        let answer = gateway.call(&call);
        assert_eq!((answer.status(), answer.text()), (200, "true"), "{code}");
        let forwarded = upstream.requests()[seen].clone();
        let raw = String::from_utf8(forwarded.raw.clone()).unwrap();
        assert!(raw.starts_with(start), "{raw}");
        assert_eq!(forwarded.text(), body, "{code}");
        assert_eq!(forwarded.one("Content-Length"), body.len().to_string());
        assert_eq!(forwarded.field("Transfer-Encoding"), None);
        let line = gateway.log_of(answer.one("x-request-id"));
        assert_eq!(
            (&line["outcome"], &line["code"], &line["observed"]),
            (&"forwarded".into(), &"ok".into(), &code.into())
        );
        gateway.wait_for_metric(&format!("n4n_gateway_observed_rejections_total{{code=\"{code}\"}}"), 1.0);
    }
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"rejected\"}", 0.0);
}

#[test]
fn a_call_that_passes_goes_out_in_canonical_form() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("", "mode = \"observe\"").start();
    let answer = gateway.call(&Call::unlock().body("customer%5Fid=191").with("x-own", "1"));
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.requests()[0].text(), "customer_id=191");
    assert_eq!(upstream.requests()[0].field("x-own"), None);
    assert!(gateway.log_of(answer.one("x-request-id")).get("observed").is_none());
}

#[test]
fn an_exceeded_quota_is_told_and_the_call_passes() {
    let upstream = Upstream::start();
    let quota = "requests = 1\nper = \"1h\"\nburst = 1";
    let gateway =
        Gateway::before(upstream.address()).set("", "mode = \"observe\"").set("quota", quota).start();
    let mut wire = gateway.connect();
    assert!((0..3).all(|_| wire.call(&Call::unlock()).status() == 200));
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total{code=\"quota_exceeded\"}", 2.0);
}

#[test]
fn what_would_be_unsafe_to_forward_is_still_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("", "mode = \"observe\"")
        .set("policy", "max_body = \"32B\"\nbody_timeout = \"200ms\"")
        .start();
    for (call, code) in [
        (Call::unlock().with("Host", "again"), "framing_ambiguous"),
        (Call::unlock().path("/api//customer/unlock"), "path_unknown"),
        (Call::unlock().body("customer_id=12345678901234567890123456789"), "body_too_large"),
        (Call::unlock().method("POST").body("customer_id=12345678901234567890123456789"), "body_too_large"),
    ] {
        assert_eq!(gateway.call(&call).code(), code);
    }
    for head in ["PATCH", "POST"] {
        let mut wire = gateway.connect();
        let broken = "Transfer-Encoding: chunked\r\n\r\nzz\r\n";
        wire.send(format!("{head} /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-key: k\r\napi-username: u\r\nContent-Type: application/x-www-form-urlencoded\r\n{broken}"));
        assert_eq!(wire.answer().code(), "body_malformed", "{head}");
        let mut wire = gateway.connect();
        wire.send(format!("{head} /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-key: k\r\napi-username: u\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nc"));
        assert_eq!(wire.answer().code(), "body_timeout", "{head}");
    }
    assert!(upstream.requests().is_empty());
}
