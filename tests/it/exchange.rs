//! One call on its way to n4n and back: one write, at most one send, and connections that are used again only where
//! nothing speaks against it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use crate::harness::{Call, Gate, Gateway, GatewayBuilder, Http2, NAME, Reply, Secured, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue";

/// One worker, so that there is one pool.
fn before(upstream: &Upstream) -> GatewayBuilder {
    Gateway::before(upstream.address()).set("listen", "threads = 1")
}

/// An upstream that answers each read, and tells how many bytes came by it.
fn answering_each_read() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let is_heard = tell.send(bytes[..count].to_vec()).is_ok();
                    if !is_heard || stream.write_all(OK.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, told)
}

#[test]
fn head_and_body_go_out_in_one_write() {
    for (mode, call) in [
        ("enforce", Call::unlock()),
        ("enforce", Call::unlock().chunked(4)),
        ("observe", Call::unlock()),
        ("observe", Call::unlock().body("x".repeat(8000))),
    ] {
        let (address, reads) = answering_each_read();
        let gateway = Gateway::before(address).set("", &format!("mode = \"{mode}\"")).start();
        // Often, by new connections to n4n and kept ones: what came by two writes would not always be read as one.
        for _ in 0..30 {
            let mut wire = gateway.connect();
            for _ in 0..2 {
                assert_eq!(wire.call(&call).status(), 200);
                let read = reads.recv().unwrap();
                let whole = [b"\r\n\r\n", &call.framed_body()[..]].concat();
                let whole = if call.head().windows(7).any(|part| part == b"chunked") {
                    &b"\r\n\r\ncustomer_id=191"[..]
                } else {
                    &whole
                };
                assert!(read.ends_with(whole), "{mode}: {}", read.escape_ascii());
            }
        }
        assert!(reads.try_recv().is_err(), "{mode}: more was sent");
    }
}

#[test]
fn what_came_unasked_by_an_idle_connection_answers_nobody() {
    let stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    for (case, unasked) in
        [("a whole answer", &stray[..]), ("a byte", b"H"), ("an interim answer", b"HTTP/1.1 100\r\n\r\n")]
    {
        let (asked, done) = (Gate::default(), Gate::default());
        let calls = AtomicUsize::new(0);
        let (gates, unasked) = ((asked.clone(), done.clone()), unasked.to_vec());
        let upstream = Upstream::scripted(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Unasked(OK.into(), gates.0.clone(), unasked.clone(), gates.1.clone()),
            _ => Reply::json("200 OK", "\"its own\""),
        });
        let gateway = before(&upstream).start();
        let mut wire = gateway.connect();
        assert_eq!(wire.call(&Call::unlock()).text(), "true");
        asked.open();
        done.pass();
        let answer = wire.call(&Call::unlock());
        assert_eq!((answer.status(), answer.text()), (200, "\"its own\""), "{case}");
        assert_eq!((upstream.connections(), upstream.requests().len()), (2, 2), "{case}");
    }
}

