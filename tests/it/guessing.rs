//! Whoever guesses keys is shut out for a while, and nobody else is; invented users take no account from known ones.

use crate::harness::{
    API_KEY, Call, Gateway, GatewayBuilder, Reply, Upstream, Wire, binary, key_line, secret_key,
};

/// A listed user behind a proxy that says who calls.
fn behind_a_proxy(upstream: &Upstream, wrong_keys: &str) -> GatewayBuilder {
    Gateway::before(upstream.address())
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\", \"192.0.2.99/32\"]")
        .set("clients", &format!("wrong_keys = {{ {wrong_keys} }}"))
        .append(&format!("[[users]]\nname = \"listed\"\n{}", key_line(API_KEY)))
}

const THREE: &str = "allowed = 3, per = \"1h\", block = \"1h\"";

/// A call as one client sends it, through the proxy.
fn from(client: &str, call: &Call) -> Call {
    call.clone().with("X-Forwarded-For", client)
}

fn right() -> Call {
    Call::unlock().user("listed")
}

fn wrong(user: &str) -> Call {
    Call::unlock().user(user).set("api-key", &secret_key("guessed"))
}

/// The codes that so many calls in a row are answered with.
fn codes(wire: &mut Wire, call: &Call, count: usize) -> Vec<String> {
    (0..count).map(|_| wire.call(call)).map(|answer| code(&answer)).collect()
}

fn code(answer: &crate::harness::Message) -> String {
    if answer.status() == 200 { "ok".to_owned() } else { answer.code() }
}

#[test]
fn a_guesser_is_shut_out_and_the_user_is_not() {
    let upstream = Upstream::start();
    let gateway = behind_a_proxy(&upstream, THREE).start();
    let mut wire = gateway.connect();
    let guesser = "203.0.113.7";
    let guess = from(guesser, &wrong("listed"));
    let told = ["credential_unknown", "credential_unknown", "credential_unknown", "client_blocked"];
    assert_eq!(codes(&mut wire, &guess, 4), told);

    // Whatever it sends, the right key and another path included.
    for call in [right(), Call::unlock().user("stranger"), Call::unlock().path("/elsewhere")] {
        let answer = wire.call(&from(guesser, &call));
        assert_eq!((answer.status(), answer.code().as_str()), (403, "client_blocked"));
        assert_eq!(answer.field("Retry-After"), None);
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["client"], guesser);
    }
    assert_eq!(upstream.count(), 0);
    for elsewhere in ["203.0.113.8", "::ffff:198.51.100.7", "2001:db8::7"] {
        assert_eq!(codes(&mut wire, &from(elsewhere, &right()), 2), ["ok", "ok"], "{elsewhere}");
    }

    gateway.wait_for_metric("n4n_gateway_clients_blocked", 1.0);
    gateway.wait_for_metric("n4n_gateway_client_blocks_total", 1.0);
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"rejected\",code=\"client_blocked\"}", 4.0);
    gateway
        .wait_for_line("a client network is shut out, for its wrong keys network=203.0.113.7 seconds=3600");
    gateway.wait_for_event("\"clients_blocked\":1,\"blocked\":[{\"network\":\"203.0.113.7\",");
}

#[test]
fn an_ipv6_guesser_is_its_64() {
    let upstream = Upstream::start();
    let gateway = behind_a_proxy(&upstream, THREE).start();
    let mut wire = gateway.connect();
    for host in 1..=3 {
        let guess = from(&format!("2001:db8:0:1::{host}"), &wrong("listed"));
        assert_eq!(wire.call(&guess).code(), "credential_unknown");
    }
    assert_eq!(wire.call(&from("[2001:db8:0:1:ffff::9]:80", &right())).code(), "client_blocked");
    assert_eq!(wire.call(&from("2001:db8:0:2::1", &right())).status(), 200);
    gateway.wait_for_line("network=2001:db8:0:1::/64");
}

#[test]
fn what_is_not_listed_counts_where_it_is_refused_and_alike() {
    for (unlisted, user, told) in [
        (
            "reject",
            "nobody",
            ["credential_unknown", "credential_unknown", "credential_unknown", "client_blocked"],
        ),
        (
            "reject",
            "listed",
            ["credential_unknown", "credential_unknown", "credential_unknown", "client_blocked"],
        ),
        ("forward", "nobody", ["ok", "ok", "ok", "ok"]),
    ] {
        let upstream = Upstream::start();
        let gateway = behind_a_proxy(&upstream, THREE)
            .set("access", &format!("unlisted_users = \"{unlisted}\""))
            .start();
        let mut wire = gateway.connect();
        assert_eq!(codes(&mut wire, &from("203.0.113.7", &wrong(user)), 4), told, "{unlisted} {user}");
    }
}

