//! Every rule has its own answer, says what to change, keeps the connection, and lets nothing through.

mod body;
mod head;
mod order;

use crate::harness::{Call, Gateway, Message, Upstream, Wire};

/// What an answer must say.
struct Refusal {
    status: u16,
    code: &'static str,
    /// A field that the status demands, as `name: value`.
    field: Option<(&'static str, &'static str)>,
}

const fn refusal(status: u16, code: &'static str) -> Refusal {
    Refusal { status, code, field: None }
}

const PATH_UNKNOWN: Refusal = refusal(404, "path_unknown");
const METHOD_NOT_ALLOWED: Refusal =
    Refusal { field: Some(("Allow", "PATCH")), ..refusal(405, "method_not_allowed") };
const METHOD_OVERRIDE: Refusal = refusal(400, "method_override");
const QUERY_NOT_ALLOWED: Refusal = refusal(400, "query_not_allowed");
const EXPECTATION_FAILED: Refusal = refusal(417, "expectation_failed");
const CREDENTIAL_MISSING: Refusal =
    Refusal { field: Some(("WWW-Authenticate", "")), ..refusal(401, "credential_missing") };
const CREDENTIAL_AMBIGUOUS: Refusal = refusal(400, "credential_ambiguous");
const CREDENTIAL_MALFORMED: Refusal = refusal(400, "credential_malformed");
const MEDIA_TYPE_UNSUPPORTED: Refusal = Refusal {
    field: Some(("Accept-Patch", "application/x-www-form-urlencoded")),
    ..refusal(415, "media_type_unsupported")
};
const BODY_TOO_LARGE: Refusal = refusal(413, "body_too_large");
const BODY_TIMEOUT: Refusal = refusal(408, "body_timeout");
const BODY_MALFORMED: Refusal = refusal(400, "body_malformed");
const PARAMETER_DISGUISED: Refusal = refusal(400, "parameter_disguised");
const PARAMETER_UNKNOWN: Refusal = refusal(400, "parameter_unknown");
const LOOKUP_MISSING: Refusal = refusal(400, "lookup_missing");
const LOOKUP_AMBIGUOUS: Refusal = refusal(400, "lookup_ambiguous");
const LOOKUP_INVALID: Refusal = refusal(400, "lookup_invalid");

/// Checks every member of the problem document and the fields around it.
fn assert_refuses(case: &str, answer: &Message, refusal: &Refusal) {
    let Refusal { status, code, field } = refusal;
    assert_eq!((answer.status(), answer.code().as_str()), (*status, *code), "{case}: {answer:?}");
    assert_eq!(answer.one("Content-Type"), "application/problem+json", "{case}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:n4n-gateway:{code}"), "{case}");
    assert_eq!(problem["status"], *status, "{case}");
    for member in ["title", "detail", "request_id"] {
        assert!(
            problem[member].as_str().is_some_and(|text| !text.is_empty()),
            "{case}: no {member} in {problem}"
        );
    }
    assert_eq!(problem.as_object().unwrap().len(), 6, "{case}: other members in {problem}");
    if let Some((name, value)) = field {
        let given = answer.one(name);
        assert!(
            if value.is_empty() { !given.is_empty() } else { given == *value },
            "{case}: {name}: {given}"
        );
    }
    assert!(
        ["RateLimit", "RateLimit-Policy", "Retry-After"].iter().all(|name| answer.field(name).is_none()),
        "{case}: a stranger learns of a balance: {answer:?}"
    );
}

/// The gateway under test with an upstream that must see the good calls alone.
struct Bench {
    gateway: Gateway,
    upstream: Upstream,
    good: usize,
}

impl Bench {
    fn new(gateway: impl FnOnce(&Upstream) -> Gateway) -> Self {
        let upstream = Upstream::start();
        Self { gateway: gateway(&upstream), upstream, good: 0 }
    }

    fn standard() -> Self {
        Self::new(|upstream| Gateway::before(upstream.address()).start())
    }

    /// Sends a good call, and checks that it is the next and only thing the upstream sees.
    fn assert_serves(&mut self, case: &str, wire: &mut Wire) {
        self.good += 1;
        let body = format!("customer_id={}", 200 + self.good);
        let answer = wire.call(&Call::unlock().body(&body));
        assert_eq!((answer.status(), answer.text()), (200, "true"), "{case}: a good call after it");
        let seen = self.upstream.requests();
        assert_eq!(seen.len(), self.good, "{case}: the upstream saw more than the good calls");
        assert_eq!(seen[self.good - 1].text(), body, "{case}");
    }

    /// Checks that no byte went upstream but those of the good calls.
    fn assert_upstream_saw_good_calls_alone(&self) {
        let requests = self.upstream.requests();
        assert_eq!(requests.len(), self.good);
        assert_eq!(
            self.upstream.bytes().len(),
            requests.iter().map(|request| request.raw.len()).sum::<usize>()
        );
    }

    /// Each call is refused so, and the connection then serves a good one.
    fn assert_each_is_refused(&mut self, refusal: &Refusal, cases: impl IntoIterator<Item = (String, Call)>) {
        let mut count = 0;
        for (case, call) in cases {
            let mut wire = self.gateway.connect();
            assert_refuses(&case, &wire.call(&call), refusal);
            self.assert_serves(&case, &mut wire);
            count += 1;
        }
        self.assert_upstream_saw_good_calls_alone();
        let counted = format!("n4n_gateway_requests_total{{outcome=\"rejected\",code=\"{}\"}}", refusal.code);
        self.gateway.wait_for_metric(&counted, f64::from(count));
    }
}

fn each<'a, T: std::fmt::Debug + 'a>(
    variants: impl IntoIterator<Item = T> + 'a,
    make: impl Fn(Call, &T) -> Call + 'a,
) -> impl Iterator<Item = (String, Call)> + 'a {
    variants.into_iter().map(move |variant| (format!("{variant:.80?}"), make(Call::unlock(), &variant)))
}

fn each_body<'a>(
    bodies: impl IntoIterator<Item = &'a str> + 'a,
) -> impl Iterator<Item = (String, Call)> + 'a {
    each(bodies, |call, body| call.body(body))
}
