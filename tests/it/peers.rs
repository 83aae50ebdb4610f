//! Several n4n hosts: which of them a call goes to, and what is known of their health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Authority, Call, Gateway, Message, Reply, Upstream, VALID, refusing_address, silent_address,
};

const OFTEN: &str = "health_check = { path = \"/alive\", every = \"20ms\", rise = 2, fall = 2 }";

/// An n4n host whose health can be changed.
struct Host {
    upstream: Upstream,
    health: Arc<AtomicU16>,
}

impl Host {
    fn start() -> Self {
        let health = Arc::new(AtomicU16::new(200));
        let answered = Arc::clone(&health);
        let upstream = Upstream::scripted(move |request| {
            if is_check(request) {
                let status = answered.load(Ordering::SeqCst);
                Reply::json(&format!("{status} Whatever"), "{}")
            } else {
                Reply::json("200 OK", "true")
            }
        });
        Self { upstream, health }
    }

    fn answer_checks_with(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        self.upstream.requests().iter().filter(|request| !is_check(request)).count()
    }

    fn wait_until_healthy(&self, gateway: &Gateway, is_healthy: bool) {
        let peer = format!("n4n_gateway_upstream_healthy{{peer=\"{}\"}}", self.upstream.address());
        gateway.wait_for_metric(&peer, f64::from(u8::from(is_healthy)));
    }
}

fn is_check(request: &Message) -> bool {
    request.start_line.starts_with("GET /alive ")
}

fn call(gateway: &Gateway, count: usize) {
    let mut wire = gateway.connect();
    for _ in 0..count {
        assert_eq!(wire.call(&Call::unlock()).status(), 200);
    }
}

#[test]
fn calls_keep_off_a_peer_that_fails_its_checks_until_it_passes_them() {
    let hosts = [Host::start(), Host::start()];
    let peers = hosts.each_ref().map(|host| host.upstream.address());
    let gateway = Gateway::before_all(&peers).set("upstream", OFTEN).start();
    call(&gateway, 10);
    assert_eq!(hosts.each_ref().map(Host::calls), [5, 5], "taken in turns");

    hosts[0].answer_checks_with(500);
    hosts[0].wait_until_healthy(&gateway, false);
    hosts[1].wait_until_healthy(&gateway, true);
    call(&gateway, 10);
    assert_eq!(hosts.each_ref().map(Host::calls), [5, 15]);
    assert!(gateway.output().contains(&format!("the peer is unhealthy peer={}", peers[0])));

    // What n4n answers to a stranger shows that it is there.
    hosts[0].answer_checks_with(403);
    hosts[0].wait_until_healthy(&gateway, true);
    call(&gateway, 10);
    assert_eq!(hosts.each_ref().map(Host::calls), [10, 20]);

    let check = hosts[0].upstream.requests().into_iter().find(is_check).unwrap();
    assert_eq!(check.start_line, "GET /alive HTTP/1.1");
    assert_eq!(check.one("Host"), "127.0.0.1");
    assert_eq!(check.one("Connection"), "close");
    assert!(check.one("User-Agent").starts_with("n4n-gateway/"));
}

#[test]
fn without_a_healthy_peer_calls_are_refused_at_once() {
    let host = Host::start();
    let gateway = Gateway::before(host.upstream.address()).set("upstream", OFTEN).start();
    host.answer_checks_with(503);
    host.wait_until_healthy(&gateway, false);
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert!(answer.one("Retry-After").parse::<u32>().unwrap() >= 1);
    assert_eq!(host.calls(), 0);
    // Whoever asks whether the gateway is ready is not told about n4n.
    assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
    host.answer_checks_with(200);
    host.wait_until_healthy(&gateway, true);
    call(&gateway, 1);
}

#[test]
fn a_reload_begins_and_ends_the_checks() {
    let host = Host::start();
    host.answer_checks_with(500);
    let gateway = Gateway::before(host.upstream.address()).start();
    host.wait_until_healthy(&gateway, true);
    gateway.reload(|text| text.replace("[upstream]", &format!("[upstream]\n{OFTEN}")));
    host.wait_until_healthy(&gateway, false);
    gateway.reload(|text| text.replace(OFTEN, ""));
    host.wait_until_healthy(&gateway, true);
    call(&gateway, 1);
}

#[test]
fn a_peer_that_never_answers_a_check_fails_it() {
    let (silent, _guard) = silent_address();
    let upstream = Upstream::answering("");
    let checks = "health_check = { every = \"100ms\", timeout = \"100ms\", fall = 1 }";
    let gateway = Gateway::before_all(&[silent, upstream.address()]).set("upstream", checks).start();
    for peer in [silent, upstream.address()] {
        gateway.wait_for_metric(&format!("n4n_gateway_upstream_healthy{{peer=\"{peer}\"}}"), 0.0);
    }
    assert_eq!(gateway.call(&Call::unlock()).code(), "upstream_unavailable");
}

