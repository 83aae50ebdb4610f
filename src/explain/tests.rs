//! What `explain` says of a request, rule by rule.

use std::path::Path;

use super::*;
use crate::{config::Settings, gateway::Gateway};

const HEAD: &str = "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-key: hidden\r\napi-username: ada\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\n";

fn explain(request: &str) -> Explanation {
    explain_by("", request)
}

fn explain_by(more: &str, request: &str) -> Explanation {
    let text = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:80\"]\nlog.access = \"off\"\n\
                clients.networks = [\"192.0.2.0/24\"]";
    let gateway = Gateway::open(Settings::parse(&format!("{more}\n{text}"), Path::new("")).unwrap()).unwrap();
    Explanation::of(&gateway.live(), [192, 0, 2, 1].into(), request.as_bytes())
}

fn verdict_of(explanation: &Explanation, code: &str) -> Verdict {
    explanation.rules.iter().find(|rule| rule.code == code).unwrap().verdict
}

#[test]
fn a_good_call_is_shown_in_its_canonical_form_without_its_key() {
    for body in [
        "Content-Length: 17\r\n\r\ncustomer%5Fid=191",
        "Transfer-Encoding: chunked\r\n\r\n11\r\ncustomer%5Fid=191\r\n0\r\n\r\n",
    ] {
        let explanation = explain(&format!("{HEAD}{body}"));
        assert_eq!(explanation.verdict, "forward", "{explanation}");
        assert_eq!(verdict_of(&explanation, "lookup_invalid"), Verdict::Kept);
        assert_eq!(verdict_of(&explanation, "enumeration_suspected"), Verdict::NotJudgedOffline);
        assert_eq!(verdict_of(&explanation, "quota_exceeded"), Verdict::NotJudgedOffline);
        let canonical = explanation.canonical_request.as_deref().unwrap();
        assert!(canonical.starts_with("PATCH /api/customer/unlock HTTP/1.1\r\n"), "{canonical}");
        assert!(canonical.ends_with("\r\n\r\ncustomer_id=191"), "{canonical}");
        assert!(!format!("{explanation}{explanation:?}").contains("hidden"));
    }
}

#[test]
fn the_broken_rule_and_its_problem_are_shown() {
    let length = "Content-Length: 15\r\n\r\n";
    for (request, code) in [
        (format!("{HEAD}{length}customer.id=191"), "parameter_disguised"),
        (format!("{HEAD}{length}customer_id"), "body_timeout"),
        (format!("{HEAD}Host: h\r\n\r\n"), "framing_ambiguous"),
        (HEAD.to_owned(), "header_timeout"),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "path_unknown"),
    ] {
        let explanation = explain(&request);
        assert_eq!(explanation.verdict, code, "{explanation}");
        assert_eq!(verdict_of(&explanation, code), Verdict::Broken);
        assert_eq!(verdict_of(&explanation, "quota_exceeded"), Verdict::NotReached);
        assert!(explanation.problem.unwrap().get().contains(code));
        assert!(explanation.canonical_request.is_none());
    }
    let read = explain(&format!("{HEAD}{length}customer.id=191")).php_reads.unwrap();
    assert_eq!((read[0].name.as_str(), read[0].value.as_str()), ("customer_id", "191"));
}

