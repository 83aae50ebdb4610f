//! The admin listener's socket: so many connections as there is room for, and word of what cannot be accepted.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use crate::{descriptors::ACCEPT_PAUSE, gateway::Gateway, unserved::ConnectionRefused};

/// The socket, and who may still connect to it.
pub(super) struct AdminListener {
    socket: TcpListener,
    places: Arc<Semaphore>,
    gateway: Arc<Gateway>,
}

impl AdminListener {
    /// A listener that nobody has connected to.
    pub(super) fn new(socket: TcpListener, gateway: Arc<Gateway>) -> Self {
        let places = Arc::new(Semaphore::new(gateway.live().shares.admin));
        Self { socket, places, gateway }
    }
}

impl axum::serve::Listener for AdminListener {
    type Io = AdminConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (AdminConnection, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((socket, client)) => match self.places.clone().try_acquire_owned() {
                    Ok(place) => return (AdminConnection { socket, _place: place }, client),
                    Err(_) => self.gateway.connection_refused(ConnectionRefused::AdminConnections, client),
                },
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.gateway.accept_failed(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection with its place, given back when it is dropped.
pub(super) struct AdminConnection {
    socket: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AdminConnection {
    fn socket(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().socket)
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_read(cx, into)
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}
