//! Every answer over HTTP/2 arrives, whole and with its code, also with those clients that lose one when the stream is
//! reset behind it: curl 7.88 and the PHP that uses it do, as Debian 12 has them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    API_KEY, API_USERNAME, Call, Gate, Gateway, NAME, Secured, Upstream, key_line, package_root,
    refusing_address, secret_key, tool,
};

/// Calls of each kind, by each client. `N4N_ARRIVALS=1000` makes more of them.
fn calls() -> usize {
    std::env::var("N4N_ARRIVALS").map_or(100, |count| count.parse().unwrap())
}

/// Calls that one curl makes, the first of them by a new connection.
const CALLS_EACH: usize = 4;

const PATH: &str = "/api/customer/unlock";

/// A call in the making, and what is to come of it.
struct Case {
    name: &'static str,
    method: &'static str,
    target: &'static str,
    fields: Vec<String>,
    body: Result<&'static str, usize>,
    want: &'static str,
}

/// The documented call.
fn case(name: &'static str, want: &'static str) -> Case {
    let fields = [
        ("api-key", API_KEY),
        ("api-username", API_USERNAME),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let fields = fields.map(|(name, value)| format!("{name}: {value}")).to_vec();
    Case { name, method: "PATCH", target: PATH, fields, body: Ok("customer_id=191"), want }
}

impl Case {
    fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    fn target(self, target: &'static str) -> Self {
        Self { target, ..self }
    }

    fn body(self, body: &'static str) -> Self {
        Self { body: Ok(body), ..self }
    }

    /// A body of so many bytes.
    fn long(self, length: usize) -> Self {
        Self { body: Err(length), ..self }
    }

    fn with(mut self, field: impl Into<String>) -> Self {
        self.fields.push(field.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| !field.starts_with(&format!("{name}:")));
        self
    }

    fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(format!("{name}: {value}"))
    }
}

/// What [`main_gateway`] answers by itself.
fn cases() -> Vec<Case> {
    let many = |case: Case| (0..64).fold(case, |case, number| case.with(format!("x-{number}: 1")));
    let (another, long) = (secret_key("another"), "k".repeat(300));
    vec![
        case("the documented call", "200 true"),
        case("a disguised length", "400 framing_ambiguous").with("content_length: 3"),
        many(case("many fields", "431 header_too_large")),
        case("another path", "404 path_unknown").target("/api/customer/unlocked"),
        case("another method", "405 method_not_allowed").method("POST"),
        case("an override", "400 method_override").with("X-HTTP-Method: GET"),
        case("a query", "400 query_not_allowed").target("/api/customer/unlock?customer_id=191"),
        case("an expectation", "417 expectation_failed").with("Expect: miracles"),
        case("no key", "401 credential_missing").without("api-key"),
        case("two users", "400 credential_ambiguous").with("api-username: other"),
        case("a long key", "400 credential_malformed").set("api-key", &long),
        case("a wrong key", "401 credential_unknown").set("api-username", "listed").set("api-key", &another),
        case("a foreign network", "403 user_network").set("api-username", "listed"),
        case("another media type", "415 media_type_unsupported").set("Content-Type", "application/json"),
        case("9 kB", "413 body_too_large").long(9_000),
        case("100 kB", "413 body_too_large").long(100_000),
        case("2 MB", "413 body_too_large").long(2_000_000),
        case("2 MB to another path", "404 path_unknown").target("/").long(2_000_000),
        case("2 MB without a key", "401 credential_missing").without("api-key").long(2_000_000),
        case("a bad encoding", "400 body_malformed").body("customer_id=%zz"),
        case("a disguise", "400 parameter_disguised").body("customer.id=191"),
        case("a stranger", "400 parameter_unknown").body("customer_id=191&x=1"),
        case("no lookup", "400 lookup_missing").body(""),
        case("two lookups", "400 lookup_ambiguous").body("customer_id=1&orderid=2"),
        case("a bad lookup", "400 lookup_invalid").body("customer_id=%20"),
        case("one call too many", "429 quota_exceeded").set("api-username", "poor"),
    ]
}

