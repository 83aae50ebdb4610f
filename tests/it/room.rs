//! Room for everyone: what one client holds, drips or leaves open takes nothing from those who call properly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, connect, socket};

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, frame, unlock_fields};
use crate::harness::{Call, DEADLINE, Gate, Gateway, Http2, NAME, Secured, Upstream};

/// A request for another path whose body does not come.
const UPLOAD: &[u8] = b"POST /import HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100000\r\n\r\nx";

/// A connection on which these bytes were sent.
fn opened(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// A connection whose system takes little of what it does not read.
fn receiving_little(address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &address).unwrap();
    socket.into()
}

/// What comes until the other side closes.
fn rest(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nothing has ended it");
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn requests_for_other_paths_take_no_place_of_an_unlock_call() {
    let upstream = Upstream::start();
    let policy = "max_in_flight = 3\n[policy]\nother_paths = \"forward\"\nbody_timeout = \"60s\"";
    let secured = Secured::before(&upstream, policy);
    let gateway = &secured.gateway;
    let mut held: Vec<_> = (0..2).map(|_| opened(gateway.http(), UPLOAD)).collect();
    let mut http2 = secured.connect();
    let stream = http2.open(http::Request::post(format!("https://{NAME}/import")), false).unwrap();
    http2.run_while(|| gateway.wait_for_metric("n4n_gateway_in_flight_other_paths", 3.0));

    let other = Call::unlock().path("/other");
    let refused = gateway.call(&other);
    assert_eq!((refused.status(), refused.code().as_str()), (503, "overloaded"));
    for _ in 0..5 {
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    }
    assert_eq!(http2.call(Http2::unlock(NAME), b"customer_id=191", None).unwrap().status, 200);

    // A place is free again as soon as its request is over.
    http2.reset(stream);
    held.clear();
    http2.run_while(|| gateway.wait_for_metric("n4n_gateway_in_flight_other_paths", 0.0));
    assert_eq!(gateway.call(&other).text(), "true");
}

#[test]
fn whoever_does_not_take_an_answer_takes_no_place_of_an_unlock_call() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "max_in_flight = 3\nidle_timeout = \"120s\"");
    let gateway = &secured.gateway;
    // No stream of its has a window for an answer's body.
    let mut client = Frames::connect(&secured.client(), gateway.https(), 0);
    for stream in [1, 3, 5] {
        client.send(&frame(HEADERS, END_HEADERS, stream, &unlock_fields())).unwrap();
        client.send(&frame(DATA, END_STREAM, stream, b"customer_id=191")).unwrap();
    }
    upstream.wait_for(3);
    gateway.wait_for_metric("n4n_gateway_in_flight", 0.0);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}

/// Sends a byte of its body now and then until it is answered; the answer.
fn drip(gateway: &Gateway) -> String {
    let mut stream = opened(gateway.http(), UPLOAD);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (start, mut answer) = (Instant::now(), vec![0; 4096]);
    loop {
        match stream.read(&mut answer) {
            Ok(length) => return String::from_utf8(answer[..length].to_vec()).unwrap(),
            Err(_) => assert!(start.elapsed() < DEADLINE, "the drip goes on"),
        }
        let _ = stream.write_all(b"x");
    }
}

/// The same on a stream of HTTP/2, until it is counted.
fn drip_by_http2(secured: &Secured) {
    let mut http2 = secured.connect();
    let mut stream = http2.open(http::Request::post(format!("https://{NAME}/import")), false).unwrap();
    let start = Instant::now();
    while stream.body.send_data("x".into(), false).is_ok() {
        http2.run_for(Duration::from_millis(100));
        assert!(start.elapsed() < DEADLINE, "the drip goes on");
    }
}

/// Sends a body for longer than one may be waited for, at a good pace; the answer's status.
fn upload_steadily(gateway: &Gateway, pieces: usize, every: Duration) -> u16 {
    let mut wire = gateway.connect();
    let piece = vec![b'#'; 64 * 1024];
    let length = pieces * piece.len();
    wire.send(format!("POST /import HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {length}\r\n\r\n"));
    for _ in 0..pieces {
        thread::sleep(every);
        wire.send(&piece);
    }
    wire.answer().status()
}

