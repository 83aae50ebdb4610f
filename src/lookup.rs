//! Looks names up without blocking the runtime.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use tokio::sync::oneshot;

use crate::threads;

/// The addresses of a name, looked up by the system on a thread of its own: the runtime's pool panics where the system
/// has no thread left for it.
///
/// # Errors
/// Those of the look-up, or of starting the thread.
pub(crate) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (answer, answered) = oneshot::channel();
    let host = host.to_owned();
    threads::spawn("look-up", move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // Whoever asked may have had enough of waiting.
        let _ = answer.send(found);
    })?;
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the look-up broke off")))
}