#[test]
fn only_wrong_keys_count() {
    let upstream = Upstream::scripted(|_| Reply::json("401 Unauthorized", "{\"error\":\"Access denied\"}"));
    let gateway = behind_a_proxy(&upstream, THREE).start();
    let mut wire = gateway.connect();
    let client = "203.0.113.7";
    for call in [
        right(),
        wrong("unlisted"),
        right().body("customer.id=191"),
        right().set("api-key", "é"),
        right().without("api-key"),
        wrong("listed").method("POST"),
        wrong("listed").path("/elsewhere"),
    ] {
        for _ in 0..3 {
            assert_ne!(wire.call(&from(client, &call)).status(), 403);
        }
    }
    gateway.wait_for_metric("n4n_gateway_client_blocks_total", 0.0);
    assert_eq!(wire.call(&from(client, &wrong("listed"))).code(), "credential_unknown");
}

#[test]
fn a_trusted_proxy_and_whom_the_operator_names_are_never_shut_out() {
    let upstream = Upstream::start();
    let except = "except = [\"198.51.100.0/28\", \"2001:db8::7/128\"]";
    let gateway = behind_a_proxy(&upstream, &format!("{THREE}, {except}")).start();
    let mut wire = gateway.connect();
    // The proxy itself, one proxy behind another, and the office.
    for client in ["", "192.0.2.99", "198.51.100.1", "2001:db8::7"] {
        let told = codes(&mut wire, &from(client, &wrong("listed")), 6);
        assert!(told.iter().all(|code| code == "credential_unknown"), "{client}: {told:?}");
    }
    // A neighbour in its /64 is shut out, and it is not with that.
    assert_eq!(codes(&mut wire, &from("2001:db8::8", &wrong("listed")), 4)[3], "client_blocked");
    assert_eq!(wire.call(&from("2001:db8::7", &right())).status(), 200);
}

#[test]
fn a_block_ends_and_that_is_told() {
    let upstream = Upstream::start();
    let gateway = behind_a_proxy(&upstream, "allowed = 1, per = \"1ms\", block = \"700ms\"").start();
    let mut wire = gateway.connect();
    let client = "203.0.113.7";
    assert_eq!(wire.call(&from(client, &wrong("listed"))).code(), "credential_unknown");
    gateway.wait_for_line("a client network is let in again network=203.0.113.7");
    assert_eq!(wire.call(&from(client, &right())).status(), 200);
    gateway.wait_for_metric("n4n_gateway_clients_blocked", 0.0);
    gateway.wait_for_metric("n4n_gateway_client_blocks_total", 1.0);
}

#[test]
fn blocks_survive_a_reload_while_the_numbers_stay() {
    let upstream = Upstream::start();
    let gateway = behind_a_proxy(&upstream, THREE).start();
    let mut wire = gateway.connect();
    let blocked = |wire: &mut Wire| {
        ["203.0.113.7", "203.0.113.8"].map(|client| code(&wire.call(&from(client, &right()))))
    };
    for client in ["203.0.113.7", "203.0.113.8"] {
        codes(&mut wire, &from(client, &wrong("listed")), 3);
    }
    gateway.reload(|text| text + "[[users]]\nname = \"another\"\n");
    assert_eq!(blocked(&mut wire), ["client_blocked", "client_blocked"]);
    gateway.wait_for_metric("n4n_gateway_clients_blocked", 2.0);
    // One is let in.
    gateway.reload(|text| text.replace(THREE, &format!("{THREE}, except = [\"203.0.113.8/32\"]")));
    assert_eq!(blocked(&mut wire), ["client_blocked", "ok"]);
    // All are.
    gateway.reload(|text| text.replace("allowed = 3", "allowed = 4"));
    assert_eq!(blocked(&mut wire), ["ok", "ok"]);
    gateway.wait_for_line("all client networks are let in again");
    gateway.wait_for_metric("n4n_gateway_clients_blocked", 0.0);
}

