//! The sockets that are listened on.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::Error;
use crate::config::Https;

/// Connections that may wait to be accepted, per listener.
const BACKLOG: u32 = 4096;

/// One address that is listened on.
#[derive(Debug)]
pub(super) struct Listener<S> {
    pub(super) socket: S,
    /// The TLS there, as it was configured at the start; none: plain HTTP.
    pub(super) https: Option<Https>,
}

impl<S> Listener<S> {
    pub(super) fn try_map<T>(self, map: impl FnOnce(S) -> io::Result<T>) -> io::Result<Listener<T>> {
        Ok(Listener { socket: map(self.socket)?, https: self.https })
    }
}

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| Error::Listen { address, source })
}
