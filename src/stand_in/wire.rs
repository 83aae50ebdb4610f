//! Reading requests from one connection, and writing answers to it.

use std::io;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::request::{self, CgiRequest, Framing, MAX_BODY, Parsed};

/// The longest head, chunk line or trailer section that is read.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// How long a client may take over one request, idling before it included, or over taking an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take to close after us.
const LINGER: Duration = Duration::from_secs(2);
/// Room made for each read.
const READ_SIZE: usize = 8 * 1024;

/// Why no request came.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The client left, broke off or took too long.
    Gone,
    /// What came is not to be read further; the status says why.
    Unreadable(StatusCode),
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<StatusCode> for NoRequest {
    fn from(status: StatusCode) -> Self {
        Self::Unreadable(status)
    }
}

/// One connection and what was read of it beyond the last request.
pub(super) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Only a matter of speed: without it the answers are the same.
        let _ = stream.set_nodelay(true);
        Self { stream, unread: Vec::new() }
    }

    /// The next request, body and all.
    pub(super) async fn request(&mut self) -> Result<CgiRequest, NoRequest> {
        timeout(PATIENCE, self.read_request()).await.unwrap_or(Err(NoRequest::Gone))
    }

    async fn read_request(&mut self) -> Result<CgiRequest, NoRequest> {
        let (mut request, framing) = self.take(request::parse_head).await?;
        let is_held_back = framing != Framing::Length(0) && self.unread.is_empty();
        if is_held_back && request.expects_continue() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match framing {
            Framing::Length(length) => self.take_data(length, &mut request.body).await?,
            Framing::Chunked => self.take_chunks(&mut request.body).await?,
        }
        Ok(request)
    }

    async fn take_chunks(&mut self, body: &mut Vec<u8>) -> Result<(), NoRequest> {
        loop {
            let size = self.take(request::parse_chunk_size).await?;
            if size == 0 {
                return self.take(request::parse_trailers).await;
            }
            self.take_data(size, body).await?;
            self.take(request::parse_chunk_end).await?;
        }
    }

    /// Moves `length` bytes of the connection to the end of `body`.
    async fn take_data(&mut self, length: usize, body: &mut Vec<u8>) -> Result<(), NoRequest> {
        if length > MAX_BODY - body.len() {
            return Err(StatusCode::PAYLOAD_TOO_LARGE.into());
        }
        while self.unread.len() < length {
            self.read().await?;
        }
        body.extend(self.unread.drain(..length));
        Ok(())
    }

    /// What `parse` makes of the bytes that come next, which it is given more of until it is content.
    async fn take<T>(&mut self, parse: impl Fn(&[u8]) -> Parsed<T>) -> Result<T, NoRequest> {
        loop {
            let window = &self.unread[..self.unread.len().min(MAX_HEAD)];
            if let Some((length, parsed)) = parse(window)? {
                self.unread.drain(..length);
                return Ok(parsed);
            }
            if window.len() == MAX_HEAD {
                return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.unread.reserve(READ_SIZE);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await?
    }

    /// Closes so that what was sent arrives: bytes left unread would turn the close into a reset.
    pub(super) async fn finish(mut self) {
        if self.stream.shutdown().await.is_ok() {
            // A client that stays on is left behind.
            let _ = timeout(LINGER, self.outlast()).await;
        }
    }

    /// Closes with a reset.
    pub(super) fn reset(self) {
        // Should it fail, the client sees a plain close instead.
        let _ = self.stream.set_zero_linger();
    }

    /// Waits until the client is gone.
    pub(super) async fn outlast(&mut self) {
        let mut ignored = [0; 1024];
        while matches!(self.stream.read(&mut ignored).await, Ok(1..)) {}
    }
}
