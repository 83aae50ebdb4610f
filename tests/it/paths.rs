//! One spelling of the unlock path passes, whatever other paths may do; those that may pass, pass unchanged.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::harness::{Call, DEADLINE, Gateway, MessageReader, Upstream};

const EXACT: &str = "/api/customer/unlock";
const SEGMENTS: [&str; 3] = ["api", "customer", "unlock"];

/// What some server reads as the slash between two segments.
const SLASHES: &str = r"
    // /// \ /\ %2f %2F %5c %5C /%2f %252f %252F %25252f %25255C /./ /%2e/ /%252E/ /x/../ /x/%2e%2e/
    /x\..\ /;/ ;a=b/ /x/..;a=b/
";

/// What some server drops before a path.
const BEFORE: &str = r"
    /. /.. /x/.. /%2e /%2e%2e /; /;a=b /x /index.php /index.php/x/.. //gateway.test
    /http://gateway.test /%00/.. /%2f /%5c.. /~user
";

/// What some server drops behind a path.
const BEHIND: &str = r"
    / // /. /x/.. /.. /%2e \ %2f %252f %5c ; ;a=b ;/x %3b %3Ba=b %253b %00 %00.html %2500 %00/../x
    /%00 %3f %3fa=b %253f %23 %2523x /191 /index.php
";

/// Where applications look for a route besides the path; `@` is where the route stands.
const ROUTES: &str = r"
    /?@ /?r=@ /?a=b&r=@ /?r=@&a=b /index.php?route=@ /index.php?@ /index.php/?q=@ /x?r=@ /x?r[]=@
    /x?@=1 /x%3fr=@ /x%3Fr%3D@ /x?r=%2f@ /x?r=http://gateway.test/@
";

/// How a text looks with every of its bytes percent-encoded, `depth` times over.
fn encoded(text: &str, depth: usize) -> String {
    let percent = format!("%{}", "25".repeat(depth - 1));
    text.bytes().map(|byte| format!("{percent}{byte:02x}")).collect()
}

/// The letters of a path in other cases.
fn cases(path: &str) -> Vec<String> {
    let alternating = |upper: usize| -> String {
        let letters = path.chars().enumerate();
        letters.map(|(at, c)| if at % 2 == upper { c.to_ascii_uppercase() } else { c }).collect()
    };
    vec![path.to_ascii_uppercase(), alternating(0), alternating(1), path.replace("unlock", "Unlock")]
}

/// The exact path with one letter percent-encoded, or all of them.
fn encodings() -> Vec<String> {
    let mut paths = Vec::new();
    for depth in 1..=4 {
        for (at, letter) in EXACT.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
            let (before, behind) = (&EXACT[..at], &EXACT[at + 1..]);
            paths.push(format!("{before}{}{behind}", encoded(&letter.to_string(), depth)));
        }
        paths.push(format!("/{}", SEGMENTS.map(|segment| encoded(segment, depth)).join("/")));
        paths.push(format!("/{}", encoded("api/customer/unlock", depth)));
        // In capitals, the letter and the digits that stand for it.
        paths
            .push(EXACT.replace('k', &encoded("K", depth)).replace('n', &encoded("N", depth).to_uppercase()));
    }
    paths
}

