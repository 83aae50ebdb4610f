//! The same bodies over the wire: a real PHP behind the gateway sees the judged pair or nothing, and in observe mode what
//! the trail names.

use std::collections::HashMap;

use n4n_gateway::policy::{Lookup, LookupKey};
use serde_json::{Value, json};

use super::SEED;
use super::bodies::Bodies;
use super::judgement::Judge;
use crate::harness::{Call, Gateway, Php, seed};

/// How many bodies are sent, all on one connection.
const BODIES: usize = 3000;

#[test]
fn php_sees_the_judged_pair_or_nothing() {
    let judge = Judge::new();
    let php = Php::start();
    let gateway = Gateway::before(php.address()).set("policy", "max_body = \"64KiB\"").start();
    let mut wire = gateway.connect();
    let mut forwarded: Vec<(Vec<u8>, Lookup, String)> = Vec::new();

    for (index, body) in Bodies::from_seed(seed(SEED)).take(BODIES).enumerate() {
        let case = format!("body {index}, \"{}\"", body.escape_ascii());
        let call = Call::unlock().body(&body);
        let call = if index % 3 == 0 { call.chunked(1 + index % 7) } else { call };
        let answer = wire.call(&call);
        match judge.lookup(&body) {
            Ok(lookup) => {
                assert_eq!(answer.status(), 200, "{case}: {answer:?}");
                forwarded.push((body, lookup, answer.one("X-Request-Id").to_owned()));
            }
            Err(reason) => {
                let status = reason.face().status.unwrap();
                assert_eq!(
                    (answer.status(), answer.code().as_str()),
                    (status.as_u16(), reason.code()),
                    "{case}"
                );
            }
        }
    }

    let seen = php.seen();
    assert!(forwarded.len() * 100 >= BODIES * 15, "just {} bodies were accepted", forwarded.len());
    assert_eq!(seen.len(), forwarded.len(), "PHP saw as many calls as were accepted");
    for ((body, Lookup { key, value, .. }, request_id), seen) in forwarded.iter().zip(seen) {
        let case = body.escape_ascii();
        assert_eq!(seen["server"]["HTTP_X_REQUEST_ID"], **request_id, "{case}");
        assert_eq!(seen["pairs"], json!({ key.name(): value }), "{case}");
        assert_eq!(seen["query"], json!({}), "{case}");
        assert_eq!(
            (seen["effective_method"].as_str(), seen["uri"].as_str()),
            (Some("PATCH"), Some("/api/customer/unlock")),
            "{case}"
        );
    }
}

#[test]
fn php_sees_the_customer_that_the_trail_of_observe_mode_names_and_no_other() {
    let php = Php::start();
    let gateway = Gateway::before(php.address())
        .set("", "mode = \"observe\"")
        .set("policy", "max_body = \"64KiB\"")
        .set("log", "audit = \"audit.jsonl\"\naccess = \"off\"")
        .start();
    let mut wire = gateway.connect();
    for body in Bodies::from_seed(seed(SEED)).take(BODIES / 2) {
        let answer = wire.call(&Call::unlock().body(&body));
        assert!(answer.status() < 500, "{}: {answer:?}", body.escape_ascii());
    }

    let trail = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    let records = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let intents = records.filter(|record| record["event"] == "intent");
    let intents: HashMap<_, _> =
        intents.map(|intent| (intent["request_id"].as_str().unwrap().to_owned(), intent)).collect();
    let seen = php.seen();
    assert_eq!((intents.len(), seen.len()), (BODIES / 2, BODIES / 2));
    let (mut named, mut left_out) = (0, 0);
    for seen in seen {
        let intent = &intents[seen["server"]["HTTP_X_REQUEST_ID"].as_str().unwrap()];
        let keys = LookupKey::ALL.map(LookupKey::name);
        let read: HashMap<_, _> =
            keys.into_iter().filter_map(|key| Some((key, seen["pairs"].get(key)?.clone()))).collect();
        if let Some(key) = intent.get("lookup") {
            named += 1;
            let recorded = HashMap::from([(key.as_str().unwrap(), intent["value"].clone())]);
            assert_eq!(read, recorded, "{seen}");
        } else if read.len() == 1 && read.values().all(Value::is_string) {
            left_out += 1;
        }
    }
    println!("named: {named}, left out though PHP read one: {left_out}");
    assert!(named > left_out * 2, "{left_out} were left out, {named} named");
}
