//! Whoever asks for more different customers than a user may is told, or refused, and nobody else is.

use std::thread;
use std::time::Duration;

use crate::harness::{
    API_KEY, API_USERNAME, Call, Gate, Gateway, GatewayBuilder, Message, Reply, Upstream, Wire, binary,
    secret_key,
};
use crate::page::Events;

const FIVE: &str = "distinct = 5\nper = \"1h\"";
const ENFORCED: &str = "mode = \"enforce\"";
const SUSPECTED: &str = "enumeration_suspected";

/// An n4n that knows the customers with an even id.
fn upstream() -> Upstream {
    Upstream::scripted(|request| {
        let is_known = request.text().trim_end().ends_with(['0', '2', '4', '6', '8']);
        Reply::json("200 OK", if is_known { "true" } else { "false" })
    })
}

fn gateway(upstream: &Upstream) -> GatewayBuilder {
    Gateway::before(upstream.address()).set("enumeration", FIVE)
}

/// A call for a customer whose id is even where its number is, and never 0.
fn customer(number: u32) -> Call {
    Call::unlock().body(format!("customer_id={}", number + 2))
}

/// Asks for a customer that n4n knows; tells whether that passed.
fn passes(wire: &mut Wire, call: &Call) -> bool {
    let answer = wire.call(call);
    match (answer.status(), answer.text()) {
        (200, _) => true,
        (429, _) if answer.code() == SUSPECTED => false,
        other => panic!("{other:?}"),
    }
}

/// How many of these customers, known to n4n all of them, the user may ask for.
fn passed(wire: &mut Wire, user: &str, numbers: std::ops::Range<u32>) -> usize {
    numbers.filter(|number| passes(wire, &customer(number * 2).user(user))).count()
}

fn suspected(mode: &str) -> String {
    format!("n4n_gateway_enumeration_suspected_total{{mode=\"{mode}\"}}")
}

#[test]
fn a_walk_is_told_and_passes_unless_it_is_to_be_refused() {
    let upstream = upstream();
    let gateway = gateway(&upstream).set("log", "access = \"stdout\"").start();
    let mut wire = gateway.connect();
    let answers: Vec<Message> =
        (0..9).map(|number| wire.call(&customer(880_000_000 + number * 2).user("walker"))).collect();
    assert!(answers.iter().all(|answer| answer.text() == "true"));
    assert_eq!(upstream.requests()[8].text(), "customer_id=880000018", "in canonical form");
    gateway.wait_for_metric(&suspected("observe"), 4.0);
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total{code=\"enumeration_suspected\"}", 4.0);
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"forwarded\",code=\"ok\"}", 9.0);
    assert_eq!(gateway.metrics().sum("n4n_gateway_enumeration_users"), 1.0);
    for (number, answer) in answers.iter().enumerate() {
        let line = gateway.log_of(answer.one("x-request-id"));
        let observed = line.get("observed").map(|code| code.as_str().unwrap());
        assert_eq!(observed, (number >= 5).then_some(SUSPECTED), "{line}");
    }
    gateway.wait_for_line("a user asks for too many different customers");
    let mut events = Events::open(gateway.admin_address());
    let event = events.wait_for("suspect", |event| event["suspects"][0]["times"] == 4);
    let output = gateway.output();
    let lines: Vec<&str> = output.lines().filter(|line| line.contains("too many different")).collect();
    assert_eq!(lines.len(), 1, "one line while it goes on: {lines:?}");
    for words in ["walker", "is_listed=false", "count=6", "distinct=5", "per_seconds=3600", "enforced=false"]
    {
        assert!(lines[0].contains(words), "{words}: {}", lines[0]);
    }
    let suspect = &event["suspects"][0];
    assert_eq!((&suspect["name"], &suspect["count"]), (&"walker".into(), &9.into()), "{event:#}");
    assert_eq!((&suspect["distinct"], &suspect["is_refused"]), (&5.into(), &false.into()), "{event:#}");
    assert!(!format!("{output}{event}").contains("8800000"), "values are told nowhere");
}

