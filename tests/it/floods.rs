//! Clients that flood: each is ended in time, memory stays bounded, and who calls beside them is answered.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, KEPT, PING, RST_STREAM, SETTINGS, frame,
    kept_field, unlock_fields,
};
use crate::harness::{Call, DEADLINE, Gateway, Secured, Upstream};

const MIB: u64 = 1024 * 1024;

/// How long a connection may have no live stream, or leave what is sent to it untaken.
const IDLE: Duration = Duration::from_secs(2);

/// How long after its deadline a client may still be there; the machine that runs the tests is no fast one.
const GRACE: Duration = Duration::from_secs(3);

fn start(upstream: &Upstream, more: &str) -> Secured {
    start_with(upstream, IDLE, more)
}

fn start_with(upstream: &Upstream, idle: Duration, more: &str) -> Secured {
    let secured = Secured::before(upstream, &format!("idle_timeout = \"{}s\"\n{more}", idle.as_secs()));
    // What is made once, for the first call of each kind.
    assert_eq!(
        secured
            .connect()
            .call(crate::harness::Http2::unlock("gateway.test"), b"customer_id=191", None)
            .unwrap()
            .status,
        200
    );
    assert_eq!(secured.gateway.call(&Call::unlock()).status(), 200);
    secured.gateway.wait_for_metric("n4n_gateway_connections", 0.0);
    secured
}

/// A request whose head unpacks to nearly the most that is allowed, out of a few bytes.
fn bomb(stream: u32) -> Vec<u8> {
    let fields = if stream == 1 {
        [kept_field("x-bomb", &"b".repeat(3800)), vec![KEPT; 3]].concat()
    } else {
        vec![KEPT; 4]
    };
    frame(HEADERS, END_HEADERS, stream, &[unlock_fields(), fields].concat())
}

/// A call whose body is one byte short of all that may be sent, in frames as small as they can be at first.
fn stalled(stream: u32) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &unlock_fields());
    let begin = (0..8).flat_map(|_| frame(DATA, 0, stream, b"x"));
    head.into_iter().chain(begin).chain(frame(DATA, 0, stream, &[b'x'; 8183])).collect()
}

/// The most memory that so many connections of 16 such streams have cost by the time that they are all gone, in bytes.
fn cost(secured: &Secured, connections: usize, attack: impl Fn(u32) -> Vec<u8>) -> u64 {
    let gateway = &secured.gateway;
    let before = gateway.resident_memory();
    let mut attackers: Vec<Frames> = (0..connections)
        .map(|_| {
            let mut attacker = Frames::connect(&secured.client(), gateway.https(), 0);
            for stream in (0..16).map(|number| 2 * number + 1) {
                attacker.send(&attack(stream)).unwrap();
            }
            attacker
        })
        .collect();
    let (start, mut most) = (Instant::now(), before);
    // They take what is said to the connection, so that it is their windows alone that are shut.
    while !attackers.is_empty() {
        attackers.retain_mut(|attacker| attacker.read().is_ok());
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
        most = most.max(gateway.resident_memory());
        // Its requests' bodies, its answers, and then the connection: each has its deadline.
        assert!(start.elapsed() < 3 * IDLE + GRACE, "attackers are still there after {:?}", start.elapsed());
    }
    most - before
}

#[test]
fn forty_connections_of_what_costs_most_cost_at_most_32_mib() {
    let upstream = Upstream::start();
    let whole = |stream| [bomb(stream), frame(DATA, END_STREAM, stream, b"customer_id=191")].concat();
    for (case, attack) in [
        ("bodies that do not come", bomb as fn(u32) -> Vec<u8>),
        ("answers that are not taken", whole),
        ("bodies that are not whole", stalled),
    ] {
        let secured = start(&upstream, "[policy]\nbody_timeout = \"2s\"");
        let cost = cost(&secured, 40, attack);
        eprintln!("{case}: {} MiB", cost / MIB);
        assert!(cost <= 32 * MIB, "{case}: {} MiB", cost / MIB);
    }
}