/// Every spelling that some server could take for the unlock path, and that is not spelt so.
fn disguises() -> BTreeSet<String> {
    let [api, customer, unlock] = SEGMENTS;
    let mut paths = Vec::new();
    for slash in SLASHES.split_whitespace() {
        paths.push(format!("{slash}{api}/{customer}/{unlock}"));
        paths.push(format!("/{api}{slash}{customer}/{unlock}"));
        paths.push(format!("/{api}/{customer}{slash}{unlock}"));
        paths.push(format!("/{api}{slash}{customer}{slash}{unlock}"));
    }
    let (before, behind) = (|| BEFORE.split_whitespace(), || BEHIND.split_whitespace());
    paths.extend(before().map(|before| format!("{before}{EXACT}")));
    paths.extend(behind().map(|behind| format!("{EXACT}{behind}")));
    paths.extend(before().zip(behind()).map(|(before, behind)| format!("{before}{EXACT}{behind}")));
    paths.extend(
        ["/api/customer/lock/../unlock", "/api/x/..;/customer/unlock", "/api/customer/unlock/x/../.."]
            .map(str::to_owned),
    );
    paths.extend(encodings());
    for route in ROUTES.split_whitespace() {
        let routes =
            [EXACT.to_owned(), "api/customer/unlock".to_owned(), encoded(EXACT, 1), encoded(EXACT, 2)];
        paths.extend(routes.map(|to| route.replace('@', &to)));
    }
    // Only what begins with a slash has a place in a request line.
    paths.retain(|path| path.starts_with('/'));
    let in_cases: Vec<String> =
        paths.iter().step_by(5).map(String::as_str).chain([EXACT]).flat_map(cases).collect();
    let again: Vec<String> =
        paths.iter().step_by(3).map(|path| format!("/{}", encoded(&path[1..], 1))).collect();
    paths.into_iter().chain(in_cases).chain(again).collect()
}

/// Sends the documented call to a target.
fn call_to(target: &str) -> Call {
    Call::unlock().path(target)
}

fn gateway_before(upstream: &Upstream, other_paths: &str) -> Gateway {
    Gateway::before(upstream.address()).set("policy", &format!("other_paths = \"{other_paths}\"")).start()
}

