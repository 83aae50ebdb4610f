//! The audit trail: who unlocked whom, provable afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{API_USERNAME, Call, Gateway, GatewayBuilder, Signal, Upstream, assert_unseen, binary};

fn recording(upstream: &Upstream, file: &Path) -> GatewayBuilder {
    Gateway::before(upstream.address())
        .set("log", &format!("audit = {:?}\naccess = \"off\"", file.to_str().unwrap()))
}

fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    assert_unseen("the trail", &text);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `audit verify`: its exit code and what it prints.
fn verify(file: &Path) -> (Option<i32>, String) {
    let output = binary().args(["audit", "verify"]).arg(file).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_forwarded_call_leaves_its_intent_and_its_outcome_and_a_refused_one_nothing() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let gateway = recording(&upstream, &file).start();
    let mut wire = gateway.connect();
    assert_eq!(wire.call(&Call::unlock().body("customer.id=1")).status(), 400);
    let answer = wire.call(&Call::unlock().body("orderid=7"));
    // The outcome is there before the answer's last byte.
    let records = records(&file);
    assert_eq!(records.len(), 2, "{records:?}");
    let (intent, outcome) = (&records[0], &records[1]);
    // So that readers know what they read before anything else.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| line.starts_with(r#"{"v":2,"time":"#)), "{text}");
    assert!(records.iter().all(|record| record["time"].as_str().unwrap().len() == 30), "{text}");
    for (member, want) in [
        ("event", "intent"),
        ("client", "127.0.0.1"),
        ("user", API_USERNAME),
        ("lookup", "orderid"),
        ("value", "7"),
        ("request_id", answer.one("x-request-id")),
    ] {
        assert_eq!(intent[member], want, "{intent}");
    }
    assert_eq!((&outcome["event"], &outcome["request_id"]), (&"outcome".into(), &intent["request_id"]));
    assert!(outcome.to_string().contains("unlocked"), "{outcome}");
    let (code, told) = verify(&file);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn a_call_whose_answer_was_not_seen_ends_as_unknown() {
    let upstream = Upstream::closing_at_once();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let gateway = recording(&upstream, &file).start();
    assert_eq!(gateway.call(&Call::unlock()).code(), "upstream_broken");
    let records = records(&file);
    assert_eq!(records.len(), 2);
    assert_eq!((&records[1]["result"], &records[1]["code"]), (&"unknown".into(), &"upstream_broken".into()));
}

#[test]
fn a_call_that_was_certainly_not_sent_ends_as_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    // Nobody listens on a port that was free a moment ago.
    let closed = Upstream::start().address();
    let gateway = Gateway::before(closed)
        .set("log", &format!("audit = {:?}\naccess = \"off\"", file.to_str().unwrap()))
        .start();
    assert_eq!(gateway.call(&Call::unlock()).code(), "upstream_unreachable");
    let records = records(&file);
    assert_eq!(records.len(), 2);
    let outcome = &records[1];
    assert_eq!((&outcome["result"], &outcome["code"]), (&"not_sent".into(), &"upstream_unreachable".into()));
    assert!(outcome.get("status").is_none());
}

#[test]
fn verifying_names_a_line_only_where_one_was_read_and_a_version_that_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let (code, told) = verify(folder.path());
    assert_eq!(
        (code, told),
        (Some(1), format!("{}: cannot be read: Is a directory (os error 21)\n", folder.path().display()))
    );
    let file = folder.path().join("audit.jsonl");
    let zeros = "0".repeat(64);
    std::fs::write(&file, format!("{{\"v\":3,\"event\":\"intent\",\"prev\":\"{zeros}\"}}\n")).unwrap();
    let (code, told) = verify(&file);
    assert_eq!(code, Some(1));
    assert!(told.starts_with(&format!("{}:1: a record of version 3", file.display())), "{told}");
    assert!(told.contains("later release"), "{told}");
    // Of a release before records had a version, with a member that is not known here.
    std::fs::write(&file, format!("{{\"event\":\"intent\",\"other\":[],\"prev\":\"{zeros}\"}}\n")).unwrap();
    let (code, told) = verify(&file);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("records: 1\nlast: "), "{told}");
}

