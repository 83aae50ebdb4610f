//! The rules that a call's head can break.

use super::*;
use crate::harness::{API_KEY, secret_key};

#[test]
fn any_other_path_is_unknown() {
    let paths = [
        "/",
        "/api/customer",
        "/api/customer/unlock/",
        "/api/customer/unlock/191",
        "/api//customer/unlock",
        "//api/customer/unlock",
        "/api/./customer/unlock",
        "/api/x/../customer/unlock",
        "/API/customer/unlock",
        "/api/customer/Unlock",
        "/api/customer/unlock;v=1",
        "/api/customer/%75nlock",
        "/api%2Fcustomer%2Funlock",
        "/%2e/api/customer/unlock",
        "/api/customer/unlock%00",
        "/api/customer/unlock%20",
        "/index.php/api/customer/unlock",
    ];
    Bench::standard().assert_each_is_refused(&PATH_UNKNOWN, each(paths, |call, path| call.path(path)));
}

#[test]
fn any_other_method_is_not_allowed() {
    let methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "patch", "PATCHX"];
    let mut bench = Bench::standard();
    bench.assert_each_is_refused(&METHOD_NOT_ALLOWED, each(methods, |call, method| call.method(method)));

    let mut wire = bench.gateway.connect();
    wire.send(Call::unlock().method("HEAD").bytes());
    let answer = wire.answer_to_head();
    assert_eq!((answer.status(), answer.one("Allow")), (405, "PATCH"));
    bench.assert_serves("HEAD", &mut wire);
}

#[test]
fn a_method_cannot_be_overridden() {
    let fields = ["X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "x-http-method"];
    let cases = ["DELETE", "PATCH"].into_iter().flat_map(|method| fields.map(|field| (field, method)));
    Bench::standard().assert_each_is_refused(
        &METHOD_OVERRIDE,
        each(cases, |call, (field, method)| call.with(field, method)),
    );
}

#[test]
fn a_query_is_not_allowed() {
    let queries = ["", "customer_id=99", "x", "?", "%63ustomer_id=99"];
    Bench::standard()
        .assert_each_is_refused(&QUERY_NOT_ALLOWED, each(queries, |call, query| call.query(query)));
}

#[test]
fn an_unknown_expectation_is_refused_and_its_body_not_awaited() {
    let bench = Bench::standard();
    for expectation in ["200-ok", "100-continue, 200-ok", "100-continue; q=1"] {
        let mut wire = bench.gateway.connect();
        wire.send(Call::unlock().with("Expect", expectation).head());
        assert_refuses(expectation, &wire.answer(), &EXPECTATION_FAILED);
        wire.assert_closes();
        bench.assert_upstream_saw_good_calls_alone();
    }
}

#[test]
fn a_missing_credential_is_asked_for() {
    let cases = [
        ("no api-key", Call::unlock().without("api-key")),
        ("no api-username", Call::unlock().without("api-username")),
        ("neither", Call::unlock().without("api-key").without("api-username")),
        ("an empty api-key", Call::unlock().set("api-key", "")),
        ("a blank api-username", Call::unlock().set("api-username", "  ")),
    ];
    let cases = cases.map(|(case, call)| (case.to_owned(), call));
    Bench::standard().assert_each_is_refused(&CREDENTIAL_MISSING, cases);
}

#[test]
fn a_credential_is_given_once_in_one_spelling() {
    let another = secret_key("another");
    let another = another.as_str();
    let fields = [
        ("api-key", another),
        ("Api-Key", API_KEY),
        ("api_key", another),
        ("API.KEY", another),
        ("api-username", "another"),
        ("api_username", "another"),
        ("Api.Username", "another"),
    ];
    Bench::standard().assert_each_is_refused(
        &CREDENTIAL_AMBIGUOUS,
        each(fields, |call, (name, value)| call.with(name, value)),
    );
}

#[test]
fn a_credential_is_short_and_visible() {
    let long = "k".repeat(257);
    let values = ["two words", "caf\u{e9}", "a\tb", long.as_str()];
    let cases = values.into_iter().flat_map(|value| ["api-key", "api-username"].map(|field| (field, value)));
    let mut bench = Bench::standard();
    bench.assert_each_is_refused(
        &CREDENTIAL_MALFORMED,
        each(cases, |call, (field, value)| call.set(field, value)),
    );

    let longest = Call::unlock().set("api-key", &"k".repeat(256)).user(&"u".repeat(256));
    assert_eq!(bench.gateway.call(&longest).status(), 200, "256 bytes each are fine");
}

#[test]
fn only_a_plain_form_is_read() {
    let types = [
        "application/json",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/x-www-form-urlencoded; charset=iso-8859-1",
        "application/x-www-form-urlencoded, application/json",
        "application/x-www-form-urlencodedx",
        "",
    ];
    let mut bench = Bench::standard();
    bench.assert_each_is_refused(
        &MEDIA_TYPE_UNSUPPORTED,
        each(types, |call, value| call.set("Content-Type", value)).chain([
            ("no type".to_owned(), Call::unlock().without("Content-Type")),
            (
                "two types".to_owned(),
                Call::unlock().with("Content-Type", "application/x-www-form-urlencoded"),
            ),
            ("a coding".to_owned(), Call::unlock().with("Content-Encoding", "gzip")),
            ("the plain coding".to_owned(), Call::unlock().with("Content-Encoding", "identity")),
        ]),
    );

    for plain in [
        "application/x-www-form-urlencoded; charset=utf-8",
        "Application/X-WWW-Form-Urlencoded;charset=UTF-8",
    ] {
        assert_eq!(bench.gateway.call(&Call::unlock().set("Content-Type", plain)).status(), 200, "{plain}");
    }
}
