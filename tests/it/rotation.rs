//! Certificates and client CAs change under load, again and again, and no call notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::harness::{
    Authority, Call, DEADLINE, Gateway, Http2, Issued, NAME, Signal, TlsClient, Upstream, VALID,
};

/// How often both the certificate and the client CA are replaced; each time takes two reloads.
const ROTATIONS: usize = 10;

/// How a client calls.
#[derive(Debug, Clone, Copy)]
enum Habit {
    Http1Kept,
    Http1New,
    Http2Kept,
    Http2New,
}

/// Those that call at the same time.
const CLIENTS: [Habit; 6] =
    [Habit::Http1Kept, Habit::Http1New, Habit::Http1New, Habit::Http2Kept, Habit::Http2New, Habit::Http2New];

/// What the clients show at present, and which change of it that is.
type Identity = Mutex<(usize, TlsClient)>;

/// Ends the clients, also where the test has failed.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Calls until told to stop, and tells after each call who it was and what it showed.
fn call_on(
    gateway: &Gateway,
    identity: &Identity,
    (client, habit): (usize, Habit),
    told: &Sender<(usize, usize)>,
    stop: &AtomicBool,
) -> usize {
    let (_, first) = identity.lock().unwrap().clone();
    let (mut kept, mut kept2) = (None, None);
    let mut calls = 0;
    while !stop.load(Ordering::SeqCst) {
        let (change, shown) = identity.lock().unwrap().clone();
        let call2 = |connection: &mut Http2| {
            connection.call(Http2::unlock(NAME), b"customer_id=191", None).unwrap().status
        };
        let status = match habit {
            Habit::Http1Kept => kept
                .get_or_insert_with(|| first.connect(gateway.https(), NAME))
                .call(&Call::unlock())
                .status(),
            Habit::Http1New => shown.connect(gateway.https(), NAME).call(&Call::unlock()).status(),
            Habit::Http2Kept => {
                call2(kept2.get_or_insert_with(|| Http2::connect(&first, gateway.https(), NAME)))
            }
            Habit::Http2New => call2(&mut Http2::connect(&shown, gateway.https(), NAME)),
        };
        assert_eq!(status, 200, "{habit:?}, call {calls}");
        calls += 1;
        let _ = told.send((client, change));
    }
    calls
}

/// Waits until every client has made a whole call since a change.
fn wait_for_all(told: &Receiver<(usize, usize)>, change: usize) {
    let start = Instant::now();
    let mut seen = [false; CLIENTS.len()];
    while seen.contains(&false) {
        // One that has failed tells nothing more, while the others go on.
        let left = DEADLINE.saturating_sub(start.elapsed());
        let (client, shown) = told.recv_timeout(left).expect("every client goes on calling");
        assert!(!left.is_zero(), "a client has stopped calling: {seen:?}");
        seen[client] |= shown >= change;
    }
}

#[test]
fn certificates_and_client_cas_change_under_load_and_no_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::new();
    let show = |issued: &Issued| issued.write(path, "a");
    let trust = |cas: &[&Authority]| {
        let pem: String = cas.iter().map(|ca| ca.pem()).collect();
        std::fs::write(path.join("clients.pem"), pem).unwrap();
    };
    let identity_of = |ca: &Authority| TlsClient::trusting(&authority, Some(&ca.issue(&["client"], VALID)));

    let mut clients = Authority::new();
    show(&authority.issue(&[NAME], VALID));
    trust(&[&clients]);
    let upstream = Upstream::start();
    let at = path.display();
    let gateway = Gateway::before(upstream.address())
        .set(
            "listen",
            &format!(
                "https = [{{ address = \"127.0.0.1:0\", certificate = \"{at}/a.pem\", key = \"{at}/a.key\", client_ca = \"{at}/clients.pem\" }}]"
            ),
        )
        .start();
    let mut reloads = 0.0;
    let mut reload = || {
        reloads += 1.0;
        gateway.send(Signal::Hangup);
        gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", reloads);
    };

    let first = identity_of(&clients);
    let identity = Mutex::new((0, first.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = channel();
    let (calls, shown) = thread::scope(|scope| {
        let _stop = Stop(Arc::clone(&stop));
        let calling: Vec<_> = CLIENTS
            .into_iter()
            .enumerate()
            .map(|client| {
                let (tell, gateway, identity, stop) = (tell.clone(), &gateway, &identity, &stop);
                scope.spawn(move || call_on(gateway, identity, client, &tell, stop))
            })
            .collect();
        wait_for_all(&told, 0);
        let mut shown = None;
        for change in 1..=ROTATIONS {
            // As operators do it: the new one is trusted beside the old, everybody changes, the old one goes.
            let (next, certificate) = (Authority::new(), authority.issue(&[NAME], VALID));
            show(&certificate);
            trust(&[&clients, &next]);
            reload();
            *identity.lock().unwrap() = (change, identity_of(&next));
            wait_for_all(&told, change);
            trust(&[&next]);
            reload();
            (clients, shown) = (next, Some(certificate));
        }
        wait_for_all(&told, ROTATIONS);
        stop.store(true, Ordering::SeqCst);
        let calls: usize = calling.into_iter().map(|client| client.join().unwrap()).sum();
        (calls, shown.unwrap())
    });

    let (_, last) = identity.into_inner().unwrap();
    let mut wire = last.connect(gateway.https(), NAME);
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert_eq!(wire.certificate(), shown.der());
    assert!(first.connect(gateway.https(), NAME).try_call(&Call::unlock()).is_err());
    assert_eq!(upstream.count(), calls + 1, "each call reached the upstream once");
    assert!(calls > CLIENTS.len() * ROTATIONS, "{calls} calls are no load");
}