#[test]
fn a_connection_is_used_again_only_where_the_answer_lets_it() {
    let kept = |answer: &str| Reply::Bytes(answer.as_bytes().to_vec());
    for (case, answer, connections) in [
        ("a length", OK, 1),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n0\r\n\r\n", 1),
        ("no body", "HTTP/1.1 204 No Content\r\n\r\n", 1),
        ("not changed", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 1),
        ("a body that 204 cannot have", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", 2),
        ("chunks that 204 cannot have", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 2),
        ("a wish to close", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: x, Close\r\n\r\ntrue", 2),
        ("an older version", "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ntrue", 2),
        (
            "an older version that is kept",
            "HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\ntrue",
            1,
        ),
    ] {
        let upstream = Upstream::scripted(move |_| kept(answer));
        let gateway = before(&upstream).start();
        let mut wire = gateway.connect();
        for _ in 0..2 {
            assert!((200..305).contains(&wire.call(&Call::unlock()).status()), "{case}");
        }
        assert_eq!(upstream.connections(), connections, "{case}");
    }
}

#[test]
fn thirty_two_interim_answers_pass_and_one_more_is_too_many() {
    for (count, status) in [(32, 200), (33, 502)] {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
        let upstream = Upstream::answering(format!("{interim}{OK}"));
        assert_eq!(before(&upstream).start().call(&Call::unlock()).status(), status, "{count}");
    }
}

#[test]
fn a_body_of_one_mib_is_passed_on_and_a_longer_one_is_not() {
    for (length, status) in [(1 << 20, 200), ((1 << 20) + 1, 502)] {
        let body = "a".repeat(length);
        let (first, second) = body.split_at(length / 2);
        let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
        for (framing, reply) in [
            ("length", format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")),
            ("chunks", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")),
            ("close", format!("HTTP/1.1 200 OK\r\n\r\n{body}")),
        ] {
            let upstream = Upstream::scripted(move |_| Reply::Last(reply.clone().into_bytes()));
            let gateway = before(&upstream).start();
            let mut wire = gateway.connect();
            for _ in 0..2 {
                let answer = wire.call(&Call::unlock());
                assert_eq!(answer.status(), status, "{framing} {length}");
                assert!(status != 200 || answer.text() == body, "{framing} {length}");
                assert!(status == 200 || answer.code() == "upstream_broken", "{framing} {length}");
            }
            assert_eq!(upstream.requests().len(), 2, "{framing} {length}: sent more than once");
        }
    }
}

#[test]
fn idle_connections_close_after_the_idle_timeout() {
    let upstream = Upstream::start();
    let gateway = before(&upstream).set("upstream", "idle_timeout = \"300ms\"").start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    upstream.wait_for_open(0);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn as_many_connections_are_kept_as_calls_may_be_in_flight_also_after_a_reload() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let gateway =
        before(&upstream).set("listen", "max_in_flight = 8").set("upstream", "idle_timeout = \"1h\"").start();
    let mut wires: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    wires.iter_mut().for_each(|wire| wire.send(Call::unlock().bytes()));
    upstream.wait_for(8);
    gate.open();
    wires.iter_mut().for_each(|wire| assert_eq!(wire.answer().status(), 200));
    upstream.wait_for_open(8);
    gateway.reload(|text| text.replace("max_in_flight = 8", "max_in_flight = 3"));
    upstream.wait_for_open(3);
    gateway.reload(|text| text.replace("max_in_flight = 3", "max_in_flight = 8"));
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.connections(), 8, "those that are left are used again");
}

#[test]
fn a_kept_connection_that_breaks_costs_one_call_and_nothing_is_sent_twice() {
    for (mode, call) in [("enforce", Call::unlock()), ("observe", Call::unlock().body("customer.id=1"))] {
        for (case, breaks) in [
            ("closes", (|| Reply::Last(Vec::new())) as fn() -> Reply),
            ("resets", || Reply::Reset(Vec::new())),
            ("closes within the answer", || Reply::Last(OK.as_bytes()[..30].to_vec())),
        ] {
            let calls = AtomicUsize::new(0);
            let upstream = Upstream::scripted(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
                1 => breaks(),
                _ => Reply::json("200 OK", "true"),
            });
            let gateway = before(&upstream).set("", &format!("mode = \"{mode}\"")).start();
            let mut wire = gateway.connect();
            let statuses = [200, 502, 200].map(|_| wire.call(&call).status());
            assert_eq!(statuses, [200, 502, 200], "{mode}: {case}");
            assert_eq!(upstream.requests().len(), 3, "{mode}: {case}: sent more than once");
            assert_eq!(upstream.connections(), 2, "{mode}: {case}");
        }
    }
}

#[test]
fn a_kept_connection_that_n4n_closes_in_that_very_moment_costs_no_call_more_than_once() {
    // It is closed as soon as its answer is out, so that the next call finds it closed, closing, or still there.
    let upstream = Upstream::scripted(|_| Reply::Last(OK.into()));
    let gateway = before(&upstream).start();
    let mut wire = gateway.connect();
    let mut broken = 0;
    for calls in 1..=300 {
        let answer = wire.call(&Call::unlock());
        if answer.status() != 200 {
            assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_broken"));
            broken += 1;
        }
        assert!(upstream.requests().len() <= calls, "sent more than once");
    }
    assert_eq!(upstream.requests().len() + broken, 300, "each call was sent once or was broken");
}

/// The records of one call's trail, once its outcome is there.
fn records(gateway: &Gateway) -> Vec<Value> {
    gateway.wait_for_metric("n4n_gateway_unlocks_total{result=\"unlocked\"}", 1.0);
    let trail = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_call_whose_client_leaves_is_carried_to_its_end_for_the_trail() {
    for case in
        ["a closed connection", "a reset connection", "a reset stream", "a closed connection of HTTP/2"]
    {
        let gate = Gate::default();
        let held = gate.clone();
        let upstream = Upstream::scripted(move |_| {
            held.pass();
            Reply::json("201 Created", "true")
        });
        let recording = before(&upstream).set("log", "audit = \"audit.jsonl\"");
        let secured = Secured::of(recording);
        let gateway = &secured.gateway;
        if case.contains("HTTP/2") || case.contains("stream") {
            let mut connection = secured.connect();
            let mut exchange = connection.open(Http2::unlock(NAME), false).unwrap();
            exchange.body.send_data("customer_id=191".into(), true).unwrap();
            connection.run_while(|| upstream.wait_for(1));
            if case == "a reset stream" {
                connection.reset(exchange);
                connection.run_for(Duration::from_millis(50));
            }
            drop(connection);
        } else {
            let mut client = TcpStream::connect(gateway.http()).unwrap();
            client.write_all(&Call::unlock().bytes()).unwrap();
            upstream.wait_for(1);
            if case == "a reset connection" {
                set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            }
        }
        gate.open();
        let records = records(gateway);
        assert_eq!(records.len(), 2, "{case}: {records:?}");
        assert_eq!(records[0]["request_id"], records[1]["request_id"], "{case}");
        assert_eq!(records[1]["status"], 201, "{case}: {records:?}");
        gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"forwarded\"}", 1.0);
        gateway.wait_for_metric("n4n_gateway_connections", 0.0);
        assert_eq!(upstream.requests().len(), 1, "{case}");
    }
}
