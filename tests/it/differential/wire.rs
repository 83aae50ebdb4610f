//! The same bodies over the wire: a real PHP behind the gateway sees the judged pair or nothing.

use n4n_gateway::policy::Lookup;
use serde_json::json;

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