fn main_gateway(upstream: &Upstream) -> Secured {
    let key = key_line(API_KEY);
    let users = format!(
        "[[users]]\nname = \"listed\"\nnetworks = [\"192.0.2.0/24\"]\n{key}\n\
         [[users]]\nname = \"poor\"\nquota = {{ requests = 1, per = \"8784h\", burst = 1 }}\n"
    );
    let secured = Secured::of(Gateway::before(upstream.address()).append(&users));
    assert_eq!(secured.gateway.call(&Call::unlock().user("poor")).status(), 200);
    secured
}

/// Makes a call often with curl; what came, and how often.
fn with_curl(secured: &Secured, case: &Case) -> BTreeMap<String, usize> {
    let folder = secured.folder.path();
    let (ca, port) = (secured.authority.write(folder, "ca.pem"), secured.gateway.https().port());
    let body = match case.body {
        Ok(text) => text.to_owned(),
        Err(length) => {
            let file = folder.join("body");
            std::fs::write(&file, vec![b'a'; length]).unwrap();
            format!("@{}", file.display())
        }
    };
    let url = format!("https://{NAME}:{port}{}", case.target);
    let next = AtomicUsize::new(0);
    let call = || {
        let mut came = Vec::new();
        while next.fetch_add(CALLS_EACH, Ordering::SeqCst) < calls() {
            let mut curl = tool("curl", "install curl");
            curl.args([
                "--silent",
                "--show-error",
                "--http2",
                "--request",
                case.method,
                "--data-binary",
                &body,
            ])
            .args(["--write-out", "\n%{http_code} over %{http_version}\n", "--max-time", "30"])
            .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1"), "--cacert"])
            .arg(&ca)
            .args(case.fields.iter().flat_map(|field| ["--header", field]))
            .args([&url; CALLS_EACH]);
            let output = curl.output().unwrap();
            let (text, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
            let lines: Vec<_> = text.lines().collect();
            came.extend(lines.chunks(2).map(|told| match told {
                [document, told] => {
                    let (status, version) = told.split_once(' ').unwrap_or_default();
                    let document: Value = serde_json::from_str(document).unwrap_or_default();
                    let code =
                        document["code"].as_str().unwrap_or(if document == true { "true" } else { "none" });
                    format!("{status} {code} {version}")
                }
                _ => format!("none: {}", String::from_utf8_lossy(&errors)),
            }));
        }
        came
    };
    let came: Vec<_> = std::thread::scope(|scope| {
        let clients = [scope.spawn(call), scope.spawn(call)];
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    came.into_iter().fold(BTreeMap::new(), |mut counts, one| {
        *counts.entry(one).or_default() += 1;
        counts
    })
}

/// Makes all calls often with PHP; what came of each, and how often.
fn with_php(secured: &Secured, cases: &[Case]) -> Vec<BTreeMap<String, usize>> {
    let folder = secured.folder.path();
    let list: Vec<_> = cases
        .iter()
        .map(|case| {
            json!({ "case": case.name, "method": case.method, "target": case.target, "fields": case.fields,
                    "body": case.body.ok(), "length": case.body.err() })
        })
        .collect();
    let file = folder.join("cases.json");
    std::fs::write(&file, Value::from(list).to_string()).unwrap();
    let output = tool("php", "install php-cli and php-curl")
        .arg(package_root().join("tests/clients/answers.php"))
        .arg(format!("{NAME} {} 127.0.0.1", secured.gateway.https().port()))
        .arg(secured.authority.write(folder, "ca.pem"))
        .args([file.as_path(), Path::new(&calls().to_string())])
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let told: Vec<Value> =
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}{errors}"));
    let came = |told: &Value| serde_json::from_value(told["came"].clone()).unwrap();
    told.iter().map(came).collect()
}

fn assert_all_arrive(client: &str, case: &Case, came: &BTreeMap<String, usize>) {
    let want = BTreeMap::from([(format!("{} over 2", case.want), calls())]);
    assert_eq!(*came, want, "{client}: {}", case.name);
}

#[test]
fn each_of_a_hundred_answers_of_each_kind_arrives_with_curl() {
    let upstream = Upstream::start();
    let secured = main_gateway(&upstream);
    for case in cases() {
        assert_all_arrive("curl", &case, &with_curl(&secured, &case));
    }
}

#[test]
fn each_of_a_hundred_answers_of_each_kind_arrives_with_phps_curl() {
    let upstream = Upstream::start();
    let secured = main_gateway(&upstream);
    let cases = cases();
    let came = with_php(&secured, &cases);
    assert_eq!(came.len(), cases.len());
    for (case, came) in cases.iter().zip(&came) {
        assert_all_arrive("PHP", case, came);
    }
}

/// Answers of one kind arrive with both clients.
fn assert_code(secured: &Secured, want: &'static str) {
    let case = case(want, want);
    assert_all_arrive("curl", &case, &with_curl(secured, &case));
    assert_all_arrive("PHP", &case, &with_php(secured, std::slice::from_ref(&case))[0]);
}

#[test]
fn refusals_of_a_client_arrive() {
    let upstream = Upstream::start();
    let stranger = Gateway::before(upstream.address()).set("clients", "networks = [\"192.0.2.0/24\"]");
    assert_code(&Secured::of(stranger), "403 client_not_allowed");
    let often = "quota = { requests = 1, per = \"8784h\", burst = 1 }";
    let secured = Secured::of(Gateway::before(upstream.address()).set("clients", often));
    assert_eq!(secured.gateway.call(&Call::unlock()).status(), 200);
    assert_code(&secured, "429 client_quota_exceeded");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn failures_of_the_upstream_arrive() {
    let (refusing, _guard) = refusing_address();
    let (closing, silent) = (Upstream::closing_at_once(), Upstream::answering(""));
    let late = Gateway::before(silent.address()).set("upstream", "response_timeout = \"20ms\"");
    for (want, builder) in [
        ("502 upstream_unreachable", Gateway::before(refusing)),
        ("502 upstream_broken", Gateway::before(closing.address())),
        ("503 upstream_unavailable", Gateway::before_all(&["n4n.invalid:80"])),
        ("504 upstream_timeout", late),
    ] {
        assert_code(&Secured::of(builder), want);
    }
}

#[test]
fn refusals_of_a_gateway_that_has_no_room_arrive() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let secured = Secured::before(&upstream, "max_in_flight = 1");
    let mut wire = secured.gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    assert_code(&secured, "503 overloaded");
    gate.open();
    assert_eq!(wire.answer().status(), 200);

    let upstream = Upstream::start();
    let recording =
        Gateway::before(upstream.address()).set("log", "access = \"off\"\naudit = \"audit.jsonl\"");
    let secured = Secured::of(recording);
    let process = secured.gateway.process_id().to_string();
    let limited = tool("prlimit", "install util-linux").args(["--pid", &process, "--fsize=0:"]).status();
    assert!(limited.unwrap().success());
    assert_code(&secured, "503 audit_unavailable");
    assert!(upstream.bytes().is_empty());
}

#[test]
fn the_answer_to_a_body_that_is_never_whole_arrives() {
    let upstream = Upstream::start();
    let secured = Secured::of(Gateway::before(upstream.address()).set("policy", "body_timeout = \"100ms\""));
    let (ca, port) =
        (secured.authority.write(secured.folder.path(), "ca.pem"), secured.gateway.https().port());
    for _ in 0..calls() / 10 {
        let mut clients: Vec<_> = (0..10)
            .map(|_| {
                let mut curl = tool("curl", "install curl");
                curl.args([
                    "--silent",
                    "--show-error",
                    "--http2",
                    "--request",
                    "PATCH",
                    "--upload-file",
                    "-",
                ])
                .args(["--write-out", " %{http_code} over %{http_version}", "--max-time", "30"])
                .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1"), "--cacert"])
                .arg(&ca)
                .args(case("", "").fields.iter().flat_map(|field| ["--header", field]))
                .arg(format!("https://{NAME}:{port}{PATH}"));
                curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        // Each body goes on byte by byte for as long as its client is there: curl looks for an answer between them.
        while clients.iter_mut().any(|client| client.try_wait().unwrap().is_none()) {
            for client in &mut clients {
                let _ = client.stdin.as_mut().unwrap().write_all(b"a");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for client in clients {
            let output = client.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            let is_whole = told.contains("\"code\":\"body_timeout\"") && told.ends_with("} 408 over 2");
            assert!(is_whole, "{told}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(upstream.bytes().is_empty());
}
