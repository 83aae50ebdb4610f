//! Faults of the network between the gateway and n4n: packets that get lost, hosts that vanish, and a process
//! that has stopped.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Call, Gate, Gateway, Lines, Namespace, Reply, Upstream, Wire, binary};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

fn before(peers: &[&Upstream]) -> Gateway {
    let peers: Vec<_> = peers.iter().map(|upstream| upstream.address()).collect();
    Gateway::before_all(&peers)
        .set(
            "upstream",
            &format!(
                "connect_timeout = \"{}ms\"\nresponse_timeout = \"{}ms\"",
                CONNECT_TIMEOUT.as_millis(),
                RESPONSE_TIMEOUT.as_millis()
            ),
        )
        .set("listen", "threads = 1")
        .start()
}

/// Calls, and checks the answer and that it took as long as a time-out, give or take a busy machine.
fn assert_fails(wire: &mut Wire, status: u16, code: &str, after: Duration) {
    let start = Instant::now();
    let answer = wire.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{answer:?}");
    let took = start.elapsed();
    assert!(took >= after && took < after + Duration::from_secs(5), "took {took:?}, not {after:?}");
}

#[test]
fn where_connects_get_lost_another_peer_is_tried_in_time() {
    let Some(namespace) = Namespace::enter() else { return };
    let (lost, good) = (Upstream::start(), Upstream::start());
    let _rule = namespace.rule(&format!("-p tcp --dport {} -j DROP", lost.address().port()));
    let alone = before(&[&lost]);
    assert_fails(&mut alone.connect(), 502, "upstream_unreachable", CONNECT_TIMEOUT);
    let gateway = before(&[&lost, &good]);
    for _ in 0..4 {
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    }
    assert_eq!((lost.connections(), good.count()), (0, 4));
}

#[test]
fn a_host_that_vanishes_with_a_call_costs_it_the_response_timeout() {
    let Some(namespace) = Namespace::enter() else { return };
    let (gate, is_held) = (Gate::default(), std::sync::atomic::AtomicBool::new(true));
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_| {
        if is_held.swap(false, std::sync::atomic::Ordering::SeqCst) {
            held.pass();
        }
        Reply::json("200 OK", "true")
    });
    let gateway = before(&[&upstream]);
    let mut wire = gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    let port = upstream.address().port();
    let rules = ["--dport", "--sport"].map(|side| namespace.rule(&format!("-p tcp {side} {port} -j DROP")));
    gate.open();
    let answer = wire.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (504, "upstream_timeout"));
    // Nobody is there for a new connection either.
    assert_fails(&mut gateway.connect(), 502, "upstream_unreachable", CONNECT_TIMEOUT);
    drop(rules);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200, "it is back");
    assert_eq!(upstream.count(), 2, "a call was sent more than once");
}

#[test]
fn a_kept_connection_that_is_cut_or_goes_nowhere_costs_one_call() {
    let Some(namespace) = Namespace::enter() else { return };
    for (target, status, code, after) in [
        ("REJECT --reject-with tcp-reset", 502, "upstream_broken", Duration::ZERO),
        ("DROP", 504, "upstream_timeout", RESPONSE_TIMEOUT),
    ] {
        let upstream = Upstream::start();
        let gateway = before(&[&upstream]);
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
        let rule = namespace.rule(&format!("-p tcp --dport {} -j {target}", upstream.address().port()));
        assert_fails(&mut gateway.connect(), status, code, after);
        drop(rule);
        assert_eq!(gateway.call(&Call::unlock()).status(), 200, "after {target}");
        gateway.wait_for_metric(&format!("n4n_gateway_requests_total{{code=\"{code}\"}}"), 1.0);
        assert!(upstream.count() <= 3, "after {target}: a call was sent more than once");
    }
}

/// A stand-in of n4n in a process of its own; it ends with this value.
struct StandIn {
    child: Child,
    address: String,
}

impl StandIn {
    fn start() -> Self {
        let mut child = binary()
            .args(["stand-in", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let address = lines.wait_for("address", |lines| {
            let (_, address) = lines.iter().find_map(|line| line.split_once("http://"))?;
            Some(address.split(['/', ' ']).next()?.to_owned())
        });
        Self { child, address }
    }

    fn send(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_process_that_has_stopped_costs_the_response_timeout_until_it_goes_on() {
    let stand_in = StandIn::start();
    let gateway = Gateway::before_all(&[&stand_in.address])
        .set("upstream", &format!("response_timeout = \"{}ms\"", RESPONSE_TIMEOUT.as_millis()))
        .start();
    let mut wire = gateway.connect();
    assert_eq!(wire.call(&Call::unlock()).text(), "true");
    stand_in.send(rustix::process::Signal::STOP);
    // On the connection that was kept, and on a new one: the system still takes it.
    for _ in 0..2 {
        assert_fails(&mut gateway.connect(), 504, "upstream_timeout", RESPONSE_TIMEOUT);
    }
    stand_in.send(rustix::process::Signal::CONT);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}
