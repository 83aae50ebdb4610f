//! `check` as a colleague: it names what was meant, warns of what few would mean, and says what will be.

use std::{fs, process::Output};

use crate::harness::{assert_unseen, binary, tool};

/// The start of a configuration in one line.
const LISTEN: &str = "listen = { http = [\"127.0.0.1:8080\"], admin = \"127.0.0.1:0\" }\n";
const PEERS: &str = "upstream = { peers = [\"127.0.0.1:8081\"] }\n";

/// Runs `check` on a text, with more flags.
fn run(text: &str, flags: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    binary().arg("check").args(flags).arg("--config").arg(&file).output().unwrap()
}

fn check(text: &str) -> (Option<i32>, String) {
    let output = run(text, &[]);
    let told = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
    assert_unseen(text, &told);
    (output.status.code(), told)
}

/// A whole configuration of this: what it does not say of itself is added.
fn whole(text: &str) -> String {
    let part = |key: &str, default| if text.contains(key) { "" } else { default };
    [part("listen", LISTEN), part("upstream", PEERS), text, "\n"].concat()
}

/// What is written, and what is told of it as a fault.
const FAULTS: [(&str, &str); 37] = [
    (
        "clients.networks = [\"192.0.2.77/24\"]",
        "entry 1: has bits set behind its prefix: the network is \"192.0.2.0/24\"; write",
    ),
    ("clients.networks = [\"2001:db8::1/32\"]", "the network is \"2001:db8::/32\""),
    ("clients.networks = [\"192.0.2.7\"]", "is a bare address: as a network it is \"192.0.2.7/32\""),
    (
        "listen = { http = [\"127.0.0.1:0\"], trusted_proxies = [\"2001:db8::1\"] }",
        "is a bare address: as a network it is \"2001:db8::1/128\"",
    ),
    (
        "users = [{ name = \"ada\", networks = [\"192.0.2.7/8\"] }]",
        "users[\"ada\"].networks: entry 1: has bits set behind its prefix: the network is \"192.0.0.0/8\"",
    ),
    (
        "listen = { http = \"127.0.0.1:80\" }",
        "listen.http: text stands where a list belongs; put it in brackets: […], each entry an address with a port",
    ),
    (
        "clients.networks = \"192.0.2.0/24\"",
        "clients.networks: text stands where a list belongs; put it in brackets: […], each entry a network",
    ),
    (
        "users = [{ name = \"ada\", key_sha256 = \"ab\" }]",
        "users[\"ada\"].key_sha256: text stands where a list belongs; put it in brackets",
    ),
    (
        "upstream.peers = [\"https://n4n.internal\"]",
        "upstream.peers: entry 1: is a URL: for TLS, set upstream.tls = {} instead of https://; write a host and a port",
    ),
    ("upstream.peers = [{ address = \"HTTPS://n4n.internal\" }]", "is a URL: for TLS, set upstream.tls"),
    ("upstream.peers = [\"http://n4n.internal:80\"]", "is a URL: leave out http://"),
    ("upstream.peers = [\"n4n.internal\"]", "entry 1: has no port; write a host and a port"),
    (
        "quota.redis = \"env:N4N_NOT_THERE\"",
        "quota.redis: names the variable `N4N_NOT_THERE`, which is not set in the environment; set it",
    ),
    ("policy.value_pattern = \"\\d+\"", "in single quotes, '\\d', where a backslash is itself"),
    (
        "users = [{ name = \"ada\" }, { name = \"billing\", quota = { requests = 0, per = \"1s\", burst = 1 } }]",
        "users[\"billing\"].quota.requests: is zero",
    ),
    (
        "users = [{ name = \"ada\" }, { name = \"billing\", key_sha = [] }]",
        "users[\"billing\"].key_sha: is an unknown key; ",
    ),
    ("users = [{ name = \"ada\" }, { quota = {} }]", "users[2].name: is required and absent"),
    ("users = [{ name = \"ada\" }, { name = \"a b\" }]", "users[2].name: can be no api-username"),
    ("quota = { brust = 3 }", "quota.brust: is an unknown key; did you mean burst? known here: requests,"),
    ("quota = { Burst = 3 }", "did you mean burst?"),
    ("client = { }", "client: is an unknown key; did you mean clients?"),
    ("upstream.peer = [\"127.0.0.1:1\"]", "upstream.peer: is an unknown key; did you mean peers?"),
    ("listen.max-connections = 3", "did you mean max_connections?"),
    ("policy.max_bdoy = \"1KiB\"", "did you mean max_body?"),
    (
        "log.access = \"none\"",
        "log.access: is a word, and no path; write \"off\", \"stdout\", \"stderr\" or a file's path",
    ),
    ("log.access = \"syslog\"", "log.access: is a word, and no path"),
    (
        "upstream.peers = [\"127.0.0.1:8080\"]",
        "upstream.peers: names `127.0.0.1:8080`, which is the gateway itself: listen.http is 127.0.0.1:8080; name n4n's",
    ),
    ("upstream.peers = [\"localhost:8080\"]", "which is the gateway itself"),
    (
        "upstream.peers = [\"127.0.0.1:9191\"]\nlisten = { http = [\"127.0.0.1:0\"], admin = \"0.0.0.0:9191\" }",
        "the gateway itself: listen.admin is 0.0.0.0:9191",
    ),
    ("upstream.peers = [\"[::ffff:127.0.0.1]:8080\"]", "which is the gateway itself"),
    (
        "upstream.peers = [\"127.0.0.9:8443\"]\nlisten = { http = [\"[::]:8443\"], admin = \"127.0.0.1:0\" }",
        "which is the gateway itself",
    ),
    (
        "upstream.peers = [\"n4n:80\", \"N4N:80\"]",
        "upstream.peers: names `N4N:80` twice; name each n4n host once",
    ),
    (
        "users = [{ name = \"ada\", key_sha256 = [\"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\", \"2BB80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"] }]",
        "users[\"ada\"].key_sha256: has one digest twice; write it once",
    ),
    (
        "upstream = { peers = [\"127.0.0.1:1\"], health_check = { every = \"2s\", timeout = \"3s\" } }",
        "upstream.health_check.timeout: is longer than every; write at most",
    ),
    (
        "quota.redis = \"redis://redis.internal/0?db=1\"",
        "quota.redis: has a part behind `?` that means nothing here; write the database as \"redis://host/1\"",
    ),
    (
        "quota.redis = \"redis://:44b5498dbcb481a0@redis.internal/0?timeout=1s\"",
        "quota.redis: has a part behind `?`",
    ),
    ("quota.redis = \"unix:///run/redis.sock?database=1\"", "\"unix:///path?db=1\" for a socket"),
];

