//! The process starts, tells its state, ends cleanly, and keeps secrets to itself throughout.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{API_KEY, Broken, Call, Gate, Gateway, Signal, Upstream, refusing_address};

/// An upstream that answers only once the gate is open.
fn held_upstream() -> (Upstream, Gate) {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    (upstream, gate)
}

#[test]
fn the_admin_listener_tells_that_it_lives_and_is_ready() {
    // Ready from the first accept, whatever the upstream does.
    let (address, _guard) = refusing_address();
    let gateway = Gateway::before(address).start();
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.admin(path).unwrap().0, 200, "{path}");
    }
    assert_eq!(gateway.admin("/nothing").unwrap().0, 404);
    // What is the admin's is not the callers'.
    for path in ["/metrics", "/livez", "/readyz"] {
        let answer = gateway.call(&Call::unlock().method("GET").path(path));
        assert_eq!((answer.status(), answer.code().as_str()), (404, "path_unknown"), "{path}");
    }
}

#[test]
fn the_metrics_are_those_that_dashboards_are_written_against() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("quota", "requests = 10\nper = \"1s\"\nburst = 20")
        .append("[[users]]\nname = \"n4n_admin\"")
        .start();
    let started = gateway.metrics();
    for series in [
        format!("n4n_gateway_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")),
        "n4n_gateway_in_flight".to_owned(),
        "n4n_gateway_connections".to_owned(),
        "n4n_gateway_quota_users".to_owned(),
        "n4n_gateway_quota_evictions_total".to_owned(),
        "n4n_gateway_quota_store_errors_total".to_owned(),
        "process_resident_memory_bytes".to_owned(),
        "process_open_fds".to_owned(),
        "process_cpu_seconds_total".to_owned(),
    ] {
        assert!(started.has(&series), "{series} is missing from {started:?}");
    }

    let mut wire = gateway.connect();
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert_eq!(wire.call(&Call::unlock().user("ada")).status(), 200);
    assert_eq!(wire.call(&Call::unlock().body("customer_id=")).status(), 400);
    for (series, value) in [
        ("n4n_gateway_requests_total{outcome=\"forwarded\",code=\"ok\",status_class=\"2xx\"}", 2.0),
        (
            "n4n_gateway_requests_total{outcome=\"rejected\",code=\"lookup_invalid\",status_class=\"4xx\"}",
            1.0,
        ),
        ("n4n_gateway_requests_total", 3.0),
        ("n4n_gateway_request_duration_seconds_count{outcome=\"forwarded\"}", 2.0),
        ("n4n_gateway_request_duration_seconds_count{outcome=\"rejected\"}", 1.0),
        ("n4n_gateway_upstream_duration_seconds_count", 2.0),
        ("n4n_gateway_unlocks_total{result=\"unlocked\"}", 2.0),
        ("n4n_gateway_user_requests_total{user=\"n4n_admin\",outcome=\"forwarded\"}", 1.0),
        ("n4n_gateway_user_requests_total{user=\"other\",outcome=\"forwarded\"}", 1.0),
        ("n4n_gateway_in_flight", 0.0),
        ("n4n_gateway_connections", 1.0),
    ] {
        gateway.wait_for_metric(series, value);
    }
    drop(wire);
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
}

#[test]
fn a_call_under_way_is_in_flight() {
    let (upstream, gate) = held_upstream();
    let gateway = Gateway::before(upstream.address()).start();
    let mut wire = gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    gateway.wait_for_metric("n4n_gateway_in_flight", 1.0);
    gate.open();
    assert_eq!(wire.answer().status(), 200);
    gateway.wait_for_metric("n4n_gateway_in_flight", 0.0);
}

