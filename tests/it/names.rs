//! A user is one, in whatever case its name is spelt, as it is to the database behind n4n.

use std::process::Command;

use n4n_gateway::config::Settings;
use serde_json::Value;

use crate::harness::{API_KEY, Call, Gateway, Redis, Upstream, key_line, secret_key};

/// Spellings of one name.
const SPELLINGS: [&str; 4] = ["ops_Team-7", "ops_team-7", "OPS_TEAM-7", "oPS_tEAM-7"];

/// A quota of three calls, of which none comes back while a test runs.
const THREE_ONCE: &str = "quota = { requests = 1, per = \"1h\", burst = 3 }";

fn trail_of(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_listed_users_key_holds_for_every_spelling_and_one_spelling_goes_upstream() {
    let upstream = Upstream::start();
    let listed = SPELLINGS[0];
    let gateway = Gateway::before(upstream.address())
        .set("log", "audit = \"audit.jsonl\"")
        .append(&format!("[[users]]\nname = \"{listed}\"\n{}", key_line(API_KEY)))
        .start();
    let mut wire = gateway.connect();
    let wrong = secret_key("wrong");
    for spelling in SPELLINGS {
        let refused = wire.call(&Call::unlock().user(spelling).set("api-key", &wrong));
        assert_eq!(refused.code(), "credential_unknown", "{spelling}");
        assert_eq!(gateway.log_of(refused.one("x-request-id"))["user"], listed, "{spelling}");
    }
    assert_eq!(upstream.count(), 0);
    for spelling in SPELLINGS {
        let answer = wire.call(&Call::unlock().user(spelling));
        assert_eq!(answer.status(), 200, "{spelling}");
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["user"], listed, "{spelling}");
    }
    assert_eq!(upstream.count(), SPELLINGS.len());
    for request in upstream.requests() {
        assert_eq!(request.one("api-username"), listed);
    }
    let trail = trail_of(&gateway);
    let users: Vec<_> = trail.iter().filter_map(|record| record.get("user")).collect();
    assert_eq!(users, vec![listed; SPELLINGS.len()]);
    let counted = format!("n4n_gateway_user_requests_total{{user=\"{listed}\",outcome=\"forwarded\"}}");
    gateway.wait_for_metric(&counted, SPELLINGS.len() as f64);
    // Refused four times, and one line on the page.
    gateway.wait_for_event(&format!("\"user\":\"{listed}\",\"outcome\":\"rejected\",\"code\":\"credential_unknown\",\"title\":\"These credentials are not known\",\"peer\":null,\"times\":4"));
}

#[test]
fn a_listed_users_network_and_quota_hold_for_every_spelling() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .append("[[users]]\nname = \"placed\"\nnetworks = [\"192.0.2.0/24\"]")
        .append(&format!("[[users]]\nname = \"counted\"\n{THREE_ONCE}"))
        .start();
    let mut wire = gateway.connect();
    for spelling in ["placed", "Placed", "PLACED"] {
        assert_eq!(wire.call(&Call::unlock().user(spelling)).code(), "user_network", "{spelling}");
    }
    let spellings = ["counted", "Counted", "COUNTED", "cOUNTED"].into_iter().cycle().take(12);
    let passed = spellings.filter(|name| wire.call(&Call::unlock().user(name)).status() == 200).count();
    assert_eq!((passed, upstream.count()), (3, 3));
}

#[test]
fn an_unlisted_users_account_is_one_and_its_name_goes_upstream_as_sent() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("log", "audit = \"audit.jsonl\"")
        .set("quota", "requests = 1\nper = \"1h\"\nburst = 4")
        .start();
    let mut wire = gateway.connect();
    for spelling in SPELLINGS {
        let answer = wire.call(&Call::unlock().user(spelling));
        assert_eq!(answer.status(), 200, "{spelling}");
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["user"], spelling);
    }
    for spelling in SPELLINGS {
        assert_eq!(wire.call(&Call::unlock().user(spelling)).code(), "quota_exceeded", "{spelling}");
    }
    let sent: Vec<String> =
        upstream.requests().iter().map(|request| request.one("api-username").to_owned()).collect();
    assert_eq!(sent, SPELLINGS);
    let trail = trail_of(&gateway);
    assert_eq!(trail.iter().filter_map(|record| record["user"].as_str()).collect::<Vec<_>>(), SPELLINGS);
    gateway.wait_for_metric("n4n_gateway_quota_users", 1.0);
    // The page shows one user who is over its quota, refused four times.
    gateway
        .wait_for_event("\"is_listed\":false,\"remaining\":0,\"burst\":4,\"whole_in_ms\":0,\"refused\":4}]");
}

#[test]
fn an_account_in_redis_is_one_under_the_digest_of_the_name_in_lower_case() {
    let upstream = Upstream::start();
    let redis = Redis::start();
    let start = || {
        Gateway::before(upstream.address())
            .set("quota", "requests = 1\nper = \"1h\"\nburst = 4")
            .set("quota", &format!("redis = \"{}\"", redis.url()))
            .append(&format!("[[users]]\nname = \"Listed\"\n{THREE_ONCE}"))
            .start()
    };
    let gateways = [start(), start()];
    for spelling in SPELLINGS.into_iter().chain(["LISTED", "listed"]) {
        for gateway in &gateways {
            gateway.call(&Call::unlock().user(spelling));
        }
    }
    let mut keys: Vec<String> = redis.ask("KEYS n4n-gateway:quota:*");
    keys.retain(|key| !key.ends_with(":proof"));
    keys.sort();
    // As README tells an operator to find an account.
    let digest = |name: &str| {
        let line = format!("printf %s '{name}' | tr A-Z a-z | sha256sum");
        assert!(include_str!("../../README.md").contains(&line.replace(&format!("'{name}'"), "NAME")));
        let printed = Command::new("sh").arg("-c").arg(line).output().unwrap().stdout;
        format!("n4n-gateway:quota:{}", &String::from_utf8(printed).unwrap()[..64])
    };
    let mut expected = [digest(SPELLINGS[2]), digest("Listed")];
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn a_user_that_a_reload_spells_otherwise_keeps_its_account() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .append(&format!("[[users]]\nname = \"listed\"\n{THREE_ONCE}"))
        .start();
    let mut wire = gateway.connect();
    let mut statuses = || [(); 2].map(|()| wire.call(&Call::unlock().user("LISTED")).status());
    assert_eq!(statuses(), [200, 200]);
    gateway.reload(|text| text.replace("\"listed\"", "\"Listed\""));
    assert_eq!(statuses(), [200, 429]);
    let sent: Vec<String> =
        upstream.requests().iter().map(|request| request.one("api-username").to_owned()).collect();
    assert_eq!(sent, ["listed", "listed", "Listed"]);
}

#[test]
fn two_listed_names_that_differ_in_case_alone_are_a_fault() {
    let text = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]\n\
                [[users]]\nname = \"ada\"\n[[users]]\nname = \"Ada\"\n[[users]]\nname = \"ADA\"\n[[users]]\nname = \"adá\"\n";
    let folder = tempfile::tempdir().unwrap();
    let faults = Settings::parse(text, folder.path()).unwrap_err();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "line 6: users[\"Ada\"].name: `Ada` is listed as `ada` already: case does not tell users apart; list each user once",
            "line 8: users[\"ADA\"].name: `ADA` is listed as `ada` already: case does not tell users apart; list each user once",
            "line 10: users[4].name: can be no api-username; write 1 to 256 visible ASCII characters, without spaces",
        ]
    );
}