#[test]
fn no_spelling_but_the_exact_one_passes() {
    let disguises = disguises();
    assert!(disguises.len() >= 200, "{} spellings", disguises.len());
    assert!(!disguises.contains(EXACT));
    let whole_urls = disguises.iter().step_by(5).map(|path| format!("http://gateway.test{path}"));
    let targets: Vec<String> = whole_urls.chain(disguises.iter().cloned()).collect();
    for other_paths in ["reject", "forward"] {
        let upstream = Upstream::start();
        let gateway = gateway_before(&upstream, other_paths);
        let mut wire = gateway.connect();
        let mut wrong = Vec::new();
        for target in &targets {
            for method in ["PATCH", "GET"] {
                let answer = wire.call(&call_to(target).method(method));
                if answer.status() != 404 || answer.code() != "path_unknown" {
                    wrong.push(format!("{method} {target}: {answer:?}"));
                    wire = gateway.connect();
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong under {other_paths}:\n{}", wrong.len(), wrong.join("\n"));

        for query in ["", "customer_id=99", "/../lock", "r=/api/customer/unlock"] {
            let answer = wire.call(&call_to(EXACT).query(query));
            assert_eq!((answer.status(), answer.code().as_str()), (400, "query_not_allowed"), "{query}");
        }
        assert_eq!(upstream.bytes(), b"", "under {other_paths}");

        for exact in [EXACT, "http://gateway.test/api/customer/unlock"] {
            assert_eq!(wire.call(&call_to(exact)).text(), "true", "{exact}");
        }
        let lines: Vec<String> = upstream.requests().into_iter().map(|request| request.start_line).collect();
        assert_eq!(lines, ["PATCH /api/customer/unlock HTTP/1.1"; 2]);
        let refused = targets.len() * 2;
        gateway.wait_for_metric("n4n_gateway_requests_total{code=\"path_unknown\"}", refused as f64);
    }
}

/// Paths that no server reads as the unlock path.
const OTHERS: [&str; 13] = [
    "/",
    "/api/customer",
    "/api/customer/lock",
    "/api/customers/191",
    "/api/customer/un/lock",
    "/v2api/subscription/unlock-all",
    "/API/Status",
    "/a//b/./c/../d;v=1",
    "/%7Euser/%e2%82%ac%00",
    "/search?q=unlock+me&page=2",
    "/?next=/api/customer",
    "/a?b?c=%2525",
    "/a%20b?",
];

/// Where front controllers look for their routes, and how these are spelt there; with `+` for a space, and with letters
/// that PCRE folds under `/iu`. Real ones are asked in `front_controllers`.
const ROUTED: &str = r"
    /api/index.php/customer/unlock /api/index.php//customer/unlock /api/index.php%2fcustomer/unlock
    /api.php/customer/unlock /api/INDEX.php/customer/unlock /customer/unlock /api/?route=customer/unlock
    /?route[]=customer&route[]=unlock /?route%5B%5D=customer&x=1&route%5B%5D=unlock
    /api/index.php?_url=/customer/unlock /?controller=customer&action=unlock /?action=unlock&controller=customer
    /?customer/unlock=1 /?customer=unlock /search?q=unlock+customer /?task=customer.unlock /api/customer_unlock
    /?call=CustomerController::actionUnlock /?call=UNLOCKCUSTOMER /api/customer/unlocked
    /?r=cu%c5%bftomer/unlock /?r=cu%C5%BFtomer/unloc%E2%84%AA /?r=customer/unloc%25e2%2584%25aa
    /?r=cust%6fmer&a=unl%256fck /?r=custo%01mer/un-lock
";

#[test]
fn no_route_to_the_unlock_call_passes() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream, "forward");
    let mut wire = gateway.connect();
    for target in ROUTED.split_whitespace() {
        for target in [target.to_owned(), format!("http://gateway.test{target}"), format!("{target}&x=1")] {
            for method in ["PATCH", "GET", "POST"] {
                let answer = wire.call(&call_to(&target).method(method));
                assert_eq!(
                    (answer.status(), answer.code().as_str()),
                    (404, "path_unknown"),
                    "{method} {target}"
                );
            }
        }
    }
    assert_eq!(wire.call(&call_to("http://gateway.test?x")).code(), "path_unknown", "no path at all");
    assert_eq!(upstream.bytes(), b"");
}

#[test]
fn other_paths_pass_unchanged_where_they_may() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream, "forward");
    let mut wire = gateway.connect();
    let long = "x".repeat(100_000);
    for target in OTHERS {
        for (method, body, chunk) in [
            ("GET", "", None),
            ("POST", "a=1&a=2", None),
            ("PATCH", r#"{"customer.id":191}"#, Some(5)),
            ("PUT", &long, None),
            ("PUT", &long, Some(3000)),
            ("x-own", "customer.id=191", None),
        ] {
            let call = call_to(target)
                .method(method)
                .set("Content-Type", "text/plain")
                .without("api-key")
                .body(body);
            let answer = wire.call(&chunk.map_or(call.clone(), |size| call.chunked(size)));
            assert_eq!((answer.status(), answer.text()), (200, "true"), "{method} {target}: {answer:?}");
            let seen = upstream.requests().pop().unwrap();
            assert_eq!(seen.start_line, format!("{method} {target} HTTP/1.1"));
            assert!(seen.text() == body, "{method} {target}: {seen:?}");
            assert_eq!(seen.one("Content-Type"), "text/plain");
        }
    }
    assert_eq!(upstream.count(), OTHERS.len() * 6);

    // The whole URL of another path goes upstream as an origin is asked.
    assert_eq!(wire.call(&call_to("http://gateway.test/other?x").method("GET")).text(), "true");
    assert_eq!(upstream.requests().pop().unwrap().start_line, "GET /other?x HTTP/1.1");
}

#[test]
fn other_paths_are_refused_what_could_make_them_the_unlock_path() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream, "forward");
    let mut wire = gateway.connect();
    for (field, code) in [
        ("X-Original-URL", "path_unknown"),
        ("X-Rewrite-URL", "path_unknown"),
        ("x_original_url", "path_unknown"),
        ("X-Original-URI", "path_unknown"),
        ("X-Forwarded-Uri", "path_unknown"),
        ("X-HTTP-Method", "method_override"),
        ("X-HTTP-Method-Override", "method_override"),
        ("X-Method-Override", "method_override"),
        ("x.http.method", "method_override"),
    ] {
        let answer = wire.call(&call_to("/other").with(field, EXACT));
        assert_eq!(answer.code(), code, "{field}");
    }
    assert_eq!(upstream.bytes(), b"");
}

