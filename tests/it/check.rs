//! `check` finds every fault at once, each with its line, its reason and its mend, and shows no secret.

use std::path::Path;

use crate::harness::{assert_unseen, binary, package_root};

/// Runs `check` on a file: the exit code and all that was written.
fn check(file: &Path) -> (Option<i32>, String) {
    let output = binary().arg("check").arg("--config").arg(file).output().unwrap();
    let written = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(written).unwrap())
}

fn check_text(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    check(&file)
}

#[test]
fn every_sample_configuration_is_sound() {
    let conf = package_root().join("conf");
    let files = std::fs::read_dir(&conf).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(files.len() >= 2, "samples in {}: {files:?}", conf.display());
    for file in files {
        let (code, written) = check(&file);
        assert_eq!(code, Some(0), "{}: {written}", file.display());
    }
}

#[test]
fn a_sound_configuration_may_say_everything() {
    let (code, written) = check_text(
        r#"
        [listen]
        http = ["127.0.0.1:0", "[::1]:0"]
        admin = "127.0.0.1:0"
        threads = 2
        max_connections = 10000
        max_in_flight = 1000
        idle_timeout = "60s"
        drain_timeout = "500ms"
        [upstream]
        peers = ["127.0.0.1:8081", "[::1]:8081", "localhost:8081"]
        host = "n4n.example.com"
        connect_timeout = "2s"
        response_timeout = "1m"
        idle_timeout = "4s"
        [policy]
        other_paths = "reject"
        max_body = "64KiB"
        header_timeout = "10s"
        body_timeout = "10s"
        value_pattern = "[1-9][0-9]{0,8}"
        patterns = { orderid = 'TX-[0-9]{1,20}' }
        forward_headers = ["X-Tenant"]
        legacy_credentials = false
        [quota]
        requests = 10
        per = "1s"
        burst = 20
        max_users = 100000
        [enumeration]
        distinct = 50
        per = "1h"
        mode = "observe"
        max_users = 100000
        [[users]]
        name = "n4n_admin"
        quota = { requests = 100, per = "1s", burst = 200 }
        enumeration = { distinct = 1000, per = "24h", mode = "enforce" }
        [[users]]
        name = "ada"
        [log]
        access = "stdout"
        "#,
    );
    assert_eq!(code, Some(0), "{written}");
}

