//! The listening sockets.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::net::sockopt::{ipv6_v6only, set_ipv6_v6only};
use tokio::net::{TcpListener, TcpSocket};

use super::{Error, upgrade::Inherited};
use crate::config::{Https, Listen};

/// Connections that may wait to be accepted, per listener.
const BACKLOG: u32 = 4096;

/// One address that is listened on.
#[derive(Debug)]
pub(super) struct Listener<S> {
    /// As it was configured; its port may be the system's to choose.
    pub(super) address: SocketAddr,
    pub(super) socket: S,
    /// The TLS there, as it was configured at the start; none: plain HTTP.
    pub(super) https: Option<Https>,
}

impl<S> Listener<S> {
    pub(super) fn try_map<T>(self, map: impl FnOnce(S) -> io::Result<T>) -> io::Result<Listener<T>> {
        Ok(Listener { address: self.address, socket: map(self.socket)?, https: self.https })
    }
}

/// Listens on an address, by the socket that was inherited for it where there is one.
pub(super) fn listen(
    address: SocketAddr,
    settings: &Listen,
    inherited: &mut Inherited,
) -> Result<TcpListener, Error> {
    // Said either way for all of IPv6, because the system's default can be changed.
    let ipv6_alone = (address.ip() == Ipv6Addr::UNSPECIFIED).then(|| settings.takes_ipv6_alone(address));
    let mut open = || {
        if let Some(socket) = inherited.take(address) {
            if ipv6_alone.is_some_and(|alone| ipv6_v6only(&socket).is_ok_and(|is_alone| is_alone != alone)) {
                return Err(io::Error::other(
                    "whether [::] takes IPv4 too cannot change with an upgrade, only with a restart",
                ));
            }
            return TcpListener::from_std(socket);
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        if let Some(alone) = ipv6_alone {
            set_ipv6_v6only(&socket, alone)?;
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| Error::Listen { address, source })
}

impl Listener<std::net::TcpListener> {
    /// The same listener by another handle.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { address: self.address, socket: self.socket.try_clone()?, https: self.https.clone() })
    }
}

/// All sockets that are listened on.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) listeners: Vec<Listener<std::net::TcpListener>>,
    pub(super) admin: Listener<std::net::TcpListener>,
}

impl Sockets {
    /// Each with the address it was configured with.
    pub(super) fn to_hand_over(&self) -> Vec<(SocketAddr, BorrowedFd<'_>)> {
        let all = self.listeners.iter().chain([&self.admin]);
        all.map(|listener| (listener.address, listener.socket.as_fd())).collect()
    }
}