#[test]
fn over_max_in_flight_calls_are_refused_for_now() {
    let (upstream, gate) = held_upstream();
    let gateway = Gateway::before(upstream.address()).set("listen", "max_in_flight = 1").start();
    let mut first = gateway.connect();
    first.send(Call::unlock().bytes());
    upstream.wait_for(1);

    let mut second = gateway.connect();
    let answer = second.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (503, "overloaded"));
    assert!(answer.one("Retry-After").parse::<u32>().unwrap() >= 1);

    gate.open();
    assert_eq!(first.answer().status(), 200);
    gateway.wait_for_metric("n4n_gateway_in_flight", 0.0);
    assert_eq!(second.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn sigterm_with_nothing_in_flight_ends_at_once() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(upstream.address()).set("listen", "drain_timeout = \"25s\"").start();
    let mut idle = gateway.connect();
    assert_eq!(idle.call(&Call::unlock()).status(), 200);
    let start = Instant::now();
    gateway.send(Signal::Terminate);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "took {:?}", start.elapsed());
    idle.assert_closes();
}

#[test]
fn sigterm_lets_a_call_in_flight_end() {
    let (upstream, gate) = held_upstream();
    let mut gateway = Gateway::before(upstream.address()).set("listen", "drain_timeout = \"25s\"").start();
    let mut wire = gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);

    let start = Instant::now();
    gateway.send(Signal::Terminate);
    // Not ready, or not there to be asked, but alive as long as the call is.
    while gateway.admin("/readyz").is_ok_and(|(status, _)| status == 200) {
        assert!(start.elapsed() < Duration::from_secs(10), "still ready");
    }
    assert!(gateway.is_running());
    gate.open();
    let answer = wire.answer();
    assert_eq!((answer.status(), answer.text()), (200, "true"));
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());

    let log = gateway.wait_for_log(1);
    assert_eq!((log.len(), &log[0]["outcome"]), (1, &"forwarded".into()));
    assert!(TcpStream::connect(gateway.http()).is_err(), "still listening");
}

#[test]
fn sigterm_waits_no_longer_than_the_drain_timeout() {
    let (upstream, gate) = held_upstream();
    let mut gateway = Gateway::before(upstream.address()).set("listen", "drain_timeout = \"1s\"").start();
    let mut wire = gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    let start = Instant::now();
    gateway.send(Signal::Terminate);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(1), "the call was cut off early");
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    gate.open();
}

#[test]
fn sigint_stops_at_once() {
    let (upstream, gate) = held_upstream();
    let mut gateway = Gateway::before(upstream.address()).start();
    let mut wire = gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    let start = Instant::now();
    gateway.send(Signal::Interrupt);
    gateway.wait_exit();
    assert!(start.elapsed() < Duration::from_secs(8), "took {:?}", start.elapsed());
    assert!(matches!(wire.try_answer(), Err(Broken::Closed | Broken::Truncated)));
    gate.open();
}

