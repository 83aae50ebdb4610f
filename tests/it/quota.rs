//! Each user spends a quota of their own, and only calls that break no other rule spend it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    API_KEY, Call, DEADLINE, Gateway, Message, Upstream, Wire, refusing_address, secret_key,
};

/// A quota that gives nothing back while a test runs.
const TWENTY_ONCE: &str = "requests = 1\nper = \"1h\"\nburst = 20";

const TEN_A_SECOND: &str = "requests = 10\nper = \"1s\"\nburst = 20";

/// A call with the times between which it was judged.
struct Judged {
    sent: Instant,
    answered: Instant,
    passed: bool,
}

fn judged(wire: &mut Wire, call: &Call) -> (Judged, Message) {
    let sent = Instant::now();
    let answer = wire.call(call);
    let answered = Instant::now();
    let passed = match answer.status() {
        200 => true,
        429 => false,
        other => panic!("{other}: {answer:?}"),
    };
    (Judged { sent, answered, passed }, answer)
}

/// The calls that time alone gives back between two moments, at one each 100 ms.
fn given_back(from: Instant, to: Instant) -> usize {
    usize::try_from(to.saturating_duration_since(from).as_millis() / 100).unwrap()
}

/// `r` and `t` of the RateLimit field.
fn rate_limit(answer: &Message) -> (u32, u32) {
    let field = answer.one("RateLimit");
    let form = regex::Regex::new(r#"^"user";r=([0-9]+);t=([0-9]+)$"#).unwrap();
    let parts = form.captures(field).unwrap_or_else(|| panic!("RateLimit: {field}"));
    (parts[1].parse().unwrap(), parts[2].parse().unwrap())
}

#[test]
fn a_burst_passes_and_then_one_call_each_hundred_milliseconds() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TEN_A_SECOND).start();
    let mut wire = gateway.connect();
    let burst: Vec<Judged> = (0..100).map(|_| judged(&mut wire, &Call::unlock()).0).collect();

    assert!(burst[..20].iter().all(|call| call.passed), "the burst passes whatever the time");
    let passed: Vec<&Judged> = burst.iter().filter(|call| call.passed).collect();
    // At most: between any two calls that passed lie no more than a burst and what time gave back.
    for (first, earlier) in passed.iter().enumerate() {
        for (between, later) in passed[first..].iter().enumerate() {
            assert!(between < 20 + given_back(earlier.sent, later.answered), "{between} passed between two");
        }
    }
    // At least: whoever was refused came when a burst and what time gave back were used up.
    for (index, refused) in burst.iter().enumerate().filter(|(_, call)| !call.passed) {
        let before: Vec<&Judged> = burst[..index].iter().filter(|call| call.passed).collect();
        let justified = before
            .iter()
            .enumerate()
            .any(|(first, earlier)| before.len() - first >= 20 + given_back(earlier.answered, refused.sent));
        assert!(justified, "call {index} was refused after {} had passed", before.len());
    }

    assert!(passed.len() < 100, "100 calls took over 8 s, so the quota refused none of them");
    assert_eq!(upstream.count(), passed.len(), "what is refused is not forwarded");
    let refused = u32::try_from(100 - passed.len()).unwrap();
    gateway.wait_for_metric(
        "n4n_gateway_requests_total{outcome=\"rejected\",code=\"quota_exceeded\"}",
        refused.into(),
    );
    assert_eq!(gateway.metrics().sum("n4n_gateway_quota_users"), 1.0);
}

#[test]
fn exactly_the_burst_passes_when_time_gives_nothing_back() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TWENTY_ONCE).start();
    let connections = (0..4).map(|_| {
        let mut wire = gateway.connect();
        thread::spawn(move || (0..25).filter(|_| judged(&mut wire, &Call::unlock()).0.passed).count())
    });
    let connections: Vec<_> = connections.collect();
    let passed: usize = connections.into_iter().map(|connection| connection.join().unwrap()).sum();
    assert_eq!((passed, upstream.count()), (20, 20));
}

#[test]
fn a_refusal_tells_when_to_come_back_and_then_one_more_passes() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::before(upstream.address()).set("quota", "requests = 1\nper = \"1500ms\"\nburst = 1").start();
    let mut wire = gateway.connect();
    assert!(judged(&mut wire, &Call::unlock()).0.passed);
    let (refused, answer) = judged(&mut wire, &Call::unlock());
    assert!(!refused.passed);
    assert_eq!(answer.code(), "quota_exceeded");
    assert_eq!(answer.one("Content-Type"), "application/problem+json");
    let seconds: u64 = answer.one("Retry-After").parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");

    // Waiting is what the answer asks for, and what is tried here.
    thread::sleep(Duration::from_secs(seconds));
    assert!(judged(&mut wire, &Call::unlock()).0.passed, "after Retry-After one more passes");
    assert!(!judged(&mut wire, &Call::unlock()).0.passed, "and one only");
}

