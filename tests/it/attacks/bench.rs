//! Runs attack cases against a gateway, and compares what came of them with what must.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cases::{Case, Want};
use crate::harness::{API_KEY, API_USERNAME, Broken, Call, Gateway, GatewayBuilder, Message, Upstream};

/// How a case's bytes are divided on their way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Delivery {
    Whole,
    /// Byte by byte, where that does not take too long.
    Dripped,
}

/// Runs every case of a text in each of these deliveries; fails with all that went wrong.
pub(super) fn run(text: &str, deliveries: &[Delivery], configure: fn(GatewayBuilder) -> GatewayBuilder) {
    let mut failures = Vec::new();
    let mut bench = Bench::start(configure);
    for case in Case::read_all(text) {
        for delivery in deliveries {
            if catch_unwind(AssertUnwindSafe(|| bench.run(&case, *delivery))).is_err() {
                failures.push(format!("{} ({delivery:?})", case.name));
                eprintln!("^ that was the case of {}", failures[failures.len() - 1]);
                bench = Bench::start(configure);
            }
        }
    }
    bench.assert_counted();
    assert!(failures.is_empty(), "{} went wrong:\n{}", failures.len(), failures.join("\n"));
}

/// A gateway before an upstream that remembers every byte.
struct Bench {
    gateway: Gateway,
    upstream: Upstream,
    /// Good calls so far.
    good: usize,
    /// Requests so far, by code.
    counts: BTreeMap<String, usize>,
}

impl Bench {
    fn start(configure: fn(GatewayBuilder) -> GatewayBuilder) -> Self {
        let upstream = Upstream::start();
        let builder = Gateway::before(upstream.address()).set("upstream", "host = \"n4n.test\"");
        Self { gateway: configure(builder).start(), upstream, good: 0, counts: BTreeMap::new() }
    }

    fn run(&mut self, case: &Case, delivery: Delivery) {
        let (log, forwarded) = (self.logged(), self.upstream.count());
        let mut wire = self.gateway.connect();
        let piece = match delivery {
            Delivery::Whole => case.bytes.len(),
            Delivery::Dripped => 1 + case.bytes.len() / 2000,
        };
        for piece in case.bytes.chunks(piece) {
            wire.send(piece);
        }
        if case.stops {
            wire.stop_sending();
        }
        // What is forwarded, as answer, Host and body; what is logged, as code and status.
        let (mut calls, mut lines) = (Vec::new(), Vec::new());
        for want in &case.wants {
            let answer = wire.try_answer();
            if let Some(line) = check(want, &answer) {
                lines.push(line);
            }
            if let (Want::True(body), Ok(answer)) = (want, answer) {
                calls.push((answer, case.host.as_str(), body.clone()));
            }
        }
        // The connection is either fit for a good call or closed; one with the bytes in between is neither.
        if !case.is_kept {
            assert_eq!(wire.try_answer().map(|answer| answer.raw), Err(Broken::Closed), "not closed");
            wire = self.gateway.connect();
        }
        self.good += 1;
        let body = format!("orderid=good-{}", self.good);
        let answer = wire.call(&Call::unlock().body(&body));
        lines.extend(check(&Want::True(body.clone()), &Ok(answer.clone())));
        calls.push((answer, "gateway.test", body));

        self.assert_forwarded(forwarded, &calls);
        self.assert_logged(log, lines);
    }

    /// Checks that the upstream saw these calls and not a byte more.
    fn assert_forwarded(&self, before: usize, calls: &[(Message, &str, String)]) {
        let requests = self.upstream.requests();
        let whole: usize = requests.iter().map(|request| request.raw.len()).sum();
        assert_eq!(self.upstream.bytes().len(), whole, "bytes went upstream beside the requests");
        let bodies: Vec<&str> = requests[before..].iter().map(Message::text).collect();
        assert_eq!(bodies, calls.iter().map(|(_, _, body)| body.as_str()).collect::<Vec<_>>());
        for (request, (answer, host, body)) in requests[before..].iter().zip(calls) {
            assert_canonical(request, answer, host, body);
        }
    }

