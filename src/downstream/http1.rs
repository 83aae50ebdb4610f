//! A connection of HTTP/1.1: reads heads and bodies, writes answers.
//!
//! Nothing reads ahead of the request that is being served: pipelined requests wait their turn, a client that
//! leaves does not disturb a call that is under way, and no time is spent on asking the socket for news.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Client, Progress,
    body::whole_body,
    transport::{Lingering, Transport},
    write_budget::WriteBudget,
};
use crate::{
    alarm::Alarm,
    reason::Reason,
    stream_memory::NoMemory,
    wire::{
        BodyFraming, HeadScanner, RequestHead,
        answer::End,
        chunked::{BrokenChunking, ChunkScanner},
        put_field,
    },
};

/// How much is read from the socket at once.
const READ_SIZE: usize = 4096;

/// How much of a streamed answer is gathered before it is sent.
const WRITE_SIZE: usize = 16 * 1024;

/// The interim answer that asks for the body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's transport with the bytes that are on their way in and out.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    address: SocketAddr,
    received: BytesMut,
    /// Kept for its memory between answers.
    outgoing: Vec<u8>,
    budget: WriteBudget,
    unread: Unread,
    is_http_10: bool,
    progress: Progress,
    persists: bool,
    alarm: Alarm,
}

/// The part of the current request's body that has not been read yet.
#[derive(Debug)]
enum Unread {
    /// So many bytes.
    Length(u64),
    /// The rest of a chunked body.
    Chunked(ChunkScanner),
    /// Chunking broke; where the body ends is unknown.
    BrokenChunking,
}

/// Why there is no next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHead {
    /// The client closed the connection between requests, or left it idle for too long.
    Closed,
    /// The client closed or broke the connection within a head.
    Gone,
    /// A head came that cannot be let through, or not in time.
    Refused(Reason),
}

impl Connection {
    /// A connection on which no request has come yet.
    pub fn new(transport: Transport, address: SocketAddr, budget: WriteBudget) -> Self {
        Self {
            transport,
            address,
            received: BytesMut::new(),
            outgoing: Vec::new(),
            budget,
            unread: Unread::Length(0),
            is_http_10: false,
            progress: Progress::NotBegun,
            persists: false,
            alarm: Alarm::default(),
        }
    }

    /// Waits for the first byte of the next request.
    ///
    /// # Errors
    /// [`NoHead::Closed`] when the connection ends instead.
    pub async fn first_byte(&mut self, by: Instant) -> Result<(), NoHead> {
        if self.received.is_empty() {
            self.fill(by).await.map_err(|_| NoHead::Closed)?;
        }
        Ok(())
    }

    /// Reads the next head whole and judges its framing.
    ///
    /// # Errors
    /// [`NoHead::Refused`] with the rule it broke, [`NoHead::Gone`] when it did not come whole.
    pub async fn head(&mut self, by: Instant) -> Result<RequestHead, NoHead> {
        let mut scanner = HeadScanner::default();
        let range = loop {
            if let Some(range) = scanner.scan(&self.received).map_err(NoHead::Refused)? {
                break range;
            }
            self.fill(by).await.map_err(|error| {
                let is_late = error.kind() == io::ErrorKind::TimedOut;
                if is_late { NoHead::Refused(Reason::HeaderTimeout) } else { NoHead::Gone }
            })?;
        };
        let length = range.len();
        self.received.advance(range.start);
        let bytes = self.received.split_to(length).freeze();
        let head = match RequestHead::read(bytes.clone()) {
            Ok(head) => head,
            Err(reason) => {
                // For the log.
                self.received = BytesMut::from(bytes);
                return Err(NoHead::Refused(reason));
            }
        };
        self.unread = match head.body {
            BodyFraming::Length(length) => Unread::Length(length),
            BodyFraming::Chunked => Unread::Chunked(ChunkScanner::default()),
        };
        self.is_http_10 = head.is_http_10;
        self.progress = Progress::NotBegun;
        Ok(head)
    }

    /// The head that [`head`](Self::head) refused, as far as it came.
    pub fn refused_head(&self) -> &[u8] {
        &self.received
    }

    /// Whether another request may come by it, as the last answer said.
    pub const fn persists(&self) -> bool {
        self.persists
    }

    /// Reads and drops what is left of the present request's body, so that the connection can be used again.
    ///
    /// Tells whether it came to its end within both bounds.
    pub async fn drain(&mut self, most: usize, by: Instant) -> bool {
        let mut left = most;
        while let Ok(piece) = self.piece(by).await {
            match piece.map(|piece| left.checked_sub(piece.len())) {
                None => return true,
                Some(Some(rest)) => left = rest,
                Some(None) => return false,
            }
        }
        false
    }

    /// Ends the connection so that the client cannot take what was sent for a whole answer.
    pub fn reset(self) {
        self.transport.reset();
    }

    /// Ends the connection so that the last answer arrives; until the client is gone, or does not stop sending.
    pub async fn linger(self) {
        // Whatever ends it, it is over.
        let _ = Lingering::new(self.transport, self.budget).shutdown().await;
    }

