//! One raw request judged offline: every rule's verdict, and what would be forwarded or answered.
//!
//! The verdicts are those of the policy that judges on the wire; nothing is judged a second way here.

use std::{fmt, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    downstream::chunked::ChunkScanner,
    gateway::Live,
    outcome::RequestId,
    php,
    policy::{
        Call, Route,
        framing::{BodyFraming, HeadScanner, RequestHead},
    },
    proxy::{answer, forward::Forwarding},
    reason::Reason,
};

/// What would become of a request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The client it is taken to come from.
    client: IpAddr,
    /// `forward`, or the code of the rule that refuses it.
    verdict: &'static str,
    /// Every rule, in the order of judgement.
    rules: Vec<Rule>,
    /// What PHP's `parse_str` would read from the body, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    php_reads: Option<Vec<Variable>>,
    /// The request that would be forwarded, the api-key hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical_request: Option<String>,
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
    /// The request breaks it, and that is what it is refused for.
    Broken,
    /// An earlier rule was broken.
    NotReached,
    /// It depends on time, on the upstream or on other requests.
    NotJudgedOffline,
}

#[derive(Debug, Serialize)]
struct Variable {
    name: String,
    is_array: bool,
    value: String,
}

/// How far the judgement got.
#[derive(Default)]
struct Findings {
    client: Option<IpAddr>,
    fields: HeaderMap,
    body: Option<Vec<u8>>,
    admitted: Option<Admitted>,
}

enum Admitted {
    Unlock(Call),
    Other,
}

impl Explanation {
    /// Judges the bytes of one request that comes from `peer`.
    pub fn of(live: &Arc<Live>, peer: IpAddr, bytes: &[u8]) -> Self {
        let mut findings = Findings::default();
        let broken = findings.judge(live, peer, bytes).err();
        let id = RequestId::next();
        let problem = broken.filter(|reason| reason.face().status.is_some()).and_then(|reason| {
            let text = answer::problem(reason, id.encode(&mut [0; 36]));
            RawValue::from_string(String::from_utf8(text.to_vec()).ok()?).ok()
        });
        let client = findings.client.unwrap_or(peer);
        let canonical_request = match &findings.admitted {
            Some(Admitted::Unlock(call)) => canonical(live, client, &findings.fields, call, id),
            Some(Admitted::Other) | None => None,
        };
        Self {
            client,
            verdict: broken.map_or("forward", Reason::code),
            rules: Reason::ALL.into_iter().filter_map(|rule| Rule::of(rule, broken)).collect(),
            php_reads: findings
                .body
                .as_deref()
                .map(|body| php::parse_str(body).map(Variable::from).collect()),
            canonical_request,
            problem,
        }
    }
}

impl Findings {
    fn judge(&mut self, live: &Live, peer: IpAddr, bytes: &[u8]) -> Result<(), Reason> {
        let policy = &live.settings.policy;
        // What ends before its head does would be waited for in vain.
        let range = HeadScanner::default().scan(bytes)?.ok_or(Reason::HeaderTimeout)?;
        let rest = &bytes[range.end..];
        let request = RequestHead::read(Bytes::copy_from_slice(&bytes[range]))?;
        let head = request.view();
        self.fields.clone_from(&request.fields);
        let client = policy.judge_client(peer, &head)?;
        self.client = Some(client);
        if policy.route(&head)? == Route::Other {
            self.admitted = Some(Admitted::Other);
            return Ok(());
        }
        let credentials = policy.judge_head(&head)?;
        let caller = policy.judge_caller(credentials, &head, client)?;
        let body = body(request.body, rest)?;
        self.body = Some(body.clone());
        self.admitted = Some(Admitted::Unlock(policy.judge_body(caller, &body)?));
        Ok(())
    }
}

/// The body as it would be read; one that ends early would be waited for in vain.
fn body(framing: BodyFraming, rest: &[u8]) -> Result<Vec<u8>, Reason> {
    match framing {
        BodyFraming::Length(length) => {
            let length = usize::try_from(length).map_err(|_| Reason::BodyTooLarge)?;
            rest.get(..length).map(<[u8]>::to_vec).ok_or(Reason::BodyTimeout)
        }
        BodyFraming::Chunked => {
            let mut body = Vec::new();
            let mut scanner = ChunkScanner::default();
            scanner.follow(rest, |data| body.extend_from_slice(data)).map_err(|_| Reason::BodyMalformed)?;
            if scanner.is_done() { Ok(body) } else { Err(Reason::BodyTimeout) }
        }
    }
}