#[test]
fn what_observe_mode_lets_pass_is_told_and_shown_as_it_came() {
    let observed = |request: &str| explain_by("mode = \"observe\"\npolicy.max_body = \"20B\"", request);
    let post = HEAD.replace("PATCH", "POST").replace("unlock HTTP", "unlock?api_key=hidden&a=b HTTP");
    let explanation =
        observed(&format!("{post}api_key: hidden\r\nContent-Length: 15\r\n\r\napi-key=hidden&x"));
    assert_eq!((explanation.verdict, explanation.observed), ("forward", Some("method_not_allowed")));
    for (code, verdict) in [
        ("path_unknown", Verdict::Kept),
        ("method_not_allowed", Verdict::Tolerated),
        ("method_override", Verdict::NotReached),
        ("media_type_unsupported", Verdict::NotReached),
        ("body_too_large", Verdict::Kept),
        ("body_timeout", Verdict::NotJudgedOffline),
        ("lookup_invalid", Verdict::NotReached),
        ("overloaded", Verdict::NotJudgedOffline),
        ("audit_unavailable", Verdict::NotJudgedOffline),
        ("enumeration_suspected", Verdict::NotReached),
        ("quota_exceeded", Verdict::NotReached),
    ] {
        assert_eq!(verdict_of(&explanation, code), verdict, "{code}");
    }
    assert!(explanation.canonical_request.is_none() && explanation.problem.is_none());
    let request = explanation.passed_on_request.as_deref().unwrap();
    assert!(request.starts_with("POST /api/customer/unlock?api_key=***&a=b HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\napi-key=***&"), "{request}");
    assert!(!format!("{explanation}{explanation:?}").contains("hidden"));

    // What could not be forwarded is refused all the same.
    let chunks = "Transfer-Encoding: chunked\r\n\r\n15\r\n";
    let too_large = observed(&format!("{post}{chunks}customer_id=123456789\r\n0\r\n\r\n"));
    assert_eq!((too_large.verdict, too_large.observed), ("body_too_large", Some("method_not_allowed")));
    let broken = observed(&format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n"));
    assert_eq!((broken.verdict, broken.observed), ("body_malformed", None));
    assert!(broken.passed_on_request.is_none());

    let kept = observed(&format!("{HEAD}Content-Length: 15\r\n\r\ncustomer_id=191"));
    assert_eq!((kept.verdict, kept.observed), ("forward", None));
    assert!(kept.canonical_request.is_some() && kept.passed_on_request.is_none());
}

#[test]
fn no_rule_is_said_to_be_kept_that_is_none_for_the_path() {
    let forward = |request: &str| explain_by("policy.other_paths = \"forward\"", request);
    let rest = "Host: h\r\nApi.Key: hidden\r\nContent-Length: 3\r\n\r\na=bapi-key=hidden";
    let explanation = forward(&format!("GET /other HTTP/1.1\r\n{rest}"));
    assert_eq!(explanation.verdict, "forward");
    let kept = [
        "client_not_allowed",
        "client_denied",
        "path_unknown",
        "method_not_allowed",
        "method_override",
        "expectation_failed",
    ];
    for Rule { code, verdict } in &explanation.rules {
        let want = match *code {
            "request_malformed" | "framing_ambiguous" | "header_too_large" => Verdict::Kept,
            code if kept.contains(&code) => Verdict::Kept,
            "header_timeout"
            | "client_blocked"
            | "client_quota_exceeded"
            | "overloaded"
            | "upstream_unavailable" => Verdict::NotJudgedOffline,
            _ => Verdict::NotJudged,
        };
        assert_eq!(*verdict, want, "{code}");
    }
    let request = explanation.passed_on_request.as_deref().unwrap();
    assert!(request.starts_with("GET /other HTTP/1.1\r\n") && request.ends_with("\r\n\r\na=b"), "{request}");
    assert!(!format!("{explanation}{explanation:?}").contains("hidden"));

    let renamed = forward(&format!("GET /other HTTP/1.1\r\nX-Original-URL: /\r\n{rest}"));
    assert_eq!(renamed.verdict, "path_unknown");
}

#[test]
fn a_listed_user_is_held_to_its_own_rules() {
    let digest = |key: &str| format!("{:x}", crate::policy::access::KeyDigest::of(key.as_bytes()));
    let request = format!("{HEAD}Content-Length: 15\r\n\r\ncustomer_id=191");
    for (name, key, network, is_disabled, verdict) in [
        ("ada", "hidden", "192.0.2.0/24", false, "forward"),
        ("ada", "another", "192.0.2.0/24", true, "credential_unknown"),
        ("ada", "hidden", "198.51.100.0/24", true, "user_disabled"),
        ("ada", "hidden", "198.51.100.0/24", false, "user_network"),
        ("bob", "another", "198.51.100.0/24", true, "forward"),
    ] {
        let key = digest(key);
        let users = format!(
            "users = [{{ name = \"{name}\", key_sha256 = [\"{key}\"], networks = [\"{network}\"], disabled = {is_disabled} }}]"
        );
        assert_eq!(explain_by(&users, &request).verdict, verdict, "{users}");
    }
}

#[test]
fn a_key_is_hidden_wherever_it_stands() {
    let key = "hidden-0123456789abcdef";
    let digest = format!("{:x}", crate::policy::access::KeyDigest::of(key.as_bytes()));
    let users = format!(
        "policy.other_paths = \"forward\"\nusers = [{{ name = \"Keyed\", key_sha256 = [\"{digest}\"] }}, {{ name = \"open\" }}]"
    );
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (request, places) in [
        (
            format!(
                "GET /a/{key}?x={key} HTTP/1.1\r\nHost: h\r\nReferer: https://h/{key}?{key}, {key}\r\n\r\n"
            ),
            &["path"][..],
        ),
        (
            format!(
                "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-username: {key}\r\napi-key: other\r\n{form}Content-Length: 15\r\n\r\ncustomer_id=191"
            ),
            &["api_username"],
        ),
        (
            // A listed name in the place of the key tells that the other is one.
            format!(
                "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-username: hidden-other\r\napi-key: OPEN\r\n{form}Content-Length: 20\r\n\r\norderid=hidden-other"
            ),
            &["api_username"],
        ),
        (
            format!(
                "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-username: Keyed\r\napi-key: {key}\r\n{form}Content-Length: {}\r\n\r\norderid={key}",
                8 + key.len()
            ),
            &["lookup_value"],
        ),
        (
            // What is refused, and for another reason, is shown as PHP reads it.
            format!(
                "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-username: Keyed\r\napi-key: {key}\r\n{form}Content-Length: {}\r\n\r\n{key}={key}",
                1 + 2 * key.len()
            ),
            &[],
        ),
    ] {
        let explanation = explain_by(&users, &request);
        assert_eq!(explanation.misplaced_keys, places, "{request}");
        let told = format!("{explanation}{explanation:?}{}", serde_json::to_string(&explanation).unwrap());
        assert!(!told.contains("hidden"), "{told}");
    }
    // An id that is the key as well is a number, and shown.
    let request = format!("{}Content-Length: 15\r\n\r\ncustomer_id=191", HEAD.replace("hidden", "191"));
    let canonical = explain(&request).canonical_request.unwrap();
    assert!(canonical.contains("api-key: ***") && canonical.ends_with("customer_id=191"), "{canonical}");
}