#[test]
fn an_upload_that_drips_is_refused_and_a_steady_one_is_not() {
    let upstream = Upstream::start();
    let policy = "idle_timeout = \"120s\"\n[policy]\nother_paths = \"forward\"\nbody_timeout = \"3s\"";
    let secured = Secured::before(&upstream, policy);
    let gateway = &secured.gateway;
    thread::scope(|scope| {
        let dripping = scope.spawn(|| drip(gateway));
        let dripping_by_http2 = scope.spawn(|| drip_by_http2(&secured));
        let steady = scope.spawn(|| upload_steadily(gateway, 8, Duration::from_millis(500)));
        let answer = dripping.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"body_timeout\""), "{answer}");
        dripping_by_http2.join().unwrap();
        assert_eq!(steady.join().unwrap(), 200);
    });
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"body_timeout\",status_class=\"4xx\"}", 2.0);
    gateway.wait_for_metric("n4n_gateway_in_flight_other_paths", 0.0);
    assert_eq!(upstream.count(), 1, "what was not whole is no request");
    assert!(!gateway.output().contains("a call failed"), "n4n is not to blame");
}

#[test]
fn over_max_connections_the_one_idle_for_longest_gives_way() {
    let upstream = Upstream::start();
    // On one thread connections become idle in the order in which their clients have their answers.
    let secured = Secured::before(&upstream, "max_connections = 3\nthreads = 1");
    let gateway = &secured.gateway;
    let call2 = |connection: &mut Http2| {
        connection.call(Http2::unlock(NAME), b"customer_id=191", None).unwrap().status
    };
    let [mut first, mut second] = [gateway.connect(), gateway.connect()];
    assert_eq!((first.call(&Call::unlock()).status(), second.call(&Call::unlock()).status()), (200, 200));
    let mut third = secured.connect();
    assert_eq!(call2(&mut third), 200);

    let mut newcomers = Vec::new();
    let mut newcomer = || {
        let mut wire = gateway.connect();
        assert_eq!(wire.call(&Call::unlock()).status(), 200);
        newcomers.push(wire);
    };
    newcomer();
    first.assert_closes();
    // By its call it is idle for less long than the one of HTTP/2.
    assert_eq!(second.call(&Call::unlock()).status(), 200);
    third.run_while(&mut newcomer);
    // It is told that nothing is wrong, unless what it sends itself finds the connection closed before that.
    third.wait_end().or_else(|error| if error.is_io() { Ok(()) } else { Err(error) }).unwrap();
    newcomer();
    assert_eq!(second.call(&Call::unlock()).status(), 200);
    newcomers[0].assert_closes();
    gateway.wait_for_metric("n4n_gateway_connections_evicted_total", 3.0);
    gateway.wait_for_metric("n4n_gateway_connections_refused_total{reason=\"max_connections\"}", 0.0);
    gateway.wait_for_metric("n4n_gateway_connections", 3.0);
    gateway.wait_for_line("an idle connection was closed to make room");
}

#[test]
fn where_nothing_is_idle_a_newcomer_is_closed_at_once() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let secured = Secured::before(
        &upstream,
        "max_connections = 3\n[policy]\nheader_timeout = \"60s\"\nbody_timeout = \"60s\"",
    );
    let gateway = &secured.gateway;
    let call = Call::unlock();
    let (head, body) = (call.head(), call.framed_body());
    // Half a head, a head without its body, a stream of HTTP/2 that n4n has not answered.
    let mut half_head = gateway.connect();
    half_head.send(&head[..20]);
    let mut no_body = gateway.connect();
    no_body.send(&head);
    let mut http2 = secured.connect();
    let mut stream = http2.open(Http2::unlock(NAME), false).unwrap();
    stream.body.send_data("customer_id=191".into(), true).unwrap();
    http2.run_while(|| upstream.wait_for(1));

    let start = Instant::now();
    while gateway.connect().try_call(&call).is_ok() {
        assert!(start.elapsed() < DEADLINE, "newcomers are served over max_connections");
    }
    gateway.wait_for_line("as many connections are open as may be");
    assert!(
        gateway.metrics().sum("n4n_gateway_connections_refused_total{reason=\"max_connections\"}") >= 1.0
    );
    gate.open();
    half_head.send(&head[20..]);
    half_head.send(&body);
    no_body.send(&body);
    assert_eq!((half_head.answer().status(), no_body.answer().status()), (200, 200));
    assert_eq!(http2.answer(stream).unwrap().status, 200);
}