#[test]
fn nothing_is_forwarded_that_cannot_be_recorded() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    // The process may write no file beyond a few records' length.
    let gateway = recording(&upstream, &file).start_limited("ulimit -f 2");
    let mut wire = gateway.connect();
    let answers: Vec<_> = (0..40).map(|_| wire.call(&Call::unlock())).collect();
    let forwarded = answers.iter().filter(|answer| answer.status() == 200).count();
    let refused = answers.last().unwrap();
    assert_eq!((refused.status(), refused.code().as_str()), (503, "audit_unavailable"));
    assert!(refused.field("Retry-After").is_some());
    assert_eq!(upstream.count(), forwarded, "what n4n got was recorded before");
    let intents = records(&file).iter().filter(|record| record["event"] == "intent").count();
    assert!(intents >= forwarded);
    let (code, told) = verify(&file);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn a_kill_under_load_loses_no_intent_and_the_chain_goes_on() {
    const KILLS: usize = 50;
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    for kill in 0..KILLS {
        let mut gateway = recording(&upstream, &file).start();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut wire = gateway.connect();
                    while !stop.load(Ordering::Relaxed) {
                        wire.send(Call::unlock().bytes());
                        if wire.try_answer().is_err() {
                            break;
                        }
                    }
                });
            }
            let seen = upstream.count();
            while upstream.count() < seen + 5 + kill % 7 {
                std::thread::yield_now();
            }
            gateway.send(Signal::Kill);
            stop.store(true, Ordering::Relaxed);
        });
        gateway.wait_exit();
    }
    // Opening the trail once more puts a torn record aside.
    drop(recording(&upstream, &file).start());
    let (code, told) = verify(&file);
    assert_eq!(code, Some(0), "{told}");
    let mut intents = BTreeMap::new();
    for record in records(&file).iter().filter(|record| record["event"] == "intent") {
        *intents.entry(record["request_id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    for request in upstream.requests() {
        assert_eq!(
            intents.get(request.one("x-request-id")),
            Some(&1),
            "every call that n4n got has its intent"
        );
    }
}

#[test]
fn tampering_is_found() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let gateway = recording(&upstream, &file).start();
    let mut wire = gateway.connect();
    for _ in 0..5 {
        wire.call(&Call::unlock());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let swapped = [&lines[..3], &[lines[4], lines[3]], &lines[5..]].concat();
    let removed = [&lines[..4], &lines[5..]].concat();
    for (what, tampered) in [
        ("a flipped byte", text.replacen("191", "192", 1)),
        ("two swapped lines", swapped.join("\n") + "\n"),
        ("a removed line", removed.join("\n") + "\n"),
    ] {
        let copy = folder.path().join("copy.jsonl");
        std::fs::write(&copy, tampered).unwrap();
        let (code, told) = verify(&copy);
        assert_eq!(code, Some(1), "{what}: {told}");
        assert!(told.contains("copy.jsonl:"), "{what}: {told}");
    }
}

#[test]
fn another_file_named_as_the_trail_is_told_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (config, other) = (folder.path().join("gateway.toml"), folder.path().join("other"));
    let text = "listen.http = [\"127.0.0.1:0\"]\nlisten.admin = \"127.0.0.1:0\"\n\
                upstream.peers = [\"127.0.0.1:1\"]\nlog.audit = \"other\"\n";
    std::fs::write(&config, text).unwrap();
    let content = "somebody's\nfile";
    std::fs::write(&other, content).unwrap();
    for (command, code) in [("check", 2), ("run", 1)] {
        let output = binary().args([command, "--config"]).arg(&config).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {told}");
        assert!(told.contains("no audit record's, and is not cut: move it away"), "{command}: {told}");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), content);
    }
}
