//! Pingora's callbacks: they translate between its session and the gateway's own terms, and decide
//! nothing.

pub mod answer;
mod context;
mod extract;
pub mod forward;
mod reading;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};

pub use context::{Arrival, Request};

use crate::{
    audit::Answer,
    gateway::{Gateway, Live},
    outcome::{Outcome, Record},
    policy::{Call, Head, Mode, Route, path},
    quota_store::Line,
    reason::Reason,
    upstream::{answer::is_clearly_framed, fault},
};
use context::{InFlight, Load, Passage, State};
use reading::AnswerReader;

/// The gateway as one worker's Pingora holds it.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The worker's way to the Redis that keeps quotas, if there is one.
    pub line: Arc<Line>,
}

impl Handle {
    /// Judges a request and makes it ready to go: the order of the contract's table, on one screen.
    async fn admit(&self, session: &mut Session, request: &mut Request) -> Result<Passage, Reason> {
        let live = request.live.clone();
        let policy = &live.settings.policy;
        let client = policy.judge_client(request.client, &head_of(session))?;
        request.client = client;
        request.spend_client()?;
        let route = policy.route(&head_of(session))?;
        request.is_observed = route == Route::Unlock && policy.mode == Mode::Observe;
        let call = match route {
            Route::Other => None,
            Route::Unlock => self.judge(session, request, &live).await.map(Some).or_else(|reason| {
                request.tolerate(reason)?;
                Ok(None)
            })?,
        };
        let in_flight = InFlight::take(&self.gateway);
        if in_flight.is_over(live.settings.listen.max_in_flight) {
            request.tolerate(Reason::Overloaded)?;
        }
        let turns = live.peers.turns();
        if turns.is_empty() {
            return Err(Reason::UpstreamUnavailable);
        }
        if let Some(call) = &call {
            request.spend(call, &self.line).await.or_else(|reason| request.tolerate(reason))?;
        }
        if route == Route::Unlock {
            let lookup = call.as_ref().map(|call| &call.lookup);
            request.intend(lookup).or_else(|reason| request.tolerate(reason))?;
        }
        let load = match (route, request.observed, call) {
            (Route::Unlock, None, Some(call)) => Load::Canonical(call),
            (Route::Unlock, _, _) => Load::AsItCame(request.body(session).await?),
            (Route::Other, _, _) => Load::Other,
        };
        Ok(Passage::new(load, turns, in_flight))
    }

    /// Judges an unlock call, head and body.
    async fn judge(&self, session: &mut Session, request: &mut Request, live: &Live) -> Result<Call, Reason> {
        let policy = &live.settings.policy;
        let credentials = policy.judge_head(&head_of(session))?;
        request.credentials = Some(credentials.clone());
        let caller = policy.judge_caller(credentials, &head_of(session), request.client)?;
        request.is_listed = caller.is_listed;
        let body = request.body(session).await?;
        let call = policy.judge_body(caller, &body)?;
        request.lookup = Some(call.lookup.key);
        Ok(call)
    }

    /// Ends a request: one record for metrics and log.
    fn record(&self, session: &Session, request: &Request, outcome: Outcome) {
        let head = head_of(session);
        let passage = request.passage.as_ref();
        self.gateway.record(
            &request.live,
            &Record {
                time: request.beginning.time,
                request_id: request.id,
                client: Some(request.client),
                user: request.credentials.as_ref().map(|credentials| credentials.username.as_str()),
                is_listed: request.is_listed,
                method: Some(head.method),
                path: Some(path::without_query(head.target)),
                outcome,
                status: session.response_written().map(|response| response.status.as_u16()),
                duration: request.beginning.instant.elapsed(),
                upstream_duration: passage.and_then(Passage::upstream_duration),
                peer: passage.and_then(Passage::peer),
                lookup: request.lookup,
                unlock: passage.and_then(|passage| passage.unlock_result(outcome)),
                observed: request.observed,
            },
        );
    }
}

fn head_of(session: &Session) -> Head<'_> {
    let header = session.req_header();
    Head {
        method: header.method.as_str(),
        target: str::from_utf8(header.raw_path()).unwrap_or_default(),
        fields: &header.headers,
    }
}

