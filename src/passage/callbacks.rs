//! Pingora's callbacks for a request that passes through: which peer, how long, and what an error means.

use std::{cell::Cell, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::ResponseHeader,
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};

use super::{ATTEMPT, Attempt, session::end_of};
use crate::{
    reason::Reason,
    upstream::{connector, fault},
    wire::{answer::MAX_INTERIM, chunked::BrokenChunking},
};

/// Pingora's callbacks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callbacks;

#[async_trait]
impl ProxyHttp for Callbacks {
    /// None once the attempt has been given back.
    type CTX = Option<Attempt>;

    fn new_ctx(&self) -> Option<Attempt> {
        ATTEMPT.with(Cell::take)
    }

    async fn upstream_peer(&self, _: &mut Session, attempt: &mut Option<Attempt>) -> Result<Box<HttpPeer>> {
        let attempt = present(attempt)?;
        let live = attempt.request.live.clone();
        let upstream = &live.settings.upstream;
        let (chosen, within) =
            attempt.next_peer(upstream).ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))?;
        Ok(Box::new(connector::peer(chosen.peer(), upstream, live.generation, within)))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        attempt: &mut Option<Attempt>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(attempt) = attempt {
            // Nothing has been sent yet.
            let live = attempt.request.live.clone();
            error.set_retry(attempt.fail_to_connect(&live.settings.upstream, &error));
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
        attempt: &mut Option<Attempt>,
    ) -> Result<()> {
        present(attempt)?.connected();
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        end_of_stream: bool,
        attempt: &mut Option<Attempt>,
    ) -> Result<()> {
        let attempt = present(attempt)?;
        if end_of_stream {
            // The last byte is on its way.
            let within = attempt.request.live.settings.upstream.response_timeout;
            attempt.due.set(Some(Instant::now() + within));
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut error: Box<Error>,
        _: &mut Option<Attempt>,
        _client_reused: bool,
    ) -> Box<Error> {
        // Bytes may have been written, and what n4n made of them is unknown: never send them again.
        error.set_retry(false);
        error
    }

    /// Refuses an upgrade, which nobody asked for, an answer of unclear length, and interim answers without end.
    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        attempt: &mut Option<Attempt>,
    ) -> Result<()> {
        let attempt = present(attempt)?;
        let broken = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return broken("an upgrade nobody asked for");
        }
        if response.status.is_informational() {
            if attempt.due.get().by.is_some_and(|due| due <= Instant::now()) {
                return Err(Error::new_up(ErrorType::ReadTimedout));
            }
            attempt.interim += 1;
            return if attempt.interim <= MAX_INTERIM { Ok(()) } else { broken("interim answers alone") };
        }
        if end_of(response, false).is_err() {
            return broken("an answer of unclear length");
        }
        if response.status == StatusCode::NO_CONTENT {
            response.remove_header(&header::CONTENT_LENGTH);
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        // Each side of a proxy speaks its own version.
        response.set_version(Version::HTTP_11);
        attempt.due.set(None);
        attempt.request.upstream.duration = attempt.connected_at.map(|at| at.elapsed());
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        _: &mut Session,
        error: &Error,
        attempt: &mut Option<Attempt>,
    ) -> FailToProxy {
        if let Some(attempt) = attempt {
            let is_without_peer = attempt.chosen.is_none() && *error.etype() == ErrorType::ConnectNoRoute;
            let (reason, cause) = if is_without_peer {
                (Some(fault::without_peer(attempt.not_connected)), attempt.not_connected)
            } else if attempt.due.get().is_overdue {
                (Some(Reason::UpstreamTimeout), Some(fault::cause(error)))
            } else if let Some(reason) = fault_of_body(error) {
                // Refused, as the access log tells.
                (Some(reason), None)
            } else {
                (fault::reason(error, attempt.connected_at.is_some()), Some(fault::cause(error)))
            };
            attempt.failed = reason;
            if let (Some(reason), Some(cause)) = (reason, cause) {
                fault::tell(attempt.request.id, attempt.request.upstream.peer, reason, cause);
            }
        }
        // Nothing of Pingora's own is answered.
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    /// Gives the attempt back to whoever waits for its end.
    async fn logging(&self, session: &mut Session, _: Option<&Error>, attempt: &mut Option<Attempt>) {
        if let Some(mut attempt) = attempt.take() {
            attempt.status = session.response_written().map(|response| response.status.as_u16());
            ATTEMPT.with(|given_back| given_back.set(Some(attempt)));
        }
    }

    /// What fails is told once, in [`fail_to_proxy`](Self::fail_to_proxy), and never with a request's bytes.
    fn suppress_error_log(&self, _: &Session, _: &Option<Attempt>, _: &Error) -> bool {
        true
    }
}

/// The attempt that a callback concerns; there is one until its end is logged.
fn present(attempt: &mut Option<Attempt>) -> Result<&mut Attempt> {
    attempt.as_mut().ok_or_else(|| Error::explain(ErrorType::InternalError, "no request is passed through"))
}

/// What was wrong with a streamed body, if that is what an error tells of: it came too slowly, or its chunking broke.
fn fault_of_body(error: &Error) -> Option<Reason> {
    if *error.esource() != ErrorSource::Downstream {
        return None;
    }
    if *error.etype() == ErrorType::ReadTimedout {
        return Some(Reason::BodyTimeout);
    }
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(BrokenChunking::is_cause_of).then_some(Reason::BodyMalformed)
}
