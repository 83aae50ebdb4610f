//! The session that Pingora reads a request from and writes its answer to.
//!
//! Pingora never sees a client's bytes: it reads the request in the form that goes upstream, and what it answers is
//! written as the client's version of HTTP frames it.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::ready,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, header};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::{
            HttpTask,
            custom::{CustomMessageWrite, server::Session as PingoraSession},
            date::get_cached_date,
        },
        l4::socket::SocketAddr,
    },
};
use tokio::sync::oneshot;

use super::AnswerDue;
use crate::{
    downstream::{Client, HeadWriter, Progress, pace::Pace},
    gateway::Gateway,
    outcome::RequestId,
    request::Request,
    wire::{
        answer::{BadAnswer, End},
        hop_by_hop::is_hop_by_hop,
    },
};

const HAS_CLIENT: &str = "a session has its client until it is dropped";

/// A request that passes through.
pub(super) struct Session<C: Client> {
    request: RequestHeader,
    /// Here until the session ends, and then given back.
    client: Option<(C, oneshot::Sender<C>)>,
    gateway: Arc<Gateway>,
    id: RequestId,
    is_head: bool,
    /// Whether the client holds its body back until n4n asks for it.
    awaits_continue: bool,
    persists: bool,
    /// How long the client's body may still be waited for.
    pace: Pace,
    /// Until when n4n may ask for a body that is held back.
    asked_by: Instant,
    due: Arc<AnswerDue>,
    written: Option<Box<ResponseHeader>>,
}

impl<C: Client> Session<C> {
    /// A request in the form in which it goes upstream, and the way back to its client.
    pub(super) fn new(
        head: RequestHeader,
        request: &Request,
        client: C,
        due: Arc<AnswerDue>,
        give_back: oneshot::Sender<C>,
    ) -> Self {
        Self {
            request: head,
            client: Some((client, give_back)),
            gateway: request.gateway.clone(),
            id: request.id,
            is_head: request.head.method() == "HEAD",
            awaits_continue: request.head.awaits_continue(),
            persists: request.head.persists,
            pace: Pace::new(request.live.settings.deadlines.body),
            asked_by: Instant::now() + request.live.settings.upstream.response_timeout,
            due,
            written: None,
        }
    }

    fn client(&mut self) -> &mut C {
        &mut self.client.as_mut().expect(HAS_CLIENT).0
    }