#[test]
fn a_peer_that_cannot_be_connected_to_is_passed_over() {
    let (refusing, _guard) = refusing_address();
    let (silent, _other_guard) = silent_address();
    let host = Host::start();
    let gateway = Gateway::before_all(&[silent, refusing, host.upstream.address()])
        .set("upstream", "connect_timeout = \"400ms\"")
        .start();
    call(&gateway, 3);
    for peer in [silent, refusing] {
        gateway.wait_for_metric(&format!("n4n_gateway_upstream_healthy{{peer=\"{peer}\"}}"), 0.0);
    }
    let start = Instant::now();
    call(&gateway, 30);
    // One in three would wait for the silent peer.
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
    assert_eq!(host.calls(), 33);
}

#[test]
fn the_last_peer_is_tried_even_when_its_connects_fail() {
    let (refusing, _guard) = refusing_address();
    let gateway = Gateway::before(refusing).start();
    for _ in 0..3 {
        assert_eq!(gateway.call(&Call::unlock()).code(), "upstream_unreachable");
    }
    gateway.wait_for_metric("n4n_gateway_upstream_healthy", 0.0);
}

#[test]
fn every_peer_is_tried_before_a_call_fails() {
    // Two connections may have one near end, and a peer is named once.
    let dead: BTreeMap<_, _> = std::iter::repeat_with(refusing_address).take(20).collect();
    let upstream = Upstream::start();
    let peers: Vec<_> = dead.keys().copied().chain([upstream.address()]).collect();
    let gateway = Gateway::before_all(&peers).start();
    call(&gateway, 1);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn connects_count_towards_the_time_for_an_answer() {
    let silent: Vec<_> = std::iter::repeat_with(silent_address).take(4).collect();
    let peers: Vec<_> = silent.iter().map(|(address, _)| *address).collect();
    let timeouts = "connect_timeout = \"5s\"\nresponse_timeout = \"300ms\"";
    let gateway = Gateway::before_all(&peers).set("upstream", timeouts).start();
    let start = Instant::now();
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"));
    assert!(start.elapsed() >= Duration::from_millis(300), "given up too early");
    assert!(start.elapsed() < Duration::from_secs(4), "took {:?}", start.elapsed());
}

#[test]
fn a_peer_that_got_what_others_left_of_the_time_is_not_blamed() {
    let silent: Vec<_> = std::iter::repeat_with(silent_address).take(2).collect();
    let peers: Vec<_> = silent.iter().map(|(address, _)| *address).collect();
    let timeouts = "connect_timeout = \"400ms\"\nresponse_timeout = \"600ms\"";
    let gateway = Gateway::before_all(&peers).set("upstream", timeouts).start();
    assert_eq!(gateway.call(&Call::unlock()).code(), "upstream_unreachable");
    gateway.wait_for_metric("n4n_gateway_upstream_healthy", 1.0);
}

#[test]
fn a_peer_is_verified_for_its_own_name_where_it_has_one_and_for_the_host_of_all_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "ca.pem");
    let host = |name: &str| Upstream::under_tls(authority.issue(&[name], VALID).server(None));
    let (first, second) = (host("n4n.test"), host("n4n-2.test"));
    let peers = [first.address(), second.address()].map(|address| address.to_string());
    let tls = format!("host = \"n4n.test\"\ntls = {{ ca = {ca:?} }}");
    let gateway = Gateway::before_all(&peers).set("upstream", &tls).start();
    let call_often = || {
        for _ in 0..4 {
            assert_eq!(gateway.call(&Call::unlock()).status(), 200);
        }
    };
    call_often();
    assert_eq!((first.count(), second.count()), (4, 0), "the second is not n4n.test");
    let (address, named) =
        (format!("{:?}", peers[1]), |name: &str| format!("{{ address = {:?}, name = {name:?} }}", peers[1]));
    gateway.reload(|text| text.replace(&address, &named("n4n-2.test")));
    call_often();
    assert_eq!((first.count(), second.count()), (6, 2));
    // The name is for the certificate alone.
    assert_eq!(second.wait_for(2).one("Host"), "n4n.test");
    gateway.reload(|text| text.replace("n4n-2.test", "n4n-3.test"));
    call_often();
    assert_eq!((first.count(), second.count()), (10, 2), "nor is it n4n-3.test");
}
