//! Observe mode: broken rules are told, and the call passes as it came.

use std::fs;

use serde_json::Value;

use crate::harness::{API_KEY, API_USERNAME, Call, Gate, Gateway, GatewayBuilder, Upstream};

fn observing(upstream: &Upstream) -> GatewayBuilder {
    Gateway::before(upstream.address()).set("", "mode = \"observe\"")
}

/// The first record of the call that an answer's request id belongs to.
fn intent_of(gateway: &Gateway, request_id: &str) -> Value {
    let text = fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    let mut records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.find(|record| record["request_id"] == request_id).unwrap()
}

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

#[test]
fn who_asks_for_whom_is_recorded_after_the_first_broken_rule_where_it_is_beyond_doubt() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let upstream = Upstream::start();
    let gateway = observing(&upstream).set("log", "audit = \"audit.jsonl\"").start();
    let unlock = || Call::unlock().body("customer_id=191");
    let body = |body: &str| Call::unlock().body(body);
    let typed = |media_type: &str, body: &str| {
        Call::unlock().without("Content-Type").with("Content-Type", media_type).body(body)
    };
    let mine = Some(API_USERNAME);
    let known = Some(("customer_id", "191"));
    for (call, code, user, lookup) in [
        (unlock().query("x=1"), "query_not_allowed", mine, known),
        (unlock().method("POST"), "method_not_allowed", mine, known),
        (unlock().with("X-HTTP-Method", "GET"), "method_override", mine, known),
        // The user is named once, whatever there is of a key.
        (unlock().without("api-key"), "credential_missing", mine, known),
        (unlock().without("api-key").with("api_key", API_KEY), "credential_missing", mine, known),
        (unlock().with("api-key", "another"), "credential_ambiguous", mine, known),
        (unlock().without("api-key").with("api-key", "a b"), "credential_malformed", mine, known),
        // No user that is not certain.
        (unlock().without("api-username"), "credential_missing", None, known),
        (unlock().with("api-username", "ada"), "credential_ambiguous", None, known),
        (unlock().with("api_username", "ada"), "credential_ambiguous", None, known),
        (unlock().without("api-username").with("api_username", "ada"), "credential_missing", None, known),
        (unlock().without("api-username").with("api-username", "a b"), "credential_malformed", None, known),
        // Another media type, as long as there is nothing but the pair.
        (typed("application/json", "customer_id=191"), "media_type_unsupported", mine, known),
        (unlock().without("Content-Type"), "media_type_unsupported", mine, known),
        (
            typed(&format!("{FORM};charset=latin1"), "customer_id=191&x"),
            "media_type_unsupported",
            mine,
            known,
        ),
        (
            typed("application/json", "[{\"customer_id\":1},\"&customer_id=191"),
            "media_type_unsupported",
            mine,
            None,
        ),
        (
            typed("multipart/form-data;boundary=x", "--x&customer_id=191"),
            "media_type_unsupported",
            mine,
            None,
        ),
        (
            typed(FORM, "x&customer_id=191").with("Content-Encoding", "gzip"),
            "media_type_unsupported",
            mine,
            None,
        ),
        // What PHP reads.
        (body("customer_id=191&x=1"), "parameter_unknown", mine, known),
        (body("customer.id=191"), "parameter_disguised", mine, known),
        (body("orderid=%zz"), "body_malformed", mine, Some(("orderid", "%zz"))),
        (body("subscription_id=a%20b"), "lookup_invalid", mine, Some(("subscription_id", "a b"))),
        (body("customer_id="), "lookup_invalid", mine, Some(("customer_id", ""))),
        // No customer that is not certain.
        (body("customer_id[]=191"), "parameter_disguised", mine, None),
        (body("customer_id=1&customer_id=191"), "lookup_ambiguous", mine, None),
        (body("customer_id=1&customer.id=191"), "parameter_disguised", mine, None),
        (body("customer_id=1&orderid=191"), "lookup_ambiguous", mine, None),
        (body("x\0&customer_id=191"), "parameter_unknown", mine, None),
        (body("customer_id=%ff"), "body_malformed", mine, None),
        (body(&format!("customer_id=191{}", "&x".repeat(1000))), "parameter_unknown", mine, None),
        (body(""), "lookup_missing", mine, None),
        (unlock().query("customer.id=1"), "query_not_allowed", mine, None),
        (unlock().method("POST").query("orderid=1").body(""), "method_not_allowed", mine, None),
    ] {
        let answer = gateway.call(&call);
        let (id, told) = (answer.one("x-request-id"), format!("{code}, {user:?}, {lookup:?}"));
        assert_eq!(answer.status(), 200, "{told}: {}", answer.text());
        let (line, intent) = (gateway.log_of(id), intent_of(&gateway, id));
        assert_eq!((&line["observed"], &line["user"]), (&code.into(), &user.into()), "{told}: {line}");
        assert_eq!(line["lookup"].as_str(), lookup.map(|(key, _)| key), "{told}: {line}");
        let text = |member: &str| intent.get(member).map(|value| value.as_str().unwrap());
        assert_eq!((text("user"), text("lookup").zip(text("value"))), (user, lookup), "{intent}");
    }
}

