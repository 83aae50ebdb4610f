//! One raw request judged offline: every rule's verdict, and what would be forwarded or answered.
//!
//! It goes through the one [judgement](crate::policy::Policy::judge) that every request on the wire goes through;
//! nothing is judged, or put in order, a second way here.

mod secrets;

use std::{fmt, net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::value::RawValue;

use secrets::{Secrets, own_keys};

use crate::{
    exchange::canonical,
    gateway::Live,
    outcome::RequestId,
    php,
    policy::{
        ApiUsername, Head, Listed, Place, Route,
        credential::MASK,
        order::{AFTERWARDS, Found, Judged, Judgement},
    },
    reason::Reason,
    request::{forwarded::Forwarded, problem},
    users::Users,
    wire::{
        BodyFraming, HeadScanner, RequestHead, chunked::ChunkScanner, fields::fold_alike, framing,
        request::ambiguity,
    },
};

/// What would become of a request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The client it is taken to come from.
    client: IpAddr,
    /// `forward`, or the code of the rule that refuses it.
    verdict: &'static str,
    /// What is ambiguous about its framing, where it is refused for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// The code of the rule that it breaks and that observe mode lets pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<&'static str>,
    /// Where api-keys stand by mistake, as far as it was judged: they are masked here and in every log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    misplaced_keys: Vec<&'static str>,
    /// Every rule, in the order of judgement.
    rules: Vec<Rule>,
    /// What PHP's `parse_str` would read from the body, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    php_reads: Option<Vec<Variable>>,
    /// The canonical request that would be forwarded, the api-key hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical_request: Option<String>,
    /// The request that would be forwarded as it came, the api-key hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_on_request: Option<String>,
    /// The problem document that would be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Rule {
    code: &'static str,
    verdict: Verdict,
}

/// What became of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// The request keeps to it.
    Kept,
    /// The request breaks it, and is refused for that.
    Broken,
    /// The request breaks it, and observe mode lets it pass all the same.
    Tolerated,
    /// An earlier rule was broken.
    NotReached,
    /// It is no rule for this path.
    NotJudged,
    /// It depends on time, on the upstream or on other requests.
    NotJudgedOffline,
}

#[derive(Debug, Serialize)]
struct Variable {
    name: String,
    is_array: bool,
    value: String,
}

/// What the judgement has told so far.
#[derive(Default)]
struct Findings {
    client: Option<IpAddr>,
    /// The rules that were judged.
    judged: Vec<Reason>,
    observed: Option<Reason>,
    misplaced: Vec<Place>,
    /// The keys that the request came with.
    own_keys: Vec<Vec<u8>>,
    body: Option<Bytes>,
}

/// A request whose bytes are all at hand.
struct Offline<'a> {
    peer: IpAddr,
    head: RequestHead,
    /// What follows its head.
    rest: &'a [u8],
    /// The most bytes of body that are read.
    max_body: usize,
    users: &'a Users,
    findings: &'a mut Findings,
}

impl Explanation {
    /// Judges the bytes of one request that comes from `peer`.
    pub fn of(live: &Arc<Live>, peer: IpAddr, bytes: &[u8]) -> Self {
        let id = RequestId::next();
        let mut findings = Findings { judged: framing::RULES.to_vec(), ..Findings::default() };
        let outcome = judge(live, peer, bytes, &mut findings);
        let broken = outcome.as_ref().err().copied();
        findings.observed = findings.observed.filter(|observed| broken != Some(*observed));
        let problem = broken.filter(|reason| reason.face().status.is_some()).and_then(|reason| {
            RawValue::from_string(String::from_utf8(problem::document(reason, id)?).ok()?).ok()
        });
        let client = findings.client.unwrap_or(peer);
        let judgement = outcome.as_ref().ok().map(|(_, _, judgement)| judgement);
        let rules = Reason::ALL.into_iter().filter(|rule| *rule <= Reason::QuotaExceeded);
        let rules = rules
            .map(|rule| Rule { code: rule.code(), verdict: findings.verdict(rule, broken, judgement) })
            .collect();
        let secrets = Secrets::new(&live.settings.policy.access.known, &findings.own_keys);
        let (canonical_request, passed_on_request) = match &outcome {
            Ok((head, rest, judgement)) => {
                let forwarded = Forwarded {
                    upstream_host: &live.settings.upstream.host,
                    host: head.fields().first("host"),
                    client,
                    scheme: "http",
                    id,
                };
                let request = secrets.hide(&match &judgement.call {
                    Some(call) => {
                        let extra = &live.settings.forward_headers;
                        canonical::canonical(forwarded, call, head.fields(), extra)
                    }
                    None => passed_on(forwarded, head, rest, judgement.route, &findings),
                });
                if judgement.call.is_some() { (Some(request), None) } else { (None, Some(request)) }
            }
            Err(_) => (None, None),
        };
        let php_reads = findings.body.as_deref();
        Self {
            client,
            verdict: broken.map_or("forward", Reason::code),
            cause: broken
                .filter(|reason| *reason == Reason::FramingAmbiguous)
                .and_then(|_| Some(ambiguity(bytes)?.words())),
            observed: findings.observed.map(Reason::code),
            rules,
            misplaced_keys: findings.misplaced.iter().map(|place| place.label()).collect(),
            php_reads: php_reads
                .map(|body| php::parse_str(body).map(|variable| Variable::of(variable, &secrets)).collect()),
            canonical_request,
            passed_on_request,
            problem,
        }
    }
}

