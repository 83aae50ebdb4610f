//! A new release takes the sockets of the old one over, and nobody who calls notices.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Call, Gate, Gateway, Signal, Upstream, Wire, binary};

const SOCKET: &str = "upgrade_socket = \"upgrade.sock\"";

#[test]
fn the_successor_serves_where_its_predecessor_did() {
    let upstream = Upstream::start();
    let mut old = Gateway::before(upstream.address()).set("listen", SOCKET).start();
    let mut kept = old.connect();
    assert_eq!(kept.call(&Call::unlock()).one("Connection"), "keep-alive");

    let mut new = old.successor();
    assert_eq!(old.admin("/readyz").unwrap().0, 200, "nothing has changed yet");
    old.send(Signal::Quit);
    new.wait_ready();
    assert_eq!((new.http(), new.admin_address()), (old.http(), old.admin_address()));
    old.wait_for_line("draining");

    // Whoever is connected to the old process is told to go, and then it ends.
    let last = kept.call(&Call::unlock());
    assert_eq!((last.status(), last.one("Connection")), (200, "close"));
    kept.assert_closes();
    assert_eq!(old.wait_exit().code(), Some(0));
    assert_eq!(new.call(&Call::unlock()).status(), 200);
    assert_eq!(new.admin("/readyz").unwrap().0, 200);
    assert_eq!(upstream.count(), 3);
    assert!(!new.file("upgrade.sock").exists());
}

#[test]
fn a_call_under_way_is_answered_by_the_old_process() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let mut old = Gateway::before(upstream.address()).set("listen", SOCKET).start();
    let mut wire = old.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    let mut new = old.successor();
    old.send(Signal::Quit);
    new.wait_ready();
    old.wait_for_line("draining");
    gate.open();
    let answer = wire.answer();
    assert_eq!((answer.status(), answer.one("Connection")), (200, "close"));
    assert_eq!(old.wait_exit().code(), Some(0));
}

#[test]
fn a_sigquit_without_a_successor_changes_nothing() {
    let upstream = Upstream::start();
    for (set, told) in [(SOCKET, "no process has taken over"), ("", "listen.upgrade_socket is not set")] {
        let mut gateway = Gateway::before(upstream.address()).set("listen", set).start();
        let mut wire = gateway.connect();
        gateway.send(Signal::Quit);
        gateway.wait_for_line(told);
        assert_eq!(wire.call(&Call::unlock()).one("Connection"), "keep-alive");
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
        assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
        assert!(gateway.is_running());
    }
}

#[test]
fn a_successor_that_cannot_serve_changes_nothing() {
    let upstream = Upstream::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let old = Gateway::before(upstream.address()).set("listen", SOCKET).start();
    let text = std::fs::read_to_string(old.config()).unwrap();
    let another = format!("http = [\"{}\", ", taken.local_addr().unwrap());
    std::fs::write(old.config(), text.replace("http = [", &another)).unwrap();
    let mut new = old.successor();
    old.send(Signal::Quit);
    assert_eq!(new.wait_exit().code(), Some(1));
    old.wait_for_line("no process has taken over");
    assert_eq!(old.call(&Call::unlock()).status(), 200);

    // Set right, the next one does.
    std::fs::write(old.config(), text).unwrap();
    let mut new = old.successor();
    old.send(Signal::Quit);
    new.wait_ready();
    assert_eq!(new.call(&Call::unlock()).status(), 200);
}

#[test]
fn without_a_place_for_it_there_is_no_upgrade() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let output = binary().args(["run", "--upgrade", "--config"]).arg(gateway.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen.upgrade_socket is not set"));
}

/// How long a client rests between two calls: what they leave in the trail is searched for keys at the end of each process.
const REST: Duration = Duration::from_millis(3);

/// Calls until told to stop, each with another id; gives the ids of those that were answered.
fn call_on(address: SocketAddr, next: &AtomicUsize, stop: &AtomicBool, is_kept: bool) -> Vec<String> {
    let mut answered = Vec::new();
    let mut wire = None;
    while !stop.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed).to_string();
        let connection = wire.get_or_insert_with(|| Wire::connect(address));
        let answer = connection.call(&Call::unlock().body(format!("orderid={id}")));
        assert_eq!(answer.status(), 200, "{answer:?}");
        answered.push(id);
        if !is_kept || answer.field("Connection").is_some_and(|option| option == "close") {
            wire = None;
        }
        std::thread::park_timeout(REST);
    }
    answered
}

fn verify(file: &Path) {
    let output = binary().args(["audit", "verify"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn upgrades_and_reloads_under_load_lose_no_call_and_send_none_twice() {
    const TIMES: usize = 50;
    let upstream = Upstream::start();
    let mut old = Gateway::before(upstream.address())
        .set("listen", SOCKET)
        .set("log", "audit = \"audit.jsonl\"\naccess = \"off\"")
        .start();
    let (trail, address) = (old.file("audit.jsonl"), old.http());
    let (next, stop) = (AtomicUsize::new(1), AtomicBool::new(false));
    let mut answered = std::thread::scope(|scope| {
        let (next, stop) = (&next, &stop);
        let clients =
            [true, true, false].map(|is_kept| scope.spawn(move || call_on(address, next, stop, is_kept)));
        for _ in 0..TIMES {
            let seen = upstream.count();
            old.reload(|text| text);
            let mut new = old.successor();
            old.send(Signal::Quit);
            new.wait_ready();
            assert_eq!(old.wait_exit().code(), Some(0));
            upstream.wait_for(seen + 3);
            old = new;
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sent: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.text().rsplit_once('=').unwrap().1.to_owned())
        .collect();
    answered.sort();
    sent.sort();
    assert_eq!(sent.len(), sent.iter().collect::<BTreeSet<_>>().len(), "a call was sent twice");
    assert_eq!(sent, answered);
    // Two processes wrote to it at a time.
    verify(&trail);
    let records = std::fs::read_to_string(trail).unwrap().lines().count();
    assert_eq!(records, 2 * answered.len());
}
