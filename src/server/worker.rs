//! The workers: they accept connections and serve them.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    time::sleep,
};

use super::{
    connections::{Accepting, Place},
    listener::Listener,
};
use crate::{
    downstream::transport::Transport,
    gateway::{Gateway, Phase},
    quota_store::{ANSWER_WITHIN, Line},
    serve::Service,
};

/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One thread with a runtime of its own: a request stays where its connection was accepted.
pub(super) struct Worker {
    pub(super) gateway: Arc<Gateway>,
    pub(super) listeners: Vec<(Listener<std::net::TcpListener>, Accepting)>,
}

impl Worker {
    pub(super) fn run(self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "a worker cannot start");
                return;
            }
        };
        runtime.block_on(async {
            let line = Arc::new(Line::new(ANSWER_WITHIN, self.gateway.metrics.quota_store_errors.clone()));
            let (kept, stores) = (line.clone(), self.gateway.quota_store.subscribe());
            tokio::spawn(async move { kept.keep(stores).await });
            line.tried().await;
            let service = Service::new(self.gateway.clone(), line);
            tokio::spawn(service.clone().sweep());
            for (listener, accepting) in self.listeners {
                match listener.try_map(TcpListener::from_std) {
                    Ok(listener) => {
                        tokio::spawn(accept(listener, self.gateway.clone(), service.clone(), accepting));
                    }
                    Err(error) => tracing::error!(%error, "a worker cannot listen"),
                }
            }
            // Connections go on while draining; the process ends when the control thread says so.
            pending::<()>().await;
        });
    }
}

async fn accept(
    mut listener: Listener<TcpListener>,
    gateway: Arc<Gateway>,
    service: Service,
    accepting: Accepting,
) {
    let mut phase = gateway.phase();
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = phase.wait_for(|phase| *phase >= Phase::Retiring) => return,
        };
        match accepted {
            Ok((socket, client)) => {
                if let Some(place) = Place::take(&accepting.0, &gateway) {
                    let tls = listener.https.as_mut().map(|https| {
                        https.follow(&gateway.live().settings.listen);
                        https.server.clone()
                    });
                    tokio::spawn(serve(service.clone(), socket, tls, client, place));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    service: Service,
    socket: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    client: SocketAddr,
    place: Place,
) {
    tracing::debug!(%client, is_tls = tls.is_some(), "a connection begins");
    if socket.set_nodelay(true).is_ok() {
        let transport = match tls {
            None => Some(Transport::Plain(socket)),
            // In a box, so that plain connections do not carry the room for it.
            Some(tls) => Box::pin(Transport::secure(socket, client, tls)).await,
        };
        if let Some(transport) = transport {
            service.serve(transport, client).await;
        }
    }
    drop(place);
    tracing::debug!(%client, "a connection ends");
}