impl Explanation {
    /// Whether the request would be refused.
    pub const fn is_refused(&self) -> bool {
        self.problem.is_some()
    }
}

/// Judges a request; returns its head, what follows that, and the judgement.
fn judge<'a>(
    live: &Live,
    peer: IpAddr,
    bytes: &'a [u8],
    findings: &mut Findings,
) -> Result<(RequestHead, &'a [u8], Judgement), Reason> {
    // On the wire the rest of the head would be waited for in vain.
    let range = HeadScanner::default().scan(bytes)?.ok_or(Reason::HeaderTimeout)?;
    let rest = &bytes[range.end..];
    let head = RequestHead::read(Bytes::copy_from_slice(&bytes[range]))?;
    let (policy, users) = (&live.settings.policy, &live.users);
    findings.own_keys = own_keys(head.fields(), &policy.access.known);
    findings.misplaced.extend(policy.access.known.in_path(head.path()).map(|(_, misplaced)| misplaced.place));
    let mut offline = Offline { peer, head, rest, max_body: policy.max_body, users, findings };
    // All of it is there, so that nothing is waited for.
    let judgement = policy.judge(&mut offline).now_or_never().unwrap_or(Err(Reason::Internal))?;
    Ok((offline.head, rest, judgement))
}

impl Judged for Offline<'_> {
    fn head(&self) -> Head<'_> {
        Head::from(&self.head)
    }

    fn peer(&self) -> IpAddr {
        self.peer
    }

    fn judges(&mut self, rules: &'static [Reason]) {
        self.findings.judged.extend(rules);
    }

    fn note(&mut self, found: Found<'_>) {
        match found {
            Found::Client(client) => self.findings.client = Some(client),
            Found::Observed(broken) => {
                self.findings.judged.retain(|rule| *rule <= broken);
                self.findings.observed = Some(broken);
            }
            Found::Misplaced(misplaced) => self.findings.misplaced.push(misplaced.place),
            Found::Route(_)
            | Found::Credentials(_)
            | Found::Username(_)
            | Found::WrongKey
            | Found::User
            | Found::Lookup(_) => {}
        }
    }

    fn find_user(&mut self, name: &ApiUsername) -> Option<Listed<'_>> {
        self.users.find(name.folded()).map(|user| user.as_listed())
    }

    fn refuse_blocked(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    fn spend_client(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    /// The body as it would be read; one that ends early would be waited for in vain.
    async fn body(&mut self) -> Result<Bytes, Reason> {
        let mut body = Vec::new();
        let is_whole = match self.head.body {
            BodyFraming::Length(_) => {
                body.extend_from_slice(streamed_body(self.head.body, self.rest));
                !self.head.declares_more_than(body.len())
            }
            BodyFraming::Chunked => {
                let mut scanner = ChunkScanner::default();
                match scanner.follow(self.rest, |data| body.extend_from_slice(data)) {
                    Ok(_) => scanner.is_done(),
                    Err(_) if body.len() <= self.max_body => return Err(Reason::BodyMalformed),
                    Err(_) => false,
                }
            }
        };
        // As on the wire, where it is measured while it comes.
        if body.len() > self.max_body {
            return Err(Reason::BodyTooLarge);
        }
        if !is_whole {
            return Err(Reason::BodyTimeout);
        }
        let body = Bytes::from(body);
        self.findings.body = Some(body.clone());
        Ok(body)
    }
}

impl Findings {
    fn verdict(&self, rule: Reason, broken: Option<Reason>, judgement: Option<&Judgement>) -> Verdict {
        let is_after = |earlier: Option<Reason>| earlier.is_some_and(|earlier| rule > earlier);
        let is_judged = match judgement {
            Some(judgement) if AFTERWARDS.contains(&rule) => judgement.asks(rule),
            Some(_) | None => self.judged.contains(&rule),
        };
        let depends = AFTERWARDS.contains(&rule)
            || matches!(
                rule,
                Reason::HeaderTimeout
                    | Reason::ClientBlocked
                    | Reason::ClientQuotaExceeded
                    | Reason::BodyTimeout
            );
        if broken == Some(rule) {
            Verdict::Broken
        } else if self.observed == Some(rule) {
            Verdict::Tolerated
        } else if is_after(broken) || (!is_judged && is_after(self.observed)) {
            Verdict::NotReached
        } else if !is_judged {
            Verdict::NotJudged
        } else if depends {
            Verdict::NotJudgedOffline
        } else {
            Verdict::Kept
        }
    }
}

/// The request that would be passed on as it came.
fn passed_on(
    forwarded: Forwarded<'_>,
    head: &RequestHead,
    rest: &[u8],
    route: Route,
    findings: &Findings,
) -> Vec<u8> {
    match route {
        Route::Unlock => {
            canonical::passed_on(forwarded, head, findings.body.as_deref().unwrap_or_default(), true)
        }
        Route::Other => canonical::passed_on(forwarded, head, streamed_body(head.body, rest), false),
    }
}

/// What is there of a body that is passed on while it comes.
fn streamed_body(framing: BodyFraming, rest: &[u8]) -> &[u8] {
    let length = match framing {
        BodyFraming::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
        BodyFraming::Chunked => ChunkScanner::default().advance(rest).unwrap_or_default(),
    };
    &rest[..length.min(rest.len())]
}

impl Variable {
    fn of(variable: php::Variable<'_>, secrets: &Secrets<'_>) -> Self {
        let shown = |bytes: &[u8]| {
            if secrets.has(bytes) { MASK.to_owned() } else { bytes.escape_ascii().to_string() }
        };
        let value =
            if fold_alike(&variable.name, "api-key") { MASK.to_owned() } else { shown(&variable.value) };
        Self { name: shown(&variable.name), is_array: variable.is_array, value }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "client   {}", self.client)?;
        writeln!(f, "verdict  {}", self.verdict)?;
        self.cause.map_or(Ok(()), |cause| writeln!(f, "cause    {cause}"))?;
        if let Some(observed) = self.observed {
            writeln!(f, "observed {observed}")?;
        }
        for place in &self.misplaced_keys {
            writeln!(
                f,
                "api-key  in the {place}, by mistake: masked here, in logs, trail and page; change it"
            )?;
        }
        writeln!(f)?;
        for Rule { code, verdict } in &self.rules {
            let verdict = match verdict {
                Verdict::Kept => "kept",
                Verdict::Broken => "BROKEN",
                Verdict::Tolerated => "BROKEN, and let pass by observe mode",
                Verdict::NotReached => "not reached",
                Verdict::NotJudged => "not judged for this path",
                Verdict::NotJudgedOffline => "not judged offline",
            };
            writeln!(f, "  {code:<24} {verdict}")?;
        }
        if let Some(variables) = &self.php_reads {
            writeln!(f, "\nPHP would read from the body")?;
            for Variable { name, is_array, value } in variables {
                writeln!(f, "  {name}{} = {value}", if *is_array { "[…]" } else { "" })?;
            }
        }
        for (request, how) in [(&self.canonical_request, ""), (&self.passed_on_request, ", as it came")] {
            if let Some(request) = request {
                writeln!(f, "\nforwarded would be{how}\n")?;
                request.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        if let Some(problem) = &self.problem {
            writeln!(f, "\nanswered would be\n\n  {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