#[async_trait]
impl ProxyHttp for Handle {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::new(self.gateway.clone())
    }

    /// Each request, also a connection's first, comes with word of how it arrived.
    fn on_connection_reuse(
        &self,
        session: &mut Session,
        request: &mut Request,
        arrival: Box<dyn std::any::Any + Send + Sync>,
    ) {
        if let Ok(arrival) = arrival.downcast::<Arrival>() {
            request.arrived(*arrival);
        }
        session.set_ignore_info_resp(true);
    }

    async fn request_filter(&self, session: &mut Session, request: &mut Request) -> Result<bool> {
        if extract::asks_to_close(session) {
            session.set_keepalive(None);
        }
        match self.admit(session, request).await {
            Ok(passage) => {
                request.passage = Some(passage);
                // Framing lets no option pass that names an end-to-end field; Pingora counts the others.
                session.req_header_mut().remove_header(&header::CONNECTION);
                Ok(false)
            }
            Err(reason) => {
                request.state = State::Refused(reason);
                answer::refuse(session, request, reason).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, request: &mut Request) -> Result<Box<HttpPeer>> {
        let live = request.live.clone();
        let upstream = &live.settings.upstream;
        let turn = request.passage()?.turn(upstream);
        let (turn, within) = turn.ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))?;
        Ok(Box::new(forward::peer(turn.peer().address(), upstream, live.generation, within)))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        request: &mut Request,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let within = request.live.settings.upstream.response_timeout;
        if let Some(passage) = &request.passage {
            passage.not_connected();
            // Nothing has been sent yet.
            error.set_retry(passage.may_try_another(within));
        }
        error
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _reused: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        _: Option<&pingora::protocols::Digest>,
        request: &mut Request,
    ) -> Result<()> {
        request.passage()?.connected();
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        request: &mut Request,
    ) -> Result<()> {
        let forwarding = forward::Forwarding::of(request, session);
        match &request.passage()?.load {
            Load::Canonical(call) => {
                *upstream = forwarding.canonical(call, &session.req_header().headers)?;
            }
            Load::AsItCame(body) => forwarding.reframe(upstream, body.len())?,
            Load::Other => forwarding.amend(upstream)?,
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        request: &mut Request,
    ) -> Result<()> {
        if end_of_stream {
            request.expect_answer();
        }
        // Whatever stands in Pingora's buffer, n4n gets what was judged and nothing else.
        let judged = match &request.passage()?.load {
            Load::Canonical(call) => &call.canonical_body,
            Load::AsItCame(whole) => whole,
            Load::Other => return Ok(()),
        };
        *body = Some(if end_of_stream { judged.clone() } else { Bytes::new() });
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut error: Box<Error>,
        _: &mut Request,
        _client_reused: bool,
    ) -> Box<Error> {
        // Bytes may have been written, and what n4n made of them is unknown: never send them again.
        error.set_retry(false);
        error
    }

    /// An upgrade is never asked for, so an answer that makes one is no answer; nor is one that could end in
    /// several places, or never begins.
    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        let broken = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return broken("an upgrade nobody asked for");
        }
        if response.status.is_informational() {
            request.keep_time()?;
            return if request.passage()?.has_interim() { Ok(()) } else { broken("interim answers alone") };
        }
        if !is_clearly_framed(response.version, &response.headers) {
            return broken("an answer of unclear length");
        }
        if response.status == StatusCode::NO_CONTENT {
            response.remove_header(&header::CONTENT_LENGTH);
        }
        // Each side of a proxy speaks its own version.
        response.set_version(Version::HTTP_11);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        answer::say_goodbye(session, request);
        request.answered(response)?;
        let passage = request.passage()?;
        if passage.load.is_unlock() {
            passage.answer = Some(AnswerReader::of(response));
            if AnswerReader::is_bodiless(response) {
                request.conclude_answered();
            }
        }
        answer::strip_hop_by_hop(response);
        answer::mark(response, request)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        request: &mut Request,
    ) -> Result<Option<std::time::Duration>> {
        request.keep_time()?;
        if let (Some(reader), Some(bytes)) = (request.passage()?.answer.as_mut(), body.as_ref()) {
            reader.read(bytes);
        }
        if end_of_stream {
            request.conclude_answered();
        }
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        request: &mut Request,
    ) -> FailToProxy {
        let unanswered = FailToProxy { error_code: 0, can_reuse_downstream: false };
        if matches!(request.state, State::Refused(_)) {
            return unanswered;
        }
        let forwarded = request.passage.as_ref().is_some_and(Passage::is_connected);
        let reason = if request.is_overdue() {
            Reason::UpstreamTimeout
        } else if *error.esource() == ErrorSource::Downstream && extract::is_broken_chunking(error) {
            Reason::BodyMalformed
        } else {
            match fault::reason(error, forwarded) {
                Some(reason) => reason,
                None => return unanswered,
            }
        };
        tracing::warn!(
            request_id = %request.id,
            peer = ?request.passage.as_ref().and_then(Passage::peer),
            code = reason.code(),
            cause = error.etype().as_str(),
            "a call failed"
        );
        request.state = State::Refused(reason);
        request.conclude(Answer::Unknown, Some(reason));
        if session.response_written().is_some_and(|response| !response.status.is_informational()) {
            return unanswered;
        }
        match answer::fail(session, request, reason).await {
            Ok(()) => FailToProxy {
                error_code: reason.face().status.map_or(0, |status| status.as_u16()),
                can_reuse_downstream: false,
            },
            Err(_) => unanswered,
        }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, request: &mut Request) {
        let answered = session.response_written().map(|response| response.status.as_u16());
        let outcome = match (request.state, answered) {
            (State::Refused(reason), _) => Outcome::of(reason),
            (State::Open, Some(status)) => Outcome::Forwarded { status },
            (State::Open, None) => Outcome::Abandoned,
        };
        self.record(session, request, outcome);
    }

    /// What fails is told once, in [`fail_to_proxy`](Self::fail_to_proxy), and never with a request's bytes.
    fn suppress_error_log(&self, _: &Session, _: &Request, _: &Error) -> bool {
        true
    }
}

/// Fields the gateway sets on every answer and every forwarded call.
pub(crate) const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");
