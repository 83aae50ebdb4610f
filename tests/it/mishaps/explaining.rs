//! What `explain` says of a configuration that enforces less than all, the gateway does.

use serde_json::Value;

use crate::explain::explain;
use crate::harness::{API_KEY, Call, Gateway, Upstream};

fn told(gateway: &Gateway, call: &Call) -> Value {
    serde_json::from_str(&explain(gateway, &call.bytes(), &["--json"])).unwrap()
}

fn verdict<'a>(told: &'a Value, code: &str) -> &'a Value {
    let rules = told["rules"].as_array().unwrap();
    &rules.iter().find(|rule| rule["code"] == code).unwrap_or_else(|| panic!("no {code}: {told:#}"))["verdict"]
}

/// What must be alike in both: neither the request's own id, nor a key, nor in which order and case its fields go out.
fn comparable(request: &str) -> (String, Vec<String>, String) {
    let hidden = regex::Regex::new(&format!("(?i)(x-request-id: ).*|{API_KEY}")).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let hide = |line: &str| hidden.replace_all(line, "$1***").to_lowercase();
    let mut lines = head.split("\r\n").map(hide);
    let start = lines.next().unwrap();
    let mut fields: Vec<_> = lines.collect();
    fields.sort();
    (start, fields, body.to_owned())
}

#[test]
fn observe_mode_is_explained_as_it_is_served() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("", "mode = \"observe\"")
        .set("policy", "max_body = \"32B\"")
        .start();
    for call in [
        Call::unlock(),
        Call::unlock().method("POST").with("x-own", "1").with("X-Forwarded-For", "192.0.2.1"),
        Call::unlock().query("a=b"),
        Call::unlock().without("api-key"),
        Call::unlock().set("Content-Type", "application/json").body("{}"),
        Call::unlock().body("customer_id=1&customer.id=2"),
        Call::unlock().body("customer_id=1&orderid=2").chunked(4),
        Call::unlock().method("CONNECT"),
        Call::unlock().method("POST").body("customer_id=1&customer.id=2&x=12345"),
        Call::unlock().path("/api/customer/unlock/"),
        Call::unlock().with("Host", "two"),
    ] {
        let told = told(&gateway, &call);
        let seen = upstream.count();
        let answer = gateway.call(&call);
        if answer.status() != 200 {
            assert_eq!(told["verdict"], answer.code().as_str(), "{told:#}");
            assert_eq!(verdict(&told, &answer.code()), "broken", "{told:#}");
            assert_eq!(told.get("passed_on_request"), None, "{told:#}");
            continue;
        }
        let line = gateway.log_of(answer.one("x-request-id"));
        assert_eq!((&told["verdict"], told.get("observed")), (&"forward".into(), line.get("observed")));
        let sent = String::from_utf8(upstream.requests()[seen].raw.clone()).unwrap();
        let shown = match told["observed"].as_str() {
            Some(observed) => {
                assert_eq!(verdict(&told, observed), "tolerated", "{told:#}");
                assert_eq!(verdict(&told, "quota_exceeded"), "not_reached", "{told:#}");
                assert_eq!(verdict(&told, "audit_unavailable"), "not_judged_offline", "{told:#}");
                "passed_on_request"
            }
            None => "canonical_request",
        };
        assert_eq!(comparable(told[shown].as_str().unwrap()), comparable(&sent));
    }
    let text = explain(&gateway, &Call::unlock().method("POST").bytes(), &[]);
    for words in ["verdict  forward\nobserved method_not_allowed\n", "let pass by observe mode", "as it came"]
    {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn rules_that_another_path_does_not_meet_are_not_said_to_be_kept() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("", "mode = \"observe\"")
        .set("policy", "other_paths = \"forward\"")
        .start();
    let call = Call::unlock().method("GET").path("/other?a=b").body("customer.id=1").with("x-own", "1");
    for call in [call.clone(), call.without("api-key").without("Content-Type")] {
        let told = told(&gateway, &call);
        assert_eq!((&told["verdict"], told.get("observed")), (&"forward".into(), None));
        for code in ["client_not_allowed", "path_unknown", "method_override", "expectation_failed"] {
            assert_eq!(verdict(&told, code), "kept", "{code}");
        }
        for code in ["query_not_allowed", "credential_missing", "media_type_unsupported", "body_timeout"] {
            assert_eq!(verdict(&told, code), "not_judged", "{code}");
        }
        for code in ["lookup_missing", "audit_unavailable", "quota_exceeded"] {
            assert_eq!(verdict(&told, code), "not_judged", "{code}");
        }
        assert_eq!(verdict(&told, "overloaded"), "not_judged_offline");
        let seen = upstream.count();
        assert_eq!(gateway.call(&call).status(), 200);
        let sent = String::from_utf8(upstream.requests()[seen].raw.clone()).unwrap();
        assert_eq!(comparable(told["passed_on_request"].as_str().unwrap()), comparable(&sent));
    }
    for call in [
        Call::unlock().path("/other").with("X-Rewrite-URL", "/api/customer/unlock"),
        Call::unlock().path("/other").with("X-HTTP-Method", "PATCH"),
        Call::unlock().path("/other").method("CONNECT"),
        Call::unlock().path("/other").with("Expect", "more"),
    ] {
        let told = told(&gateway, &call);
        assert_eq!(told["verdict"], gateway.call(&call).code().as_str(), "{told:#}");
    }
}

#[test]
fn the_cause_of_an_ambiguous_framing_is_told_and_no_other() {
    let gateway = Gateway::before(Upstream::start().address()).start();
    let bare = Call::unlock().bytes().iter().copied().filter(|&byte| byte != b'\r').collect::<Vec<_>>();
    for (request, cause) in [
        (bare, "cause    a line ends in a bare LF; end each in CR LF\n"),
        (Call::unlock().with("Host", "two").bytes(), "cause    there is more than one Host\n"),
        (
            Call::unlock().with("Transfer-Encoding", "chunked").bytes(),
            "cause    there is a Content-Length beside a Transfer-Encoding\n",
        ),
    ] {
        let told = explain(&gateway, &request, &[]);
        assert!(told.contains(&format!("verdict  framing_ambiguous\n{cause}")), "{told}");
        let json: Value = serde_json::from_str(&explain(&gateway, &request, &["--json"])).unwrap();
        assert_eq!(
            json["cause"].as_str(),
            Some(cause.trim_start_matches("cause    ").trim_end()),
            "{json:#}"
        );
    }
    assert!(!explain(&gateway, &Call::unlock().bytes(), &[]).contains("cause"));
}
