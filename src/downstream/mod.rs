//! The client's side: connections and streams, what is read from them and written to them.

mod body;
pub mod header_blocks;
pub mod http1;
pub mod http2;
pub mod pace;
pub mod transport;
pub mod write_budget;

use std::{io, net::SocketAddr, time::Instant};

use bytes::Bytes;

use crate::{
    alarm::Alarm,
    reason::Reason,
    stream_memory::NoMemory,
    wire::{answer::End, put_field},
};

/// How far an answer has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not a byte of it is written.
    NotBegun,
    /// Its head is written, and its body is to end like this.
    Body(End),
    /// It is whole.
    Whole,
}

/// The head of an answer as it is being written, in either version of HTTP.
pub trait HeadWriter: Send + Sync {
    /// Begins it with its status and the words beside that.
    fn status(&mut self, status: u16, phrase: &[u8]);

    /// Adds a field. One that the version of HTTP cannot express is left out.
    fn field(&mut self, name: &[u8], value: &[u8]);
}

/// HTTP/1.1, written out as it goes to the client.
impl HeadWriter for Vec<u8> {
    fn status(&mut self, status: u16, phrase: &[u8]) {
        self.extend_from_slice(b"HTTP/1.1 ");
        let digits = [status / 100 % 10, status / 10 % 10, status % 10];
        // Each is below ten.
        self.extend(digits.map(|digit| b'0' + digit as u8));
        self.push(b' ');
        self.extend_from_slice(phrase);
        self.extend_from_slice(b"\r\n");
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        put_field(self, name, value);
    }
}

/// One request's way to and from its client: a connection of HTTP/1.1, or a stream of HTTP/2.
///
/// Every wait for the client has an end: what it sends must come by the time given, and what is sent to it is
/// bounded by its [`WriteBudget`](write_budget::WriteBudget).
pub trait Client: Send + Sync + Unpin + 'static {
    /// How the head of an answer is written.
    type Head: HeadWriter;

    /// The client's end of the connection.
    fn address(&self) -> SocketAddr;

    /// The scheme that the request was made with.
    fn scheme(&self) -> &'static str;

    /// The timer for waits that concern this request.
    fn alarm(&mut self) -> &mut Alarm;

    /// How far the answer has got.
    fn progress(&self) -> Progress;

    /// Whether the whole of the request has been read.
    fn is_read(&self) -> bool;

    /// Asks for a body that the client holds back until it is asked (RFC 9110 section 10.1.1).
    ///
    /// # Errors
    /// Those of the connection.
    fn ask_for_body(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// The next piece of the body; `None` once it is whole. Nothing is lost where the wait for it is given up.
    ///
    /// # Errors
    /// [`BrokenChunking`](crate::wire::chunked::BrokenChunking) where chunking is, [`io::ErrorKind::TimedOut`] where it came too
    /// late, [`io::ErrorKind::UnexpectedEof`] where the client left, or what else happened to the connection.
    fn piece(&mut self, by: Instant) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;

    /// Takes memory for so many bytes of a body that are kept until it is whole.
    ///
    /// # Errors
    /// [`NoMemory`] where there is none.
    fn keep(&mut self, bytes: usize) -> Result<(), NoMemory>;

    /// The whole body.
    ///
    /// # Errors
    /// `body_too_large`, `body_timeout`, `body_malformed` where chunking is broken, `client_gone`, or `overloaded` where
    /// there is no memory for it.
    fn body(&mut self, most: usize, by: Instant) -> impl Future<Output = Result<Bytes, Reason>> + Send;

    /// Begins the head of an answer.
    fn begin(&mut self) -> Self::Head;

    /// Sends a whole answer. `persists` says whether more requests may come by the connection; `body` is none
    /// where the head alone is to be sent, whatever length it tells.
    ///
    /// # Errors
    /// Those of the connection, or [`io::ErrorKind::TimedOut`] when the client does not take it.
    fn answer(
        &mut self,
        head: Self::Head,
        body: Option<&[u8]>,
        persists: bool,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends the head of an answer whose body follows piece by piece and ends like this. It may be gathered, like what
    /// follows it, until [`flush`](Self::flush).
    ///
    /// # Errors
    /// As of [`answer`](Self::answer).
    fn start(
        &mut self,
        head: Self::Head,
        end: End,
        persists: bool,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// As of [`answer`](Self::answer), or [`io::ErrorKind::InvalidData`] for one that the head has no room for.
    fn put(&mut self, piece: &Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends what tells the client that the body is whole.
    ///
    /// # Errors
    /// As of [`answer`](Self::answer), or [`io::ErrorKind::UnexpectedEof`] where it is not.
    fn end(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends what was gathered.
    ///
    /// # Errors
    /// As of [`answer`](Self::answer).
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}
