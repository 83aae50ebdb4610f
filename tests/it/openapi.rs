//! `conf/openapi.json` describes the call and every refusal as the gateway has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use n4n_gateway::config::Settings;
use n4n_gateway::operation::UNLOCK;
use n4n_gateway::outcome::RequestId;
use n4n_gateway::policy::LookupKey;
use n4n_gateway::reason::Reason;
use n4n_gateway::request::problem;
use serde_json::{Map, Value, json};

use crate::harness::{Message, MessageReader, package_root, tool};

const PROBLEM: &str = "application/problem+json";

fn file() -> PathBuf {
    package_root().join("conf/openapi.json")
}

/// The document.
pub(crate) fn document() -> Value {
    serde_json::from_slice(&std::fs::read(file()).unwrap()).unwrap()
}

/// The one operation.
fn operation(document: &Value) -> &Value {
    &document["paths"][UNLOCK.path]["patch"]
}

/// The responses that may be problem documents, by status, with the reasons that have the status.
fn refusals(document: &Value) -> BTreeMap<u16, (&Value, Vec<Reason>)> {
    let responses = operation(document)["responses"].as_object().unwrap();
    let refusals = responses.iter().filter(|(_, response)| !response["content"][PROBLEM].is_null());
    refusals
        .map(|(status, response)| {
            let status = status.parse().unwrap();
            let has_it = |reason: &Reason| reason.face().status.is_some_and(|is| is.as_u16() == status);
            (status, (response, Reason::ALL.into_iter().filter(has_it).collect()))
        })
        .collect()
}

fn codes(reasons: &[Reason]) -> Vec<&'static str> {
    reasons.iter().map(|reason| reason.code()).collect()
}