#[test]
fn the_balance_is_told_with_every_call_that_reached_the_quota() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TEN_A_SECOND).start();
    let mut wire = gateway.connect();
    let start = Instant::now();
    for spent in 1..=30 {
        let answer = wire.call(&Call::unlock());
        assert_eq!(answer.one("RateLimit-Policy"), r#""user";q=20;w=2"#);
        let (left, whole_in) = rate_limit(&answer);
        let at_least = 20_u32.saturating_sub(spent);
        let at_most = at_least + u32::try_from(given_back(start, Instant::now())).unwrap();
        assert!((at_least..=at_most.min(19)).contains(&left), "{left} left after {spent}");
        assert!((1..=2).contains(&whole_in), "whole in {whole_in} s");
        match answer.status() {
            200 => assert_eq!(answer.field("Retry-After"), None),
            429 => assert_eq!((answer.one("Retry-After"), left), ("1", 0)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_balance_is_told_when_the_upstream_fails_too() {
    let (address, _guard) = refusing_address();
    let gateway = Gateway::before(address).set("quota", TWENTY_ONCE).start();
    for left in (0..20).rev() {
        let answer = gateway.call(&Call::unlock());
        assert_eq!(answer.status(), 502);
        assert_eq!(rate_limit(&answer).0, left, "what fails afterwards gives nothing back");
    }
    assert_eq!(gateway.call(&Call::unlock()).code(), "quota_exceeded");
}

#[test]
fn without_a_quota_no_balance_is_told() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let mut wire = gateway.connect();
    for _ in 0..50 {
        let answer = wire.call(&Call::unlock());
        assert_eq!(
            (answer.status(), answer.field("RateLimit"), answer.field("RateLimit-Policy")),
            (200, None, None)
        );
    }
}

#[test]
fn another_user_is_untouched() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TWENTY_ONCE).start();
    let mut wire = gateway.connect();
    for user in ["ada", "bob", "ada2"] {
        let passed = (0..25).filter(|_| judged(&mut wire, &Call::unlock().user(user)).0.passed).count();
        assert_eq!(passed, 20, "{user}");
    }
    assert_eq!(gateway.metrics().sum("n4n_gateway_quota_users"), 3.0);
}

#[test]
fn a_user_is_the_same_user_with_another_key() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TWENTY_ONCE).start();
    let mut wire = gateway.connect();
    let call = |number: usize| Call::unlock().set("api-key", &secret_key(&number.to_string()));
    assert_eq!((0..25).filter(|number| judged(&mut wire, &call(*number)).0.passed).count(), 20);
}

#[test]
fn refused_calls_spend_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TWENTY_ONCE).start();
    let mut wire = gateway.connect();
    let refused = [
        Call::unlock().path("/"),
        Call::unlock().method("GET"),
        Call::unlock().query("x"),
        Call::unlock().with("api_key", API_KEY),
        Call::unlock().set("Content-Type", "text/plain"),
        Call::unlock().body("customer.id=191"),
        Call::unlock().body("customer_id=1&customer_id=2"),
        Call::unlock().body(""),
        Call::unlock().body("customer_id=!"),
        Call::unlock().body("customer_id=%zz"),
    ];
    for left in (0..20).rev() {
        for call in &refused {
            let answer = wire.call(call);
            assert!((400..416).contains(&answer.status()), "{answer:?}");
            assert_eq!(answer.field("RateLimit"), None, "{answer:?}");
        }
        assert_eq!(rate_limit(&wire.call(&Call::unlock())).0, left);
    }
    assert!(!judged(&mut wire, &Call::unlock()).0.passed);
}