#[test]
fn a_fault_says_what_was_meant() {
    for (text, says) in FAULTS {
        let (code, told) = check(&whole(text));
        assert_eq!(code, Some(2), "{text}: {told}");
        assert!(told.contains(says), "{text}: wanted {says}, in:\n{told}");
    }
}

#[test]
fn an_unknown_key_that_is_like_no_other_is_not_guessed_at() {
    for text in ["quota = { interval = 3 }", "polices = 1", "upstream.sni = \"a\""] {
        let (code, told) = check(&whole(text));
        assert!(code == Some(2) && told.contains("is an unknown key"), "{text}: {told}");
        assert_eq!(told.contains("did you mean"), text.starts_with("polices"), "{text}: {told}");
    }
}

const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

#[test]
fn what_is_sound_and_likely_not_meant_is_warned_of() {
    let twins = format!(
        "users = [{{ name = \"ada\", key_sha256 = [\"{DIGEST}\"] }}, {{ name = \"bob\", key_sha256 = [\"{DIGEST}\"] }}]"
    );
    for (text, says) in [
        (
            "upstream = { peers = [\"192.0.2.9:443\"], tls = {} }",
            "upstream.host: is absent: certificates must be for the address 192.0.2.9; write the name",
        ),
        (
            "upstream = { peers = [\"localhost:443\", \"192.0.2.9:443\"], tls = {} }",
            "upstream.host: is absent: the certificate of `192.0.2.9:443` must be for `localhost`",
        ),
        (
            "upstream.peers = [\"192.0.2.9:443\"]",
            "upstream.peers: `192.0.2.9:443` has a port of HTTPS, and is spoken to in plain HTTP; add upstream.tls",
        ),
        (
            "listen = { http = [\"127.0.0.1:0\"], trusted_proxies = [\"0.0.0.0/0\"] }",
            "listen.trusted_proxies: 0.0.0.0/0 believes everyone",
        ),
        (
            "listen = { http = [\"127.0.0.1:0\"], trusted_proxies = [\"10.0.0.0/8\", \"::/0\"] }",
            "listen.trusted_proxies: ::/0 believes everyone",
        ),
        (
            "clients.networks = [\"192.0.2.0/24\"]\nusers = [{ name = \"ada\", networks = [\"192.0.2.7/32\", \"198.51.100.0/24\"] }]",
            "users[\"ada\"].networks: 198.51.100.0/24 is outside clients.networks",
        ),
        (
            "access.unlisted_users = \"reject\"\nusers = [{ name = \"ada\" }]",
            "users[\"ada\"]: has no key_sha256: whoever knows the name passes",
        ),
        (&twins, "users[\"bob\"].key_sha256: has a digest of users[\"ada\"] too"),
        (
            "listen = { http = [\"127.0.0.1:0\"], drain_timeout = \"5s\" }",
            "listen.drain_timeout: is 5s, under upstream.response_timeout, 30s",
        ),
        (
            "quota = { requests = 100, per = \"1s\" }",
            "quota.requests: is 100, and burst, which is absent, is 20",
        ),
        ("policy.value_pattern = ''", "policy.patterns: that for customer_id is empty, which no value is"),
        ("policy.patterns = { orderid = '.*' }", "policy.patterns: that for orderid lets anything pass"),
    ] {
        let (code, told) = check(&whole(text));
        assert_eq!(code, Some(0), "{text}: {told}");
        assert!(told.contains(&format!("warning: {says}")), "{text}: wanted {says}, in:\n{told}");
    }
}

