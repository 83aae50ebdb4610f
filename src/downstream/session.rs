//! An admitted request as Pingora has it, and the way back for its answer.
//!
//! Pingora never sees a client's bytes. What it reads is the request in the form that goes upstream, and what it
//! answers passes through a [`Reply`].

use std::{
    future::poll_fn,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::ready,
    time::{Duration, Instant},
};

use super::{
    connection::Connection,
    patience::within,
    reply::{Problem, Progress, Reply},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, OrErr, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::{
            HttpTask,
            custom::{CustomMessageWrite, server::Session as PingoraSession},
        },
        l4::socket::SocketAddr,
    },
};

/// The body of a request that is forwarded.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// As the client sends it, each piece within so long.
    Streamed(Duration),
}

/// What the callbacks and the session of one connection's requests tell each other, and where the connection waits
/// when Pingora is done with it, however that went.
#[derive(Debug, Default)]
pub struct Home(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    returned: Option<Returned>,
    answer_due: Option<Instant>,
    is_overdue: bool,
    is_last: bool,
    is_head_sent: bool,
    problem: Option<Problem>,
}

/// A connection that has come home.
#[derive(Debug)]
pub struct Returned {
    /// The connection.
    pub connection: Connection,
    /// The answer that went out on it.
    pub reply: Reply,
    /// What is to be answered where nothing went out.
    pub problem: Option<Problem>,
}

impl Home {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection back, if it has come home, and forgets the request.
    pub fn take(&self) -> Option<Returned> {
        let State { returned, problem, .. } = std::mem::take(&mut *self.state());
        returned.map(|returned| Returned { problem, ..returned })
    }

    /// Sets the time by which the upstream must have answered, or lifts it.
    ///
    /// Pingora limits each read of an answer, not their sum. The session, which it polls while it waits, ends the
    /// wait in its place.
    pub fn expect_answer(&self, by: Option<Instant>) {
        self.state().answer_due = by;
    }

    fn answer_due(&self) -> Option<Instant> {
        self.state().answer_due
    }

    /// Whether the upstream's time to answer ran out.
    pub fn is_overdue(&self) -> bool {
        self.state().is_overdue
    }

    /// Whether the upstream should have answered by now.
    pub fn is_past_due(&self, now: Instant) -> bool {
        self.answer_due().is_some_and(|due| due <= now)
    }

    /// Ends the connection with this answer.
    pub fn say_goodbye(&self) {
        self.state().is_last = true;
    }

    /// Whether the head of the upstream's answer has been sent to the client.
    pub fn is_head_sent(&self) -> bool {
        self.state().is_head_sent
    }

    /// Leaves an answer of the gateway's own, for where none was begun.
    pub fn leave(&self, problem: Problem) {
        self.state().problem = Some(problem);
    }
}

/// One request on its way through Pingora.
#[derive(Debug)]
pub struct Session {
    request: RequestHeader,
    body: Body,
    /// Both are there until the session is dropped.
    inside: Option<(Connection, Reply)>,
    home: Arc<Home>,
    written: Option<Box<ResponseHeader>>,
    /// How often the connection had been flushed when the answer's head was gathered, until that has been sent.
    unsent_since: Option<u64>,
}

impl Session {
    /// The session of an admitted request, from the connection that it came by.
    pub fn new(
        request: RequestHeader,
        body: Body,
        reply: Reply,
        connection: Connection,
        home: Arc<Home>,
    ) -> Self {
        Self { request, body, inside: Some((connection, reply)), home, written: None, unsent_since: None }
    }

    fn inside(&mut self) -> (&mut Connection, &mut Reply) {
        let (connection, reply) =
            self.inside.as_mut().expect("a session has its connection until it is dropped");
        (connection, reply)
    }

    /// The next piece of a streamed body.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let Body::Streamed(limit) = self.body else {
            return Ok(None);
        };
        match within(limit, self.inside().0.piece()).await {
            Ok(piece) => piece.or_err(ErrorType::ReadError, "a body"),
            Err(_) => Error::e_explain(ErrorType::ReadTimedout, "a body"),
        }
    }

    /// Waits until the upstream's time to answer has run out.
    async fn overdue(&mut self) -> Box<Error> {
        poll_fn(|cx| {
            let Some(due) = self.home.answer_due() else {
                return std::task::Poll::Pending;
            };
            ready!(self.inside().0.poll_alarm(due, cx));
            std::task::Poll::Ready(())
        })
        .await;
        self.home.state().is_overdue = true;
        Error::explain(ErrorType::ReadTimedout, "an answer")
    }

    /// Passes on what n4n answers; tells whether that is whole.
    async fn write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let written = self.try_write_tasks(tasks).await;
        if let Some(before) = self.unsent_since
            && self.inside().0.flushes() > before
        {
            self.unsent_since = None;
            self.home.state().is_head_sent = true;
        }
        written
    }

    async fn try_write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut failed = None;
        for task in tasks {
            if let HttpTask::Failed(error) = task {
                failed = Some(error);
                break;
            }
            self.write_task(task).await.map_err(unwritten)?;
        }
        self.inside().0.flush().await.map_err(unwritten)?;
        match failed {
            Some(error) => Err(error),
            None => Ok(self.inside().1.progress() == Progress::Whole),
        }
    }

    async fn write_task(&mut self, task: HttpTask) -> io::Result<()> {
        let is_last = self.home.state().is_last;
        let is_end = task.is_end();
        let (connection, reply) = self.inside();
        match task {
            HttpTask::Header(head, _) => {
                reply.head(connection, &head, is_last).await?;
                if !head.status.is_informational() {
                    self.unsent_since = Some(connection.flushes());
                    self.written = Some(head);
                }
            }
            HttpTask::Body(Some(piece), _) => reply.piece(connection, &piece).await?,
            // An upgrade is refused long before it could have a body.
            HttpTask::UpgradedBody(..) => return Err(io::ErrorKind::InvalidData.into()),
            HttpTask::Body(None, _) | HttpTask::Trailer(_) | HttpTask::Done | HttpTask::Failed(_) => {}
        }
        if is_end {
            let (connection, reply) = self.inside();
            reply.end(connection).await?;
        }
        Ok(())
    }
}

/// The error of an answer that the client did not take.
fn unwritten(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "an answer", error).into_down()
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((connection, reply)) = self.inside.take() {
            self.home.state().returned = Some(Returned { connection, reply, problem: None });
        }
    }
}

/// What Pingora asks of a session. It is made for protocols of one's own, which is what a request that has been judged
/// amounts to; limits of time are the gateway's, so that those of Pingora set nothing.
#[async_trait]
impl PingoraSession for Session {
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
        match self.body {
            Body::Whole(_) => true,
            Body::Streamed(_) => self.inside().0.is_between_requests(),
        }
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        match &self.body {
            Body::Whole(body) => body.is_empty(),
            // Asked before anything of it is read.
            Body::Streamed(_) => self.inside().0.is_between_requests(),
        }
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

    /// What of the body there is already, for every attempt anew.
    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.body {
            Body::Whole(body) if !body.is_empty() => Some(body.clone()),
            Body::Whole(_) | Body::Streamed(_) => None,
        }
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
