//! How the process ends: SIGTERM drains it, SIGQUIT hands its sockets to a successor first.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::{Phase, connections::OpenConnections, listener::Sockets, upgrade::hand_over};
use crate::gateway::Gateway;

/// The signals that are not to end the process as they would by themselves.
pub(super) struct Signals {
    terminate: Signal,
    quit: Signal,
    /// A file that has grown to its limit is an error of that write, not the end of the process.
    _file_too_large: Signal,
}

impl Signals {
    /// Listens for them from now on.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }
}

/// What makes the process end in good order.
pub(super) struct Ends<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) open: &'a OpenConnections,
    pub(super) sockets: Sockets,
    pub(super) signals: Signals,
}

impl Ends<'_> {
    /// Waits until the process has been told to end and nothing is in flight, or that took too long.
    pub(super) async fn wait(mut self) {
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break self.gateway.enter(Phase::Draining),
                _ = self.signals.quit.recv() => {
                    if self.is_succeeded().await {
                        break self.gateway.enter(Phase::Retiring);
                    }
                }
            }
        }
        // What waits to be accepted is the successor's, or is refused with the last handle.
        drop(self.sockets);
        let within = self.gateway.live().settings.listen.drain_timeout;
        tracing::info!(connections = self.open.count(), "draining");
        let drained = async {
            tokio::select! {
                () = self.open.none() => {}
                () = async {
                    self.signals.terminate.recv().await;
                    self.gateway.enter(Phase::Draining);
                    self.open.none().await;
                } => {}
            }
        };
        if timeout(within, drained).await.is_err() {
            tracing::warn!(connections = self.open.count(), "draining took too long; what is left is cut");
        }
    }

    async fn is_succeeded(&self) -> bool {
        let Some(path) = self.gateway.live().settings.listen.upgrade_socket.clone() else {
            tracing::warn!("listen.upgrade_socket is not set, so no process can take over; nothing changes");
            return false;
        };
        match hand_over(&path, &self.sockets.to_hand_over()).await {
            Ok(()) => {
                tracing::info!("another process has taken over");
                true
            }
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "no process has taken over; nothing changes");
                false
            }
        }
    }
}
