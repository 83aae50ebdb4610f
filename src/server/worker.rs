//! The workers: they accept connections and serve them.

use std::{future::pending, io, net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    time::sleep,
};

use super::{
    connections::{Accepting, Place},
    listener::Listener,
};
use crate::{
    descriptors::ACCEPT_PAUSE,
    downstream::transport::Transport,
    gateway::{Gateway, Phase},
    quota_store::{ANSWER_WITHIN, StoreConnection},
    serve::{IdleConnections, Service, Terms},
    unserved::ConnectionRefused,
};

/// One thread with a runtime of its own: a request stays where its connection was accepted.
pub(super) struct Worker {
    gateway: Arc<Gateway>,
    runtime: Runtime,
    listeners: Vec<(Listener<TcpListener>, Accepting)>,
    idle: Arc<IdleConnections>,
}

impl Worker {
    /// A worker that has all it needs of the system but its thread.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        listeners: Vec<(Listener<std::net::TcpListener>, Accepting)>,
        idle: Arc<IdleConnections>,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let registered = listeners
            .into_iter()
            .map(|(listener, accepting)| Ok((listener.try_map(TcpListener::from_std)?, accepting)))
            .collect::<io::Result<_>>()?;
        drop(entered);
        Ok(Self { gateway, runtime, listeners: registered, idle })
    }

    /// Serves for as long as the process lives, from when all of it has started.
    pub(super) fn run(self) {
        let Self { gateway, runtime, listeners, idle } = self;
        runtime.block_on(async {
            let redis =
                Arc::new(StoreConnection::new(ANSWER_WITHIN, gateway.metrics.quota_store_errors.clone()));
            let (kept, stores) = (redis.clone(), gateway.quota_store.subscribe());
            tokio::spawn(async move { kept.keep(stores).await });
            redis.tried().await;
            let service = Service::new(gateway.clone(), redis, idle);
            tokio::spawn(service.clone().sweep());
            for (listener, accepting) in listeners {
                tokio::spawn(accept(listener, gateway.clone(), service.clone(), accepting));
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
    // A start that fails has not accepted what it then drops.
    if phase.wait_for(|phase| *phase >= Phase::Serving).await.is_err() {
        return;
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = phase.wait_for(|phase| *phase >= Phase::Retiring) => return,
        };
        match accepted {
            Ok((socket, client)) => {
                let Some(place) = Place::take(&accepting.open, &gateway).await else {
                    gateway.connection_refused(ConnectionRefused::MaxConnections, client);
                    continue;
                };
                let tls = listener.https.as_mut().map(|https| {
                    let live = gateway.live();
                    https.follow(&live.settings.listen);
                    (https.server.clone(), Box::new(Terms::of(https, &live)))
                });
                tokio::spawn(serve(gateway.clone(), service.clone(), socket, tls, client, place));
            }
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                gateway.accept_failed(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    gateway: Arc<Gateway>,
    service: Service,
    socket: TcpStream,
    tls: Option<(Arc<ServerConfig>, Box<Terms>)>,
    client: SocketAddr,
    place: Place,
) {
    tracing::debug!(%client, is_tls = tls.is_some(), "a connection begins");
    if socket.set_nodelay(true).is_ok() {
        let transport = match tls {
            None => Some((Transport::Plain(socket), None)),
            // In a box, so that plain connections do not carry the room for it.
            Some((tls, mut terms)) => match Box::pin(Transport::secure(socket, tls)).await {
                Ok(transport) => transport.map(|transport| {
                    terms.accept(transport.certificates());
                    (transport, Some(terms))
                }),
                Err((failure, error)) => {
                    gateway.handshake_failed(failure, client, &error);
                    None
                }
            },
        };
        if let Some((transport, terms)) = transport {
            service.serve(transport, client, terms).await;
        }
    }
    drop(place);
    tracing::debug!(%client, "a connection ends");
}
