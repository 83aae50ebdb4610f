//! Certificates and client CAs change under load, again and again, and no call notices; connections that a client CA let in
//! end when it would no longer let them in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::harness::{
    Authority, Broken, Call, DEADLINE, Gate, Gateway, Http2, Issued, NAME, Reply, Signal, TlsClient, TlsWire,
    Upstream, VALID,
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
    let (mut kept, mut kept2) = (None, None);
    let mut calls = 0;
    while !stop.load(Ordering::SeqCst) {
        let (change, shown) = identity.lock().unwrap().clone();
        let call2 = |connection: &mut Http2| {
            connection.call(Http2::unlock(NAME), b"customer_id=191", None).unwrap().status
        };
        let status = match habit {
            Habit::Http1Kept => {
                let wire = kept.get_or_insert_with(|| shown.connect(gateway.https(), NAME));
                let answer = wire.call(&Call::unlock());
                if answer.one("Connection") == "close" {
                    kept = None;
                }
                answer.status()
            }
            Habit::Http1New => shown.connect(gateway.https(), NAME).call(&Call::unlock()).status(),
            Habit::Http2Kept => {
                let _ = kept2.take_if(|kept: &mut Http2| !kept.is_open());
                call2(kept2.get_or_insert_with(|| Http2::connect(&shown, gateway.https(), NAME)))
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

/// The line of the configuration that listens for TLS with these files, and clients' certificates from `clients.pem`.
fn https(path: &std::path::Path, client_ca: &str) -> String {
    let at = path.display();
    format!(
        "https = [{{ address = \"127.0.0.1:0\", certificate = \"{at}/a.pem\", key = \"{at}/a.key\"{client_ca} }}]"
    )
}

#[test]
fn whoever_the_client_ca_no_longer_vouches_for_has_one_more_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (authority, goes, stays) = (Authority::new(), Authority::new(), Authority::new());
    let trust = |cas: &[&Authority]| {
        let pem: String = cas.iter().map(|ca| ca.pem()).collect();
        std::fs::write(path.join("clients.pem"), pem).unwrap();
    };
    let client_of = |ca: &Authority| TlsClient::trusting(&authority, Some(&ca.issue(&["client"], VALID)));
    authority.issue(&[NAME], VALID).write(path, "a");
    trust(&[&goes, &stays]);
    let gate = Gate::default();
    let held_back = gate.clone();
    let upstream = Upstream::scripted(move |request| {
        if request.field("User-Agent") == Some("held") {
            held_back.pass();
        }
        Reply::json("200 OK", "true")
    });
    let client_ca = format!(", client_ca = \"{}/clients.pem\"", path.display());
    let with_ca = https(path, &client_ca);
    let gateway = Gateway::before(upstream.address()).set("listen", &with_ca).start();
    let connect = |client: &TlsClient| client.connect(gateway.https(), NAME);
    let connect2 = |client: &TlsClient| Http2::connect(client, gateway.https(), NAME);
    let call2 = |connection: &mut Http2| {
        connection.call(Http2::unlock(NAME), b"customer_id=191", None).unwrap().status
    };
    let connection_field = |wire: &mut TlsWire| {
        let answer = wire.call(&Call::unlock());
        assert_eq!(answer.status(), 200);
        answer.one("Connection").to_owned()
    };

    // Open connections of both versions, on one of which a call is under way.
    let (gone, kept) = (client_of(&goes), client_of(&stays));
    let (mut gone1, mut kept1, mut gone2, mut kept2) =
        (connect(&gone), connect(&kept), connect2(&gone), connect2(&kept));
    for wire in [&mut gone1, &mut kept1] {
        assert_eq!(connection_field(wire), "keep-alive");
    }
    assert_eq!((call2(&mut gone2), call2(&mut kept2)), (200, 200));
    let before = upstream.count();
    let mut held = gone2.open(Http2::unlock(NAME).header("user-agent", "held"), false).unwrap();
    held.body.send_data("customer_id=191".into(), true).unwrap();
    gone2.run_while(|| upstream.wait_for(before + 1));

    trust(&[&stays]);
    gateway.reload(|text| text);
    assert_eq!(connection_field(&mut gone1), "close");
    assert!(matches!(gone1.try_call(&Call::unlock()), Err(Broken::Closed)));
    assert_eq!(call2(&mut gone2), 200);
    gone2.wait_refusal();
    gate.open();
    assert_eq!(gone2.answer(held).unwrap().status, 200);
    gone2.wait_end().unwrap();
    for _ in 0..3 {
        assert_eq!(connection_field(&mut kept1), "keep-alive");
        assert_eq!(call2(&mut kept2), 200);
    }
    assert!(connect(&gone).try_call(&Call::unlock()).is_err());

    // Whoever need not show anything goes on, until that changes again; what was agreed upon meanwhile is not resumed.
    let without_ca = https(path, "");
    gateway.reload(|text| text.replace(&with_ca, &without_ca));
    assert_eq!(connection_field(&mut kept1), "keep-alive");
    let nobody = TlsClient::trusting(&authority, None);
    let mut unknown = connect(&nobody);
    assert_eq!(connection_field(&mut unknown), "keep-alive");
    gateway.reload(|text| text.replace(&without_ca, &with_ca));
    assert_eq!(connection_field(&mut unknown), "close");
    assert!(connect(&nobody).try_call(&Call::unlock()).is_err());
    assert_eq!(connection_field(&mut kept1), "keep-alive");

    // Its listener is no longer configured.
    gateway.reload(|text| text.replace(&with_ca, ""));
    assert_eq!(connection_field(&mut kept1), "close");
    assert_eq!(call2(&mut kept2), 200);
    kept2.wait_refusal();
}