fn names(object: &Value) -> BTreeSet<String> {
    let names = object.as_object().map(Map::keys).into_iter().flatten();
    names.map(|name| name.to_ascii_lowercase()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// What the gateway writes where it answers by itself.
fn answer_to(reason: Reason) -> Message {
    let id = RequestId::next();
    let mut raw = Vec::new();
    problem::head_to_no_request(&mut raw, reason, id);
    raw.extend_from_slice(b"Connection: close\r\n\r\n");
    raw.extend(problem::document(reason, id).unwrap_or_default());
    MessageReader::new(raw.as_slice()).answer().unwrap()
}

#[test]
fn the_description_is_openapi() {
    let checked = tool("openapi/bin/python", "install what tests/openapi/requirements.txt lists")
        .args(["-m", "openapi_spec_validator"])
        .arg(file())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn every_refusal_is_described_in_the_gateways_own_words() {
    let document = document();
    let refusals = refusals(&document);
    let described: BTreeMap<&str, Value> = refusals
        .values()
        .flat_map(|(response, _)| response["content"][PROBLEM]["examples"].as_object().unwrap())
        .map(|(code, example)| (code.as_str(), without_id(&example["value"])))
        .collect();
    let answerable = Reason::ALL.into_iter().filter(|reason| reason.face().status.is_some());
    let answered: BTreeMap<&str, Value> =
        answerable.map(|reason| (reason.code(), without_id(&answer_to(reason).json()))).collect();
    assert_eq!(described, answered);

    for (status, (response, reasons)) in &refusals {
        let codes = codes(reasons);
        assert_eq!(names(&response["content"][PROBLEM]["examples"]), set(&codes), "{status}: the examples");
        let own = &response["content"][PROBLEM]["schema"]["allOf"][1]["properties"];
        assert_eq!(own, &json!({ "status": { "const": status }, "code": { "enum": codes } }), "{status}");
    }
}

/// A problem document without the part that is another every time.
fn without_id(problem: &Value) -> Value {
    let mut problem = problem.clone();
    let id = problem["request_id"].take();
    assert_eq!(id.as_str().map(str::len), Some(36), "{id}");
    problem
}

#[test]
fn a_problem_has_the_described_members_and_codes() {
    let document = document();
    let problem = &document["components"]["schemas"]["Problem"];
    let members = names(&answer_to(Reason::Internal).json());
    assert_eq!(names(&problem["properties"]), members);
    let required: Vec<&str> =
        problem["required"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    assert_eq!(set(&required), members);

    let answerable = Reason::ALL.into_iter().filter(|reason| reason.face().status.is_some());
    let codes = codes(&answerable.collect::<Vec<_>>());
    assert_eq!(document["components"]["schemas"]["Code"]["enum"], json!(codes));
}

fn is_quotas(reason: Reason) -> bool {
    matches!(reason, Reason::QuotaExceeded | Reason::ClientQuotaExceeded)
}

/// Whether the answer says when to come again by what is known of the client or user.
fn depends_on_the_past(reason: Reason) -> bool {
    is_quotas(reason) || reason == Reason::EnumerationSuspected
}

#[test]
fn every_refusal_has_the_described_fields() {
    let document = document();
    let balance = set(&["ratelimit", "ratelimit-policy"]);
    for (status, (response, reasons)) in refusals(&document) {
        let described = names(&response["headers"]);
        // n4n's own answers, and the refusals that come after the quota was asked, tell a balance.
        let is_also_n4ns = !response["content"]["application/json"].is_null();
        let tells_balance =
            is_also_n4ns || reasons.iter().any(|&reason| is_quotas(reason) || reason > Reason::QuotaExceeded);
        assert_eq!(described.is_superset(&balance), tells_balance, "{status}: the balance");

        for reason in reasons {
            let answer = answer_to(reason);
            let told = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
            let mut fields: BTreeSet<String> = told.collect();
            for of_the_message in ["connection", "content-length", "content-type", "date"] {
                assert!(fields.remove(of_the_message), "{}: {of_the_message}", reason.code());
            }
            if depends_on_the_past(reason) {
                // When to come again depends on what came before, so it is not among the fields that never change.
                assert!(fields.insert("retry-after".to_owned()));
            }
            assert_eq!(fields, &described - &balance, "{}", reason.code());
            for (name, reference) in response["headers"].as_object().unwrap() {
                let pointer = reference["$ref"].as_str().unwrap().trim_start_matches('#');
                let schema = &document.pointer(pointer).unwrap()["schema"];
                if let Some(value) = schema["const"].as_str() {
                    assert_eq!(answer.one(name), value, "{}", reason.code());
                }
            }
        }
    }
}

#[test]
fn the_call_is_described_as_it_is_accepted() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(names(&document["paths"]), set(&[UNLOCK.path]));
    assert_eq!(names(&document["paths"][UNLOCK.path]), set(&["patch"]));

    let schemas = &document["components"]["schemas"];
    let least = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]";
    let policy = Settings::parse(least, Path::new(".")).unwrap().policy;

    let form = &operation(&document)["requestBody"]["content"];
    assert_eq!(names(form), set(&["application/x-www-form-urlencoded"]));
    assert_eq!(form["application/x-www-form-urlencoded"]["schema"]["$ref"], "#/components/schemas/Lookup");
    let lookups = schemas["Lookup"]["oneOf"].as_array().unwrap().iter().map(|choice| {
        let lookup = document.pointer(choice["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
        assert_eq!(lookup["additionalProperties"], false, "{lookup}");
        let [required] = lookup["required"].as_array().unwrap().as_slice() else { panic!("{lookup}") };
        let required = required.as_str().unwrap();
        let value = lookup["properties"][required]["$ref"].as_str().unwrap().trim_start_matches('#');
        let pattern = document.pointer(value).unwrap()["pattern"].as_str().unwrap();
        let whole = format!("\\A{}\\z", pattern.trim_start_matches('^').trim_end_matches('$'));
        let key = LookupKey::ALL.into_iter().find(|key| key.name() == required).unwrap();
        assert_eq!(whole, policy.patterns.of(key).as_str(), "the default pattern of {required}");
        required
    });
    assert_eq!(lookups.collect::<Vec<_>>(), LookupKey::ALL.map(LookupKey::name));

    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    let fields: Vec<&str> = schemes.values().map(|scheme| scheme["name"].as_str().unwrap()).collect();
    assert_eq!(set(&fields), set(&["api-key", "api-username"]));
    assert_eq!(document["security"], json!([{ "apiKey": [], "apiUsername": [] }]), "both at once");
}