const SHA256_OF_RIGHT: &str = "27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9";

#[test]
fn a_listed_user_is_counted_by_name_behind_a_broken_rule_where_its_key_was_right() {
    let upstream = Upstream::start();
    let gateway = observing(&upstream)
        .append(&format!("[[users]]\nname = \"ada\"\nkey_sha256 = [\"{SHA256_OF_RIGHT}\"]"))
        .start();
    let call = |key: &str| {
        Call::unlock()
            .method("POST")
            .without("api-key")
            .without("api-username")
            .with("api-username", "ada")
            .with("api-key", key)
    };
    for (key, user, count) in [("right", "ada", 1.0), ("wrong", "other", 1.0)] {
        let answer = gateway.call(&call(key));
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["user"], "ada");
        gateway.wait_for_metric(
            &format!("n4n_gateway_user_requests_total{{user=\"{user}\",outcome=\"forwarded\"}}"),
            count,
        );
    }
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total{code=\"method_not_allowed\"}", 2.0);
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total", 2.0);
}

#[test]
fn over_max_in_flight_calls_are_refused_all_the_same() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let gateway = observing(&upstream).set("listen", "max_in_flight = 1").start();
    let mut first = gateway.connect();
    first.send(Call::unlock().bytes());
    upstream.wait_for(1);
    for call in [Call::unlock(), Call::unlock().method("POST")] {
        let answer = gateway.call(&call);
        assert_eq!((answer.status(), answer.code().as_str()), (503, "overloaded"));
        assert!(answer.field("Retry-After").is_some());
    }
    gate.open();
    assert_eq!(first.answer().status(), 200);
    assert_eq!(upstream.count(), 1);
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"rejected\",code=\"overloaded\"}", 2.0);
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total{code=\"overloaded\"}", 0.0);
}

#[test]
fn what_the_trail_cannot_take_is_never_forwarded() {
    let upstream = Upstream::start();
    let gateway = observing(&upstream).set("log", "audit = \"audit.jsonl\"").start();
    let (file, away) = (gateway.file("audit.jsonl"), gateway.file("away"));
    fs::rename(&file, &away).unwrap();
    fs::create_dir(&file).unwrap();
    for call in [Call::unlock(), Call::unlock().query("x=1"), Call::unlock().method("POST")] {
        let answer = gateway.call(&call);
        assert_eq!((answer.status(), answer.code().as_str()), (503, "audit_unavailable"));
    }
    assert!(upstream.requests().is_empty());
    fs::remove_dir(&file).unwrap();
    fs::rename(&away, &file).unwrap();
    assert_eq!(gateway.call(&Call::unlock().query("x=1")).status(), 200);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
}