    /// Reads what has come, at least a byte.
    ///
    /// # Errors
    /// Those of the transport, [`io::ErrorKind::UnexpectedEof`] at its end, [`io::ErrorKind::TimedOut`] when nothing
    /// had come by then.
    async fn fill(&mut self, by: Instant) -> io::Result<()> {
        poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Ready(filled) => Poll::Ready(filled),
            Poll::Pending => self.alarm.poll(by, cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.received.reserve(READ_SIZE);
        let count = ready!(pin!(self.transport.read_buf(&mut self.received)).poll(cx))?;
        Poll::Ready(if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, sent: &mut usize) -> Poll<io::Result<()>> {
        while *sent < self.outgoing.len() {
            let rest = &self.outgoing[*sent..];
            match ready!(self.transport.poll_write_within(cx, rest, &mut self.budget))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
        }
        self.transport.poll_flush_within(cx, &mut self.budget)
    }

    async fn gather(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(WRITE_SIZE) {
            if self.outgoing.len() + piece.len() > WRITE_SIZE {
                self.flush().await?;
            }
            self.outgoing.extend_from_slice(piece);
        }
        Ok(())
    }
}

impl Client for Connection {
    type Head = Vec<u8>;

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn scheme(&self) -> &'static str {
        self.transport.scheme()
    }

    fn alarm(&mut self) -> &mut Alarm {
        &mut self.alarm
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn is_read(&self) -> bool {
        match &self.unread {
            Unread::Length(left) => *left == 0,
            Unread::Chunked(scanner) => scanner.is_done(),
            Unread::BrokenChunking => false,
        }
    }

    async fn ask_for_body(&mut self) -> io::Result<()> {
        self.outgoing.extend_from_slice(CONTINUE);
        self.flush().await
    }

    async fn piece(&mut self, by: Instant) -> io::Result<Option<Bytes>> {
        while !self.is_read() {
            if self.received.is_empty() && !matches!(self.unread, Unread::BrokenChunking) {
                self.fill(by).await?;
            }
            let piece = match &mut self.unread {
                Unread::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(self.received.len());
                    *left -= taken as u64;
                    self.received.split_to(taken).freeze()
                }
                Unread::Chunked(scanner) => {
                    let mut piece = BytesMut::new();
                    let Ok(taken) = scanner.follow(&self.received, |data| piece.extend_from_slice(data))
                    else {
                        self.unread = Unread::BrokenChunking;
                        continue;
                    };
                    self.received.advance(taken);
                    piece.freeze()
                }
                Unread::BrokenChunking => return Err(BrokenChunking.into()),
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, _bytes: usize) -> Result<(), NoMemory> {
        // There is one at a time.
        Ok(())
    }

    async fn body(&mut self, most: usize, by: Instant) -> Result<Bytes, Reason> {
        whole_body(self, most, by).await
    }

    fn begin(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    async fn answer(&mut self, mut head: Vec<u8>, body: Option<&[u8]>, persists: bool) -> io::Result<()> {
        head.extend_from_slice(connection_line(persists));
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(body.unwrap_or_default());
        self.outgoing = head;
        self.persists = persists;
        self.progress = Progress::Whole;
        self.flush().await
    }

    async fn start(&mut self, mut head: Vec<u8>, end: End, persists: bool) -> io::Result<()> {
        let end = if self.is_http_10 && end == End::Chunked { End::Close } else { end };
        match end {
            End::Chunked => put_field(&mut head, b"Transfer-Encoding", b"chunked"),
            End::Length(_) | End::Empty | End::Close => {}
        }
        self.persists = persists && end != End::Close;
        head.extend_from_slice(connection_line(self.persists));
        head.extend_from_slice(b"\r\n");
        self.outgoing = head;
        self.progress = if end == End::Empty { Progress::Whole } else { Progress::Body(end) };
        Ok(())
    }

    async fn put(&mut self, piece: &Bytes) -> io::Result<()> {
        match self.progress {
            _ if piece.is_empty() => Ok(()),
            Progress::Body(End::Length(left)) => {
                let left = left.checked_sub(piece.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
                self.gather(piece).await?;
                self.progress = if left == 0 { Progress::Whole } else { Progress::Body(End::Length(left)) };
                Ok(())
            }
            Progress::Body(End::Chunked) => {
                self.gather(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                self.gather(piece).await?;
                self.gather(b"\r\n").await
            }
            Progress::Body(End::Close) => self.gather(piece).await,
            Progress::Body(End::Empty) | Progress::NotBegun | Progress::Whole => {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    async fn end(&mut self) -> io::Result<()> {
        match self.progress {
            Progress::NotBegun | Progress::Body(End::Length(_)) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Progress::Body(End::Chunked) => self.gather(b"0\r\n\r\n").await?,
            Progress::Body(End::Close | End::Empty) | Progress::Whole => {}
        }
        self.progress = Progress::Whole;
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let flushed = poll_fn(|cx| self.poll_flush(cx, &mut sent)).await;
        self.outgoing.drain(..sent);
        flushed
    }
}

/// Says whether the connection goes on after an answer.
const fn connection_line(persists: bool) -> &'static [u8] {
    if persists { b"Connection: keep-alive\r\n" } else { b"Connection: close\r\n" }
}
