//! The rules that a call's body can break.

use super::*;

#[test]
fn a_body_over_the_limit_is_refused_without_being_read() {
    let limit = 100;
    let mut bench = Bench::new(|upstream| {
        Gateway::before(upstream.address()).set("policy", &format!("max_body = \"{limit}B\"")).start()
    });
    let padded = |size: usize| Call::unlock().body("customer_id=191").more_body("&".repeat(size - 15));

    for call in [padded(limit), padded(limit).chunked(7)] {
        assert_eq!(bench.gateway.call(&call).status(), 200, "exactly the limit");
        bench.good += 1;
    }
    for (case, call) in [
        ("a declared length of one byte too many", padded(limit + 1)),
        ("chunks of one byte too many", padded(limit + 1).chunked(10)),
        ("a chunk far over the limit", padded(60_000).chunked(60_000)),
    ] {
        let mut wire = bench.gateway.connect();
        assert_refuses(case, &wire.call(&call), &BODY_TOO_LARGE);
        wire.assert_closes();
        bench.assert_upstream_saw_good_calls_alone();
    }

    // The rest of a declared length need not arrive for the refusal to come.
    let mut wire = bench.gateway.connect();
    wire.send(padded(1_000_000).head());
    assert_refuses("a length announced", &wire.answer(), &BODY_TOO_LARGE);
    wire.assert_closes();
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_given_up() {
    let bench = Bench::new(|upstream| {
        Gateway::before(upstream.address()).set("policy", "body_timeout = \"300ms\"").start()
    });
    for (case, call) in [("by length", Call::unlock()), ("in chunks", Call::unlock().chunked(4))] {
        let mut wire = bench.gateway.connect();
        wire.send(call.head());
        wire.send(&call.framed_body()[..10]);
        assert_refuses(case, &wire.answer(), &BODY_TIMEOUT);
        wire.assert_closes();
        bench.assert_upstream_saw_good_calls_alone();
    }
    bench
        .gateway
        .wait_for_metric("n4n_gateway_requests_total{outcome=\"rejected\",code=\"body_timeout\"}", 2.0);
}

#[test]
fn a_malformed_body_is_not_guessed_at() {
    let bodies = [
        "customer_id=%",
        "customer_id=%1",
        "customer_id=%zz",
        "%zz=1",
        "customer_id=%ff",
        "customer_id=1&x=%c3%28",
    ];
    let mut bench = Bench::standard();
    bench.assert_each_is_refused(
        &BODY_MALFORMED,
        each_body(bodies).chain([("raw bytes".to_owned(), Call::unlock().body(b"customer_id=\xff"))]),
    );

    for chunks in
        ["zz\r\ncustomer_id=191\r\n0\r\n\r\n", "-1\r\nx\r\n0\r\n\r\n", "4\r\ncustomer_id=191\r\n0\r\n\r\n"]
    {
        let mut wire = bench.gateway.connect();
        let call = Call::unlock().with("Transfer-Encoding", "chunked").framed_by_hand();
        wire.send(call.body(chunks).bytes());
        assert_refuses(chunks, &wire.answer(), &BODY_MALFORMED);
        wire.assert_closes();
        bench.assert_upstream_saw_good_calls_alone();
    }
}

#[test]
fn a_name_that_php_reads_as_a_lookup_must_be_spelt_as_one() {
    let bodies = [
        "customer.id=191",
        "customer+id=191",
        "customer%20id=191",
        "customer%2Eid=191",
        "customer[id=191",
        "customer%5Bid=191",
        "+customer_id=191",
        "%20customer_id=191",
        "customer_id%00x=191",
        "customer_id[]=191",
        "customer_id[a]=191",
        "customer_id%5B%5D=191",
        "subscription.id=2",
        "customer_id=1&subscription.id=2",
        "orderid%00=1",
        "orderid[]=1",
    ];
    Bench::standard().assert_each_is_refused(&PARAMETER_DISGUISED, each_body(bodies));
}

#[test]
fn an_unknown_parameter_is_refused() {
    let bodies = [
        "customer_id=191&x=1",
        "x",
        "=191",
        "customer_id=191&=",
        "Customer_id=191",
        "customerid=191",
        "order_id=191",
        "customer_id;subscription_id=1",
        "{\"customer_id\":191}",
    ];
    let junk: String = (0..1001).map(|index| format!("a{index}&")).collect();
    let bodies = bodies.map(str::to_owned).into_iter().chain([junk + "customer_id=1"]);
    Bench::standard().assert_each_is_refused(&PARAMETER_UNKNOWN, each(bodies, |call, body| call.body(body)));
}

#[test]
fn a_lookup_is_needed() {
    let no_length = ("no length".to_owned(), Call::unlock().body("").framed_by_hand());
    Bench::standard().assert_each_is_refused(&LOOKUP_MISSING, each_body(["", "&", "&&&"]).chain([no_length]));
}

#[test]
fn one_lookup_is_enough() {
    let bodies = [
        "customer_id=1&customer_id=2",
        "customer_id=1&customer_id=1",
        "customer_id=1&subscription_id=2",
        "customer_id=1&subscription%5fid=2",
        "orderid=&customer_id=1",
        "customer_id=1&&orderid=!",
    ];
    Bench::standard().assert_each_is_refused(&LOOKUP_AMBIGUOUS, each_body(bodies));
}

#[test]
fn a_lookup_value_fits_the_pattern_as_a_whole() {
    let long = format!("customer_id={}", "1".repeat(19));
    let long_word = format!("orderid={}", "a".repeat(65));
    let bodies = [
        "customer_id",
        "customer_id=",
        "customer_id=1=2",
        "customer_id=1+2",
        "customer_id=1%0A",
        "customer_id=%00",
        "customer_id=191%26subscription_id%3D2",
        "customer_id=%C3%A9",
        "customer_id=191;subscription_id=2",
        "orderid=1'",
        &long,
        &long_word,
        // What a number column takes for 191, or for 0.
        "customer_id=0",
        "customer_id=0191",
        "customer_id=191abc",
        "customer_id=191e0",
        "customer_id=191.0",
        "customer_id=191-2",
        "customer_id=+191",
        "customer_id=%20191",
        "customer_id=191%20",
        "customer_id=abc",
        "subscription_id=0191",
        "orderid=191abc",
        "orderid=1:2",
        "orderid=_1",
    ];
    let mut bench = Bench::standard();
    bench.assert_each_is_refused(&LOOKUP_INVALID, each_body(bodies));

    for longest in [&long[..long.len() - 1], &long_word[..long_word.len() - 1]] {
        assert_eq!(bench.gateway.call(&Call::unlock().body(longest)).status(), 200, "{longest}");
    }

    let mut digits_only = Bench::new(|upstream| {
        Gateway::before(upstream.address())
            .set("policy", "value_pattern = \"[0-9]|[0-9]{3}(-[0-9]+)?\"")
            .start()
    });
    digits_only.assert_each_is_refused(
        &LOOKUP_INVALID,
        each_body(["customer_id=19", "customer_id=1919", "customer_id=a"]),
    );
    assert_eq!(digits_only.gateway.call(&Call::unlock()).status(), 200);

    let patterns = "patterns = { customer_id = '\\d{1,20}', orderid = '\\w{3}' }";
    let mut by_key =
        Bench::new(|upstream| Gateway::before(upstream.address()).set("policy", patterns).start());
    by_key.assert_each_is_refused(
        &LOOKUP_INVALID,
        // Digits and letters are ASCII's.
        each_body([
            "customer_id=%D9%A1%D9%A9%D9%A1",
            "orderid=a%C3%A9b",
            "orderid=ab",
            "subscription_id=0191",
        ]),
    );
    for body in ["customer_id=0191", "orderid=7_b", "subscription_id=x-191"] {
        assert_eq!(by_key.gateway.call(&Call::unlock().body(body)).status(), 200, "{body}");
    }
}
