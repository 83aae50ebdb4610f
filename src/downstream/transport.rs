//! A client's connection below HTTP: a socket, plain or under TLS.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::write_budget::WriteBudget;
use crate::tls::{self, HandshakeFailure, handshake::BEGINNING};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A client's connection below HTTP.
#[derive(Debug)]
pub enum Transport {
    /// The socket itself.
    Plain(TcpStream),
    /// TLS over it, the handshake done.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Shakes hands; none where the client leaves without a word, as a balancer's check does.
    ///
    /// # Errors
    /// Why it failed, and in whose words.
    pub async fn secure(
        socket: TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<Option<Self>, (HandshakeFailure, io::Error)> {
        let shaken = async {
            let mut beginning = [0; BEGINNING];
            let Ok(length @ 1..) = socket.peek(&mut beginning).await else { return Ok(None) };
            match TlsAcceptor::from(config).accept(socket).await {
                Ok(stream) => Ok(Some(Self::Tls(Box::new(stream)))),
                Err(error) => Err((HandshakeFailure::of(&error, &beginning[..length]), error)),
            }
        };
        timeout(HANDSHAKE, shaken)
            .await
            .unwrap_or_else(|elapsed| Err((HandshakeFailure::Timeout, io::Error::other(elapsed))))
    }

    /// The scheme that a request over it was made with.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Plain(_) => "http",
            Self::Tls(_) => "https",
        }
    }

    /// The certificate that the client has shown, and what it rests on; none where it has shown none.
    pub fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates(),
        }
    }

    /// Whom the certificate is for that the client has shown; none: it has shown none.
    pub fn client_certificate(&self) -> Option<Arc<str>> {
        self.certificates()?.first().and_then(tls::subject)
    }

    /// Whether HTTP/2 was agreed upon.
    pub fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Writes, unless the client has no time left to take anything.
    pub(super) fn poll_write_within(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        budget: &mut WriteBudget,
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut *self).poll_write(cx, bytes);
        let sent = budget.watch(cx, sent, |sent| *sent);
        self.give_up_if_late(sent)
    }

    /// Flushes, unless the client has no time left to take anything.
    pub(super) fn poll_flush_within(
        &mut self,
        cx: &mut Context<'_>,
        budget: &mut WriteBudget,
    ) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self).poll_flush(cx);
        let flushed = budget.watch(cx, flushed, |()| 0);
        self.give_up_if_late(flushed)
    }

    /// Lets nothing linger for a client that did not take what was sent: the system would keep it for minutes.
    fn give_up_if_late<T>(&self, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &sent
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.reset();
        }
        sent
    }

    /// Has it end with a reset, and nothing linger, once it is dropped.
    pub(super) fn reset(&self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // Where that cannot be set, the system ends it in its own time.
        let _ = set_socket_linger(socket, Some(Duration::ZERO));
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The most that is read and dropped of what a client still sends after its answer, so that the answer is not lost to
/// it: an upload of some megabytes that came here by mistake.
pub const MOST_DROPPED: usize = 4 * 1024 * 1024;

/// A transport whose end does not overtake what was sent last: once its write side is shut, what the client
/// still sends is read and dropped. Closing at once would reset the connection, and a reset overtakes the
/// answer. Whoever shuts it down sets the time for it; for all that is sent before, there is the client's budget.
#[derive(Debug)]
pub struct Lingering {
    transport: Transport,
    budget: WriteBudget,
    dropped: usize,
}

impl Lingering {
    /// A transport that nothing has been dropped of.
    pub const fn new(transport: Transport, budget: WriteBudget) -> Self {
        Self { transport, budget, dropped: 0 }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, into)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { transport, budget, .. } = self.get_mut();
        transport.poll_write_within(cx, bytes, budget)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { transport, budget, .. } = self.get_mut();
        transport.poll_flush_within(cx, budget)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { transport, dropped, .. } = self.get_mut();
        ready!(Pin::new(&mut *transport).poll_shutdown(cx))?;
        while *dropped < MOST_DROPPED {
            let mut bytes = [MaybeUninit::uninit(); 4096];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut *transport).poll_read(cx, &mut bytes)) {
                Ok(()) if !bytes.filled().is_empty() => *dropped += bytes.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
