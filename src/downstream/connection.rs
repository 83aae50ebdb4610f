//! A client's bytes: heads that are judged before anything else sees them, bodies freed of their framing, answers.
//!
//! Nothing reads ahead of the request that is being served: pipelined requests wait their turn, a client that
//! leaves does not disturb a call that is under way, and no time is spent on asking the socket for news.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Sleep, sleep_until},
};

use super::{
    chunked::{Broken, ChunkScanner},
    patience::{Patience, within},
    transport::{Lingering, Transport},
};
use crate::{
    policy::framing::{BodyFraming, HeadScanner, RequestHead},
    reason::Reason,
};

/// How much is read from the socket at once.
const READ_SIZE: usize = 4096;

/// How much of an answer is gathered before it is sent; most fit whole.
const WRITE_SIZE: usize = 16 * 1024;

/// A client's transport with the bytes that are on their way in and out.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    inbox: BytesMut,
    outbox: BytesMut,
    patience: Patience,
    unread: Unread,
    /// How often all that was gathered has been sent.
    flushes: u64,
    /// Goes off when the upstream's time to answer runs out; made when first needed, then set anew.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What of the present request's body has not been read yet.
#[derive(Debug)]
enum Unread {
    /// So many bytes.
    Length(u64),
    /// The rest of a chunked body.
    Chunked(ChunkScanner),
    /// Nothing that could be told from the next request.
    Broken,
}

/// Why no request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHead {
    /// The client closed the connection between requests.
    Closed,
    /// The client closed or broke the connection within a head.
    Gone,
    /// A head came that cannot be let through.
    Refused(Reason),
}

impl Connection {
    /// A connection on which no request has come yet, and whose client has so much time to take answers.
    pub fn new(transport: Transport, patience: Patience) -> Self {
        let (inbox, outbox) = (BytesMut::new(), BytesMut::new());
        Self { transport, inbox, outbox, patience, unread: Unread::Length(0), flushes: 0, alarm: None }
    }

