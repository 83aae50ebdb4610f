//! What becomes of one request: admission, Pingora's callbacks on its way to n4n and back, and its record.

mod admission;
pub mod answer;
mod context;
pub mod forward;
mod reading;

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::ResponseHeader,
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};

pub use admission::{Admission, Admitted};
pub use context::{Arrival, Request};

use crate::{
    audit::Answer,
    downstream::{chunked::Broken, reply::Problem},
    outcome::Outcome,
    reason::Reason,
    upstream::{answer::is_clearly_framed, fault},
};
use context::{Passage, State};
use reading::AnswerReader;

tokio::task_local! {
    /// The request whose session is begun; Pingora makes a context without being told what for.
    static ADMITTED: Cell<Option<Request>>;
}

/// Carries a request through Pingora; gives it back where no answer was begun, so that it can have one of the gateway's
/// own.
pub async fn carry<T>(request: Request, through: impl Future<Output = T>) -> Option<Unanswered> {
    let carried = async {
        through.await;
        ADMITTED.with(Cell::take).map(|request| Unanswered { request, is_answered: false })
    };
    ADMITTED.scope(Cell::new(Some(request)), carried).await
}

/// A request that failed before anything was answered. Its record is made when this is dropped, and says that a status
/// was sent only where one was.
#[derive(Debug)]
pub struct Unanswered {
    request: Request,
    is_answered: bool,
}

impl Unanswered {
    /// Takes note that the gateway's own answer has been sent.
    pub const fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let outcome = Outcome::of(match self.request.state {
            State::Failed(reason) => reason,
            // No callback has ever run for it.
            State::Open => Reason::Internal,
        });
        self.request.record(outcome, outcome.status().filter(|_| self.is_answered));
    }
}

/// The request that the callbacks are about.
#[derive(Debug)]
pub struct Carried(Option<Request>);

/// Why there is always one.
const CARRIED: &str = "a request is carried until it is logged, which is the last callback";

impl Deref for Carried {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.0.as_ref().expect(CARRIED)
    }
}

impl DerefMut for Carried {
    fn deref_mut(&mut self) -> &mut Request {
        self.0.as_mut().expect(CARRIED)
    }
}

/// Pingora's callbacks: they translate between its session and the gateway's own terms, and decide nothing.
#[derive(Debug, Clone, Copy)]
pub struct Callbacks;

#[async_trait]
impl ProxyHttp for Callbacks {
    type CTX = Carried;

    fn new_ctx(&self) -> Carried {
        let request = ADMITTED.with(Cell::take);
        assert!(request.is_some(), "a session is begun for the one request that is carried");
        Carried(request)
    }

    async fn upstream_peer(&self, _: &mut Session, request: &mut Carried) -> Result<Box<HttpPeer>> {
        let live = request.live.clone();
        let upstream = &live.settings.upstream;
        let passage = request.passage()?;
        let (is_unlock, is_canonical) = (passage.is_unlock(), passage.is_canonical());
        let (turn, within) =
            passage.turn(upstream).ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))?;
        let mut peer = forward::peer(turn.peer().address(), upstream, live.generation, within);
        if is_unlock {
            // The session watches over the whole of its answer.
            peer.options.read_timeout = None;
        }
        if is_canonical {
            // Nothing in it concerns a connection, so that there is nothing to take out.
            peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        }
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        request: &mut Carried,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let within = request.live.settings.upstream.response_timeout;
        if let Some(passage) = &request.passage {
            if !fault::is_local(&error) {
                passage.not_connected();
            }
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
        request: &mut Carried,
    ) -> Result<()> {
        request.passage()?.connected();
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        end_of_stream: bool,
        request: &mut Carried,
    ) -> Result<()> {
        if end_of_stream {
            request.expect_answer();
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut error: Box<Error>,
        _: &mut Carried,
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
        request: &mut Carried,
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
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        // Each side of a proxy speaks its own version.
        response.set_version(Version::HTTP_11);
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Carried,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        if request.gateway.is_ending() {
            request.home.say_goodbye();
        }
        request.answered()?;
        let is_to_head = request.head.method == Method::HEAD;
        let passage = request.passage()?;
        if passage.is_unlock() {
            passage.answer = Some(AnswerReader::of(response));
            if is_to_head || AnswerReader::is_bodiless(response) {
                request.conclude_answered();
            }
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        request: &mut Carried,
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
        request: &mut Carried,
    ) -> FailToProxy {
        let unanswered = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let forwarded = request.passage.as_ref().is_some_and(Passage::is_connected);
        let reason = if request.home.is_overdue() {
            Reason::UpstreamTimeout
        } else if *error.esource() == ErrorSource::Downstream && is_broken_chunking(error) {
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
            system = fault::system_cause(error).map(tracing::field::display),
            "a call failed"
        );
        request.state = State::Failed(reason);
        request.conclude(Answer::Unknown, Some(reason));
        if session.response_written().is_none() {
            // A streamed body may have been left half read.
            let persists = request.head.persists
                && request.passage.as_ref().is_some_and(Passage::is_unlock)
                && !request.gateway.is_ending();
            request.home.leave(Problem { answer: answer::refusal(reason, request, persists), persists });
        }
        unanswered
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, request: &mut Carried) {
        let answered = session.response_written().map(|response| response.status.as_u16());
        let outcome = match (request.state, answered) {
            (State::Failed(_), None) => {
                // Its answer is the gateway's own, and still to be sent.
                ADMITTED.with(|unrecorded| unrecorded.set(request.0.take()));
                return;
            }
            (State::Failed(reason), Some(_)) => Outcome::of(reason),
            (State::Open, Some(status)) => Outcome::Forwarded { status },
            (State::Open, None) => Outcome::Abandoned,
        };
        request.record(outcome, answered.filter(|_| request.home.is_head_sent()));
    }

    /// What fails is told once, in [`fail_to_proxy`](Self::fail_to_proxy), and never with a request's bytes.
    fn suppress_error_log(&self, _: &Session, _: &Carried, _: &Error) -> bool {
        true
    }
}

/// Whether it was the chunking of a streamed body that broke.
fn is_broken_chunking(error: &Error) -> bool {
    error.root_cause().downcast_ref::<std::io::Error>().is_some_and(Broken::is_cause_of)
}
