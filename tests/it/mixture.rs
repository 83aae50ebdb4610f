//! A mixture of good, bad and unlucky calls: every account of it agrees, and nothing grows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    Broken, Call, DEADLINE, Gateway, GatewayBuilder, Message, Reply, Upstream, Wire, binary,
};

/// How a call ended, as its client saw it: status and code, or neither where there was no answer.
type End = (Option<u16>, String);

/// One kind of call in the mixture, and how it ends; more than one way where that depends on what else is sent.
struct Kind {
    call: fn(usize) -> Call,
    ends: &'static [(u16, &'static str)],
}

/// What n4n is to do is said by the value that is looked up.
fn asking(of_n4n: &str, number: usize) -> Call {
    Call::unlock().body(format!("orderid={of_n4n}:{number}"))
}

fn kinds() -> Vec<Kind> {
    fn kind(call: fn(usize) -> Call, ends: &'static [(u16, &'static str)]) -> Kind {
        Kind { call, ends }
    }
    vec![
        kind(|number| asking("true", number), &[(200, "ok")]),
        kind(|number| asking("true", number).user("somebody"), &[(200, "ok")]),
        kind(|number| asking("true", number).chunked(3), &[(200, "ok")]),
        kind(|number| asking("locked", number), &[(200, "ok")]),
        kind(|number| asking("unknown", number), &[(404, "ok")]),
        kind(|number| asking("fault", number), &[(500, "ok")]),
        kind(|number| asking("silence", number), &[(504, "upstream_timeout")]),
        kind(|number| asking("cut", number), &[(502, "upstream_broken")]),
        kind(|number| asking("true", number).user("greedy"), &[(200, "ok"), (429, "quota_exceeded")]),
        kind(|_| Call::unlock().method("POST"), &[(405, "method_not_allowed")]),
        kind(|_| Call::unlock().path("/api/customer/unlock/"), &[(404, "path_unknown")]),
        kind(|_| Call::unlock().query("customer_id=1"), &[(400, "query_not_allowed")]),
        kind(|_| Call::unlock().with("X-HTTP-Method-Override", "GET"), &[(400, "method_override")]),
        kind(|_| Call::unlock().without("api-key"), &[(401, "credential_missing")]),
        kind(|_| Call::unlock().with("Api_Key", "x"), &[(400, "credential_ambiguous")]),
        kind(|_| Call::unlock().user("keyed"), &[(401, "credential_unknown")]),
        kind(|_| Call::unlock().set("Content-Type", "text/plain"), &[(415, "media_type_unsupported")]),
        kind(|_| Call::unlock().body("customer_id=1&customer.id=2"), &[(400, "parameter_disguised")]),
        kind(|_| Call::unlock().body("customer_id=1&orderid=2"), &[(400, "lookup_ambiguous")]),
        kind(|_| Call::unlock().body("customer_id=%"), &[(400, "body_malformed")]),
        kind(|_| Call::unlock().body("customer_id="), &[(400, "lookup_invalid")]),
        kind(|_| Call::unlock().body(""), &[(400, "lookup_missing")]),
        kind(|_| Call::unlock().with("Content-Length", "1"), &[(400, "framing_ambiguous")]),
        kind(|_| Call::unlock().with("X-Large", &"a".repeat(20_000)), &[(431, "header_too_large")]),
    ]
}

/// The kind of call that n4n does not answer.
const SILENCE: usize = 6;

fn n4n() -> Upstream {
    Upstream::scripted(|request| {
        let value = request.text().rsplit_once('=').map_or("", |(_, value)| value);
        match value.split("%3A").next().unwrap() {
            "true" => Reply::json("200 OK", "true"),
            "locked" => Reply::json("200 OK", "{\"locked\":true}"),
            "unknown" => Reply::json("404 Not Found", "{\"error\":\"no such customer\"}"),
            "fault" => Reply::json("500 Internal Server Error", "{}"),
            "silence" => Reply::Bytes(Vec::new()),
            _ => Reply::Last(Vec::new()),
        }
    })
}

fn before(upstream: &Upstream, response_timeout: &str) -> GatewayBuilder {
    let key = "7".repeat(64);
    Gateway::before(upstream.address())
        .set("upstream", &format!("response_timeout = \"{response_timeout}\""))
        .set("log", "access = \"access.jsonl\"\naudit = \"audit.jsonl\"")
        .append("[[users]]\nname = \"greedy\"\nquota = { requests = 1, per = \"1s\", burst = 2 }")
        .append(&format!("[[users]]\nname = \"keyed\"\nkey_sha256 = [\"{key}\"]"))
}