#[test]
fn where_it_is_enforced_other_customers_are_refused_and_the_same_ones_are_not() {
    let upstream = upstream();
    let gateway = gateway(&upstream)
        .set("enumeration", ENFORCED)
        .set("quota", "requests = 1\nper = \"1h\"\nburst = 12")
        .start();
    let mut wire = gateway.connect();
    assert_eq!(passed(&mut wire, "walker", 0..5), 5);
    for number in [5, 6, 7] {
        let refused = wire.call(&customer(number * 2).user("walker"));
        assert_eq!((refused.status(), refused.code().as_str()), (429, SUSPECTED));
        assert_eq!(refused.one("Content-Type"), "application/problem+json");
        let seconds: u64 = refused.one("Retry-After").parse().unwrap();
        assert!((1..=3600 + 260).contains(&seconds), "{seconds}");
        assert_eq!(refused.field("RateLimit"), None, "it has not reached the quota");
    }
    // Five of twelve were spent, whatever was refused; and what was asked for before may be asked for again.
    let again = wire.call(&customer(0).user("walker"));
    assert!(again.one("RateLimit").starts_with("\"user\";r=6;"), "{}", again.one("RateLimit"));
    assert_eq!(passed(&mut wire, "walker", 0..5), 5);
    assert_eq!(upstream.count(), 11);
    assert_eq!(passed(&mut wire, "WALKER", 10..12), 0, "the same user, however the name is written");
    assert_eq!(passed(&mut wire, "bob", 10..15), 5, "another user is untouched");
    gateway.wait_for_metric(&suspected("enforce"), 5.0);
    gateway.wait_for_metric(
        "n4n_gateway_requests_total{outcome=\"rejected\",code=\"enumeration_suspected\"}",
        5.0,
    );
    gateway.wait_for_event("\"is_refused\":true");
}

#[test]
fn after_retry_after_there_is_room_for_another() {
    let upstream = upstream();
    let gateway = Gateway::before(upstream.address())
        .set("enumeration", "distinct = 1\nper = \"1s\"")
        .set("enumeration", ENFORCED)
        .start();
    let mut wire = gateway.connect();
    // Where the machine is so slow that a second goes by between two calls, the next pair tells.
    let refused = (1..100).step_by(2).find_map(|number| {
        wire.call(&customer(number * 2));
        let answer = wire.call(&customer(number * 2 + 2));
        (answer.status() == 429).then_some(answer)
    });
    let refused = refused.unwrap();
    let seconds: u64 = refused.one("Retry-After").parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    // Waiting is what the answer asks for, and what is tried here.
    thread::sleep(Duration::from_secs(seconds));
    assert!(passes(&mut wire, &customer(1000)));
}

#[test]
fn customers_that_n4n_does_not_know_weigh_more() {
    let upstream = upstream();
    let gateway = gateway(&upstream).set("enumeration", ENFORCED).start();
    let mut wire = gateway.connect();
    assert!(passes(&mut wire, &customer(1)), "it weighs three from when n4n has answered");
    assert!(passes(&mut wire, &customer(2)) && passes(&mut wire, &customer(4)));
    assert!(!passes(&mut wire, &customer(6)));
    assert!(passes(&mut wire, &customer(1)));
}

#[test]
fn whoever_knows_a_name_and_not_its_key_uses_nothing_up() {
    let upstream = Upstream::scripted(|request| match request.one("api-key") {
        API_KEY => Reply::json("200 OK", "true"),
        _ => Reply::json("401 Unauthorized", "{\"result\":\"Error\"}"),
    });
    let gateway = gateway(&upstream).set("enumeration", ENFORCED).start();
    let mut wire = gateway.connect();
    for number in 0..20 {
        let stranger = customer(number).set("api-key", &secret_key("stranger"));
        assert_eq!(wire.call(&stranger).status(), 401, "n4n's own answer");
    }
    assert_eq!(passed(&mut wire, API_USERNAME, 10..20), 5);
}

#[test]
fn calls_that_are_under_way_at_once_count() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let gateway = gateway(&upstream).set("enumeration", ENFORCED).start();
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let mut wire = gateway.connect();
            thread::spawn(move || passes(&mut wire, &customer(number)))
        })
        .collect();
    upstream.wait_for(5);
    gateway.wait_for_metric(&suspected("enforce"), 15.0);
    gate.open();
    let passed: usize = calls.into_iter().map(|call| usize::from(call.join().unwrap())).sum();
    assert_eq!(passed, 5);
}

