//! Nobody gets in who does not belong: networks, keys, and quotas that no stranger can spend.

use crate::harness::{API_KEY, Call, Gateway, GatewayBuilder, Upstream, key_line, secret_key};

fn with_listed_user(upstream: &Upstream, more: &str) -> GatewayBuilder {
    let user = format!("[[users]]\nname = \"listed\"\n{}{more}", key_line(API_KEY));
    Gateway::before(upstream.address()).append(&user)
}

#[test]
fn a_listed_user_is_known_by_its_key_and_an_unlisted_one_where_that_is_wanted() {
    let upstream = Upstream::start();
    let another = &secret_key("another");
    for (unlisted, user, key, code) in [
        ("forward", "listed", API_KEY, "ok"),
        ("forward", "listed", another, "credential_unknown"),
        ("forward", "stranger", another, "ok"),
        ("reject", "listed", API_KEY, "ok"),
        ("reject", "listed", another, "credential_unknown"),
        ("reject", "stranger", API_KEY, "credential_unknown"),
    ] {
        let gateway = with_listed_user(&upstream, "")
            .set("access", &format!("unlisted_users = \"{unlisted}\""))
            .start();
        let seen = upstream.count();
        let answer = gateway.call(&Call::unlock().user(user).set("api-key", key));
        let forwarded = upstream.count() - seen;
        if code == "ok" {
            assert_eq!((answer.status(), forwarded), (200, 1), "{unlisted} {user}");
        } else {
            assert_eq!(
                (answer.status(), answer.code().as_str(), forwarded),
                (401, code, 0),
                "{unlisted} {user}"
            );
            assert!(answer.field("WWW-Authenticate").is_some());
        }
        let label = if user == "listed" && code == "ok" { "listed" } else { "other" };
        gateway.wait_for_metric(&format!("n4n_gateway_user_requests_total{{user=\"{label}\"}}"), 1.0);
    }
}

#[test]
fn what_is_refused_after_the_right_key_is_counted_under_its_users_name() {
    let upstream = Upstream::start();
    let gateway = with_listed_user(&upstream, "networks = [\"127.0.0.0/8\"]").start();
    let mut wire = gateway.connect();
    let listed = || Call::unlock().user("listed");
    for (number, (call, code)) in [
        (listed().set("Content-Type", "text/plain"), "media_type_unsupported"),
        (listed().body("customer_id="), "lookup_invalid"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(wire.call(&call).code(), code);
        let counted = "n4n_gateway_user_requests_total{user=\"listed\",outcome=\"rejected\"}";
        gateway.wait_for_metric(counted, (number + 1) as f64);
    }
}

#[test]
fn an_unknown_user_and_a_wrong_key_are_answered_alike() {
    let upstream = Upstream::start();
    let gateway = with_listed_user(&upstream, "").set("access", "unlisted_users = \"reject\"").start();
    let shown = |user: &str| {
        let answer = gateway.call(&Call::unlock().user(user).set("api-key", &secret_key("wrong")));
        let id = answer.one("x-request-id").to_owned();
        let date = answer.one("Date").to_owned();
        answer.raw.escape_ascii().to_string().replace(&id, "ID").replace(&date, "DATE")
    };
    assert_eq!(shown("listed"), shown("nobody"));
}

#[test]
fn a_victims_quota_cannot_be_spent_by_those_who_only_know_its_name() {
    let upstream = Upstream::start();
    let quota = "quota = { requests = 1, per = \"1h\", burst = 20 }";
    let gateway = with_listed_user(&upstream, quota).start();
    let guessed = secret_key("guessed");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut wire = gateway.connect();
                for _ in 0..2500 {
                    let answer = wire.call(&Call::unlock().user("listed").set("api-key", &guessed));
                    assert_eq!(answer.code(), "credential_unknown");
                }
            });
        }
    });
    let mut wire = gateway.connect();
    let passed = (0..25).filter(|_| wire.call(&Call::unlock().user("listed")).status() == 200).count();
    assert_eq!(passed, 20, "the victim still has all of it");
    assert_eq!(upstream.count(), 20);
}

#[test]
fn networks_are_judged_by_the_client_that_a_trusted_proxy_speaks_for() {
    let upstream = Upstream::start();
    let gateway = with_listed_user(&upstream, "networks = [\"192.0.2.0/28\"]")
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")
        .set("clients", "networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]")
        .start();
    for (forwarded_for, code, client) in [
        ("192.0.2.1", "ok", "192.0.2.1"),
        ("203.0.113.1, 192.0.2.1", "ok", "192.0.2.1"),
        ("192.0.2.1:4711, 10.0.0.3", "ok", "192.0.2.1"),
        ("::ffff:192.0.2.1", "ok", "192.0.2.1"),
        ("192.0.2.99", "user_network", "192.0.2.99"),
        ("[2001:db8::1]:80", "user_network", "2001:db8::1"),
        ("192.0.2.1, 203.0.113.1", "client_not_allowed", "203.0.113.1"),
        ("192.0.2.1, unknown", "client_not_allowed", "127.0.0.1"),
        ("", "client_not_allowed", "127.0.0.1"),
    ] {
        let seen = upstream.count();
        let answer = gateway.call(&Call::unlock().user("listed").with("X-Forwarded-For", forwarded_for));
        let line = gateway.log_of(answer.one("x-request-id"));
        assert_eq!(line["code"], code, "{forwarded_for}");
        assert_eq!(line["client"], client, "{forwarded_for}");
        if code == "ok" {
            assert_eq!(upstream.requests()[seen].one("X-Forwarded-For"), client);
        } else {
            assert_eq!((answer.status(), upstream.count()), (403, seen), "{forwarded_for}");
        }
    }
}