#[test]
fn observe_mode_shuts_nobody_out() {
    let upstream = Upstream::start();
    let gateway = behind_a_proxy(&upstream, THREE).set("", "mode = \"observe\"").start();
    let mut wire = gateway.connect();
    assert_eq!(codes(&mut wire, &from("203.0.113.7", &wrong("listed")), 9), ["ok"; 9]);
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total{code=\"credential_unknown\"}", 9.0);
    gateway.wait_for_metric("n4n_gateway_client_blocks_total", 0.0);
}

#[test]
fn without_the_setting_nobody_is_shut_out() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .append(&format!("[[users]]\nname = \"listed\"\n{}", key_line(API_KEY)))
        .start();
    let mut wire = gateway.connect();
    assert!(codes(&mut wire, &wrong("listed"), 100).iter().all(|code| code == "credential_unknown"));
    assert_eq!(wire.call(&right()).status(), 200);
}

#[test]
fn a_setting_that_can_count_nothing_is_told() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::before(upstream.address()).set("clients", &format!("wrong_keys = {{ {THREE} }}")).start();
    gateway.wait_for_line("clients.wrong_keys: there are none to count");
    let checked = binary().arg("check").arg("--config").arg(gateway.config()).output().unwrap();
    assert!(
        String::from_utf8_lossy(&checked.stderr).contains("clients.wrong_keys")
            || String::from_utf8_lossy(&checked.stdout).contains("clients.wrong_keys")
    );
}

/// A quota that gives nothing back while a test runs, and lets n4n know one key.
fn before_a_strict_upstream() -> (Upstream, Gateway) {
    let upstream = Upstream::scripted(|request| {
        if request.one("api-key") == API_KEY {
            Reply::json("200 OK", "true")
        } else {
            Reply::json("200 OK", "{\"error\":\"Access denied\"}")
        }
    });
    let gateway = Gateway::before(upstream.address())
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\"]")
        .set("quota", "requests = 1\nper = \"1h\"\nburst = 4\nmax_users = 160")
        .start();
    (upstream, gateway)
}

/// A keyless caller's calls, each as another user; gives how many passed.
fn invent(wire: &mut Wire, client: &str, names: std::ops::Range<u32>) -> usize {
    let call = |n| from(client, &wrong(&format!("invented-{client}-{n}")));
    names.filter(|&n| wire.call(&call(n)).status() == 200).count()
}

#[test]
fn a_thousand_invented_users_of_one_address_take_no_account_from_anothers() {
    let (_upstream, gateway) = before_a_strict_upstream();
    let mut wire = gateway.connect();
    let known = |client: &str| from(client, &Call::unlock().user("known"));
    assert_eq!(wire.call(&known("198.51.100.1")).status(), 200);
    // Ten places, and one account for all the others.
    assert_eq!(invent(&mut wire, "203.0.113.7", 0..1000), 10 + 4);
    assert_eq!(codes(&mut wire, &known("198.51.100.1"), 4), ["ok", "ok", "ok", "quota_exceeded"]);
    for newcomer in ["ada", "bob"] {
        let call = from("198.51.100.1", &Call::unlock().user(newcomer));
        assert_eq!(codes(&mut wire, &call, 5), ["ok", "ok", "ok", "ok", "quota_exceeded"], "{newcomer}");
    }
    gateway.wait_for_metric("n4n_gateway_quota_users", 13.0);
    gateway.wait_for_metric("n4n_gateway_quota_evictions_total", 0.0);
}

#[test]
fn invented_users_of_many_addresses_take_none_either() {
    let (_upstream, gateway) = before_a_strict_upstream();
    let mut wire = gateway.connect();
    let call = |user: &str, client: &str| from(client, &Call::unlock().user(user));
    assert_eq!(wire.call(&call("known", "198.51.100.1")).status(), 200);
    let all: usize = (0..20).map(|n| invent(&mut wire, &format!("203.0.113.{n}"), 0..12)).sum();
    assert!(all >= 159, "{all}");
    gateway.wait_for_metric("n4n_gateway_quota_users", 160.0);
    let told =
        |wire: &mut Wire, call: &Call| codes(wire, call, 5).iter().filter(|code| *code == "ok").count();
    assert_eq!(
        told(&mut wire, &call("known", "198.51.100.1")),
        3,
        "the one it had, wherever others call from"
    );
    // There is no place left, and whoever is new shares with their own network alone.
    assert_eq!(told(&mut wire, &call("ada", "198.51.100.1")), 4);
    assert_eq!(told(&mut wire, &call("bob", "198.51.100.2")), 4);
}