#[test]
fn what_the_quota_refuses_counts_for_nothing() {
    let upstream = upstream();
    let gateway = gateway(&upstream)
        .set("enumeration", ENFORCED)
        .set("quota", "requests = 1\nper = \"1h\"\nburst = 2")
        .append("[[users]]\nname = \"n4n_admin\"\nquota = { requests = 1, per = \"1h\", burst = 2 }")
        .start();
    let mut wire = gateway.connect();
    for user in ["bob", "n4n_admin"] {
        for number in 0..10 {
            let answer = wire.call(&customer(number * 2).user(user));
            let want = if number < 2 { 200 } else { 429 };
            assert_eq!(answer.status(), want);
            assert!(want == 200 || answer.code() == "quota_exceeded", "{}", answer.code());
        }
    }
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"quota_exceeded\"}", 16.0);
    assert_eq!(gateway.metrics().sum("n4n_gateway_enumeration_suspected_total"), 0.0);
}

#[test]
fn observe_mode_refuses_nobody_and_tells_what_it_would_have() {
    let upstream = upstream();
    let gateway = gateway(&upstream).set("", "mode = \"observe\"").set("enumeration", ENFORCED).start();
    let mut wire = gateway.connect();
    let answers: Vec<Message> = (0..8).map(|number| wire.call(&customer(number * 2))).collect();
    assert!(answers.iter().all(|answer| answer.status() == 200));
    gateway.wait_for_metric("n4n_gateway_observed_rejections_total{code=\"enumeration_suspected\"}", 3.0);
    gateway.wait_for_metric(&suspected("observe"), 3.0);
    assert_eq!(gateway.log_of(answers[7].one("x-request-id"))["observed"], SUSPECTED);
}

#[test]
fn a_listed_user_has_a_limit_of_its_own_or_none() {
    let upstream = upstream();
    let gateway = gateway(&upstream)
        .append("[[users]]\nname = \"desk\"\nenumeration = { distinct = 8, mode = \"enforce\" }")
        .append("[[users]]\nname = \"batch\"\nenumeration = { mode = \"off\" }")
        .append("[[users]]\nname = \"ada\"")
        .start();
    let mut wire = gateway.connect();
    assert_eq!(passed(&mut wire, "desk", 0..20), 8);
    assert_eq!(passed(&mut wire, "batch", 0..150), 150);
    assert_eq!(passed(&mut wire, "ada", 0..20), 20);
    gateway.wait_for_metric(&suspected("enforce"), 12.0);
    gateway.wait_for_metric(&suspected("observe"), 15.0);
    assert_eq!(
        gateway.metrics().sum("n4n_gateway_enumeration_users"),
        0.0,
        "listed users have places of their own"
    );
    gateway.wait_for_event("\"is_listed\":true");
}

#[test]
fn a_reload_keeps_what_was_asked_for_and_follows_other_numbers() {
    let upstream = upstream();
    let gateway =
        gateway(&upstream).set("enumeration", ENFORCED).append("[[users]]\nname = \"desk\"").start();
    let mut wire = gateway.connect();
    for user in ["desk", "bob"] {
        assert_eq!(passed(&mut wire, user, 0..6), 5, "{user}");
    }
    gateway.reload(|text| text.replace("distinct = 5", "distinct = 6"));
    for user in ["desk", "bob"] {
        assert_eq!(passed(&mut wire, user, 10..20), 1, "{user}");
    }
    gateway.reload(|text| text.replace("mode = \"enforce\"", "mode = \"observe\""));
    for user in ["desk", "bob"] {
        assert_eq!(passed(&mut wire, user, 20..30), 10, "{user}");
    }
    gateway
        .reload(|text| text.replace("mode = \"observe\"", "mode = \"enforce\"").replace("\"1h\"", "\"2h\""));
    for user in ["desk", "bob"] {
        assert_eq!(passed(&mut wire, user, 0..10), 6, "{user}: another period begins anew");
    }
}

