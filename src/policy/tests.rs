//! Every rule and its place in the order of judgement.

use super::*;
use crate::wire::{
    Fields,
    fields::{FieldSpan, Span},
    framing,
};
use futures_util::FutureExt as _;

fn policy() -> Policy {
    Policy {
        mode: Mode::Enforce,
        clients: Clients {
            networks: vec!["0.0.0.0/0".parse().unwrap()],
            denied: Vec::new(),
            trusted_proxies: Vec::new(),
        },
        access: Access::new([], false),
        other_paths: OtherPaths::Reject,
        max_body: 64,
        patterns: Patterns::default(),
        legacy_credentials: false,
    }
}

/// Where the fields stand in lines that `|` separates.
fn fields(lines: &str) -> Vec<FieldSpan> {
    let span = |part: &str| Span::of(part.trim().as_bytes(), lines.as_bytes()).unwrap();
    let fields = lines.split('|').filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| FieldSpan { name: span(name), value: span(value) }).collect()
}

fn credentials(lines: &str) -> Credentials {
    Credentials::of(Fields::new(lines.as_bytes(), &fields(lines)), false).unwrap()
}

const CREDENTIALS: &str = "api-key: k|api-username: u|";
const FORM: &str = "content-type: application/x-www-form-urlencoded|";

fn judge(policy: &Policy, method: &str, target: &str, lines: &str) -> Result<Route, &'static str> {
    let mut request = OnPaper { method, target, lines, fields: fields(lines), judged: Vec::new() };
    let judged = policy.judge(&mut request).now_or_never().unwrap();
    assert!(request.judged.is_sorted(), "{:?}", request.judged);
    if let Err(broken) = judged {
        assert!(request.judged.contains(&broken), "{broken:?} was not said to be judged");
    }
    judged.map(|judgement| judgement.route).map_err(Reason::code)
}

/// A request without a connection, and with a sound body.
struct OnPaper<'a> {
    method: &'a str,
    target: &'a str,
    lines: &'a str,
    fields: Vec<FieldSpan>,
    judged: Vec<Reason>,
}

impl order::Judged for OnPaper<'_> {
    fn head(&self) -> Head<'_> {
        Head {
            method: self.method,
            target: self.target,
            fields: Fields::new(self.lines.as_bytes(), &self.fields),
        }
    }

    fn peer(&self) -> IpAddr {
        [192, 0, 2, 1].into()
    }

    fn judges(&mut self, rules: &'static [Reason]) {
        self.judged.extend(rules);
    }

    fn note(&mut self, _: order::Found<'_>) {}

    fn find_user(&mut self, _: &ApiUsername) -> Option<Listed<'_>> {
        None
    }

    fn refuse_blocked(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    fn spend_client(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    async fn body(&mut self) -> Result<Bytes, Reason> {
        Ok(Bytes::from_static(b"customer_id=191"))
    }
}

#[test]
fn every_rule_has_its_place_in_the_order() {
    let lines = &format!("{CREDENTIALS}{FORM}");
    let judged = framing::RULES.to_vec();
    let mut call = OnPaper { method: "PATCH", target: UNLOCK.path, lines, fields: fields(lines), judged };
    let judgement = policy().judge(&mut call).now_or_never().unwrap().unwrap();
    call.judged.extend(order::AFTERWARDS.into_iter().filter(|&rule| judgement.asks(rule)));
    call.judged.dedup();
    let table: Vec<_> = Reason::ALL.into_iter().filter(|rule| *rule <= Reason::QuotaExceeded).collect();
    assert_eq!(call.judged, table);
}

fn judge_unlock(lines: &str) -> Result<(), &'static str> {
    judge(&policy(), "PATCH", UNLOCK.path, lines).map(|_| ())
}

#[test]
fn the_first_broken_rule_names_the_answer() {
    let all =
        |override_: &str, expect: &str, rest: &str| format!("{override_}{expect}{rest}content-length: 99|");
    let everything_wrong = all("x-http-method: GET|", "expect: x|", "api-key: k|api-key: k|");
    for (method, target, lines, code) in [
        ("GET", "/api/customer/unlock/?a", everything_wrong.clone(), "path_unknown"),
        ("GET", "/api/customer/unlock?a", everything_wrong.clone(), "method_not_allowed"),
        ("PATCH", "/api/customer/unlock?a", everything_wrong, "method_override"),
        ("PATCH", "/api/customer/unlock?a", all("", "expect: x|", ""), "query_not_allowed"),
        ("PATCH", "/api/customer/unlock", all("", "expect: x|", ""), "expectation_failed"),
        ("PATCH", "/api/customer/unlock", all("", "", "api-key: k|api-key: k|"), "credential_missing"),
        (
            "PATCH",
            "/api/customer/unlock",
            all("", "", "api-key: k|api-key: k|api-username: é|"),
            "credential_ambiguous",
        ),
        ("PATCH", "/api/customer/unlock", all("", "", "api-key: k|api-username: é|"), "credential_malformed"),
        ("PATCH", "/api/customer/unlock", all("", "", CREDENTIALS), "media_type_unsupported"),
        ("PATCH", "/api/customer/unlock", all("", "", &format!("{CREDENTIALS}{FORM}")), "body_too_large"),
    ] {
        assert_eq!(judge(&policy(), method, target, &lines).unwrap_err(), code, "{method} {target} {lines}");
    }
}