#[test]
fn networks_and_users_are_kept_out_from_the_next_reload_on() {
    let upstream = Upstream::start();
    let listed = with_listed_user(&upstream, "quota = { requests = 1, per = \"1h\", burst = 2 }")
        .append("[[users]]\nname = \"open\"\n")
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\"]");
    let gateway = listed.start();
    let from = |client: &str, user: &str| Call::unlock().user(user).with("X-Forwarded-For", client);
    let mut wire = gateway.connect();
    assert_eq!(wire.call(&from("192.0.2.1", "listed")).status(), 200);

    let denied = "\n[clients]\nnetworks = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
                  deny = [\"192.0.2.128/25\", \"203.0.113.0/24\", \"2001:db8:0:bad::/64\"]\n";
    let (usual, open) = ("[[users]]\nname = \"open\"\n", "[[users]]\nname = \"open\"\ndisabled = true\n");
    gateway.reload(|text| text.replace(usual, &format!("disabled = true\n{open}")) + denied);
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);
    let another = secret_key("another");
    for (client, user, key, status, code) in [
        ("192.0.2.1", "stranger", API_KEY, 200, "ok"),
        ("192.0.2.128", "stranger", API_KEY, 403, "client_denied"),
        ("192.0.2.128", "listed", &another, 403, "client_denied"),
        ("2001:db8:0:bad::1", "stranger", API_KEY, 403, "client_denied"),
        ("203.0.113.1", "stranger", API_KEY, 403, "client_not_allowed"),
        ("192.0.2.1", "listed", &another, 401, "credential_unknown"),
        ("192.0.2.1", "LISTED", API_KEY, 403, "user_disabled"),
        ("192.0.2.1", "open", &another, 403, "user_disabled"),
    ] {
        let seen = upstream.count();
        let answer = wire.call(&from(client, user).set("api-key", key));
        assert_eq!(answer.status(), status, "{client} {user}");
        let line = gateway.log_of(answer.one("x-request-id"));
        assert_eq!((&line["code"], &line["client"]), (&code.into(), &client.into()), "{client} {user}");
        assert_eq!(upstream.count() - seen, usize::from(code == "ok"), "{client} {user}");
    }
    for (code, count) in [("client_denied", 3.0), ("user_disabled", 2.0)] {
        let metric = format!("n4n_gateway_requests_total{{outcome=\"rejected\",code=\"{code}\"}}");
        gateway.wait_for_metric(&metric, count);
    }
    let elsewhere = wire.call(&from("192.0.2.128", "listed").path("/elsewhere"));
    assert_eq!(elsewhere.code(), "client_denied", "on every path");

    gateway.reload(|text| text.replace(denied, "").replace("disabled = true\n", ""));
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 2.0);
    assert_eq!(wire.call(&from("192.0.2.128", "listed")).status(), 200);
    assert_eq!(wire.call(&from("192.0.2.1", "listed")).code(), "quota_exceeded", "it has gone on");
}

#[test]
fn nobody_is_believed_who_is_no_trusted_proxy() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("clients", "networks = [\"127.0.0.0/8\"]").start();
    assert_eq!(gateway.call(&Call::unlock().with("X-Forwarded-For", "192.0.2.1")).status(), 200);
    assert_eq!(upstream.requests()[0].one("X-Forwarded-For"), "127.0.0.1");
}

#[test]
fn a_clients_quota_is_taken_before_anything_else() {
    let upstream = Upstream::start();
    let quota = "quota = { requests = 1, per = \"1h\", burst = 3 }";
    let gateway = Gateway::before(upstream.address()).set("clients", quota).start();
    let mut wire = gateway.connect();
    for _ in 0..3 {
        assert_eq!(wire.call(&Call::unlock().path("/elsewhere")).code(), "path_unknown");
    }
    let refused = wire.call(&Call::unlock());
    assert_eq!((refused.status(), refused.code().as_str()), (429, "client_quota_exceeded"));
    assert_eq!(refused.one("RateLimit-Policy"), "\"client\";q=3;w=10800");
    assert!(refused.one("RateLimit").starts_with("\"client\";r=0;t="));
    assert!(refused.one("Retry-After").parse::<u32>().unwrap() > 3590);
    assert!(upstream.requests().is_empty());
}