/// The canonical request as text, without its api-key.
fn canonical(
    live: &Arc<Live>,
    client: IpAddr,
    fields: &HeaderMap,
    call: &Call,
    id: RequestId,
) -> Option<String> {
    let forwarding = Forwarding {
        live: live.clone(),
        client,
        scheme: "http",
        downstream_host: fields.get(header::HOST).cloned(),
        request_id: id,
    };
    let mut request = forwarding.canonical(call, fields).ok()?;
    request.insert_header("api-key", "***").ok()?;
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.uri).into_bytes();
    request.header_to_h1_wire(&mut bytes);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&call.canonical_body);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

impl Rule {
    fn of(rule: Reason, broken: Option<Reason>) -> Option<Self> {
        let depends = matches!(
            rule,
            Reason::HeaderTimeout
                | Reason::ClientQuotaExceeded
                | Reason::BodyTimeout
                | Reason::Overloaded
                | Reason::AuditUnavailable
                | Reason::UpstreamUnavailable
                | Reason::QuotaExceeded
        );
        let verdict = match broken {
            Some(broken) if rule == broken => Verdict::Broken,
            Some(broken) if rule > broken => Verdict::NotReached,
            _ if depends => Verdict::NotJudgedOffline,
            _ => Verdict::Kept,
        };
        (rule <= Reason::QuotaExceeded).then_some(Self { code: rule.code(), verdict })
    }
}

impl From<php::Variable<'_>> for Variable {
    fn from(variable: php::Variable<'_>) -> Self {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        Self { name: text(&variable.name), is_array: variable.is_array, value: text(&variable.value) }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "client   {}", self.client)?;
        writeln!(f, "verdict  {}\n", self.verdict)?;
        for Rule { code, verdict } in &self.rules {
            let verdict = match verdict {
                Verdict::Kept => "kept",
                Verdict::Broken => "BROKEN",
                Verdict::NotReached => "not reached",
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
        if let Some(request) = &self.canonical_request {
            writeln!(f, "\nforwarded would be\n")?;
            request.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        if let Some(problem) = &self.problem {
            writeln!(f, "\nanswered would be\n\n  {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Settings, gateway::Gateway};

    const HEAD: &str = "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-key: hidden\r\napi-username: ada\r\n\
                        Content-Type: application/x-www-form-urlencoded\r\n";

    fn explain(request: &str) -> Explanation {
        let text = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:80\"]\nlog.access = \"off\"\n\
                    clients.networks = [\"192.0.2.0/24\"]";
        let gateway = Gateway::open(Settings::parse(text, Path::new("")).unwrap()).unwrap();
        Explanation::of(&gateway.live(), [192, 0, 2, 1].into(), request.as_bytes())
    }

    fn verdict_of(explanation: &Explanation, code: &str) -> Verdict {
        explanation.rules.iter().find(|rule| rule.code == code).unwrap().verdict
    }

    #[test]
    fn a_good_call_is_shown_in_its_canonical_form_without_its_key() {
        for body in [
            "Content-Length: 17\r\n\r\ncustomer%5Fid=191",
            "Transfer-Encoding: chunked\r\n\r\n11\r\ncustomer%5Fid=191\r\n0\r\n\r\n",
        ] {
            let explanation = explain(&format!("{HEAD}{body}"));
            assert_eq!(explanation.verdict, "forward", "{explanation}");
            assert_eq!(verdict_of(&explanation, "lookup_invalid"), Verdict::Kept);
            assert_eq!(verdict_of(&explanation, "quota_exceeded"), Verdict::NotJudgedOffline);
            let canonical = explanation.canonical_request.as_deref().unwrap();
            assert!(canonical.starts_with("PATCH /api/customer/unlock HTTP/1.1\r\n"), "{canonical}");
            assert!(canonical.ends_with("\r\n\r\ncustomer_id=191"), "{canonical}");
            assert!(!format!("{explanation}{explanation:?}").contains("hidden"));
        }
    }

    #[test]
    fn the_broken_rule_and_its_problem_are_shown() {
        let length = "Content-Length: 15\r\n\r\n";
        for (request, code) in [
            (format!("{HEAD}{length}customer.id=191"), "parameter_disguised"),
            (format!("{HEAD}{length}customer_id"), "body_timeout"),
            (format!("{HEAD}Host: h\r\n\r\n"), "framing_ambiguous"),
            (HEAD.to_owned(), "header_timeout"),
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "path_unknown"),
        ] {
            let explanation = explain(&request);
            assert_eq!(explanation.verdict, code, "{explanation}");
            assert_eq!(verdict_of(&explanation, code), Verdict::Broken);
            assert_eq!(verdict_of(&explanation, "quota_exceeded"), Verdict::NotReached);
            assert!(explanation.problem.unwrap().get().contains(code));
            assert!(explanation.canonical_request.is_none());
        }
        let read = explain(&format!("{HEAD}{length}customer.id=191")).php_reads.unwrap();
        assert_eq!((read[0].name.as_str(), read[0].value.as_str()), ("customer_id", "191"));
    }
}
