//! The four documented clients work through the gateway, unchanged, in front of a real PHP.

use std::process::Command;

use crate::harness::{API_KEY, API_USERNAME, Call, Gateway, Php, package_root, test_tools, tool};

fn client(command: &mut Command, script: &str, url: &str) -> String {
    let script = package_root().join("tests/clients").join(script);
    let output = command.arg(script).arg(url).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs one documented sample against the gateway and checks what PHP read.
fn the_sample_unlocks(mut command: Command, script: &str, says: &str) {
    let php = Php::start();
    let gateway = Gateway::before(php.address()).start();

    assert_eq!(client(&mut command, script, &gateway.url()), says);

    let seen = php.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0]["effective_method"], "PATCH");
    assert_eq!(seen[0]["uri"], "/api/customer/unlock");
    assert_eq!(seen[0]["pairs"], serde_json::json!({ "customer_id": "191" }));
    assert_eq!(seen[0]["query"], serde_json::json!({}));
    assert_eq!(seen[0]["server"]["HTTP_API_KEY"], API_KEY);
    assert_eq!(seen[0]["server"]["HTTP_API_USERNAME"], API_USERNAME);
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", 1.0);
}

#[test]
fn the_documented_curl_sample_unlocks() {
    tool("curl", "install curl");
    the_sample_unlocks(tool("sh", "install a POSIX shell"), "curl.sh", "true");
}

#[test]
fn the_documented_php_sample_unlocks() {
    let modules = tool("php", "install php-cli").arg("-m").output().unwrap();
    let modules = String::from_utf8(modules.stdout).unwrap();
    assert!(modules.lines().any(|module| module == "curl"), "install php-curl (tests/prepare does it)");
    the_sample_unlocks(tool("php", "install php-cli"), "unlock.php", "bool(true)");
}

#[test]
fn the_documented_python_sample_unlocks() {
    let python = tool("venv/bin/python", "install python3-venv and, into the venv, requests");
    the_sample_unlocks(python, "unlock.py", "True");
}

#[test]
fn the_documented_node_sample_unlocks() {
    let modules = test_tools().join("node_modules");
    assert!(modules.join("request").is_dir(), "install npm's `request` (tests/prepare does it)");
    let mut node = tool("node", "install nodejs");
    node.env("NODE_PATH", modules).env("NODE_NO_WARNINGS", "1");
    the_sample_unlocks(node, "unlock.js", "true");
}

#[test]
fn each_of_the_three_lookups_reaches_php_as_it_was_meant() {
    let php = Php::start();
    let gateway = Gateway::before(php.address()).start();
    for (body, key, value, answer) in [
        ("customer_id=191", "customer_id", "191", "true"),
        ("subscription_id=5191", "subscription_id", "5191", "true"),
        ("orderid=90191", "orderid", "90191", "true"),
        ("orderid=order%3A90192", "orderid", "order:90192", "true"),
        ("customer%5Fid=%31%39%31", "customer_id", "191", "true"),
        ("&&subscription_id=5192&", "subscription_id", "5192", "true"),
        ("customer_id=404", "customer_id", "404", r#"{"error":"Customer not found"}"#),
    ] {
        let reply = gateway.call(&Call::unlock().body(body));
        assert_eq!((reply.status(), reply.text()), (200, answer), "{body}");
        let seen = php.seen().pop().unwrap();
        assert_eq!(seen["pairs"], serde_json::json!({ key: value }), "{body}");
    }
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", 6.0);
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"refused\"}", 1.0);
}
