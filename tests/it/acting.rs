//! An operator acts on a running gateway over its admin socket, and the trail says who did.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    API_KEY, Call, Gateway, GatewayBuilder, Redis, Signal, Upstream, Wire, binary, key_line,
};

const SOCKET: &str = "admin_socket = \"admin.sock\"";

/// Two calls, and nothing back while a test runs.
const TWO_ONCE: &str = "requests = 1\nper = \"1h\"\nburst = 2";

fn with_socket(upstream: &Upstream) -> GatewayBuilder {
    Gateway::before(upstream.address())
        .set("listen", SOCKET)
        .append(&format!("[[users]]\nname = \"Listed\"\n{}", key_line(API_KEY)))
}

/// Runs a command: its exit code and what it prints.
fn run(arguments: &[&str], target: &[&str]) -> (Option<i32>, String) {
    let output = binary().args(arguments).args(target).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Runs it for a gateway that is found by its configuration.
fn act(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    run(arguments, &["--config", gateway.config().to_str().unwrap()])
}

fn done(gateway: &Gateway, arguments: &[&str]) -> String {
    let (code, said) = act(gateway, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

fn codes(wire: &mut Wire, call: &Call, count: usize) -> Vec<String> {
    let code = |answer: crate::harness::Message| {
        if answer.status() == 200 { "ok".to_owned() } else { answer.code() }
    };
    (0..count).map(|_| code(wire.call(call))).collect()
}

fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_quota_is_shown_and_made_whole_and_the_trail_says_by_whom() {
    let upstream = Upstream::start();
    let gateway = with_socket(&upstream).set("quota", TWO_ONCE).set("log", "audit = \"audit.jsonl\"").start();
    let mode = std::fs::metadata(gateway.file("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut wire = gateway.connect();
    let spent = ["ok", "ok", "quota_exceeded"];
    for (called, asked, told, known) in
        [("listed", "LISTED", "Listed", "listed"), ("Stranger", "sTRANGER", "sTRANGER", "not listed")]
    {
        let call = Call::unlock().user(called);
        assert_eq!(codes(&mut wire, &call, 3), spent);
        let shown = done(&gateway, &["quota", "show", asked]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[..2],
            [format!("user: {told}, {known}"), "quota: 1 requests in 3600 s, burst 2".into()]
        );
        assert!(lines[2].starts_with("left: 0, whole in 7"), "{shown}");
        assert_eq!(lines[3], "kept in: this process");

        assert_eq!(done(&gateway, &["quota", "reset", asked]), format!("the quota of {told} is whole\n"));
        let shown = done(&gateway, &["quota", "show", asked]);
        assert!(shown.contains("left: 2, whole in 0.000 s\n"), "{shown}");
        assert_eq!(codes(&mut wire, &call, 3), spent);
    }
    let nobody = done(&gateway, &["quota", "show", "nobody"]);
    assert!(nobody.contains("left: all of it"), "{nobody}");
    assert!(done(&gateway, &["quota", "reset", "nobody"]).contains("nothing to reset"));

    let trail = gateway.file("audit.jsonl");
    let resets: Vec<Value> =
        records(&trail).into_iter().filter(|record| record["event"] == "quota_reset").collect();
    let users: Vec<&Value> = resets.iter().map(|record| &record["user"]).collect();
    assert_eq!(users, ["Listed", "sTRANGER", "nobody"]);
    let uid = json!(rustix::process::getuid().as_raw());
    assert!(resets.iter().all(|record| record["uid"] == uid && record["v"] == 2), "{resets:?}");
    let (code, said) = run(&["audit", "verify"], &[trail.to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("intents without outcome: 0"), "{said}");
    gateway.wait_for_line("a user's quota is reset");
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("trail");
    std::fs::create_dir(&kept).unwrap();
    let gateway = with_socket(&upstream)
        .set("quota", TWO_ONCE)
        .set("log", &format!("audit = {:?}", kept.join("audit.jsonl").to_str().unwrap()))
        .start();
    let mut wire = gateway.connect();
    assert_eq!(codes(&mut wire, &Call::unlock().user("listed"), 2), ["ok", "ok"]);
    std::fs::rename(&kept, folder.path().join("elsewhere")).unwrap();
    let (code, said) = act(&gateway, &["quota", "reset", "listed"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("nothing is done: the audit trail cannot be written"), "{said}");
    assert!(done(&gateway, &["quota", "show", "listed"]).contains("left: 0,"));
}

#[test]
fn a_quota_in_redis_is_made_whole_for_all_gateways() {
    let upstream = Upstream::start();
    let mut redis = Redis::start();
    let start = || {
        let shared = format!("{TWO_ONCE}\nredis = \"{}\"\nwhen_redis_fails = \"reject\"", redis.url());
        with_socket(&upstream).set("quota", &shared).start()
    };
    let (one, other) = (start(), start());
    let (mut first, mut second) = (one.connect(), other.connect());
    for user in ["listed", "stranger"] {
        let call = Call::unlock().user(user);
        // However late Redis is on a busy machine: what is refused has not been counted.
        let spend = |wire: &mut Wire| (0..200).filter(|_| wire.call(&call).status() == 200).take(2).count();
        assert_eq!(spend(&mut first), 2, "{user}");
        let shown = done(&other, &["quota", "show", &user.to_uppercase()]);
        assert!(shown.contains("left: 0, whole in 7") && shown.contains("kept in: Redis at "), "{shown}");
        done(&one, &["quota", "reset", &user.to_uppercase()]);
        assert!(done(&other, &["quota", "show", user]).contains("left: 2,"));
        assert_eq!(spend(&mut second), 2, "{user}");
    }
    redis.kill();
    let (code, said) = act(&one, &["quota", "reset", "listed"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is whole in this process, and in Redis it is as it was: "), "{said}");
    assert_eq!(act(&one, &["quota", "show", "listed"]).0, Some(1));
}

#[test]
fn a_client_network_is_let_in_again_by_name_and_others_are_not() {
    let upstream = Upstream::start();
    let gateway = with_socket(&upstream)
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\"]")
        .set("clients", "wrong_keys = { allowed = 1, per = \"1h\", block = \"1h\" }")
        .set("log", "audit = \"audit.jsonl\"")
        .start();
    let mut wire = gateway.connect();
    let from = |client: &str, user: &str| Call::unlock().user(user).with("X-Forwarded-For", client);
    let clients = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"];
    for client in clients {
        let wrong = from(client, "listed").set("api-key", "0123456789abcdef-wrong");
        assert_eq!(codes(&mut wire, &wrong, 2), ["credential_unknown", "client_blocked"], "{client}");
    }
    gateway.wait_for_metric("n4n_gateway_clients_blocked", 4.0);
    for (network, count) in
        [("192.0.2.0/24", 2), ("192.0.2.0/24", 0), ("2001:db8::9", 1), ("203.0.113.0/24", 0)]
    {
        let said = done(&gateway, &["clients", "forgive", network]);
        assert_eq!(said, format!("client networks that are let in again: {count}\n"), "{network}");
    }
    gateway.wait_for_metric("n4n_gateway_clients_blocked", 1.0);
    let now = clients.map(|client| codes(&mut wire, &from(client, "listed"), 1).remove(0));
    assert_eq!(now, ["ok", "ok", "client_blocked", "ok"]);
    let forgiven: Vec<Value> = records(&gateway.file("audit.jsonl"))
        .into_iter()
        .filter(|record| record["event"] == "clients_forgiven")
        .map(|record| record["network"].clone())
        .collect();
    assert_eq!(forgiven, ["192.0.2.0/24", "192.0.2.0/24", "2001:db8::9/128", "203.0.113.0/24"]);
}

#[test]
fn whoever_asks_in_vain_is_told_why() {
    let upstream = Upstream::start();
    let without = Gateway::before(upstream.address()).start();
    let (code, said) = act(&without, &["quota", "show", "ada"]);
    assert!(code == Some(2) && said.contains("listen.admin_socket: is not set"), "{said}");

    let gateway = with_socket(&upstream).set("quota", TWO_ONCE).start();
    for (arguments, told) in [
        (&["quota", "show", "a b"][..], "1 to 256 visible ASCII characters"),
        (&["quota", "reset", API_KEY], "that is an api-key"),
        (&["clients", "forgive", "192.0.2.1"], "clients.wrong_keys is not in force"),
    ] {
        let (code, said) = act(&gateway, arguments);
        assert!(code == Some(1) && said.contains(told), "{arguments:?}: {code:?} {said}");
    }
    assert!(!gateway.output().contains(API_KEY));
    for (arguments, told) in [
        (&["quota", "show", "ada"][..], "--config <FILE>|--socket <PATH>"),
        (&["clients", "forgive", "192.0.2", "--socket", "s"], "write an address such as 192.0.2.1"),
    ] {
        let (code, said) = run(arguments, &[]);
        assert!(code == Some(2) && said.contains(told), "{arguments:?}: {code:?} {said}");
    }
    let nowhere = gateway.file("nowhere.sock");
    let (code, said) = run(&["quota", "show", "ada"], &["--socket", nowhere.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("no gateway answers at "), "{said}");
    // Whoever comes and says nothing keeps nobody from asking.
    let socket = gateway.file("admin.sock");
    let _silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    assert_eq!(run(&["quota", "show", "ada"], &["--socket", socket.to_str().unwrap()]).0, Some(0));
}

#[test]
fn the_socket_is_the_successors_after_an_upgrade_and_gone_at_the_end() {
    let upstream = Upstream::start();
    let mut old = with_socket(&upstream)
        .set("listen", "upgrade_socket = \"upgrade.sock\"")
        .set("quota", TWO_ONCE)
        .start();
    let mut new = old.successor();
    old.send(Signal::Quit);
    new.wait_ready();
    assert_eq!(old.wait_exit().code(), Some(0));
    let mut wire = new.connect();
    assert_eq!(codes(&mut wire, &Call::unlock().user("listed"), 1), ["ok"]);
    assert!(done(&new, &["quota", "show", "listed"]).contains("left: 1,"));
    drop(wire);
    new.send(Signal::Terminate);
    assert_eq!(new.wait_exit().code(), Some(0));
    assert!(!new.file("admin.sock").exists());
}

#[test]
fn the_socket_is_in_a_safe_folder_and_stays_where_it_is() {
    let upstream = Upstream::start();
    let gateway = with_socket(&upstream).set("quota", TWO_ONCE).start();
    let open = gateway.file("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    gateway.reload(|text| text.replace("admin.sock", "open/admin.sock"));
    gateway.wait_for_line("listen.admin_socket: is in a folder that others can write to");

    gateway.reload(|text| text.replace("open/admin.sock", "other.sock"));
    gateway.wait_for_line("listen.admin_socket");
    gateway.wait_for_line("cannot change while running");
    assert_eq!(act(&gateway, &["quota", "show", "ada"]).0, Some(1), "not there yet");
    gateway.reload(|text| text.replace("other.sock", "admin.sock"));
    assert!(done(&gateway, &["quota", "show", "ada"]).starts_with("user: ada, not listed\n"));
}
