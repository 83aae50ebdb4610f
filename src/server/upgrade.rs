//! An upgrade: one process hands its listening sockets to its successor, over a Unix socket.
//!
//! The successor waits at `listen.upgrade_socket`; the running process connects to it when it is told to. Each
//! makes sure that the other belongs to the same user. The running process goes on serving until the successor
//! has said that it serves, so that nothing that fails on the way changes anything.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

use crate::unix_socket::OwnSocket;

/// How long either side waits for the other, once they talk.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// The most sockets that one message carries (Linux: `SCM_MAX_FD`).
const MOST_SOCKETS: usize = 253;

/// The most that the message beside them takes.
const MOST_BYTES: usize = 64 * 1024;

/// What the successor says once it serves.
const SERVING: u8 = b'!';

/// Listening sockets that another process has given up, each with the address it was configured with.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Takes the socket for this address, if there is one. Those that nobody takes are closed.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(inherited, _)| *inherited == address)?;
        Some(self.0.remove(place).1)
    }
}

/// The process whose sockets have been taken over, waiting to hear that they are served.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    /// Stays until then, so that whoever watches the file knows when the upgrade is done.
    _post: OwnSocket,
}

impl Predecessor {
    /// Tells it that its sockets are served.
    ///
    /// # Errors
    /// It is gone, or would not wait.
    pub(super) async fn relieve(mut self) -> io::Result<()> {
        self.stream.write_all(&[SERVING]).await
    }
}

/// Waits until the running process hands its sockets over.
///
/// # Errors
/// Those of the socket, and another successor that waits there already.
pub(super) async fn await_sockets(path: &Path) -> io::Result<(Inherited, Predecessor)> {
    let post = OwnSocket::take(path).await?;
    tracing::info!(socket = %path.display(), "waiting for the running process; send it SIGQUIT");
    loop {
        let stream = post.accept().await?;
        match timeout(REPLY_WITHIN, receive(&stream)).await {
            Ok(Ok(inherited)) => return Ok((inherited, Predecessor { stream, _post: post })),
            Ok(Err(error)) => tracing::warn!(%error, "no sockets came; waiting on"),
            Err(_) => tracing::warn!("the sockets did not come in time; waiting on"),
        }
    }
}

/// Hands these sockets to the successor and waits until it serves them.
///
/// # Errors
/// There is none, or it did not come to serve; then nothing has changed.
pub(super) async fn hand_over(path: &Path, sockets: &[(SocketAddr, BorrowedFd<'_>)]) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    check_owner(&stream)?;
    let served = async {
        send(&stream, sockets).await?;
        match stream.read_u8().await? {
            SERVING => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    timeout(REPLY_WITHIN, served).await?
}

fn check_owner(stream: &UnixStream) -> io::Result<()> {
    if stream.peer_cred()?.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other process belongs to another user"))
}

/// One message: a line of addresses, and a socket for each.
async fn send(stream: &UnixStream, sockets: &[(SocketAddr, BorrowedFd<'_>)]) -> io::Result<()> {
    let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
    let mut line = serde_json::to_vec(&addresses)?;
    line.push(b'\n');
    if sockets.len() > MOST_SOCKETS || line.len() > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are too many listeners"));
    }
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| *socket).collect();
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(sendmsg(stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?)
    });
    let mut rest = &line[sent.await?..];
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn receive(stream: &UnixStream) -> io::Result<Inherited> {
    check_owner(stream)?;
    let mut line = Vec::new();
    let mut sockets: Vec<OwnedFd> = Vec::new();
    while !line.ends_with(b"\n") {
        let mut bytes = [0; 4096];
        let count = stream.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(stream, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    sockets.extend(received);
                }
            }
            Ok(received.bytes)
        });
        let count = count.await?;
        if count == 0 || line.len() + count > MOST_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&bytes[..count]);
    }
    let addresses: Vec<SocketAddr> = serde_json::from_slice(&line)?;
    if addresses.len() != sockets.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is not one socket for each address"));
    }
    let mut inherited = Vec::with_capacity(sockets.len());
    for (address, socket) in addresses.into_iter().zip(sockets) {
        if !rustix::net::sockopt::socket_acceptconn(socket.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a socket does not listen"));
        }
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        inherited.push((address, listener));
    }
    Ok(Inherited(inherited))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    #[tokio::test]
    async fn sockets_pass_from_one_process_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let sockets = [listener(), listener()];
        let borrowed = sockets.each_ref().map(|(address, socket)| (*address, socket.as_fd()));
        assert!(hand_over(&path, &borrowed).await.is_err(), "nobody waits yet");
        let successor = async {
            let (mut inherited, predecessor) = await_sockets(&path).await.unwrap();
            for (address, _) in &sockets {
                let taken = inherited.take(*address).unwrap();
                assert_eq!(taken.local_addr().unwrap(), *address);
                assert!(inherited.take(*address).is_none(), "each once");
            }
            predecessor.relieve().await.unwrap();
        };
        let predecessor = async {
            while hand_over(&path, &borrowed).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(successor, predecessor);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_successor_that_ends_has_taken_nothing_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let socket = listener();
        let post = OwnSocket::take(&path).await.unwrap();
        assert!(OwnSocket::take(&path).await.is_err(), "one waits already");
        drop(post.accept().await.unwrap());
        let successor = async {
            let stream = post.accept().await.unwrap();
            receive(&stream).await.unwrap();
        };
        let sockets = [(socket.0, socket.1.as_fd())];
        let (handed_over, ()) = tokio::join!(hand_over(&path, &sockets), successor);
        assert_eq!(handed_over.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_no_listening_socket_is_not_taken() {
        let (near, far) = UnixStream::pair().unwrap();
        let stray = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        send(&near, &[("127.0.0.1:80".parse().unwrap(), stray.as_fd())]).await.unwrap();
        assert!(receive(&far).await.is_err());
        let (near, far) = UnixStream::pair().unwrap();
        near.try_write(b"[\"127.0.0.1:80\"]\n").unwrap();
        assert!(receive(&far).await.is_err(), "an address without a socket");
    }
}
