//! What streams of HTTP/2 cost: their memory is bounded, and whoever holds much of it is refused alone.

use std::time::Instant;

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, KEPT, field, frame, kept_field,
    unlock_fields,
};
use crate::harness::{Call, DEADLINE, Exchange, Gateway, Http2, NAME, Secured, Upstream};

const BODY: &[u8] = b"customer_id=191";

const STREAMS: &str = "n4n_gateway_streams_refused_total";

const REQUESTS: &str = "n4n_gateway_requests_total";

fn unlock() -> http::request::Builder {
    Http2::unlock(NAME)
}

/// The documented call with a head of nearly 16 KiB.
fn long() -> http::request::Builder {
    let value = "v".repeat(300);
    (0..45).fold(unlock(), |head, number| head.header(format!("x-{number}"), &value))
}

/// What each of so many connections costs in resident memory, in KiB, once so many of a series were counted for each.
fn cost(upstream: &Upstream, sent: impl Fn() -> Vec<u8>, series: &str, each: usize) -> u64 {
    const CONNECTIONS: usize = 120;
    let secured = Secured::before(upstream, "[policy]\nbody_timeout = \"1h\"");
    let gateway = &secured.gateway;
    // What is made once, for the first call of each kind.
    assert_eq!(secured.connect().call(unlock(), BODY, None).unwrap().status, 200);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
    let (before, counted) = (gateway.resident_memory(), gateway.metrics().sum(series));
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = Frames::connect(&secured.client(), gateway.https(), 65_535);
            connection.send(&sent()).unwrap();
            connection
        })
        .collect();
    gateway.wait_for_metric(series, counted + (CONNECTIONS * each) as f64);
    let cost = gateway.resident_memory().saturating_sub(before) / connections.len() as u64 / 1024;
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    cost
}

#[test]
fn connections_cost_little_memory_idle_with_calls_coming_in_and_with_the_longest_stalled() {
    let upstream = Upstream::start();
    let open = |stream, more: &[u8]| frame(HEADERS, END_HEADERS, stream, &[&unlock_fields(), more].concat());
    let whole = |stream| [open(stream, b""), frame(DATA, END_STREAM, stream, BODY)].concat();
    let ok = format!("{REQUESTS}{{code=\"ok\"}}");

    let idle = cost(&upstream, || whole(1), &ok, 1);
    let coming = || {
        let coming = (0..4).map(|number| 2 * number + 1);
        coming.flat_map(|stream| [open(stream, b""), frame(DATA, 0, stream, &BODY[..9])].concat()).collect()
    };
    // The last is whole, and answered though the others are not.
    let four = cost(&upstream, || [coming(), whole(9)].concat(), &ok, 1);
    let stalled = || {
        let long = |stream| match stream {
            1 => open(1, &[kept_field("a", &"v".repeat(300)), vec![KEPT; 47]].concat()),
            _ => open(stream, &[KEPT; 48]),
        };
        (0..16).flat_map(|number| long(2 * number + 1)).collect()
    };
    let sixteen = cost(&upstream, stalled, &format!("{STREAMS}{{reason=\"memory\"}}"), 13);
    let told = format!("{idle} KiB idle, {four} with four calls coming in, {sixteen} with sixteen stalled");
    eprintln!("{told}");
    // What an idle one costs is small beside what the allocator takes in one go, so that this varies.
    assert!(idle <= 80 && four <= 100 && sixteen <= 200, "{told}");
}

/// Opens a stream for each head; none of them ends.
fn opened(connection: &mut Http2, count: usize) -> Vec<Exchange> {
    (0..count).map(|_| connection.open(long(), false).unwrap()).collect()
}

/// Asserts that a stream was refused so that its client may safely try again.
fn assert_refused(connection: &mut Http2, exchange: Exchange) {
    let error = connection.answer(exchange).unwrap_err();
    assert!(error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM), "{error}");
}

