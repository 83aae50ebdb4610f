//! Of several broken rules the first names the answer, and what was refused leaves no trace but a log line.

use serde_json::Value;

use super::*;

/// Breaks one rule of an otherwise good call, whatever else was broken before.
type Breach = (Refusal, fn(Call) -> Call);

/// A breach of each rule that shows on the wire at once, in the order of judgement.
const BREACHES: [Breach; 15] = [
    (PATH_UNKNOWN, |call| call.path("/api/customer/lock")),
    (METHOD_NOT_ALLOWED, |call| call.method("POST")),
    (METHOD_OVERRIDE, |call| call.with("X-HTTP-Method", "DELETE")),
    (QUERY_NOT_ALLOWED, |call| call.query("customer_id=99")),
    (EXPECTATION_FAILED, |call| call.with("Expect", "200-ok")),
    (CREDENTIAL_MISSING, |call| call.without("api-username")),
    (CREDENTIAL_AMBIGUOUS, |call| call.with("api_key", "another")),
    (CREDENTIAL_MALFORMED, |call| call.set("api-key", "two words")),
    (MEDIA_TYPE_UNSUPPORTED, |call| call.set("Content-Type", "text/plain")),
    (BODY_TOO_LARGE, |call| call.more_body("&".repeat(9000))),
    (BODY_MALFORMED, |call| call.more_body("&x=%zz")),
    (PARAMETER_DISGUISED, |call| call.more_body("&customer.id=2")),
    (PARAMETER_UNKNOWN, |call| call.more_body("&x=1")),
    (LOOKUP_AMBIGUOUS, |call| call.more_body("&customer_id=2")),
    (LOOKUP_INVALID, |call| call.more_body("!")),
];

#[test]
fn the_first_broken_rule_names_the_answer() {
    let bench = Bench::standard();
    for (index, (refusal, breach)) in BREACHES.iter().enumerate() {
        let call = breach(Call::unlock());
        assert_refuses(refusal.code, &bench.gateway.call(&call), refusal);
        for (other, also) in &BREACHES[index + 1..] {
            let case = format!("{} before {}", refusal.code, other.code);
            assert_refuses(&case, &bench.gateway.call(&also(call.clone())), refusal);
        }
        let all = BREACHES[index + 1..].iter().fold(call, |call, (_, also)| also(call));
        assert_refuses(&format!("{} before all after it", refusal.code), &bench.gateway.call(&all), refusal);
    }
    bench.assert_upstream_saw_good_calls_alone();
}

#[test]
fn a_refused_head_is_not_excused_by_its_body() {
    let mut bench = Bench::new(|upstream| {
        Gateway::before(upstream.address()).set("policy", "body_timeout = \"300ms\"").start()
    });
    // The body's first bytes come late, or never.
    let call = Call::unlock().path("/api/customer/lock");
    let mut wire = bench.gateway.connect();
    wire.send(call.head());
    assert_refuses("before the body", &wire.answer(), &PATH_UNKNOWN);

    // The body is not asked for when its head is refused already.
    let mut wire = bench.gateway.connect();
    wire.send(call.with("Expect", "100-continue").head());
    assert_refuses("instead of 100", &wire.answer(), &PATH_UNKNOWN);
    wire.assert_closes();

    // What is left of a refused chunked body is not read as a request.
    let smuggled = Call::unlock().body("customer_id=666").bytes();
    let mut wire = bench.gateway.connect();
    let carrier = Call::unlock().path("/").body(smuggled).chunked(50);
    assert_refuses("a call within a body", &wire.call(&carrier), &PATH_UNKNOWN);
    bench.assert_serves("a call within a body", &mut wire);
    bench.assert_upstream_saw_good_calls_alone();
}

#[test]
fn a_refusal_is_logged_with_its_code_and_without_secrets() {
    let bench = Bench::standard();
    let answer = bench.gateway.call(&Call::unlock().query("customer_id=99"));
    let problem = answer.json();
    let line = bench.gateway.log_of(problem["request_id"].as_str().unwrap());
    for (member, value) in [
        ("status", Value::from(400)),
        ("outcome", Value::from("rejected")),
        ("code", Value::from("query_not_allowed")),
        ("method", Value::from("PATCH")),
        ("path", Value::from("/api/customer/unlock")),
        ("client", Value::from("127.0.0.1")),
        ("upstream_ms", Value::Null),
        ("peer", Value::Null),
        ("lookup", Value::Null),
    ] {
        assert_eq!(line[member], value, "{member} in {line}");
    }
}