#[test]
fn a_reload_that_lowers_max_connections_has_idle_ones_give_way() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("listen", "max_connections = 40").start();
    let mut held: Vec<_> = (0..40).map(|_| gateway.connect()).collect();
    gateway.wait_for_metric("n4n_gateway_connections", 40.0);
    gateway.reload(|text| text.replace("max_connections = 40", "max_connections = 5"));
    gateway.wait_for_metric("n4n_gateway_connections", 5.0);
    held[0].assert_closes();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}

/// Half of a request's head.
const HALF_HEAD: &[u8] = b"GET /metrics HTTP/1.1\r\nX: ";

#[test]
fn half_heads_do_not_hold_the_admin_listener() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("policy", "header_timeout = \"3s\"").start();
    let before = gateway.open_files();
    let mut half_heads: Vec<_> = (0..300).map(|_| opened(gateway.admin_address(), HALF_HEAD)).collect();
    // However many they are, whoever asks is answered, and no more descriptors are taken than may be.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(path).unwrap().0, 200, "{path}");
    }
    assert!(gateway.open_files() <= before + 128 + 8, "{} of {before}", gateway.open_files());
    for half_head in &mut half_heads {
        rest(half_head);
    }
    let start = Instant::now();
    while gateway.open_files() > before + 8 {
        assert!(start.elapsed() < DEADLINE, "{} open files, before {before}", gateway.open_files());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        gateway.metrics().sum("n4n_gateway_connections_refused_total{reason=\"admin_connections\"}") >= 100.0
    );
}

#[test]
fn the_admin_listener_s_share_follows_a_reload() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("listen", "threads = 1")
        .set("policy", "header_timeout = \"60s\"")
        .start_limited("ulimit -n 4096");
    gateway.limit_open_files(256);
    gateway.reload(|text| text);
    let mut visitors: Vec<_> = (0..40).map(|_| opened(gateway.admin_address(), HALF_HEAD)).collect();
    // An eighth of them all: who came first has given way.
    assert_eq!(rest(&mut visitors[0]), "");
    assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
    for visitor in &mut visitors[1..9] {
        assert_eq!(rest(visitor), "");
    }
    visitors[39].write_all(b"y\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(&mut visitors[39]).starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_watches_the_events_and_does_not_read_them_is_dropped() {
    let upstream = Upstream::start();
    // So many hosts that each event is some 30 KiB.
    let hosts: Vec<_> =
        (1..=250).map(|host| format!("127.0.0.{host}:{}", upstream.address().port())).collect();
    let gateway = Gateway::before_all(&hosts).set("listen", "idle_timeout = \"2s\"").start();
    let watch = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // More than may watch at once: they get no share of those who ask for something else.
    let watchers: Vec<_> = (0..100)
        .map(|_| {
            let watcher = receiving_little(gateway.admin_address());
            (&watcher).write_all(watch).unwrap();
            watcher
        })
        .collect();
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(path).unwrap().0, 200, "{path}");
    }
    let before = gateway.open_files();
    assert!(before >= 64, "{before} open files");
    let start = Instant::now();
    while gateway.open_files() + 60 > before {
        assert!(start.elapsed() < 2 * DEADLINE, "{} open files, before {before}", gateway.open_files());
        thread::sleep(Duration::from_millis(50));
    }
    drop(watchers);
}
