//! A key that a caller puts where something else belongs is masked wherever it would be shown, and told.
//!
//! That nothing shows one is looked at by the harness, at the end of each gateway: its outputs, files, metrics and page.

use serde_json::Value;

use crate::explain::explain;
use crate::harness::{API_KEY, Call, Gateway, GatewayBuilder, Upstream, key_line, secret_key};

/// A user with a key, a user without, and lookup values that a key could be.
fn before(upstream: &Upstream) -> GatewayBuilder {
    Gateway::before(upstream.address())
        .set("log", "audit = \"audit.jsonl\"")
        .set("policy", "patterns = { orderid = '[0-9A-Za-z-]{1,64}' }")
        .append(&format!("[[users]]\nname = \"Keyed\"\n{}[[users]]\nname = \"open\"", key_line(API_KEY)))
}

fn intents(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["event"] == "intent").collect()
}

fn misplaced(place: &str) -> String {
    format!("n4n_gateway_misplaced_keys_total{{place=\"{place}\"}}")
}

/// Credentials of which the name is a key.
fn swapped() -> [(String, String); 4] {
    let unknown = secret_key("-nobody-knows-");
    [
        (API_KEY.to_owned(), "Keyed".to_owned()),
        (API_KEY.to_owned(), API_KEY.to_owned()),
        (API_KEY.to_owned(), "something-else".to_owned()),
        // No digest is known of it, but a listed name stands in the place of the key.
        (unknown, "OPEN".to_owned()),
    ]
}

#[test]
fn a_key_in_the_place_of_the_name_is_masked_and_goes_on_as_sent() {
    let upstream = Upstream::start();
    let gateway = before(&upstream).set("quota", "requests = 1\nper = \"1h\"\nburst = 4").start();
    for (user, key) in swapped() {
        let seen = upstream.count();
        let call = Call::unlock().user(&user).set("api-key", &key);
        let answer = gateway.call(&call);
        assert_eq!(answer.status(), 200);
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["user"], "***");
        assert_eq!(upstream.requests()[seen].one("api-username"), user, "n4n judges what it is sent");
        let told = explain(&gateway, &call.bytes(), &[]);
        assert!(
            told.contains("api-key  in the api_username, by mistake") && told.contains("api-username: ***"),
            "{told}"
        );
    }
    assert!(intents(&gateway).iter().all(|intent| intent["user"] == "***"));
    assert_eq!(intents(&gateway).len(), 4);
    gateway.wait_for_metric(&misplaced("api_username"), 4.0);
    gateway.wait_for_line("place=\"api_username\" owner=\"Keyed\"");
    // They have one account among them, and stand on the page as one.
    let refused = gateway.call(&Call::unlock().user(API_KEY));
    assert_eq!(refused.code(), "quota_exceeded");
    gateway.wait_for_metric("n4n_gateway_quota_users", 1.0);
    gateway.wait_for_event("\"user\":\"***\"");
}

#[test]
fn a_key_in_the_place_of_the_name_is_masked_where_unlisted_users_are_refused() {
    let upstream = Upstream::start();
    let gateway = before(&upstream).set("access", "unlisted_users = \"reject\"").start();
    for (user, key) in swapped() {
        let answer = gateway.call(&Call::unlock().user(&user).set("api-key", &key));
        assert_eq!(answer.code(), "credential_unknown");
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["user"], "***");
    }
    // A listed name is no key, whatever stands in the place of the key.
    let guess = gateway.call(&Call::unlock().user("keyed").set("api-key", "Keyed"));
    assert_eq!(gateway.log_of(guess.one("x-request-id"))["user"], "Keyed");
    gateway.wait_for_metric(&misplaced("api_username"), 4.0);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_key_in_the_place_of_the_name_is_masked_in_what_observe_mode_records() {
    let upstream = Upstream::start();
    let gateway =
        before(&upstream).set("", "mode = \"observe\"").set("access", "unlisted_users = \"reject\"").start();
    for (user, key) in swapped() {
        let answer = gateway.call(&Call::unlock().user(&user).set("api-key", &key));
        assert_eq!(answer.status(), 200);
        let line = gateway.log_of(answer.one("x-request-id"));
        assert_eq!((&line["user"], &line["observed"]), (&"***".into(), &"credential_unknown".into()));
    }
    assert_eq!(intents(&gateway).len(), 4);
    assert!(intents(&gateway).iter().all(|intent| intent["user"] == "***"));
}

#[test]
fn a_key_that_is_looked_up_is_masked_in_the_trail() {
    let upstream = Upstream::start();
    let gateway = before(&upstream).start();
    let own = secret_key("-of-a-stranger-");
    let calls = [
        Call::unlock().user("keyed").body(format!("orderid={API_KEY}")),
        Call::unlock().user("stranger").set("api-key", &own).body(format!("orderid={API_KEY}")),
        Call::unlock().user("stranger").set("api-key", &own).body(format!("orderid={own}")),
    ];
    for call in &calls {
        assert_eq!(gateway.call(call).status(), 200);
        let told = explain(&gateway, &call.bytes(), &[]);
        assert!(
            told.contains("api-key  in the lookup_value, by mistake") && told.contains("orderid = ***"),
            "{told}"
        );
    }
    let told: Vec<_> = intents(&gateway).iter().map(|intent| intent["value"].clone()).collect();
    assert_eq!(told, ["***", "***", "***"]);
    gateway.wait_for_metric(&misplaced("lookup_value"), 3.0);
    gateway.wait_for_line("place=\"lookup_value\"");

    // What is not a key stays; a number does in any case, so that nobody hides a customer behind a key.
    for (key, body, value) in [("anything", "orderid=TX-191", "TX-191"), ("191", "customer_id=191", "191")] {
        let answer = gateway.call(&Call::unlock().user("stranger").set("api-key", key).body(body));
        assert_eq!(answer.status(), 200);
        assert_eq!(intents(&gateway).last().unwrap()["value"], value);
    }
}

#[test]
fn a_key_in_the_path_is_masked() {
    let upstream = Upstream::start();
    let gateway = before(&upstream).set("policy", "other_paths = \"forward\"").start();
    for (path, shown) in [
        (format!("/api/customer/unlock/{API_KEY}"), "/api/customer/unlock/***"),
        (format!("/report/{API_KEY}/today"), "/report/***/today"),
        (format!("/report/%34{}", &API_KEY[1..]), "/report/***"),
    ] {
        let call = Call::unlock().method("GET").path(&path);
        let answer = gateway.call(&call);
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["path"], shown, "{shown}");
        let told = explain(&gateway, &call.bytes(), &[]);
        assert!(told.contains("api-key  in the path, by mistake"), "{told}");
    }
    // Also of what is no request.
    let mut wire = gateway.connect();
    wire.send(format!("GET /{API_KEY} HTTP/1.1\r\nno field\r\n\r\n"));
    assert_eq!(wire.answer().status(), 400);
    gateway.wait_for_metric(&misplaced("path"), 4.0);
}