/// Configurations with faults. Each faulty line names, behind `#!`, the keys at fault on it; what is
/// missing from the file altogether has no line and is named behind `#?`.
const BROKEN: [(&str, &str); 10] = [
    ("nothing at all", "#? listen.http upstream.peers\n"),
    (
        "names that do not exist",
        r#"
        modes = "enforce" #! modes
        [listen]
        http = ["127.0.0.1:0"]
        https_port = 443 #! listen.https_port
        [upstream]
        peers = ["127.0.0.1:1"]
        timeout = "2s" #! upstream.timeout
        [polcy] #! polcy
        max_body = "8KiB"
        [quota]
        brust = 20 #! quota.brust
        "#,
    ),
    (
        "values of another kind",
        r#"
        [listen]
        http = "127.0.0.1:0" #! listen.http
        admin = 9464 #! listen.admin
        threads = "2" #! listen.threads
        idle_timeout = 60 #! listen.idle_timeout
        [upstream]
        peers = [8081] #! upstream.peers
        host = true #! upstream.host
        [policy]
        max_body = 8192 #! policy.max_body
        forward_headers = "X-Tenant" #! policy.forward_headers
        legacy_credentials = "no" #! policy.legacy_credentials
        [log]
        access = false #! log.access
        "#,
    ),
    (
        "zero where zero is meaningless",
        r#"
        [listen]
        http = ["127.0.0.1:0"]
        threads = 0 #! listen.threads
        max_connections = 0 #! listen.max_connections
        max_in_flight = 0 #! listen.max_in_flight
        idle_timeout = "0s" #! listen.idle_timeout
        [upstream]
        peers = ["127.0.0.1:0"] #! upstream.peers
        response_timeout = "0ms" #! upstream.response_timeout
        [policy]
        max_body = "0B" #! policy.max_body
        body_timeout = "0s" #! policy.body_timeout
        [quota]
        requests = 0 #! quota.requests
        per = "0s" #! quota.per
        burst = 0 #! quota.burst
        max_users = 0 #! quota.max_users
        [clients]
        wrong_keys = { allowed = 0, per = "0s", ban = "15m" } #! clients.wrong_keys.allowed clients.wrong_keys.per clients.wrong_keys.block clients.wrong_keys.ban
        "#,
    ),
    (
        "numbers and units that cannot be",
        r#"
        [listen]
        http = ["127.0.0.1:0"]
        threads = -1 #! listen.threads
        max_in_flight = 99999999999999999999 #! listen.max_in_flight
        idle_timeout = "60" #! listen.idle_timeout
        drain_timeout = "-1s" #! listen.drain_timeout
        [upstream]
        peers = ["127.0.0.1:1"]
        connect_timeout = "1.5s" #! upstream.connect_timeout
        response_timeout = "30 fortnights" #! upstream.response_timeout
        [policy]
        max_body = "1MiB" #! policy.max_body
        header_timeout = "99999999999999999999s" #! policy.header_timeout
        "#,
    ),
    (
        "addresses that cannot be",
        r#"
        [listen]
        http = ["127.0.0.1:99999"] #! listen.http
        admin = "127.0.0.1:admin" #! listen.admin
        [upstream]
        peers = ["http://n4n-2.internal:443"] #! upstream.peers
        host = "n4n example" #! upstream.host
        "#,
    ),
    (
        "contradictions",
        r#"
        [listen]
        http = ["127.0.0.1:8080", "127.0.0.1:8080"] #! listen.http
        [upstream]
        peers = [] #! upstream.peers
        [[users]]
        name = "ada"
        [[users]]
        name = "ada" #! users.name
        "#,
    ),
    (
        "a policy that cannot hold",
        r#"
        [listen]
        http = ["127.0.0.1:0"]
        [upstream]
        peers = ["127.0.0.1:1"]
        [policy]
        other_paths = "allow" #! policy.other_paths
        value_pattern = "[0-9" #! policy.value_pattern
        forward_headers = ["Api_Key"] #! policy.forward_headers
        "#,
    ),
    (
        "users that cannot be",
        r#"
        [listen]
        http = ["127.0.0.1:0"]
        [upstream]
        peers = ["127.0.0.1:1"]
        [[users]] #! users.name
        [[users]]
        name = "" #! users.name
        [[users]]
        name = "two words" #! users.name
        [[users]]
        name = "ada"
        quota = { requests = 0, per = "1s", burst = 2 } #! users.quota.requests
        [[users]]
        name = "bob"
        quota = { requests = 1 } #! users.quota.per users.quota.burst
        "#,
    ),
    (
        "secrets in the wrong places",
        r#"
        api_key = "44b5498dbcb481a0" #! api_key
        [listen]
        http = ["44b5498dbcb481a0"] #! listen.http
        idle_timeout = "44b5498dbcb481a0" #! listen.idle_timeout
        [upstream]
        peers = ["http://n4n:44b5498dbcb481a0@n4n.internal"] #! upstream.peers
        host = "n4n:44b5498dbcb481a0@n4n.internal" #! upstream.host
        [policy]
        max_body = "44b5498dbcb481a0" #! policy.max_body
        value_pattern = "44b5498dbcb481a0(" #! policy.value_pattern
        [quota]
        requests = "44b5498dbcb481a0" #! quota.requests
        [[users]]
        name = "44b5498dbcb481a0 44b5498dbcb481a0" #! users.name
        password = "44b5498dbcb481a0" #! users.password
        "#,
    ),
];

/// The faults that a configuration's comments announce: line, if any, and key.
fn announced(text: &str) -> Vec<(Option<usize>, String)> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (keys, line) = match (line.split_once("#!"), line.split_once("#?")) {
            (Some((_, keys)), _) => (keys, Some(index + 1)),
            (None, Some((_, keys))) => (keys, None),
            (None, None) => continue,
        };
        faults.extend(keys.split_whitespace().map(|key| (line, key.to_owned())));
    }
    faults.sort();
    faults
}