    /// The scheme that its requests are made with.
    pub const fn scheme(&self) -> &'static str {
        self.transport.scheme()
    }

    /// Waits for the first byte of the next request.
    ///
    /// # Errors
    /// [`NoHead::Closed`] when the connection ends instead.
    pub async fn first_byte(&mut self) -> Result<(), NoHead> {
        if self.inbox.is_empty() {
            self.fill().await.map_err(|_| NoHead::Closed)?;
        }
        Ok(())
    }

    /// Reads the next head whole and judges its framing.
    ///
    /// # Errors
    /// [`NoHead::Refused`] with the rule it broke, [`NoHead::Gone`] when it did not come whole.
    pub async fn head(&mut self) -> Result<RequestHead, NoHead> {
        let mut scanner = HeadScanner::default();
        let range = loop {
            if let Some(range) = scanner.scan(&self.inbox).map_err(NoHead::Refused)? {
                break range;
            }
            self.fill().await.map_err(|_| NoHead::Gone)?;
        };
        let length = range.len();
        self.inbox.advance(range.start);
        let bytes = self.inbox.split_to(length).freeze();
        let head = match RequestHead::read(bytes.clone()) {
            Ok(head) => head,
            Err(reason) => {
                // For the log.
                self.inbox = BytesMut::from(bytes);
                return Err(NoHead::Refused(reason));
            }
        };
        self.unread = match head.body {
            BodyFraming::Length(length) => Unread::Length(length),
            BodyFraming::Chunked => Unread::Chunked(ChunkScanner::default()),
        };
        Ok(head)
    }

    /// The head that [`head`](Self::head) refused, as far as it came.
    pub fn refused_head(&self) -> &[u8] {
        &self.inbox
    }

    /// Whether the whole of the last request has been read.
    pub fn is_between_requests(&self) -> bool {
        match &self.unread {
            Unread::Length(left) => *left == 0,
            Unread::Chunked(scanner) => scanner.is_done(),
            Unread::Broken => false,
        }
    }

    /// The next piece of the present request's body; `None` once it is whole. Nothing is lost where the wait for it
    /// is given up.
    ///
    /// # Errors
    /// [`Broken`] where chunking is, [`io::ErrorKind::UnexpectedEof`] where the client left, or what else happened to
    /// the transport.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        while !self.is_between_requests() {
            if self.inbox.is_empty() && !matches!(self.unread, Unread::Broken) {
                self.fill().await?;
            }
            let piece = match &mut self.unread {
                Unread::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(self.inbox.len());
                    *left -= taken as u64;
                    self.inbox.split_to(taken).freeze()
                }
                Unread::Chunked(scanner) => {
                    let mut piece = BytesMut::new();
                    let Ok(taken) = scanner.follow(&self.inbox, |data| piece.extend_from_slice(data)) else {
                        self.unread = Unread::Broken;
                        continue;
                    };
                    self.inbox.advance(taken);
                    piece.freeze()
                }
                Unread::Broken => return Err(Broken.into()),
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The whole of the present request's body.
    ///
    /// # Errors
    /// `body_too_large`, `body_timeout`, `body_malformed` where chunking is broken, or `client_gone`.
    pub async fn body(&mut self, most: usize, limit: Duration) -> Result<Bytes, Reason> {
        let whole = async {
            let mut whole = Bytes::new();
            while let Some(piece) = self.piece().await.map_err(|error| broken(&error))? {
                if whole.len() + piece.len() > most {
                    return Err(Reason::BodyTooLarge);
                }
                if whole.is_empty() {
                    whole = piece;
                } else {
                    let mut joined = BytesMut::from(whole);
                    joined.extend_from_slice(&piece);
                    whole = joined.freeze();
                }
            }
            Ok(whole)
        };
        within(limit, whole).await.unwrap_or(Err(Reason::BodyTimeout))
    }

    /// Reads and drops what is left of the present request's body, so that the connection can be used again.
    ///
    /// Tells whether it came to its end within both bounds.
    pub async fn drain(&mut self, most: usize, limit: Duration) -> bool {
        let drained = async {
            let mut left = most;
            while let Some(piece) = self.piece().await? {
                left = left.checked_sub(piece.len()).ok_or(io::ErrorKind::InvalidData)?;
            }
            io::Result::Ok(())
        };
        matches!(within(limit, drained).await, Ok(Ok(())))
    }

    /// Gathers bytes of an answer; they go out when they are many, or with [`flush`](Self::flush).
    ///
    /// # Errors
    /// Those of the transport, or [`io::ErrorKind::TimedOut`] when the client takes nothing.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(WRITE_SIZE) {
            if self.outbox.len() + piece.len() > WRITE_SIZE {
                self.flush().await?;
            }
            self.outbox.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await?;
        self.flushes += 1;
        Ok(())
    }

    /// How often all that was gathered has been sent: what is gathered now has been once this has grown.
    pub const fn flushes(&self) -> u64 {
        self.flushes
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            match ready!(self.transport.poll_write_patiently(cx, &self.outbox, &mut self.patience))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.outbox.advance(sent),
            }
        }
        self.transport.poll_flush_patiently(cx, &mut self.patience)
    }

    /// Ends the connection so that the client cannot take what was sent for a whole answer.
    pub fn reset(self) {
        self.transport.reset();
    }

    /// Sends the last answer on this connection, in which no other is half sent.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transport.write_all(bytes).await?;
        self.transport.flush().await
    }

    /// Ends the connection so that the last answer arrives; until the client is gone, or does not stop sending.
    pub async fn linger(self) {
        // Whatever ends it, it is over.
        let _ = Lingering::new(self.transport, self.patience).shutdown().await;
    }

    /// Goes off at a time, which may change while it is waited for.
    pub fn poll_alarm(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = at.into();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx)
    }

    /// Reads what has come, at least a byte.
    async fn fill(&mut self) -> io::Result<()> {
        self.inbox.reserve(READ_SIZE);
        match self.transport.read_buf(&mut self.inbox).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Why a body could not be read: its sender left, or it is no body.
fn broken(error: &io::Error) -> Reason {
    if Broken::is_cause_of(error) { Reason::BodyMalformed } else { Reason::ClientGone }
}