/// Writes without end until the gateway has had enough; ordinary calls are answered meanwhile.
fn assert_ended(
    case: &str,
    secured: &Secured,
    greeting: &[u8],
    mut next: impl FnMut(u32) -> Vec<u8> + Send,
    reads: bool,
) {
    let gateway = &secured.gateway;
    let before = gateway.resident_memory();
    let mut attacker = Frames::connect(&secured.client(), gateway.https(), 65_535);
    attacker.send(greeting).unwrap();
    let start = Instant::now();
    let mut most = before;
    std::thread::scope(|scope| {
        let flood = scope.spawn(move || {
            for round in 0.. {
                let pieces: Vec<u8> = (0..50).flat_map(|piece| next(50 * round + piece)).collect();
                let sent = attacker.send(&pieces);
                let is_stuck =
                    sent.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                if (sent.is_err() && !is_stuck) || (reads && attacker.read().is_err()) {
                    return;
                }
            }
        });
        while !flood.is_finished() {
            assert_eq!(gateway.call(&Call::unlock()).status(), 200, "{case}");
            most = most.max(gateway.resident_memory());
            assert!(start.elapsed() < 2 * IDLE + GRACE, "{case}: still there after {:?}", start.elapsed());
        }
    });
    assert!(most - before < 16 * MIB, "{case}: cost {} MiB", (most - before) / MIB);
}

#[test]
fn floods_of_frames_are_ended() {
    let upstream = Upstream::start();
    let secured = start(&upstream, "");
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &unlock_fields());
    let reset = |round: u32| {
        let stream = 2 * round + 1;
        [open(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let ping = |_| frame(PING, 0, 0, &[0; 8]);
    let settings = |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]);
    let nothing = |_| frame(DATA, 0, 1, b"");
    let unended = frame(HEADERS, 0, 1, &unlock_fields());
    let more = |_| frame(CONTINUATION, 0, 1, &kept_field("x-more", &"m".repeat(1000)));
    for reads in [true, false] {
        assert_ended("rapid reset", &secured, b"", reset, reads);
        assert_ended("CONTINUATION", &secured, &unended, more, reads);
        assert_ended("PING", &secured, b"", ping, reads);
        assert_ended("SETTINGS", &secured, b"", settings, reads);
        assert_ended("empty DATA", &secured, &open(1), nothing, reads);
    }
}

/// Calls, again where the flood was so fast that the connection gave way before its call was there.
fn call_until_answered(gateway: &Gateway) {
    let start = Instant::now();
    loop {
        let mut wire = gateway.connect();
        wire.send(Call::unlock().bytes());
        match wire.try_answer() {
            Ok(answer) => return assert_eq!(answer.status(), 200),
            Err(_) => assert!(start.elapsed() < DEADLINE, "nobody is answered beside the flood"),
        }
    }
}

#[test]
fn over_max_connections_idle_connections_give_way_and_the_gateway_lives() {
    /// How many connections are offered at least.
    const OFFERED: usize = 20_000;
    let upstream = Upstream::start();
    // Nothing here waits for it.
    let secured = start_with(&upstream, 10 * IDLE, "max_connections = 100");
    let gateway = &secured.gateway;
    let before = gateway.resident_memory();
    let address = gateway.http();
    std::thread::scope(|scope| {
        let flooding: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut held = std::collections::VecDeque::new();
                    for _ in 0..OFFERED / 4 {
                        held.extend(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok());
                        // More than may be open are, and the oldest make room for new ones.
                        if held.len() > 100 {
                            held.pop_front();
                        }
                    }
                })
            })
            .collect();
        while !flooding.iter().all(|flood| flood.is_finished()) {
            call_until_answered(gateway);
            assert_eq!(gateway.admin("/livez").unwrap().0, 200);
            // A few are on their way out while those that take their places are served.
            assert!(gateway.metrics().sum("n4n_gateway_connections") <= 120.0);
        }
    });
    let grown = gateway.resident_memory().saturating_sub(before);
    assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}