#[test]
fn many_invented_names_are_bounded() {
    let upstream = upstream();
    let gateway =
        gateway(&upstream).set("enumeration", ENFORCED).set("enumeration", "max_users = 32").start();
    let mut wire = gateway.connect();
    assert_eq!(passed(&mut wire, "walker", 0..6), 5);
    for number in 0..200 {
        assert!(passes(&mut wire, &customer(2).user(&format!("invented-{number}"))));
    }
    assert!(!passes(&mut wire, &customer(1000).user("walker")), "it is not forgotten for them");
    let metrics = gateway.metrics();
    assert!(metrics.sum("n4n_gateway_enumeration_users") <= 32.0);
    assert!(metrics.sum("n4n_gateway_enumeration_evictions_total") >= 169.0);
}

#[test]
fn limits_that_do_not_do_what_they_seem_to_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let check = |text: &str| {
        let text = format!("listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]\n{text}");
        std::fs::write(&config, text).unwrap();
        let output = binary().arg("check").arg("--config").arg(&config).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), told)
    };
    for (text, words) in [
        ("enumeration = { distinct = 0 }", "line 3: enumeration.distinct: is zero"),
        ("enumeration = { distinct = 1001 }", "line 3: enumeration.distinct: is over 1000"),
        ("enumeration = { per = \"900ms\" }", "line 3: enumeration.per: is under a second"),
        ("enumeration = { per = \"745h\" }", "line 3: enumeration.per: is over 31 days; write from \"1s\""),
        ("enumeration = { mode = \"off\" }", "line 3: enumeration.mode: is neither"),
        ("enumeration = { max_users = 0 }", "line 3: enumeration.max_users: is zero"),
        ("enumeration = { misses = 3 }", "line 3: enumeration.misses: is an unknown key"),
        (
            "users = [{ name = \"a\", enumeration = { mode = \"off\", distinct = 3 } }]",
            "mode: is \"off\" beside a limit",
        ),
        (
            "users = [{ name = \"a\", enumeration = { distinct = 1001 } }]",
            "users[\"a\"].enumeration.distinct: is over 1000",
        ),
        ("users = [{ name = \"a\", enumeration = { max_users = 5 } }]", "max_users: is an unknown key"),
    ] {
        let (code, told) = check(text);
        assert!(code == Some(2) && told.contains(words), "{text}: {told}");
    }
    let rare = "quota = { requests = 1, per = \"1h\", burst = 2 }\n";
    for (text, warning) in [
        ("enumeration = {}".to_owned(), None),
        ("enumeration = { mode = \"enforce\" }".to_owned(), Some("whoever knows one can use up what it may ask for")),
        (format!("{rare}enumeration = {{}}"), Some("of users who are not listed is never reached: the quota lets 3 calls")),
        (format!("{rare}enumeration = {{ distinct = 8 }}"), None),
        (format!("{rare}users = [{{ name = \"a\", enumeration = {{}} }}]"), Some("of user `a` is never reached")),
        (
            "enumeration = { mode = \"enforce\" }\naccess.unlisted_users = \"reject\"\nusers = [{ name = \"a\" }]".to_owned(),
            None,
        ),
    ] {
        let (code, told) = check(&text);
        assert_eq!(code, Some(0), "{text}: {told}");
        match warning {
            Some(words) => assert!(told.contains(words), "{text}: {told}"),
            None => assert!(!told.contains("warning: enumeration"), "{text}: {told}"),
        }
    }
}

/// Whoever walks through ids could else have each call covered by one that n4n does not let in.
#[test]
fn a_call_with_a_wrong_key_takes_back_no_other_that_was_sent_meanwhile() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |request| match request.one("api-key") {
        API_KEY => Reply::json("200 OK", "true"),
        _ => {
            held.pass();
            Reply::json("401 Unauthorized", "{\"result\":\"Error\"}")
        }
    });
    let gateway = gateway(&upstream).set("enumeration", ENFORCED).start();
    let covers: Vec<_> = (0..5)
        .map(|number| {
            let mut wire = gateway.connect();
            let cover = customer(number * 2).set("api-key", &secret_key("stranger"));
            thread::spawn(move || wire.call(&cover).status())
        })
        .collect();
    upstream.wait_for(5);
    let mut wire = gateway.connect();
    assert_eq!(passed(&mut wire, API_USERNAME, 0..5), 5, "asked for before");
    gate.open();
    for cover in covers {
        assert_eq!(cover.join().unwrap(), 401);
    }
    assert_eq!(passed(&mut wire, API_USERNAME, 5..10), 0);
}
