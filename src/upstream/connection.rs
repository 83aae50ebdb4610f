//! One connection to an n4n host, which carries one call at a time.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use pingora::protocols::Stream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    task::unconstrained,
};

use crate::{
    alarm::Alarm,
    wire::answer::{Answer, AnswerReader, BadAnswer},
};

/// The most bytes of body that are taken of an answer that is held whole; n4n's are a few.
pub const MAX_ANSWER_BODY: usize = 1024 * 1024;

/// How much is read at once.
const READ_SIZE: usize = 4096;

/// An established connection.
#[derive(Debug)]
pub struct UpstreamConnection(Stream);

/// Why a call that was sent has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The answer did not come in time.
    #[error("no answer in time")]
    Late,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// What came cannot be passed on.
    #[error("the answer cannot be passed on: {0}")]
    Bad(#[from] BadAnswer),
}

/// A call to be written to a connection, and how long its answer may take.
#[derive(Clone, Copy)]
pub struct WireCall<'a> {
    /// Its head and body.
    pub bytes: &'a [u8],
    /// Whether its method is HEAD, whose answer has no body.
    pub is_head: bool,
    /// When the head of its answer must be there.
    pub due: Instant,
    /// How long the body of the answer may take after that.
    pub body_within: Duration,
}

/// What n4n answered, and when.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// When its head was there.
    pub head_at: Instant,
}

impl UpstreamConnection {
    /// A connection that nothing has been sent on.
    pub const fn new(stream: Stream) -> Self {
        Self(stream)
    }

    /// Whether nothing has arrived on the idle connection, its end included.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let read = poll_fn(|cx| Pin::new(&mut self.0).poll_read(cx, &mut ReadBuf::new(&mut byte)));
        // Within its budget of polls, a task that has used it up would be told that nothing has come.
        pin!(unconstrained(read)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends a call, once, and waits for its answer.
    ///
    /// An answer that comes before the call was taken whole counts; the connection is of no use after it.
    ///
    /// # Errors
    /// [`Unanswered`]; n4n may have carried the call out all the same.
    pub async fn exchange(&mut self, call: WireCall<'_>, alarm: &mut Alarm) -> Result<Answered, Unanswered> {
        let mut reader = AnswerReader::new(call.is_head, MAX_ANSWER_BODY);
        let mut sending = Sending { rest: call.bytes, is_flushed: false, error: None };
        let mut received = Vec::with_capacity(READ_SIZE);
        let (mut due, mut head_at) = (call.due, None);
        loop {
            let read = poll_fn(|cx| {
                sending.poll(&mut self.0, cx);
                match self.poll_read(&mut received, cx) {
                    Poll::Ready(read) => Poll::Ready(Some(read)),
                    Poll::Pending => alarm.poll(due, cx).map(|()| None),
                }
            });
            let is_closed = match read.await {
                None => return Err(Unanswered::Late),
                Some(Ok(count)) => count == 0,
                // Even an answer that ends with its connection is cut by one that breaks.
                Some(Err(error)) => return Err(sending.error.take().unwrap_or(error).into()),
            };
            match reader.advance(&mut received, is_closed) {
                Ok(Some(mut answer)) => {
                    answer.persists &= sending.is_flushed && sending.error.is_none();
                    let head_at = head_at.unwrap_or_else(Instant::now);
                    return Ok(Answered { answer, head_at });
                }
                Err(bad) => match sending.error {
                    Some(error) if bad == BadAnswer::Cut => return Err(error.into()),
                    _ => return Err(bad.into()),
                },
                Ok(None) if reader.has_head() && head_at.is_none() => {
                    let now = Instant::now();
                    (head_at, due) = (Some(now), now + call.body_within);
                }
                Ok(None) => {}
            }
        }
    }

    fn poll_read(&mut self, received: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        received.reserve(READ_SIZE);
        pin!(self.0.read_buf(received)).poll(cx)
    }
}

/// The part of a call that has still to be sent.
struct Sending<'a> {
    rest: &'a [u8],
    is_flushed: bool,
    /// Why no more can be sent.
    error: Option<io::Error>,
}

impl Sending<'_> {
    /// Sends what can be sent now. An error is kept for later: n4n may have answered before it closed.
    fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) {
        if !self.is_flushed && self.error.is_none() {
            match self.poll_send(stream, cx) {
                Poll::Ready(Ok(())) => self.is_flushed = true,
                Poll::Ready(Err(error)) => self.error = Some(error),
                Poll::Pending => {}
            }
        }
    }

    fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.rest = &self.rest[sent..],
            }
        }
        Pin::new(stream).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue";

    async fn exchange(connection: &mut UpstreamConnection, bytes: &[u8]) -> Result<Answered, Unanswered> {
        let second = Duration::from_secs(1);
        let call = WireCall { bytes, is_head: false, due: Instant::now() + second, body_within: second };
        connection.exchange(call, &mut Alarm::default()).await
    }

    #[tokio::test]
    async fn an_answer_before_the_call_was_taken_whole_counts_and_the_connection_is_of_no_use_after_it() {
        for (call, persists) in [(&[b'x'; 64][..], true), (&[b'x'; 65], false)] {
            let (near, mut far) = duplex(64);
            far.write_all(OK).await.unwrap();
            let answered = exchange(&mut UpstreamConnection::new(Box::new(near)), call).await.unwrap();
            assert_eq!((answered.answer.body(), answered.answer.persists), (&b"true"[..], persists));
        }
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_the_connection_breaks_counts() {
        let (near, mut far) = duplex(64);
        far.write_all(OK).await.unwrap();
        drop(far);
        let answered = exchange(&mut UpstreamConnection::new(Box::new(near)), b"a call").await.unwrap();
        assert_eq!((answered.answer.head.status, answered.answer.persists), (200, false));
    }
}
