//! Metrics and access log say that a status was sent only where it was.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use crate::harness::{Call, Gate, Gateway, Reply, Upstream};

/// A gateway, and a call whose client has left with a reset while n4n still thought about it; n4n then answers thus.
fn abandoned(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Upstream, Gateway) {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_| {
        held.pass();
        reply()
    });
    let gateway = Gateway::before(upstream.address()).set("listen", "threads = 1").start();
    let mut client = TcpStream::connect(gateway.http()).unwrap();
    client.write_all(&Call::unlock().bytes()).unwrap();
    upstream.wait_for(1);
    set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    gate.open();
    (upstream, gateway)
}

fn assert_unsent(gateway: &Gateway, outcome: &str, code: &str) {
    let line = &gateway.wait_for_log(1)[0];
    assert_eq!((line["outcome"].as_str(), line["code"].as_str()), (Some(outcome), Some(code)), "{line}");
    assert_eq!(line["status"], Value::Null, "nobody was there to be sent one: {line}");
    let series = |class| {
        format!(
            "n4n_gateway_requests_total{{outcome=\"{outcome}\",code=\"{code}\",status_class=\"{class}\"}}"
        )
    };
    gateway.wait_for_metric(&series("none"), 1.0);
    gateway.wait_for_metric("n4n_gateway_requests_total", 1.0);
}

#[test]
fn no_status_is_told_of_an_answer_that_nobody_was_there_to_take() {
    let (_upstream, gateway) = abandoned(|| Reply::json("200 OK", "true"));
    assert_unsent(&gateway, "forwarded", "ok");
}

#[test]
fn no_status_is_told_of_a_failure_that_nobody_was_there_to_hear_of() {
    let (_upstream, gateway) = abandoned(|| Reply::Reset(Vec::new()));
    assert_unsent(&gateway, "failed", "upstream_broken");
}

#[test]
fn an_answer_that_breaks_off_keeps_the_status_that_was_sent() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
    let upstream = Upstream::scripted(|_| Reply::Last([&head[..], &[b'x'; 50_000]].concat()));
    let gateway = Gateway::before(upstream.address()).set("policy", "other_paths = \"forward\"").start();
    let mut wire = gateway.connect();
    wire.send(Call::unlock().path("/report").method("GET").body("").bytes());
    let _ = wire.try_answer();
    let line = &gateway.wait_for_log(1)[0];
    assert_eq!(
        (line["code"].as_str(), line["status"].as_u64()),
        (Some("upstream_broken"), Some(200)),
        "{line}"
    );
    let series =
        "n4n_gateway_requests_total{outcome=\"failed\",code=\"upstream_broken\",status_class=\"2xx\"}";
    gateway.wait_for_metric(series, 1.0);
    gateway.wait_for_metric("n4n_gateway_requests_total", 1.0);
}