#[test]
fn the_body_of_another_path_is_streamed() {
    let (half, size) = (vec![b'#'; 300_000], 600_000);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway =
        Gateway::before(listener.local_addr().unwrap()).set("policy", "other_paths = \"forward\"").start();
    let mut wire = gateway.connect();
    wire.send(format!("POST /import HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {size}\r\n\r\n"));
    wire.send(&half);

    // The upstream has read what was sent so far before the client goes on.
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut read_until = |count: usize| {
        let (mut seen, mut piece) = (0, [0; 16 * 1024]);
        while seen < count {
            let read = upstream.read(&mut piece).unwrap();
            assert!(read > 0, "the upstream was left after {seen} bytes");
            seen += piece[..read].iter().filter(|byte| **byte == b'#').count();
        }
        seen
    };
    let first = read_until(half.len());
    assert!(first < size);
    wire.send(&half);
    assert!(first + read_until(size - first) >= size);
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").unwrap();
    assert_eq!(wire.answer().text(), "true");
}

#[test]
fn a_broken_body_of_another_path_is_refused_and_never_completed() {
    let upstream = Upstream::start();
    let gateway = gateway_before(&upstream, "forward");
    let head = "POST /import HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in [
        "x\r\n",
        "3\r\nabc\r\nx\r\n\r\n",
        "3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
    ] {
        let mut wire = gateway.connect();
        wire.send(format!("{head}{chunks}"));
        let answer = wire.try_answer().map(|answer| answer.code());
        assert_eq!(answer.as_deref(), Ok("body_malformed"), "{chunks:?}");
        wire.assert_closes();
        assert_eq!(gateway.call(&Call::unlock()).text(), "true");
    }
    for whole in ["Content-Length: 5\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut wire = gateway.connect();
        wire.send(format!("POST /import HTTP/1.1\r\nHost: gateway.test\r\n{whole}"));
        wire.stop_sending();
        wire.assert_closes();
        assert_eq!(gateway.call(&Call::unlock()).text(), "true");
    }
    let bodies: Vec<String> = upstream.requests().iter().map(|request| request.text().to_owned()).collect();
    assert_eq!(bodies, ["customer_id=191"; 6]);
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"body_malformed\"}", 4.0);
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"client_gone\"}", 2.0);
}

#[test]
fn the_upstream_asks_for_the_expected_body_of_another_path() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway =
        Gateway::before(listener.local_addr().unwrap()).set("policy", "other_paths = \"forward\"").start();
    let mut wire = gateway.connect();
    let call = call_to("/import").with("Expect", "100-continue");
    wire.send(call.head());
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_read_timeout(Some(DEADLINE)).unwrap();
    upstream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert_eq!(wire.answer().status(), 100);
    wire.send(call.framed_body());
    let request = MessageReader::new(&upstream).request().unwrap();
    assert_eq!(request.text(), "customer_id=191");
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").unwrap();
    assert_eq!(wire.answer().text(), "true");
}

#[test]
fn who_holds_a_body_back_until_it_is_asked_for_waits_for_n4n_alone() {
    // It accepts and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::before(listener.local_addr().unwrap())
        .set("upstream", "response_timeout = \"2s\"")
        .set("policy", "other_paths = \"forward\"\nbody_timeout = \"1s\"")
        .start();
    let mut wire = gateway.connect();
    wire.send(call_to("/import").with("Expect", "100-continue").head());
    let answer = wire.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (504, "upstream_timeout"));
    wire.assert_closes();
}

#[test]
fn what_is_no_uri_is_not_passed_on() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("policy", "other_paths = \"forward\"").start();
    let mut wire = gateway.connect();
    for target in ["/a<b", "/a`b", "/a?b<c"] {
        let answer = wire.call(&call_to(target));
        assert_eq!((answer.status(), answer.code().as_str()), (400, "request_malformed"), "{target}");
    }
    assert_eq!(wire.call(&call_to("/a{b}?c|d")).status(), 200);
    assert_eq!(upstream.count(), 1);
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"request_malformed\"}", 3.0);
}