#[test]
fn long_streams_over_the_bound_are_refused_and_ordinary_calls_beside_them_are_served() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "[policy]\nbody_timeout = \"1h\"");
    let gateway = &secured.gateway;
    let mut connection = secured.connect();
    let mut stalled = opened(&mut connection, 16);
    let refused = stalled.split_off(4);
    let count = refused.len();
    for exchange in refused {
        assert_refused(&mut connection, exchange);
    }
    gateway.wait_for_metric(&format!("{STREAMS}{{reason=\"memory\"}}"), count as f64);
    assert_eq!(gateway.metrics().sum(STREAMS), count as f64);
    gateway.wait_for_line("reason=\"memory\"");
    // Elsewhere nobody notices, nor do ordinary calls beside them, be it that these stall as well.
    assert_eq!(secured.connect().call(long(), BODY, None).unwrap().body, "true");
    for _ in 0..11 {
        let mut ordinary = connection.open(unlock(), false).unwrap();
        ordinary.body.send_data(BODY[..9].into(), false).unwrap();
        stalled.push(ordinary);
        assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true");
    }
    // Those that were there first are carried through.
    for (number, mut exchange) in stalled.into_iter().enumerate() {
        let rest = if number < 4 { BODY } else { &BODY[9..] };
        exchange.body.send_data(rest.into(), true).unwrap();
        assert_eq!(connection.answer(exchange).unwrap().body, "true");
    }
    // What they held is there again.
    for _ in 0..20 {
        assert_eq!(connection.call(long(), BODY, None).unwrap().body, "true");
    }
    assert_eq!(upstream.count(), 1 + 11 + 15 + 20);
}

#[test]
fn sixteen_ordinary_calls_come_in_at_once_by_one_connection() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    // With a cookie and a token, as browsers and proxies have them.
    let call = || unlock().header("cookie", "c".repeat(2048)).header("authorization", "t".repeat(2048));
    for _ in 0..3 {
        let mut exchanges: Vec<_> = (0..16).map(|_| connection.open(call(), false).unwrap()).collect();
        for exchange in &mut exchanges {
            exchange.body.send_data(BODY[..9].into(), false).unwrap();
        }
        for mut exchange in exchanges {
            exchange.body.send_data(BODY[9..].into(), true).unwrap();
            assert_eq!(connection.answer(exchange).unwrap().body, "true");
        }
    }
    assert_eq!(secured.gateway.metrics().sum(STREAMS), 0.0);
}

#[test]
fn what_all_share_is_bounded_and_each_connection_has_memory_of_its_own() {
    let upstream = Upstream::start();
    // As much is shared as there may be calls in flight of the longest kind.
    let secured = Secured::before(&upstream, "max_in_flight = 1\n[policy]\nbody_timeout = \"1h\"");
    let gateway = &secured.gateway;
    let mut refused = 0;
    let mut attackers: Vec<_> = (0..4).map(|_| secured.connect()).collect();
    let mut held = Vec::new();
    for (number, attacker) in attackers.iter_mut().enumerate() {
        let mut stalled = opened(attacker, 4);
        // The first has all of that beside its own; for the others there is no more than their own.
        let passed = if number == 0 { 3 } else { 1 };
        for exchange in stalled.split_off(passed) {
            assert_refused(attacker, exchange);
            refused += 1;
        }
        held.push(stalled);
        gateway.wait_for_metric(&format!("{STREAMS}{{reason=\"memory\"}}"), f64::from(refused));
    }
    let mut connection = secured.connect();
    for _ in 0..5 {
        assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true");
        assert_eq!(connection.call(long(), BODY, None).unwrap().body, "true");
        // And beside what stalls.
        assert_eq!(attackers[3].call(unlock(), BODY, None).unwrap().body, "true");
    }
    drop((held, attackers));
    gateway.wait_for_metric("n4n_gateway_connections", 1.0);
    let mut stalled = opened(&mut connection, 2);
    let mut last = stalled.pop().unwrap();
    last.body.send_data(BODY.into(), true).unwrap();
    assert_eq!(connection.answer(last).unwrap().body, "true");
}