/// The faults that were printed; panics at one without a reason or a mend.
fn printed(written: &str) -> Vec<(Option<usize>, String)> {
    let form =
        regex::Regex::new(r"(?m)gateway\.toml: (?:line ([0-9]+): )?([a-z0-9_.]+)(?:\[[^]\n]+\](\.[a-z0-9_.]+))?: ([^;\n]+); (\S[^\n]*)$")
            .unwrap();
    let fault = |parts: regex::Captures<'_>| {
        let line = parts.get(1).map(|line| line.as_str().parse().unwrap());
        // Which user it is, is told too.
        let rest = parts.get(3).map_or("", |rest| rest.as_str());
        (line, parts[2].to_owned() + rest)
    };
    let mut faults: Vec<_> = form.captures_iter(written).map(fault).collect();
    faults.sort();
    faults
}

#[test]
fn every_fault_is_told_at_once() {
    for (case, text) in BROKEN {
        let (code, written) = check_text(text);
        assert_eq!(code, Some(2), "{case}: {written}");
        assert_eq!(printed(&written), announced(text), "{case}, in:\n{written}");
        assert_unseen(case, &written);
    }
}

/// Lists of which several entries are at fault; the line is the entry's, or the list's.
#[test]
fn every_faulty_entry_of_a_list_is_told() {
    let listen = "[listen]\nhttp = [\"127.0.0.1\", \"127.0.0.1:0\", \"localhost:8080\"]\n";
    let upstream = "[upstream]\npeers = [\"n4n-1.internal\", 8081, \"n4n-2.internal:443\"]\n";
    let policy = "[policy]\nforward_headers = [\"Api_Key\", \"Content-Length\", \"X-Forwarded-For\", \"X-HTTP-Method\", \"Connection\", \"two words\", \"CF_Connecting-IP\", \"Proxy\", \"X-Original-URI\"]\n";
    let (code, written) = check_text(&[listen, upstream, policy].concat());
    assert_eq!(code, Some(2), "{written}");
    for (line, key, count) in
        [(2, "listen.http", 2), (4, "upstream.peers", 2), (6, "policy.forward_headers", 9)]
    {
        let told = printed(&written).iter().filter(|fault| **fault == (Some(line), key.to_owned())).count();
        assert_eq!(told, count, "{key}, in:\n{written}");
    }
}

#[test]
fn what_is_no_toml_is_told_by_line() {
    for (text, line) in [
        ("[listen\nhttp = [\"127.0.0.1:0\"]\n", 1),
        ("[listen]\nhttp = [\"127.0.0.1:0\"]\n[listen]\n", 3),
        ("[quota]\nper = 44b5498dbcb481a0\n", 2),
        ("[quota]\nrequests = 1\nrequests = 2\n", 3),
        ("[log]\naccess = \"44b5498dbcb481a0\n", 2),
    ] {
        let (code, written) = check_text(text);
        assert_eq!(code, Some(2), "{text}: {written}");
        assert!(written.contains(&format!("line {line}: ")), "{text}: {written}");
        assert_unseen(text, &written);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_warning() {
    let (code, written) =
        check_text("listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"n4n.invalid:80\"]\n");
    assert_eq!(code, Some(0), "{written}");
    assert!(written.contains("n4n.invalid"), "{written}");
}

#[test]
fn a_faulty_configuration_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let (_, text) = BROKEN[1];
    std::fs::write(&file, text).unwrap();
    let output = binary().arg("run").arg("--config").arg(&file).output().unwrap();
    assert!(!output.status.success());
    let written = [output.stdout, output.stderr].concat();
    assert_eq!(printed(&String::from_utf8_lossy(&written)), announced(text), "run tells what check tells");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (code, written) = check(&folder.path().join("absent.toml"));
    assert_eq!(code, Some(2), "{written}");
    assert!(written.contains("absent.toml"), "{written}");

    let file = folder.path().join("binary.toml");
    std::fs::write(&file, b"\xff\xfe").unwrap();
    let (code, written) = check(&file);
    assert_eq!(code, Some(2), "{written}");
    assert!(written.contains("binary.toml") || written.contains("line 1"), "{written}");
}

#[test]
fn a_command_line_that_cannot_be_is_explained() {
    for (arguments, says) in [
        (&[][..], "Usage"),
        (&["check"], "--config"),
        (&["check", "--config"], "--config"),
        (&["run"], "--config"),
        (&["run", "--confg", "x"], "--config"),
        (&["chek"], "check"),
        (&["check", "--config", "x", "y"], "'y'"),
    ] {
        let output = binary().args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["check", "--help"], &["--version"]] {
        let output = binary().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
}
