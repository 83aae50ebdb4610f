//! What each policy makes of a call while Redis fails, exactly.

use std::time::Instant;

use super::{TWENTY_ONCE, calmly, errors, sharing};
use crate::harness::{Call, DEADLINE, Gateway, Message, Redis, Signal, Upstream, Wire};

/// Calls until Redis is known to have failed, which a refusal by its policy or a metric tells.
fn wait_for_failure(gateway: &Gateway) {
    let start = Instant::now();
    while errors(gateway) == 0.0 {
        assert!(start.elapsed() < DEADLINE, "the failure goes unnoticed");
    }
}

fn remaining(answer: &Message) -> u32 {
    let field = answer.one("RateLimit");
    field.strip_prefix("\"user\";r=").and_then(|rest| rest.split(';').next()?.parse().ok()).unwrap()
}

#[test]
fn locally_a_gateway_counts_on_from_what_it_knew() {
    calmly(|| {
        let upstream = Upstream::start();
        let mut redis = Redis::start();
        let start = || {
            sharing(upstream.address(), &redis.url(), TWENTY_ONCE)
                .append("[[users]]\nname = \"listed\"")
                .set("log", "access = \"off\"")
                .start()
        };
        let gateways = [start(), start()];
        let mut wires: Vec<Wire> = gateways.iter().map(Gateway::connect).collect();
        for user in ["ada", "listed"] {
            for call in 0..10 {
                let answer = wires[call % 2].call(&Call::unlock().user(user));
                assert_eq!(remaining(&answer), 19 - u32::try_from(call).unwrap());
            }
        }
        redis.kill();
        wait_for_failure(&gateways[1]);
        for user in ["ada", "listed", "bob"] {
            let passed =
                (0..30).filter(|_| wires[1].call(&Call::unlock().user(user)).status() == 200).count();
            assert_eq!(passed, if user == "bob" { 20 } else { 10 }, "{user}");
        }
    });
}

#[test]
fn a_gateway_starts_without_redis_and_counts_by_itself() {
    let upstream = Upstream::start();
    let mut redis = Redis::start();
    redis.kill();
    let gateway = sharing(upstream.address(), &redis.url(), TWENTY_ONCE).start();
    assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
    let mut wire = gateway.connect();
    let passed = (0..30).filter(|_| wire.call(&Call::unlock()).status() == 200).count();
    assert_eq!(passed, 20);
    redis.start_again();
    let start = Instant::now();
    // In the new Redis the account is whole.
    while wire.call(&Call::unlock()).status() == 429 {
        assert!(start.elapsed() < DEADLINE);
    }
}

#[test]
fn a_rejected_call_is_over_its_quota_for_a_second() {
    let upstream = Upstream::start();
    let mut redis = Redis::start();
    redis.kill();
    let gateway = sharing(upstream.address(), &redis.url(), TWENTY_ONCE)
        .set("quota", "when_redis_fails = \"reject\"")
        .start();
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (429, "quota_exceeded"));
    assert_eq!((answer.one("Retry-After"), remaining(&answer)), ("1", 0));
    assert!(upstream.requests().is_empty());
}

#[test]
fn observe_mode_lets_pass_what_redis_or_its_absence_would_refuse() {
    calmly(|| {
        let upstream = Upstream::start();
        let mut redis = Redis::start();
        let gateway = sharing(upstream.address(), &redis.url(), "requests = 1\nper = \"1h\"\nburst = 1")
            .set("quota", "when_redis_fails = \"reject\"")
            .set("", "mode = \"observe\"")
            .set("log", "audit = \"audit.jsonl\"")
            .start();
        let mut wire = gateway.connect();
        let observed = |wire: &mut Wire| {
            let answer = wire.call(&Call::unlock());
            assert_eq!(answer.status(), 200);
            gateway.log_of(answer.one("X-Request-Id")).get("observed").cloned()
        };
        assert_eq!(observed(&mut wire), None);
        assert_eq!(observed(&mut wire), Some("quota_exceeded".into()));
        redis.kill();
        wait_for_failure(&gateway);
        assert_eq!(observed(&mut wire), Some("quota_exceeded".into()));
        let trail = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
        assert_eq!(trail.lines().count(), 6, "an intent and an outcome for each");
    });
}

#[test]
fn a_refused_call_asks_redis_nothing() {
    calmly(|| {
        let upstream = Upstream::start();
        let redis = Redis::start();
        let gateway = sharing(upstream.address(), &redis.url(), TWENTY_ONCE).start();
        let mut wire = gateway.connect();
        for call in [Call::unlock().body(""), Call::unlock().method("GET"), Call::unlock().without("api-key")]
        {
            assert!((400..406).contains(&wire.call(&call).status()));
        }
        let answer = wire.call(&Call::unlock());
        assert_eq!(remaining(&answer), 19);
        assert_eq!(redis.ask::<Vec<String>>("KEYS n4n-gateway:quota:[0-9a-f]*").len(), 1);
    });
}

#[test]
fn a_reload_moves_to_another_redis() {
    calmly(|| {
        let upstream = Upstream::start();
        let (first, second) = (Redis::start(), Redis::start());
        let gateway = sharing(upstream.address(), &first.url(), TWENTY_ONCE).start();
        let mut wire = gateway.connect();
        assert_eq!(remaining(&wire.call(&Call::unlock())), 19);
        gateway.reload(|text| text.replace(&first.url(), &second.url()));
        let account = |redis: &Redis| redis.ask::<Vec<String>>("KEYS n4n-gateway:quota:[0-9a-f]*").len();
        let start = Instant::now();
        while account(&second) == 0 {
            assert_eq!(wire.call(&Call::unlock().user("bob")).status() / 100, 2);
            assert!(start.elapsed() < DEADLINE);
        }
        assert_eq!(account(&first), 1);
        // The same again changes nothing: both workers' lines stay up.
        let lines = || -> Vec<String> {
            let clients: String = second.ask("CLIENT LIST");
            let others = clients.lines().filter(|client| !client.contains("cmd=client"));
            others.map(|client| client.split(' ').next().unwrap().to_owned()).collect()
        };
        while lines().len() < 2 {
            assert!(start.elapsed() < DEADLINE);
        }
        let before = lines();
        gateway.send(Signal::Hangup);
        gateway.wait_for_metric("n4n_gateway_config_reloads_total", 2.0);
        assert_eq!(wire.call(&Call::unlock()).status(), 200);
        assert_eq!(lines(), before);
    });
}