#[test]
fn every_call_has_one_line_in_the_access_log() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::before(upstream.address()).set("quota", "requests = 1\nper = \"1h\"\nburst = 2").start();
    let mut wire = gateway.connect();
    let calls = [
        (Call::unlock(), "n4n_admin", 200, "forwarded", "ok", "customer_id"),
        (Call::unlock().body("orderid=secret-order"), "n4n_admin", 200, "forwarded", "ok", "orderid"),
        (Call::unlock(), "n4n_admin", 429, "rejected", "quota_exceeded", "customer_id"),
        (Call::unlock().user("ada").body("customer_id=!"), "ada", 400, "rejected", "lookup_invalid", ""),
        (
            Call::unlock().user("ada").query("customer_id=secret"),
            "",
            400,
            "rejected",
            "query_not_allowed",
            "",
        ),
        (Call::unlock().method("GET").path("/favicon.ico"), "", 404, "rejected", "path_unknown", ""),
    ];
    for (call, ..) in &calls {
        wire.call(call);
    }
    let log = gateway.wait_for_log(calls.len());
    assert_eq!(log.len(), calls.len());
    let members = [
        "time",
        "request_id",
        "client",
        "user",
        "method",
        "path",
        "status",
        "outcome",
        "code",
        "duration_ms",
        "upstream_ms",
        "peer",
        "lookup",
    ];
    for (line, (call, user, status, outcome, code, lookup)) in log.iter().zip(&calls) {
        let object = line.as_object().unwrap();
        for member in object.keys() {
            assert!(members.contains(&member.as_str()), "{member} is not promised: {line}");
        }
        for member in
            ["time", "request_id", "client", "method", "path", "status", "outcome", "code", "duration_ms"]
        {
            assert!(object.contains_key(member), "{member} is missing: {line}");
        }
        assert_eq!(line["status"], *status, "{line}");
        assert_eq!(line["outcome"], *outcome, "{line}");
        assert_eq!(line["code"], *code, "{line}");
        assert_eq!(line["client"], "127.0.0.1", "{line}");
        assert!(line["duration_ms"].is_number(), "{line}");
        assert_eq!(line["upstream_ms"].is_number(), *outcome == "forwarded", "{line}");
        let forwarded_to = (*outcome == "forwarded").then(|| upstream.address().to_string());
        assert_eq!(line["peer"].as_str(), forwarded_to.as_deref(), "{line}");
        if !user.is_empty() {
            assert_eq!(line["user"], *user, "{line}");
        }
        if !lookup.is_empty() {
            assert_eq!(line["lookup"], *lookup, "{line}");
        }
        let head = String::from_utf8(call.head()).unwrap();
        assert!(head.starts_with(&format!(
            "{} {}",
            line["method"].as_str().unwrap(),
            line["path"].as_str().unwrap()
        )));
    }
    let text = gateway.output();
    for secret in ["secret-order", "customer_id=secret", "customer_id=191"] {
        assert!(!text.contains(secret), "{secret} is in the output");
    }
}

#[test]
fn the_key_is_nowhere_in_any_form() {
    let (refusing, _guard) = refusing_address();
    let upstream = Upstream::start();
    let gateway = Gateway::before_all(&[upstream.address(), refusing]).start();
    for call in [
        Call::unlock(),
        Call::unlock().body(""),
        Call::unlock().with("api-key", API_KEY),
        Call::unlock().with("api_key", API_KEY),
        Call::unlock().without("api-username"),
        Call::unlock().set("api-key", &format!("{API_KEY} {API_KEY}")),
        Call::unlock().path("/x").query(API_KEY),
        Call::unlock().body(format!("api_key={API_KEY}")),
    ] {
        let answer = gateway.call(&call);
        assert!(!answer.raw.windows(API_KEY.len()).any(|bytes| bytes == API_KEY.as_bytes()), "{answer:?}");
    }
    gateway.wait_for_log(8);
    let (_, metrics) = gateway.admin("/metrics").unwrap();
    assert!(!gateway.output().contains(API_KEY));
    assert!(!metrics.contains(API_KEY));
}

#[test]
fn the_access_log_can_be_a_file_or_off() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", "access = \"access.jsonl\"").start();
    let file = gateway.config().with_file_name("access.jsonl");
    let answer = gateway.call(&Call::unlock());
    let start = Instant::now();
    let line = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
            break serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(start.elapsed() < crate::harness::DEADLINE, "no line in {}", file.display());
    };
    assert_eq!(line["request_id"], answer.one("X-Request-Id"));

    let silent = Gateway::before(upstream.address()).set("log", "access = \"off\"").start();
    let answer = silent.call(&Call::unlock());
    silent.wait_for_metric("n4n_gateway_requests_total", 1.0);
    assert!(!silent.output().contains(answer.one("X-Request-Id")));
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("listen", "idle_timeout = \"1s\"").start();
    let mut used = gateway.connect();
    assert_eq!(used.call(&Call::unlock()).status(), 200);
    let start = Instant::now();
    used.assert_closes();
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
}