    /// Checks that each request has its line in the log, and notes it to be found counted.
    fn assert_logged(&mut self, before: usize, mut lines: Vec<(String, Option<u16>)>) {
        let log = self.gateway.wait_for_log(before + lines.len());
        let mut logged: Vec<(String, Option<u16>)> = log[before..]
            .iter()
            .map(|line| (line["code"].as_str().unwrap().to_owned(), line["status"].as_u64()))
            .map(|(code, status)| (code, status.map(|status| u16::try_from(status).unwrap())))
            .collect();
        // A connection's last line and the first of the next can change places.
        logged.sort();
        lines.sort();
        assert_eq!(logged, lines, "in the access log");
        for (code, _) in lines {
            *self.counts.entry(code).or_default() += 1;
        }
    }

    fn logged(&self) -> usize {
        self.counts.values().sum()
    }

    /// Checks that every request was counted under its code, that none was logged twice, and no key at all.
    fn assert_counted(&self) {
        for (code, count) in &self.counts {
            let counter = format!("n4n_gateway_requests_total{{code=\"{code}\"}}");
            self.gateway.wait_for_metric(&counter, *count as f64);
        }
        self.gateway.wait_for_metric("n4n_gateway_requests_total", self.logged() as f64);
        assert_eq!(self.gateway.wait_for_log(self.logged()).len(), self.logged());
        assert!(!self.gateway.output().contains(API_KEY));
    }
}

/// Checks an answer; returns the code and the status that the log must tell, if it must tell anything.
fn check(want: &Want, answer: &Result<Message, Broken>) -> Option<(String, Option<u16>)> {
    let answer = match (want, answer) {
        (Want::Nothing, Err(Broken::Closed)) => return Some(("client_gone".to_owned(), None)),
        (_, Ok(answer)) => answer,
        (_, Err(_)) => panic!("{want:?} was wanted, not {answer:?}"),
    };
    let shown = answer.raw.escape_ascii();
    match want {
        Want::Continue => {
            assert_eq!(answer.status(), 100, "{shown}");
            None
        }
        Want::True(_) => {
            assert_eq!((answer.status(), answer.text()), (200, "true"), "{shown}");
            Some(("ok".to_owned(), Some(200)))
        }
        Want::Refused(code) => {
            let status = status_of(code);
            assert_eq!(answer.field("Content-Type"), Some("application/problem+json"), "{shown}");
            assert_eq!((answer.status(), answer.code().as_str()), (status, code.as_str()), "{shown}");
            assert_eq!(answer.field("Allow"), (status == 405).then_some("PATCH"), "{shown}");
            Some((code.clone(), Some(status)))
        }
        Want::Nothing => panic!("no answer was wanted, not {shown}"),
    }
}

/// The contract's status of a code.
fn status_of(code: &str) -> u16 {
    match code {
        "credential_missing" => 401,
        "path_unknown" => 404,
        "method_not_allowed" => 405,
        "header_timeout" | "body_timeout" => 408,
        "body_too_large" => 413,
        "media_type_unsupported" => 415,
        "expectation_failed" => 417,
        "header_too_large" => 431,
        _ => 400,
    }
}

/// Checks that a request is the one form in which such a call may reach the upstream.
fn assert_canonical(request: &Message, answer: &Message, host: &str, body: &str) {
    let length = body.len().to_string();
    let mut want = [
        ("host", "n4n.test"),
        ("content-length", &length),
        ("content-type", "application/x-www-form-urlencoded"),
        ("api-key", API_KEY),
        ("api-username", API_USERNAME),
        ("x-request-id", answer.one("X-Request-Id")),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", host),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    want.sort();
    let mut fields = request.fields.clone();
    fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    fields.sort();
    assert_eq!(request.start_line, "PATCH /api/customer/unlock HTTP/1.1");
    assert_eq!((fields.as_slice(), request.text()), (want.as_slice(), body));
}