#[test]
fn a_listed_user_has_a_quota_of_their_own() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("quota", TWENTY_ONCE)
        .append("[[users]]\nname = \"n4n_admin\"\nquota = { requests = 1, per = \"1h\", burst = 30 }")
        .append("[[users]]\nname = \"ada\"")
        .start();
    let mut wire = gateway.connect();
    for (user, burst) in [("n4n_admin", 30), ("ada", 20), ("bob", 20)] {
        let passed = (0..40).filter(|_| judged(&mut wire, &Call::unlock().user(user)).0.passed).count();
        assert_eq!(passed, burst, "{user}");
    }
    for (user, forwarded, rejected) in [("n4n_admin", 30.0, 10.0), ("ada", 20.0, 20.0), ("other", 20.0, 20.0)]
    {
        let counted =
            |outcome| format!("n4n_gateway_user_requests_total{{user=\"{user}\",outcome=\"{outcome}\"}}");
        gateway.wait_for_metric(&counted("forwarded"), forwarded);
        gateway.wait_for_metric(&counted("rejected"), rejected);
    }
}

/// An upstream that answers `true` with as little work as can be, so that the flood tests the gateway.
fn fast_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                let mut filled = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
                    filled += read;
                    // Every body of the flood is this one, and it is the last of a request's bytes.
                    if buffer[..filled].ends_with(b"customer_id=191") {
                        filled = 0;
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").unwrap();
                    }
                }
            });
        }
    });
    address
}

/// Calls once as each of the users numbered so; gives the number of calls that passed.
fn call_as_each(gateway: SocketAddr, users: std::ops::Range<u32>) -> u32 {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let call = String::from_utf8(Call::unlock().user("USER").bytes()).unwrap();
    let (before, after) = call.split_once("USER").unwrap();
    let mut passed = 0;
    let mut answer = [0; 4096];
    for user in users {
        stream.write_all(format!("{before}invented-user-number-{user:010}{after}").as_bytes()).unwrap();
        let mut filled = 0;
        // Both answers there can be end so, and so does nothing before their ends.
        while ![&b"\r\n\r\ntrue"[..], b"\"}"].iter().any(|end| answer[..filled].ends_with(end)) {
            let read = stream.read(&mut answer[filled..]).unwrap();
            assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&answer[..filled]));
            filled += read;
        }
        match &answer[..12] {
            b"HTTP/1.1 200" => passed += 1,
            b"HTTP/1.1 429" => {}
            _ => panic!("{}", String::from_utf8_lossy(&answer[..filled])),
        }
    }
    passed
}

#[test]
fn invented_users_cost_little_and_take_nothing_from_a_listed_one() {
    // The quota's unit tests invent a million; over the wire fewer show the same, the bound being passed
    // by far.
    const USERS: u32 = 50_000;
    const REMEMBERED: u32 = 10_000;
    let gateway = Gateway::before(fast_upstream())
        .set("quota", TWENTY_ONCE)
        .set("quota", &format!("max_users = {REMEMBERED}"))
        .set("log", "access = \"off\"")
        .append("[[users]]\nname = \"n4n_admin\"")
        .start();
    let http = gateway.http();
    // What serving as such costs is not the users' cost.
    for _ in 0..2 {
        call_as_each(http, 0..1);
    }
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(gateway.call(&Call::unlock().body("")).status(), 400);
    let over = gateway.call(&Call::unlock().method("GET"));
    assert_eq!(over.status(), 405);
    let memory = gateway.resident_memory();

    let threads =
        [0..USERS / 2, USERS / 2..USERS].map(|users| thread::spawn(move || call_as_each(http, users)));
    let passed: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();

    let grown = gateway.resident_memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "{USERS} users took {grown} bytes");
    // Past the bound newcomers share one cell.
    assert!((REMEMBERED - 10..=REMEMBERED + 20).contains(&passed), "{passed} passed");
    let metrics = gateway.metrics();
    assert!(metrics.sum("n4n_gateway_quota_users") <= f64::from(REMEMBERED) + 1.0);
    assert!(!metrics.has("n4n_gateway_user_requests_total{user=\"invented-user-number-0000000000\"}"));

    // The listed user has spent one of twenty.
    let mut wire = gateway.connect();
    let passed = (0..25).filter(|_| judged(&mut wire, &Call::unlock()).0.passed).count();
    assert_eq!(passed, 19);
}

#[test]
fn users_do_not_add_series() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("quota", TWENTY_ONCE).start();
    call_as_each(gateway.http(), 0..1);
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"forwarded\"}", 1.0);
    let series = gateway.metrics().count();
    assert_eq!(call_as_each(gateway.http(), 1..300), 299);
    gateway.wait_for_metric("n4n_gateway_requests_total{outcome=\"forwarded\"}", 300.0);
    assert_eq!(gateway.metrics().count(), series);
}
