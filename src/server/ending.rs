//! How the process ends: SIGTERM drains it, SIGQUIT hands its sockets to a successor first.

use std::future::pending;

use tokio::{signal::unix::Signal, time::sleep};

use super::{connections::OpenConnections, listener::Sockets, upgrade::hand_over};
use crate::gateway::{Gateway, Phase};

/// What an orderly end needs.
pub(super) struct Ends<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) open: &'a OpenConnections,
    pub(super) sockets: Sockets,
    pub(super) terminate: Signal,
    pub(super) quit: Signal,
}

impl Ends<'_> {
    /// Waits until the process has been told to end and nothing is in flight, or that took too long.
    pub(super) async fn wait(self) {
        let Self { gateway, open, sockets, mut terminate, mut quit } = self;
        let succeeded = async {
            loop {
                quit.recv().await;
                if is_succeeded(gateway, &sockets).await {
                    break;
                }
            }
        };
        gateway.enter(tokio::select! {
            _ = terminate.recv() => Phase::Draining,
            () = succeeded => Phase::Retiring,
        });
        // What waits to be accepted is the successor's, or is refused with the last handle.
        drop(sockets);
        tracing::info!(connections = open.count(), "draining");
        let told_again = async {
            terminate.recv().await;
            gateway.enter(Phase::Draining);
            pending().await
        };
        tokio::select! {
            () = open.none() => {}
            () = told_again => {}
            () = sleep(gateway.live().settings.listen.drain_timeout) => {
                tracing::warn!(connections = open.count(), "draining took too long; what is left is cut");
            }
        }
    }
}

/// Hands the sockets to a successor, if one waits and comes to serve.
async fn is_succeeded(gateway: &Gateway, sockets: &Sockets) -> bool {
    let Some(path) = gateway.live().settings.listen.upgrade_socket.clone() else {
        tracing::warn!("listen.upgrade_socket is not set, so no process can take over; nothing changes");
        return false;
    };
    match hand_over(&path, &sockets.to_hand_over()).await {
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
