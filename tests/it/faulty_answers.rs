//! Whatever an upstream does instead of answering: the caller is told what became of its call, which was sent
//! once, and the next call is answered as if nothing had happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Authority, Broken, Call, Gateway, Message, Reply, Upstream, VALID, Wire};

/// How long the upstream has to answer where it is to be late.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long it has where it is not, however busy the machine is.
const LONG_TIMEOUT: Duration = Duration::from_secs(10);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue";

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// A problem document.
    Problem(u16, &'static str),
    /// A problem document: of too much, or of too long, whichever comes first.
    TooMuch,
    /// The answer, this status and body.
    Answer(u16, &'static str),
}
use Want::{Answer, Problem, TooMuch};

const BROKEN: Want = Problem(502, "upstream_broken");
const LATE: Want = Problem(504, "upstream_timeout");

impl Want {
    /// What is counted.
    fn counted(self) -> String {
        match self {
            Problem(_, code) => format!("outcome=\"failed\",code=\"{code}\""),
            TooMuch => "outcome=\"failed\"".to_owned(),
            Answer(..) => "outcome=\"forwarded\",code=\"ok\"".to_owned(),
        }
    }
}

fn last(answer: &str) -> Reply {
    Reply::Last(answer.as_bytes().to_vec())
}

fn kept(answer: &str) -> Reply {
    Reply::Bytes(answer.as_bytes().to_vec())
}

fn endless(first: &str, then: &str) -> Reply {
    Reply::Endless(first.as_bytes().to_vec(), then.as_bytes().to_vec())
}

/// An answer with these field lines, before a body of four bytes.
fn with_fields(fields: &str) -> Reply {
    last(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\ntrue"))
}

fn with_status_line(line: &str) -> Reply {
    last(&format!("{line}\r\nContent-Length: 4\r\n\r\ntrue"))
}

/// What the upstream does once it has read the call, and what becomes of it.
fn cases() -> Vec<(&'static str, Reply, Want)> {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let much = "a".repeat(10_000);
    vec![
        ("closes", last(""), BROKEN),
        ("resets", Reply::Reset(Vec::new()), BROKEN),
        ("resets where an answer would end", Reply::Reset(b"HTTP/1.1 200 OK\r\n\r\ntrue".to_vec()), BROKEN),
        ("hangs", kept(""), LATE),
        ("hangs within the head", kept("HTTP/1.1 200 OK\r\nContent-Le"), LATE),
        ("hangs after the head", kept("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"), LATE),
        ("hangs within the body", kept("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntr"), LATE),
        ("drips its head", Reply::Drip(OK.as_bytes().to_vec()), LATE),
        // Interim answers are no answer, however many.
        (
            "one interim answer",
            kept(&format!("HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n{OK}")),
            Answer(200, "true"),
        ),
        ("an interim answer and silence", kept("HTTP/1.1 100 Continue\r\n\r\n"), LATE),
        ("interim answers without end", endless("", "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"), BROKEN),
        (
            "an upgrade",
            kept("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            BROKEN,
        ),
        // Too much.
        ("more fields than anybody needs", with_fields(&"X-Field: 1\r\n".repeat(300)), BROKEN),
        ("fields without end", endless("HTTP/1.1 200 OK\r\n", &"X-Field: 1\r\n".repeat(1000)), TooMuch),
        ("a field without end", endless("HTTP/1.1 200 OK\r\nX-Field: ", &much), TooMuch),
        ("a reason without end", endless("HTTP/1.1 200 ", &much), TooMuch),
        (
            "a body that never ends",
            endless("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", "a"),
            BROKEN,
        ),
        // Heads that are none.
        ("garbage", last("\x16\x03\x01 this is not HTTP\r\n\r\n"), BROKEN),
        ("garbage without end", endless("", &much), TooMuch),
        ("zeros without end", endless("", &"\0".repeat(10_000)), TooMuch),
        ("a body alone", last("true\n"), BROKEN),
        ("half a head", last("HTTP/1.1 200 OK\r\nContent-Le"), BROKEN),
        ("a status of two digits", with_status_line("HTTP/1.1 99 X"), BROKEN),
        ("a status of four digits", with_status_line("HTTP/1.1 1000 X"), BROKEN),
        ("a status of letters", with_status_line("HTTP/1.1 abc X"), BROKEN),
        ("another protocol's version", with_status_line("HTTP/2.0 200 OK"), BROKEN),
        ("a line without a colon", with_fields("Content-Length: 4\r\nnothing"), BROKEN),
        ("a NUL in a field", with_fields("Content-Length: 4\r\nX: a\0b"), BROKEN),
        ("a bare CR in a field", with_fields("Content-Length: 4\r\nX: a\rb"), BROKEN),
        // What is merely old is brought into the form of today.
        ("an older version", with_status_line("HTTP/1.0 200 OK"), Answer(200, "true")),
        ("no reason", with_status_line("HTTP/1.1 200"), Answer(200, "true")),
        ("bare line feeds", last(&OK.replace("\r\n", "\n")), Answer(200, "true")),
        // Nothing is repaired that readers take in different ways.
        ("a folded field", with_fields("Content-Length: 4\r\nX: a\r\n b"), BROKEN),
        ("a space behind a name", with_fields("Content-Length : 4"), BROKEN),
        (
            "a length and chunks",
            last(
                "HTTP/1.1 200 OK\r\nContent-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n0\r\n\r\n",
            ),
            BROKEN,
        ),
        // Lengths.
        ("less than its length", with_fields("Content-Length: 9"), BROKEN),
        ("more than its length", kept(&OK.replace("true", "true, but that is not all")), Answer(200, "true")),
        ("two lengths", with_fields("Content-Length: 4\r\nContent-Length: 5"), BROKEN),
        ("the same length twice", with_fields("Content-Length: 4\r\nContent-Length: 4"), BROKEN),
        ("a list of lengths", with_fields("Content-Length: 4, 4"), BROKEN),
        ("a negative length", with_fields("Content-Length: -4"), BROKEN),
        ("a signed length", with_fields("Content-Length: +4"), BROKEN),
        ("a length beyond all bounds", with_fields("Content-Length: 99999999999999999999999"), BROKEN),
        (
            "a length and chunks that are none",
            with_fields("Content-Length: 4\r\nTransfer-Encoding: chunked"),
            BROKEN,
        ),
        ("another coding", with_fields("Transfer-Encoding: gzip"), BROKEN),
        ("another coding before the chunks", with_fields("Transfer-Encoding: gzip, chunked"), BROKEN),
        ("a chunk that is none", last(&format!("{chunked}zz\r\ntrue\r\n0\r\n\r\n")), BROKEN),
        ("a chunk that breaks off", last(&format!("{chunked}8\r\ntrue")), BROKEN),
        ("no last chunk", last(&format!("{chunked}4\r\ntrue\r\n")), BROKEN),
        ("no length and an end", last("HTTP/1.1 200 OK\r\n\r\ntrue"), Answer(200, "true")),
        ("no length of nothing and an end", last("HTTP/1.1 200 OK\r\n\r\n"), Answer(200, "")),
        ("no length and no end", kept("HTTP/1.1 200 OK\r\n\r\ntrue"), LATE),
        (
            "a length for nothing",
            kept("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\ntrue"),
            Answer(204, ""),
        ),
        (
            "a length of what has not changed",
            kept("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
            Answer(304, ""),
        ),
        // Nobody asked for the second, and nobody gets it.
        (
            "two answers",
            kept(&format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")),
            Answer(200, "true"),
        ),
    ]
}

fn answer_to(wire: &mut Wire) -> Result<Message, Broken> {
    wire.send(Call::unlock().bytes());
    wire.try_answer()
}

fn assert_comes(case: &str, answer: Result<Message, Broken>, want: Want) {
    match (answer, want) {
        (Ok(answer), Problem(status, code)) => {
            assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{case}: {answer:?}");
        }
        (Ok(answer), Answer(status, body)) => {
            assert_eq!((answer.status(), answer.text()), (status, body), "{case}: {answer:?}");
            assert!(answer.start_line.starts_with("HTTP/1.1 "), "{case}: {answer:?}");
        }
        (Ok(answer), TooMuch) => {
            let told = (answer.status(), answer.code());
            let possible = [(502, "upstream_broken"), (504, "upstream_timeout")];
            assert!(possible.contains(&(told.0, told.1.as_str())), "{case}: {answer:?}");
        }
        (Err(broken), _) => panic!("{case}: {broken:?}, but {want:?} was wanted"),
    }
}

/// A gateway that counts from zero, before an upstream that fails the first call.
fn start(upstream: &Upstream, response_timeout: Duration) -> Gateway {
    Gateway::before(upstream.address())
        .set("upstream", &format!("response_timeout = \"{}ms\"", response_timeout.as_millis()))
        .set("listen", "threads = 1")
        .start()
}

#[test]
fn each_fault_is_told_and_counted_and_the_call_is_sent_once() {
    for (case, reply, want) in cases() {
        let reply = Mutex::new(Some(reply));
        let upstream = Upstream::scripted(move |_| {
            reply.lock().unwrap().take().unwrap_or_else(|| Reply::json("200 OK", "\"the next\""))
        });
        let response_timeout = if want == LATE || want == TooMuch { RESPONSE_TIMEOUT } else { LONG_TIMEOUT };
        let gateway = start(&upstream, response_timeout);
        let (begun, mut wire) = (Instant::now(), gateway.connect());
        assert_comes(case, answer_to(&mut wire), want);
        assert!(begun.elapsed() < LONG_TIMEOUT, "{case}: took {:?}", begun.elapsed());
        gateway.wait_for_metric(&format!("n4n_gateway_requests_total{{{}}}", want.counted()), 1.0);
        let result = if want == Answer(200, "true") { "unlocked" } else { "unreadable" };
        gateway.wait_for_metric(&format!("n4n_gateway_unlocks_total{{result=\"{result}\"}}"), 1.0);
        assert_eq!(upstream.count(), 1, "{case}: the call was sent more than once");

        // By the same connection, whatever the upstream did.
        let next = answer_to(&mut wire).unwrap();
        assert_eq!((next.status(), next.text()), (200, "\"the next\""), "{case}: the call after it");
        assert_eq!(upstream.count(), 2, "{case}");
    }
}

#[test]
fn a_reset_at_every_byte_of_the_answer_is_told_and_the_call_is_sent_once() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::scripted(move |_| {
        Reply::Reset(OK.as_bytes()[..calls.fetch_add(1, Ordering::SeqCst)].to_vec())
    });
    let gateway = start(&upstream, LONG_TIMEOUT);
    let mut failed = 0.0;
    for sent in 0..=OK.len() {
        let case = format!("reset after {sent} bytes");
        let answer = answer_to(&mut gateway.connect());
        // The reset may overtake what was sent before it.
        let is_whole = sent == OK.len() && answer.as_ref().is_ok_and(|answer| answer.status() == 200);
        let want = if is_whole { Answer(200, "true") } else { BROKEN };
        failed += if is_whole { 0.0 } else { 1.0 };
        assert_comes(&case, answer, want);
        assert_eq!(upstream.count(), sent + 1, "{case}: the call was sent more than once");
    }
    gateway.wait_for_metric("n4n_gateway_requests_total", OK.len() as f64 + 1.0);
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"upstream_broken\"}", failed);
}

#[test]
fn an_answer_before_the_body_was_read_is_an_answer() {
    let upstream = Upstream::answering_the_head(OK);
    let gateway = start(&upstream, LONG_TIMEOUT);
    for calls in 1..=5 {
        // The upstream's close may overtake it: the body arrives where nobody reads it any more.
        let answer = answer_to(&mut gateway.connect()).unwrap();
        let is_answer = (answer.status(), answer.text()) == (200, "true");
        assert!(is_answer || answer.code() == "upstream_broken", "{answer:?}");
        // Its close may also come when the connection has been used again: that call is broken, and not sent anew.
        assert!(upstream.connections() <= calls, "a call was sent more than once");
    }
}

#[test]
fn an_upstream_that_refuses_or_breaks_tls_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "ca.pem");
    let (plain, secured) = (Upstream::closing_at_once(), authority.issue(&["n4n.test"], VALID).server(None));
    let secured = Upstream::under_tls(secured);
    for (case, upstream) in [("closes within the handshake", &plain), ("answers", &secured)] {
        let gateway = Gateway::before(upstream.address())
            .set("upstream", &format!("host = \"n4n.test\"\ntls = {{ ca = {ca:?} }}"))
            .start();
        let want = if case == "answers" { Answer(200, "true") } else { Problem(502, "upstream_unreachable") };
        assert_comes(case, answer_to(&mut gateway.connect()), want);
    }
    assert!(plain.bytes().is_empty());
}