#[test]
fn a_body_that_there_is_no_memory_for_is_overloaded_and_nothing_of_it_is_forwarded() {
    let upstream = Upstream::start();
    for mode in ["enforce", "observe"] {
        let builder = Gateway::before(upstream.address()).set("", &format!("mode = \"{mode}\""));
        let secured = Secured::of(builder.set("policy", "body_timeout = \"1h\""));
        let mut connection = secured.connect();
        let before = upstream.count();
        let mut exchanges: Vec<_> = (0..16)
            .map(|_| {
                let mut exchange = connection.open(unlock(), false).unwrap();
                exchange.body.send_data([b"customer_id=", &[b'1'; 7988][..]].concat().into(), false).unwrap();
                exchange
            })
            .collect();
        let overloaded = format!("{REQUESTS}{{code=\"overloaded\",status_class=\"5xx\"}}");
        connection.run_while(|| {
            let start = std::time::Instant::now();
            while secured.gateway.metrics().sum(&overloaded) == 0.0 {
                assert!(start.elapsed() < crate::harness::DEADLINE, "none is refused");
                std::thread::yield_now();
            }
        });
        for exchange in &mut exchanges {
            // Whoever has its answer already takes no more.
            let _ = exchange.body.send_data(b"11"[..].into(), true);
        }
        let mut refused = 0;
        for exchange in exchanges {
            let answer = connection.answer(exchange).unwrap();
            match answer.status {
                503 => {
                    assert_eq!(answer.code(), "overloaded");
                    refused += 1;
                }
                status if mode == "observe" => assert_eq!(status, 200),
                status => assert_eq!((status, answer.code().as_str()), (400, "lookup_invalid")),
            }
        }
        assert!((1..16).contains(&refused), "{refused} of 16");
        let forwarded = upstream.requests().split_off(before);
        assert_eq!(forwarded.len(), if mode == "observe" { 16 - refused } else { 0 });
        assert!(forwarded.iter().all(|request| request.body.len() == 8002), "{mode}");
        assert_eq!(connection.call(unlock(), BODY, None).unwrap().body, "true");
    }
}

#[test]
fn what_the_protocol_s_layer_answers_by_itself_is_recorded_like_other_requests() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let gateway = &secured.gateway;
    let mut connection = Frames::connect(&secured.client(), gateway.https(), 65_535);
    let open = |stream, more: &[u8]| frame(HEADERS, END_HEADERS, stream, &[&unlock_fields(), more].concat());
    for round in 0..10_u32 {
        let stream = |number: u32| 8 * round + 2 * number + 1;
        let kept = kept_field("a", &"v".repeat(3000));
        // One is malformed, one has a body that is not of its length, one a list of fields that is too long; the last is
        // a call like others.
        let short = open(stream(1), &field("content-length", "14"));
        let sent = [
            open(stream(0), &field("connection", "close")),
            [short, frame(DATA, END_STREAM, stream(1), BODY)].concat(),
            open(stream(2), &[kept, vec![KEPT; 8]].concat()),
            [open(stream(3), b""), frame(DATA, END_STREAM, stream(3), BODY)].concat(),
        ];
        connection.send(&sent.concat()).unwrap();
        gateway.wait_for_metric(&format!("{REQUESTS}{{code=\"ok\"}}"), f64::from(round + 1));
    }
    gateway.wait_for_metric(&format!("{REQUESTS}{{code=\"header_too_large\",status_class=\"4xx\"}}"), 10.0);
    gateway.wait_for_metric(REQUESTS, 40.0);
    let lines = gateway.wait_for_log(40);
    let malformed = lines.iter().filter(|line| line["code"] == "request_malformed").count();
    assert!(malformed >= 10, "{lines:?}");
    assert!(lines.iter().all(|line| line["client"] == "127.0.0.1"), "{lines:?}");
    assert_eq!(upstream.count(), 10);
}

#[test]
fn a_header_block_that_does_not_come_to_its_end_ends_its_connection_in_time() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "[policy]\nheader_timeout = \"1s\"");
    let gateway = &secured.gateway;
    let mut halves: Vec<_> = [&unlock_fields()[..], b""]
        .into_iter()
        .map(|piece| {
            let mut frames = Frames::connect(&secured.client(), gateway.https(), 65_535);
            frames.send(&frame(HEADERS, 0, 1, piece)).unwrap();
            frames
        })
        .collect();
    // A half frame, too.
    let mut frames = Frames::connect(&secured.client(), gateway.https(), 65_535);
    frames.send(&frame(HEADERS, END_HEADERS, 1, &unlock_fields())[..40]).unwrap();
    halves.push(frames);
    // Whoever is slow in two pieces is served.
    let mut slow = Frames::connect(&secured.client(), gateway.https(), 65_535);
    let (first, rest) = (&unlock_fields()[..20], &unlock_fields()[20..]);
    slow.send(&frame(HEADERS, 0, 1, first)).unwrap();
    slow.send(
        &[frame(CONTINUATION, END_HEADERS, 1, rest), frame(DATA, END_STREAM, 1, b"customer_id=191")].concat(),
    )
    .unwrap();
    upstream.wait_for(1);

    let start = Instant::now();
    for frames in &mut halves {
        while frames.read().is_ok() {
            assert!(start.elapsed() < DEADLINE, "a half header block is waited for without end");
        }
    }
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"header_timeout\"}", 3.0);
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"ok\"}", 1.0);
    assert_eq!(secured.connect().call(Http2::unlock(NAME), b"customer_id=191", None).unwrap().status, 200);
}