/// A client that keeps its connection for as long as it is told it may.
struct Client {
    address: SocketAddr,
    wire: Option<Wire>,
}

impl Client {
    fn call(&mut self, kind: &Kind, number: usize) -> End {
        let wire = self.wire.get_or_insert_with(|| Wire::connect(self.address));
        let answer = wire.call(&(kind.call)(number));
        if answer.field("Connection").is_some_and(|option| option == "close") {
            self.wire = None;
        }
        let is_problem = answer.field("Content-Type").is_some_and(|form| form.contains("problem"));
        let code = if is_problem { answer.code() } else { "ok".to_owned() };
        let end = (answer.status(), code.as_str());
        // On a busy machine n4n may be late by itself; the accounts have to agree on that too.
        let goes_to_n4n = kind.ends.iter().any(|(_, code)| outcome_of(code) != "rejected");
        let is_late =
            goes_to_n4n && [(504, "upstream_timeout"), (502, "upstream_unreachable")].contains(&end);
        assert!(kind.ends.contains(&end) || is_late, "{:?} ended with {answer:?}", (kind.call)(number));
        (Some(answer.status()), code)
    }

    /// Begins a call and leaves.
    fn leave(&mut self) -> End {
        let wire = self.wire.get_or_insert_with(|| Wire::connect(self.address));
        wire.send(
            "PATCH /api/customer/unlock HTTP/1.1\r\nHost: gateway.test\r\napi-key: k\r\napi-username: u\r\n",
        );
        wire.send("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\norder");
        wire.stop_sending();
        assert_eq!(wire.try_answer().unwrap_err(), Broken::Closed);
        self.wire = None;
        (None, "client_gone".to_owned())
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tally<T: Ord>(ends: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    for end in ends {
        *tally.entry(end).or_default() += 1;
    }
    tally
}

fn outcome_of(code: &str) -> &'static str {
    match code {
        "ok" => "forwarded",
        "client_gone" => "abandoned",
        code if code.starts_with("upstream_") => "failed",
        _ => "rejected",
    }
}

#[test]
fn clients_metrics_log_trail_and_upstream_agree_to_the_unit() {
    const CALLS: usize = 50_000;
    const CLIENTS: usize = 4;
    let upstream = n4n();
    let mut gateway = before(&upstream, "1s").start();
    let (kinds, next, address) = (kinds(), AtomicUsize::new(0), gateway.http());
    let ends: Vec<End> = std::thread::scope(|scope| {
        let call_on = || {
            let mut client = Client { address, wire: None };
            let mut ends = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= CALLS {
                    return ends;
                }
                // Those that wait for a time-out are few, so that the test does not.
                let kind = match number % (kinds.len() + 1) {
                    SILENCE if number / (kinds.len() + 1) % 40 > 0 => 0,
                    kind => kind,
                };
                ends.push(match kinds.get(kind) {
                    Some(kind) => client.call(kind, number),
                    None => client.leave(),
                });
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(call_on)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(ends.len(), CALLS);

    gateway.wait_for_metric("n4n_gateway_requests_total", CALLS as f64);
    let metrics = gateway.metrics();
    let seen = tally(ends);
    for ((status, code), count) in &seen {
        let class = status.map_or("none".to_owned(), |status| format!("{}xx", status / 100));
        let labels = format!("outcome=\"{}\",code=\"{code}\",status_class=\"{class}\"", outcome_of(code));
        let same_class = seen.iter().filter(|((other, other_code), _)| {
            other_code == code && other.map(|status| status / 100) == status.map(|status| status / 100)
        });
        let all: usize = same_class.map(|(_, count)| count).sum();
        let counted = metrics.sum(&format!("n4n_gateway_requests_total{{{labels}}}"));
        assert_eq!(counted, all as f64, "{labels}, {count} of them with {status:?}");
    }
    assert_eq!(metrics.sum("n4n_gateway_access_log_dropped_total"), 0.0);
    assert_eq!(metrics.sum("n4n_gateway_user_requests_total"), CALLS as f64);

    // What the log still held is written when the process ends.
    gateway.send(crate::harness::Signal::Terminate);
    assert!(gateway.wait_exit().success());
    let log = lines(&gateway.file("access.jsonl"));
    let logged = tally(log.iter().map(|line| {
        let code = line["code"].as_str().unwrap().to_owned();
        assert_eq!(line["outcome"], outcome_of(&code), "{line}");
        (line["status"].as_u64().and_then(|status| u16::try_from(status).ok()), code)
    }));
    assert_eq!(logged, seen);

    let trail = gateway.file("audit.jsonl");
    assert!(binary().args(["audit", "verify"]).arg(&trail).status().unwrap().success());
    let records = lines(&trail);
    let of = |event: &str| {
        let records = records.iter().filter(|record| record["event"] == event);
        records.map(|record| record["request_id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let sent: Vec<Message> = upstream.requests();
    let received: BTreeSet<String> =
        sent.iter().map(|request| request.one("X-Request-Id").to_owned()).collect();
    assert_eq!(received.len(), sent.len(), "a call was sent twice");
    assert_eq!(of("intent"), received);
    assert_eq!(of("outcome"), received);
    let results = tally(records.iter().filter_map(|record| Some(record["result"].as_str()?.to_owned())));
    for result in ["unlocked", "refused"] {
        let counted = metrics.sum(&format!("n4n_gateway_unlocks_total{{result=\"{result}\"}}"));
        assert_eq!(results.get(result).copied().unwrap_or(0) as f64, counted, "{result}: {results:?}");
    }
    assert_eq!(metrics.sum("n4n_gateway_unlocks_total"), sent.len() as f64);
}

/// What must not grow while a gateway runs.
#[derive(Debug, Clone, Copy)]
struct Size {
    memory: u64,
    files: usize,
    threads: usize,
    series: usize,
}

impl Size {
    fn of(gateway: &Gateway) -> Self {
        Self {
            memory: gateway.resident_memory(),
            files: gateway.open_files(),
            threads: gateway.threads(),
            series: gateway.metrics().count(),
        }
    }

    fn assert_has_not_grown_since(self, before: Self) {
        let told = format!("from {before:?} to {self:?}");
        assert!(self.memory <= before.memory + before.memory / 8 + 2 * 1024 * 1024, "memory: {told}");
        // A few connections may be open at the moment.
        assert!(self.files <= before.files + 16, "files: {told}");
        assert!(self.threads <= before.threads, "threads: {told}");
        assert_eq!(self.series, before.series, "series: {told}");
    }
}

/// A short while, or as many seconds as `N4N_SOAK` says: an hour is what a release is given.
fn soak_time() -> Duration {
    let seconds = std::env::var("N4N_SOAK").map_or(20, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

#[test]
fn nothing_grows_under_a_mixture_with_faults_and_reloads() {
    let upstream = n4n();
    let gateway = before(&upstream, "100ms").start();
    let (kinds, next, stop, address) = (kinds(), AtomicUsize::new(0), AtomicBool::new(false), gateway.http());
    std::thread::scope(|scope| {
        let (hundred, hundreds) = mpsc::channel();
        for _ in 0..3 {
            let (hundred, next, stop, kinds) = (hundred.clone(), &next, &stop, &kinds);
            scope.spawn(move || {
                let mut client = Client { address, wire: None };
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match kinds.get(number % (kinds.len() + 1)) {
                        Some(kind) => drop(client.call(kind, number)),
                        None => drop(client.leave()),
                    }
                    if number % 100 == 0 {
                        // Nobody may be listening any more.
                        let _ = hundred.send(());
                    }
                }
            });
        }
        let (start, whole) = (Instant::now(), soak_time());
        let mut warm: Option<Size> = None;
        let mut minute = 0;
        while start.elapsed() < whole {
            for file in ["access.jsonl", "audit.jsonl"] {
                std::fs::rename(gateway.file(file), gateway.file(&format!("{file}-1"))).unwrap();
            }
            gateway.reload(|text| text);
            upstream.forget();
            let size = Size::of(&gateway);
            if start.elapsed() > whole / 4 {
                size.assert_has_not_grown_since(*warm.get_or_insert(size));
            }
            if start.elapsed().as_secs() / 60 > minute {
                minute = start.elapsed().as_secs() / 60;
                println!("minute {minute}: {size:?}, {} calls", next.load(Ordering::Relaxed));
            }
            hundreds.recv_timeout(DEADLINE).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    for gauge in ["n4n_gateway_connections", "n4n_gateway_in_flight"] {
        gateway.wait_for_metric(gauge, 0.0);
    }
    assert_eq!(gateway.metrics().sum("n4n_gateway_requests_total{code=\"internal\"}"), 0.0);
}