#[test]
fn a_head_without_fault_passes() {
    for lines in [
        "content-type: application/x-www-form-urlencoded",
        "content-type: Application/X-WWW-Form-URLencoded; charset=UTF-8|content-length: 64",
        "content-type: application/x-www-form-urlencoded;charset=\"utf-8\"|expect: 100-Continue",
        "content-type: application/x-www-form-urlencoded|transfer-encoding: chunked",
        "content-type: application/x-www-form-urlencoded;",
        "content-type: application/x-www-form-urlencoded \t; ;charset=utf-8; ;",
    ] {
        assert_eq!(judge_unlock(&format!("{CREDENTIALS}{lines}")), Ok(()), "{lines}");
    }
}

#[test]
fn a_field_that_asks_for_another_method_is_refused_in_every_spelling() {
    for name in
        ["x-http-method", "X-HTTP-Method-Override", "x-method-override", "x_http_method", "x.method-override"]
    {
        assert_eq!(
            judge_unlock(&format!("{CREDENTIALS}{FORM}{name}: PATCH")),
            Err("method_override"),
            "{name}"
        );
    }
}

#[test]
fn credentials_stand_once_in_one_spelling() {
    let long = "x".repeat(257);
    for (lines, code) in [
        ("api-username: u", "credential_missing"),
        ("api-key: k", "credential_missing"),
        ("api-key:|api-username: u", "credential_missing"),
        ("api_key: k|api-username: u", "credential_missing"),
        ("api-key: k|api-key: k|api-username: u", "credential_ambiguous"),
        ("api-key: k|api-key:|api-username: u", "credential_ambiguous"),
        ("api-key: k|api_key: k|api-username: u", "credential_ambiguous"),
        ("api-key: k|api.key: k|api-username: u", "credential_ambiguous"),
        ("api-key: k|api-username: u|api_username: u", "credential_ambiguous"),
        ("api-key: k|api-username: u|api~username: u", "credential_ambiguous"),
        ("api-key: k k|api-username: u", "credential_malformed"),
        ("api-key: k|api-username: u\tu", "credential_malformed"),
        (&format!("api-key: {long}|api-username: u"), "credential_malformed"),
        (&format!("api-key: k|api-username: {long}"), "credential_malformed"),
    ] {
        assert_eq!(judge_unlock(&format!("{FORM}{lines}")), Err(code), "{lines}");
    }
}

#[test]
fn legacy_spellings_count_only_where_they_are_asked_for_and_alone() {
    let legacy = Policy { legacy_credentials: true, ..policy() };
    for (lines, want) in [
        ("api_key: k|api_username: u", Ok(())),
        ("api_key: k|api-username: u", Ok(())),
        ("api-key: k|api-username: u", Ok(())),
        ("api.key: k|api-username: u", Err("credential_missing")),
        ("api_key: k|api-key: k|api-username: u", Err("credential_ambiguous")),
        ("api_key: k|api_key: k|api-username: u", Err("credential_ambiguous")),
        ("api_key: k|api.key: k|api-username: u", Err("credential_ambiguous")),
    ] {
        let verdict = judge(&legacy, "PATCH", UNLOCK.path, &format!("{FORM}{lines}"));
        assert_eq!(verdict.map(|_| ()), want, "{lines}");
    }
}

#[test]
fn only_a_plain_form_is_a_form() {
    for lines in [
        "",
        "content-type:",
        "content-type: application/json",
        "content-type: multipart/form-data; boundary=x",
        "content-type: ;application/x-www-form-urlencoded",
        "content-type: application/x-www-form-urlencoded; charset=latin1",
        "content-type: application/x-www-form-urlencoded; ; charset=latin1;",
        "content-type: application/x-www-form-urlencoded; =",
        "content-type: application/x-www-form-urlencoded;,",
        "content-type: application/x-www-form-urlencoded; charset=utf-8; x=y",
        "content-type: application/x-www-form-urlencoded, application/json",
        "content-type: application/x-www-form-urlencoded|content-type: application/x-www-form-urlencoded",
        "content-type: application/x-www-form-urlencoded|content-encoding: gzip",
        "content-type: application/x-www-form-urlencoded|content-encoding: identity",
    ] {
        assert_eq!(judge_unlock(&format!("{CREDENTIALS}{lines}")), Err("media_type_unsupported"), "{lines}");
    }
}