/// What is like what is told above, and is in order.
#[test]
fn what_is_likely_meant_is_left_alone() {
    let rotation = format!(
        "users = [{{ name = \"ada\", key_sha256 = [\"{DIGEST}\", \"{}\"] }}]",
        DIGEST.replace("2b", "3c")
    );
    for text in [
        "",
        &rotation,
        "upstream = { peers = [\"192.0.2.9:443\"], tls = {}, host = \"n4n.example.com\" }",
        "upstream = { peers = [{ address = \"192.0.2.9:443\", name = \"n4n.example.com\" }], tls = {} }",
        "upstream.peers = [\"192.0.2.9:8080\"]\nlisten = { http = [\"0.0.0.0:8080\"] }",
        "upstream.peers = [\"127.0.0.2:8080\"]",
        "upstream = { peers = [\"127.0.0.1:1\"], health_check = { every = \"100ms\" } }",
        "clients.networks = [\"192.0.2.0/24\"]\nusers = [{ name = \"ada\", networks = [\"192.0.0.0/16\"] }]",
        "quota = { requests = 100, per = \"1s\", burst = 20 }",
        "quota = { requests = 20, per = \"1s\" }",
        "quota.redis = \"redis://127.0.0.1/1?protocol=resp3\"",
        "quota.redis = \"unix:///run/redis.sock?db=1&user=a&pass=44b5498dbcb481a0\"",
        "log.access = \"stderr\"",
        "log.access = \"./none\"",
    ] {
        let (code, told) = check(&whole(text));
        assert!(code == Some(0) && !told.contains("warning"), "{text}: {told}");
    }
}

#[test]
fn a_leaf_in_place_of_a_ca_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for (name, constraint) in [("ca", "TRUE"), ("leaf", "FALSE")] {
        let status = tool("openssl", "install openssl")
            .current_dir(folder.path())
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "300",
            ])
            .args(["-subj", "/CN=a", "-addext", "subjectAltName=DNS:a"])
            .args(["-addext", &format!("basicConstraints=critical,CA:{constraint}")])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    for (ca, is_warned) in [("ca", false), ("leaf", true)] {
        let https = format!(
            "listen.https = [{{ address = \"127.0.0.1:0\", certificate = \"leaf.pem\", key = \"leaf.key\", client_ca = \"{ca}.pem\" }}]\n"
        );
        fs::write(file("gateway.toml"), https + PEERS).unwrap();
        let output = binary().args(["check", "--config"]).arg(file("gateway.toml")).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told}");
        let warning = "listen.https.client_ca: of 127.0.0.1:0: 1 of its certificates may issue no others";
        assert_eq!(told.contains(warning), is_warned, "{ca}: {told}");
    }
}

