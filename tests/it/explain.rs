//! `explain` tells what the gateway would do, and the gateway does it.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Call, Gateway, Upstream, assert_unseen, binary};

pub(crate) fn explain(gateway: &Gateway, request: &[u8], more: &[&str]) -> String {
    let mut child = binary()
        .args(["explain", "--config"])
        .arg(gateway.config())
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let is_forwarded =
        ["verdict  forward\n", "\"verdict\": \"forward\""].iter().any(|verdict| text.contains(verdict));
    assert_eq!(output.status.code(), Some(if is_forwarded { 0 } else { 1 }), "{text}");
    assert_unseen("explain", &text);
    text
}

#[test]
fn the_verdict_is_what_the_wire_gives() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let hidden = regex::Regex::new("(?i)(x-request-id|api-key): [^\r]+").unwrap();
    let hide = |text: &str| hidden.replace_all(text, "$1: ***").into_owned();
    for call in [
        Call::unlock(),
        Call::unlock().body("customer%5Fid=%31").with("x-own", "1"),
        Call::unlock().body("customer_id=1&customer.id=2"),
        Call::unlock().body("customer_id[]=1"),
        Call::unlock().method("GET"),
        Call::unlock().query(""),
        Call::unlock().path("/api/customer/unlock;x"),
        Call::unlock().with("api_key", "x"),
        Call::unlock().with("Host", "two"),
    ] {
        let told: Value = serde_json::from_str(&explain(&gateway, &call.bytes(), &["--json"])).unwrap();
        let seen = upstream.count();
        let answer = gateway.call(&call);
        if answer.status() == 200 {
            assert_eq!(told["verdict"], "forward");
            let sent = String::from_utf8(upstream.requests()[seen].raw.clone()).unwrap();
            assert_eq!(hide(told["canonical_request"].as_str().unwrap()), hide(&sent));
        } else {
            assert_eq!(told["verdict"], answer.code().as_str());
            for member in ["code", "title", "detail", "status", "type"] {
                assert_eq!(told["problem"][member], answer.json()[member]);
            }
        }
    }
}

#[test]
fn the_client_is_as_given() {
    let gateway =
        Gateway::before(Upstream::start().address()).set("clients", "networks = [\"192.0.2.0/24\"]").start();
    let call = Call::unlock().bytes();
    assert!(explain(&gateway, &call, &["--client", "203.0.113.1"]).contains("verdict  client_not_allowed"));
    assert!(explain(&gateway, &call, &["--client", "192.0.2.1"]).contains("verdict  forward"));
}