#[test]
fn other_paths_pass_only_where_they_may_and_cannot_be_mistaken() {
    let forward = Policy { other_paths: OtherPaths::Forward, ..policy() };
    for (target, lines, want) in [
        ("/other", "", Ok(())),
        ("/other?a=b", "content-length: 1000000", Ok(())),
        ("/api//customer/unlock", "", Err("path_unknown")),
        ("/api/index.php?r=customer/unlock", "", Err("path_unknown")),
        ("/other", "x-forwarded-uri: /", Err("path_unknown")),
        ("/other", "x-original-url: /api/customer/unlock", Err("path_unknown")),
        ("/other", "x_rewrite_url: /api/customer/unlock", Err("path_unknown")),
        ("/other", "x-http-method-override: PATCH", Err("method_override")),
        ("/other", "expect: the unexpected", Err("expectation_failed")),
    ] {
        assert_eq!(judge(&forward, "GET", target, lines).map(|_| ()), want, "{target} {lines}");
    }
    assert_eq!(judge(&policy(), "GET", "/other", "").map(|_| ()), Err("path_unknown"));
}

#[test]
fn no_field_names_another_target() {
    for name in ["x-original-url", "X_ORIGINAL_URI", "x-rewrite-url", "x.forwarded.uri"] {
        let judged = judge_unlock(&format!("{CREDENTIALS}|{name}: /api/customer/unlock"));
        assert_eq!(judged, Err("path_unknown"), "{name}");
    }
}

fn judge_body(body: &[u8]) -> Result<String, &'static str> {
    let judged = policy().judge_body(credentials(CREDENTIALS), body);
    if let Err(broken) = &judged {
        assert!(Lookup::RULES.contains(broken) || *broken == Reason::BodyTooLarge, "{broken:?}");
    }
    let call = judged.map_err(Reason::code)?;
    Ok(String::from_utf8(call.canonical_body.to_vec()).unwrap())
}

#[test]
fn one_lookup_passes_in_canonical_form() {
    for (body, canonical) in [
        ("customer_id=191", "customer_id=191"),
        ("subscription_id=a-b_c.d", "subscription_id=a-b_c.d"),
        ("orderid=a:2", "orderid=a%3A2"),
        ("customer%5Fid=%31%39%31", "customer_id=191"),
        ("&&orderid=7&", "orderid=7"),
    ] {
        assert_eq!(judge_body(body.as_bytes()), Ok(canonical.into()), "{body}");
    }
}

#[test]
fn the_first_broken_rule_of_the_body_names_the_answer() {
    for (body, code) in [
        (&b"customer_id=1&x=%zz&customer.id=2"[..], "body_malformed"),
        (b"customer_id=%", "body_malformed"),
        (b"customer_id=%f", "body_malformed"),
        (b"customer_id=\xff", "body_malformed"),
        (b"customer_id=%ff", "body_malformed"),
        (b"%ff=1&customer_id=1", "body_malformed"),
        (b"x=1&customer.id=2", "parameter_disguised"),
        (b"customer_id=1&customer+id=2", "parameter_disguised"),
        (b"customer%20id=2", "parameter_disguised"),
        (b"+customer_id=1", "parameter_disguised"),
        (b"customer[id=1", "parameter_disguised"),
        (b"customer_id[]=1", "parameter_disguised"),
        (b"customer_id[a]=1", "parameter_disguised"),
        (b"customer_id%00=1", "parameter_disguised"),
        (b"subscription%2Eid=1", "parameter_disguised"),
        (b"orderid%00x=1", "parameter_disguised"),
        (b"customer_id=1&customer_id=2&x", "parameter_unknown"),
        (b"=1&customer_id=1", "parameter_unknown"),
        (b"=", "parameter_unknown"),
        (b"Customer_ID=1", "parameter_unknown"),
        (b"order_id=1", "parameter_unknown"),
        (b"customer_id;=1", "parameter_unknown"),
        (b"", "lookup_missing"),
        (b"&&&", "lookup_missing"),
        (b"customer_id=1&subscription_id=2", "lookup_ambiguous"),
        (b"customer_id=1&customer_id=1", "lookup_ambiguous"),
        (b"customer_id=1&customer%5fid=2", "lookup_ambiguous"),
        (b"customer_id", "lookup_invalid"),
        (b"customer_id=", "lookup_invalid"),
        (b"customer_id=1%0a", "lookup_invalid"),
        (b"customer_id=1%00", "lookup_invalid"),
        (b"customer_id=1;orderid=2", "lookup_invalid"),
        (b"customer_id=a b", "lookup_invalid"),
        (b"customer_id=abc", "lookup_invalid"),
        (b"customer_id=0191", "lookup_invalid"),
        (b"customer_id=191e0", "lookup_invalid"),
        (b"subscription_id=0", "lookup_invalid"),
        (b"orderid=191abc", "lookup_invalid"),
        (
            b"customer_id=1234567890123456789012345678901234567890123456789012345678901234567890",
            "body_too_large",
        ),
    ] {
        assert_eq!(judge_body(body), Err(code), "{}", body.escape_ascii());
    }
}

#[test]
fn a_thousand_junk_parameters_hide_nothing() {
    let roomy = Policy { max_body: 65536, ..policy() };
    let body = "a&".repeat(1000) + "customer_id=1";
    assert_eq!(
        roomy.judge_body(credentials(CREDENTIALS), body.as_bytes()).unwrap_err(),
        Reason::ParameterUnknown
    );
}

#[test]
fn no_key_is_ever_shown() {
    let credentials = credentials("api-key: hidden|api-username: u");
    assert!(!format!("{credentials:?}").contains("hidden"));
}