    /// The next piece of the body. A client that holds it back waits for n4n, and is not waited for.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let Self { client, pace, awaits_continue, asked_by, due, .. } = self;
        let client = &mut client.as_mut().expect(HAS_CLIENT).0;
        let read = if *awaits_continue {
            client.piece(*asked_by).await
        } else {
            let by = Instant::now() + pace.left();
            let _waiting = pace.wait();
            client.piece(by).await
        };
        match read {
            Ok(piece) => {
                pace.earn(piece.as_ref().map_or(0, Bytes::len));
                *awaits_continue = false;
                Ok(piece)
            }
            Err(error) => {
                let is_late = error.kind() == io::ErrorKind::TimedOut;
                if is_late && *awaits_continue {
                    due.ran_out();
                }
                let etype = if is_late { ErrorType::ReadTimedout } else { ErrorType::ReadError };
                Err(Error::because(etype, "a body", error))
            }
        }
    }

    /// Waits until the upstream's time to answer has run out.
    async fn overdue(&mut self) -> Box<Error> {
        poll_fn(|cx| {
            let Some(due) = self.due.get().by else {
                return std::task::Poll::Pending;
            };
            ready!(self.client().alarm().poll(due, cx));
            std::task::Poll::Ready(())
        })
        .await;
        self.due.ran_out();
        Error::explain(ErrorType::ReadTimedout, "an answer")
    }

    /// Passes on what the upstream answers; tells whether that is whole.
    async fn write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut failed = None;
        for task in tasks {
            if let HttpTask::Failed(error) = task {
                failed = Some(error);
                break;
            }
            self.write_task(task).await.map_err(unwritten)?;
        }
        self.client().flush().await.map_err(unwritten)?;
        match failed {
            Some(error) => Err(error),
            None => Ok(self.client().progress() == Progress::Whole),
        }
    }

    async fn write_task(&mut self, task: HttpTask) -> io::Result<()> {
        let is_end = task.is_end();
        match task {
            HttpTask::Header(head, _) if head.status.is_informational() => {
                if head.status == http::StatusCode::CONTINUE && self.awaits_continue {
                    self.client().ask_for_body().await?;
                    self.awaits_continue = false;
                }
            }
            HttpTask::Header(head, _) => {
                self.write_head(&head).await?;
                self.written = Some(head);
            }
            HttpTask::Body(Some(piece), _) if !self.is_head => self.client().put(&piece).await?,
            // An upgrade is refused long before it could have a body.
            HttpTask::UpgradedBody(..) => return Err(io::ErrorKind::InvalidData.into()),
            HttpTask::Body(..) | HttpTask::Trailer(_) | HttpTask::Done | HttpTask::Failed(_) => {}
        }
        if is_end { self.client().end().await } else { Ok(()) }
    }

    async fn write_head(&mut self, head: &ResponseHeader) -> io::Result<()> {
        if self.client().progress() != Progress::NotBegun {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let end =
            end_of(head, self.is_head).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        // It is not asked for its body any more.
        self.awaits_continue = false;
        let persists = self.persists && self.client().is_read() && !self.gateway.is_ending();
        let mut writer = self.client().begin();
        writer.status(head.status.as_u16(), head.get_reason_phrase().unwrap_or_default().as_bytes());
        let nominated: Vec<_> = head.headers.get_all(header::CONNECTION).iter().collect();
        let is_nominated = |name: &[u8]| {
            let mut options = nominated.iter().flat_map(|value| crate::wire::fields::list(value.as_bytes()));
            // The answer is framed by its length.
            options.any(|option| option.eq_ignore_ascii_case(name))
                && !name.eq_ignore_ascii_case(b"content-length")
        };
        let mut field = |name: &[u8], value: &[u8]| {
            if !is_hop_by_hop(name) && !name.eq_ignore_ascii_case(b"x-request-id") && !is_nominated(name) {
                writer.field(name, value);
            }
        };
        if head.has_case() {
            head.case_header_iter().for_each(|(name, value)| field(name.as_slice(), value.as_bytes()));
        } else {
            head.headers.iter().for_each(|(name, value)| field(name.as_str().as_bytes(), value.as_bytes()));
        }
        if !head.headers.contains_key(header::DATE) {
            writer.field(b"Date", get_cached_date().as_bytes());
        }
        writer.field(b"X-Request-Id", self.id.encode(&mut [0; RequestId::LENGTH]).as_bytes());
        self.client().start(writer, end, persists).await
    }
}

/// How the body of an answer with this head ends; `is_to_head` where HEAD was asked.
///
/// # Errors
/// [`BadAnswer::Length`].
pub(super) fn end_of(head: &ResponseHeader, is_to_head: bool) -> Result<End, BadAnswer> {
    let values =
        |name: header::HeaderName| head.headers.get_all(name).into_iter().map(|value| value.as_bytes());
    let is_http_10 = head.version == http::Version::HTTP_10;
    let declared =
        End::declared(values(header::CONTENT_LENGTH), values(header::TRANSFER_ENCODING), is_http_10)?;
    Ok(declared.of_answer(head.status.as_u16(), is_to_head))
}

/// The error of an answer that the client did not take.
fn unwritten(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "an answer", error).into_down()
}

impl<C: Client> Drop for Session<C> {
    fn drop(&mut self) {
        if let Some((client, give_back)) = self.client.take() {
            // Where nobody waits for it, it closes.
            let _ = give_back.send(client);
        }
    }
}

/// What Pingora asks of a session. Limits of time are the gateway's, so that those of Pingora set nothing.
#[async_trait]
impl<C: Client> PingoraSession for Session<C> {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, is_end: bool) -> Result<()> {
        self.write_tasks(vec![HttpTask::Header(head, is_end)]).await.map(|_| ())
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, is_end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), is_end).await
    }

    async fn write_body(&mut self, piece: Bytes, is_end: bool) -> Result<()> {
        self.write_tasks(vec![HttpTask::Body(Some(piece), is_end)]).await.map(|_| ())
    }

    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.write_tasks(tasks).await
    }

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri.path())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    /// The connection is closed by whoever takes it back, if its answer is not whole.
    async fn shutdown(&mut self, _: u32, _: &str) {}

    fn is_body_done(&mut self) -> bool {
        self.client().is_read()
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        // Asked before anything of it is read.
        self.client().is_read()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() { Err(self.overdue().await) } else { self.read().await }
    }

    fn body_bytes_sent(&self) -> usize {
        0
    }

    fn body_bytes_read(&self) -> usize {
        0
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