/// A configuration of which every part shows in the summary.
fn telling() -> String {
    format!(
        r#"
        mode = "observe"
        listen = {{ http = ["127.0.0.1:8080"], admin = "127.0.0.1:9191", drain_timeout = "90s", trusted_proxies = ["10.0.0.0/8"] }}
        upstream = {{ peers = ["127.0.0.1:8081", "[::1]:8082"], host = "n4n.example.com" }}
        policy = {{ max_body = "4KiB", other_paths = ["/health"] }}
        clients = {{ networks = ["192.0.2.0/24"], deny = ["192.0.2.66/32"], quota = {{ requests = 7, per = "1m", burst = 9 }} }}
        quota = {{ requests = 3, per = "2s", burst = 5, redis = "redis://:44b5498dbcb481a0@127.0.0.1:7000/1" }}
        users = [
            {{ name = "ada", key_sha256 = ["{DIGEST}"], networks = ["192.0.2.7/32"] }},
            {{ name = "bob", quota = {{ requests = 1, per = "1h", burst = 2 }} }},
            {{ name = "eve", disabled = true }},
        ]
        log.access = "off"
        "#
    )
}

#[test]
fn a_sound_configuration_ends_with_what_will_be() {
    let output = run(&telling(), &[]);
    let (told, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{told}");
    assert_unseen("the summary", &told);
    assert!(!told.contains(DIGEST), "{told}");
    let (first, summary) = told.split_once('\n').unwrap();
    assert!(first.ends_with("gateway.toml: sound"), "{first}");
    let lines = [
        "  mode       observe",
        "  listeners  http 127.0.0.1:8080, admin 127.0.0.1:9191",
        "  peers      127.0.0.1:8081 (127.0.0.1), [::1]:8082 (::1)",
        "             over plain HTTP; Host n4n.example.com; health check: none",
        "  paths      the unlock call; others: /health",
        "  clients    192.0.2.0/24; denied: 192.0.2.66/32; trusted proxies: 10.0.0.0/8; wrong keys: any number",
        "  users      ada (its key, from 192.0.2.7/32), bob (any key, quota 1 in 1h, 2 at once), eve (disabled); all others are forwarded",
        "  quotas     each user: 3 in 2s, 5 at once; each client: 7 in 1m, 9 at once; counted in Redis at 127.0.0.1:7000; enumeration: none",
        "  files      access log: off; audit trail: none; upgrade socket: none; admin socket: none; certificates: none",
        "  limits     10000 connections, 1000 calls in flight, bodies of 4096 bytes",
        "  timeouts   header 10s, body 10s, connect 2s, response 30s, drain 90s",
    ];
    assert_eq!(summary.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn pipelines_read_the_same_as_json() {
    let read = |text: &str| {
        let output = run(text, &["--json"]);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_unseen(text, json.to_string());
        (output.status.code(), json)
    };
    let (code, json) = read(&telling());
    assert_eq!(code, Some(0));
    assert_eq!(
        (&json["sound"], &json["faults"], &json["warnings"]),
        (&true.into(), &serde_json::json!([]), &serde_json::json!([]))
    );
    let summary = &json["summary"];
    assert_eq!(
        summary["listeners"][1],
        serde_json::json!({ "address": "127.0.0.1:9191", "serves": "admin", "client_certificates": null })
    );
    assert_eq!(
        summary["upstream"]["peers"][1],
        serde_json::json!({ "peer": "[::1]:8082", "name": null, "addresses": ["::1"] })
    );
    assert_eq!(
        summary["users"][0],
        serde_json::json!({ "name": "ada", "disabled": false, "keys": 1, "networks": ["192.0.2.7/32"], "quota": null })
    );
    assert_eq!(summary["limits"]["max_body"], 4096);
    assert_eq!(summary["limits"]["drain_timeout"], "90s");

    let (code, json) = read(&whole("policy.value_pattern = ''"));
    assert_eq!((code, &json["sound"]), (Some(0), &true.into()));
    assert!(json["warnings"][0].as_str().unwrap().starts_with("policy.patterns: "), "{json}");

    let (code, json) = read(&whole("quota = { brust = 3 }\npolicy.max_body = \"44b5498dbcb481a0\""));
    assert_eq!((code, &json["sound"], &json["summary"]), (Some(2), &false.into(), &serde_json::Value::Null));
    let fault = &json["faults"][0];
    assert_eq!(
        (&fault["line"], &fault["key"], &fault["reason"]),
        (&3.into(), &"quota.brust".into(), &"is an unknown key".into())
    );
    assert!(fault["mend"].as_str().unwrap().starts_with("did you mean burst?"), "{json}");
}
