//! A connection that lets through one request at a time, and only one whose framing is clear.
//!
//! Pingora reads from the gate, never from the socket. The head it gets has been judged; of what
//! follows it gets the body and not a byte more. After that the gate stays shut until the answer is
//! out: pipelined requests wait their turn, a client that leaves does not disturb a call that is
//! under way, and no time is spent on asking the socket for news.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::{
    chunked::ChunkScanner,
    patience::Patience,
    transport::{Lingering, Transport},
};
use crate::{
    policy::framing::{self, BodyFraming, HeadScanner},
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
    /// What of the present request may still be read.
    due: Due,
    /// Goes off when the upstream's time to answer runs out; made when first needed, then set anew.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What of a request has not been handed over yet.
#[derive(Debug)]
enum Due {
    /// Bytes of head, then the body.
    Head(usize, BodyFraming),
    /// Bytes of a body of known length.
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
        Self { transport, inbox, outbox, patience, due: Due::Length(0), alarm: None }
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
            self.inbox.reserve(READ_SIZE);
            match self.transport.read_buf(&mut self.inbox).await {
                Ok(0) | Err(_) => return Err(NoHead::Closed),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Reads the next head whole and judges its framing; what is let through is then read from a [`Gate`].
    ///
    /// # Errors
    /// [`NoHead::Refused`] with the rule it broke, [`NoHead::Gone`] when it did not come whole.
    pub async fn head(&mut self) -> Result<(), NoHead> {
        let mut scanner = HeadScanner::default();
        let range = loop {
            if let Some(range) = scanner.scan(&self.inbox).map_err(NoHead::Refused)? {
                break range;
            }
            self.inbox.reserve(READ_SIZE);
            match self.transport.read_buf(&mut self.inbox).await {
                Ok(0) | Err(_) => return Err(NoHead::Gone),
                Ok(_) => {}
            }
        };
        let length = range.len();
        self.inbox.advance(range.start);
        let head = framing::read(&self.inbox[..length], |_, _| {}).map_err(NoHead::Refused)?;
        self.due = Due::Head(length, head.body);
        Ok(())
    }

    /// The head that [`head`](Self::head) refused, as far as it came.
    pub fn refused_head(&self) -> &[u8] {
        &self.inbox
    }

    /// Whether the whole of the last request has been read.
    pub fn is_between_requests(&self) -> bool {
        match &self.due {
            Due::Length(0) => true,
            Due::Chunked(scanner) => scanner.is_done(),
            Due::Head(..) | Due::Length(_) | Due::Broken => false,
        }
    }

    /// Sends bytes of the gateway's own.
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

    /// How many bytes at the start of the inbox belong to the present request; counts them as handed over.
    fn take_due(&mut self, room: usize) -> io::Result<usize> {
        let available = self.inbox.len().min(room);
        match &mut self.due {
            Due::Head(left, body) => {
                let taken = available.min(*left);
                *left -= taken;
                if *left == 0 {
                    self.due = match *body {
                        BodyFraming::Length(length) => Due::Length(length),
                        BodyFraming::Chunked => Due::Chunked(ChunkScanner::default()),
                    };
                }
                Ok(taken)
            }
            Due::Length(left) => {
                let taken = available.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            Due::Chunked(scanner) => scanner.advance(&self.inbox[..available]).map_err(|_| {
                self.due = Due::Broken;
                io::ErrorKind::InvalidData.into()
            }),
            Due::Broken => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn alarm(&mut self, at: Instant) -> Pin<&mut Sleep> {
        let at = at.into();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            match ready!(self.transport.poll_write_patiently(cx, &self.outbox, &mut self.patience))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.outbox.advance(sent),
            }
        }
        self.transport.poll_flush_patiently(cx, &mut self.patience)
    }
}

/// A date in the one form that is sent (RFC 9110 section 5.6.7).
type ImfFixdate = [u8; 29];

/// Where a [`Gate`] leaves its connection when Pingora is done with it, however that went.
#[derive(Debug, Default)]
pub struct Home {
    connection: Mutex<Option<Connection>>,
    judged: AtomicBool,
    answer_due: Mutex<Option<Instant>>,
    date: Mutex<Option<ImfFixdate>>,
    overdue: AtomicBool,
}

impl Home {
    /// Takes the connection back, if it has come home.
    pub fn take(&self) -> Option<Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes that the present request has got past Pingora's own parser.
    pub fn judged(&self) {
        self.judged.store(true, Ordering::Relaxed);
    }

    /// Sets the time by which the upstream must have answered, or lifts it.
    ///
    /// Pingora limits each read of an answer, not their sum. The gate, which it polls while it waits, ends the
    /// wait in its place.
    pub fn expect_answer(&self, by: Option<Instant>) {
        *self.answer_due.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }

    /// Keeps the upstream's own Date, which Pingora replaces by the time of day.
    pub fn keep_date(&self, date: &[u8]) {
        *self.date.lock().unwrap_or_else(PoisonError::into_inner) = date.try_into().ok();
    }

    fn take_date(&self) -> Option<ImfFixdate> {
        self.date.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the upstream's time to answer ran out.
    pub fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed)
    }

    /// Whether the upstream should have answered by now.
    pub fn is_past_due(&self, now: Instant) -> bool {
        self.answer_due().is_some_and(|due| due <= now)
    }

    fn answer_due(&self) -> Option<Instant> {
        *self.answer_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last request got past Pingora's own parser; forgets it.
    pub fn was_judged(&self) -> bool {
        self.judged.swap(false, Ordering::Relaxed)
    }
}

/// The one request that Pingora may read, and the way back for its answer.
#[derive(Debug)]
pub struct Gate {
    /// There until the gate is dropped.
    connection: Option<Connection>,
    home: Arc<Home>,
}

impl Gate {
    /// Opens a gate for the request whose head has been read.
    pub fn new(connection: Connection, home: Arc<Home>) -> Self {
        Self { connection: Some(connection), home }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect(OPEN)
    }
}

/// The invariant of [`Gate::connection`].
const OPEN: &str = "a gate has its connection until it is dropped";

impl Drop for Gate {
    fn drop(&mut self) {
        *self.home.connection.lock().unwrap_or_else(PoisonError::into_inner) = self.connection.take();
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        let connection = gate.connection.as_mut().expect(OPEN);
        if connection.is_between_requests() {
            let Some(due) = gate.home.answer_due() else {
                return Poll::Pending;
            };
            ready!(connection.alarm(due).poll(cx));
            gate.home.overdue.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if connection.inbox.is_empty() {
            connection.inbox.reserve(READ_SIZE);
            let Connection { transport, inbox, .. } = connection;
            let reading = std::pin::pin!(transport.read_buf(inbox));
            if ready!(reading.poll(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let taken = connection.take_due(into.remaining())?;
        into.put_slice(&connection.inbox[..taken]);
        connection.inbox.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let date = gate.home.take_date();
        let connection = gate.connection();
        if connection.outbox.len() + bytes.len() > WRITE_SIZE {
            ready!(connection.poll_send(cx))?;
        }
        let taken = bytes.len().min(WRITE_SIZE);
        let start = connection.outbox.len();
        connection.outbox.extend_from_slice(&bytes[..taken]);
        if let Some(date) = date {
            put_back(&date, &mut connection.outbox[start..]);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().connection().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().connection().poll_send(cx)
    }
}

/// Writes a date over the one that Pingora gave the head.
fn put_back(date: &ImfFixdate, head: &mut [u8]) {
    const NAME: &[u8] = b"\r\nDate: ";
    if let Some(at) = memchr::memmem::find(head, NAME)
        && let Some(place) = head.get_mut(at + NAME.len()..at + NAME.len() + date.len())
    {
        place.copy_from_slice(date);
    }
}

/// The write side is shut only when the connection lingers.
#[async_trait]
impl Shutdown for Gate {
    async fn shutdown(&mut self) {}
}

impl UniqueID for Gate {
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl Ssl for Gate {}

impl Peek for Gate {}

impl GetTimingDigest for Gate {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Gate {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Gate {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
