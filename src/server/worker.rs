//! The workers: they accept connections and serve them.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use pingora::{proxy::http_proxy, server::configuration::ServerConf};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::watch,
    time::sleep,
};

use super::{
    Phase,
    connections::{Accepting, Place},
    listener::Listener,
};
use crate::{
    downstream::{service::Service, transport::Transport},
    gateway::Gateway,
    proxy::{Admission, Callbacks},
    quota_store::{ANSWER_WITHIN, Line},
    unserved::ConnectionRefused,
};

/// How long accepting pauses when the process is out of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One thread with a runtime of its own: a request stays where its connection was accepted.
pub(super) struct Worker {
    gateway: Arc<Gateway>,
    runtime: Runtime,
    listeners: Vec<(Listener<TcpListener>, Accepting)>,
}

impl Worker {
    /// A worker that has all it needs of the system but its thread.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        listeners: Vec<(Listener<std::net::TcpListener>, Accepting)>,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let registered = listeners
            .into_iter()
            .map(|(listener, accepting)| Ok((listener.try_map(TcpListener::from_std)?, accepting)))
            .collect::<io::Result<_>>()?;
        drop(entered);
        Ok(Self { gateway, runtime, listeners: registered })
    }

    /// Serves for as long as the process lives, from when all of it has started.
    pub(super) fn run(self) {
        let Self { gateway, runtime, listeners } = self;
        runtime.block_on(async {
            let line = Arc::new(Line::new(ANSWER_WITHIN, gateway.metrics.quota_store_errors.clone()));
            let (kept, stores) = (line.clone(), gateway.quota_store.subscribe());
            tokio::spawn(async move { kept.keep(stores).await });
            line.tried().await;
            let conf = Arc::new(ServerConf {
                threads: 1,
                // Room for the connection of every call in flight, so that none is closed only to be made again, unless
                // the limit on open files has no room for as many.
                upstream_keepalive_pool_size: gateway.live().shares.kept,
                // The gateway itself says what may be tried again, and each peer is tried once.
                max_retries: usize::MAX,
                ..ServerConf::default()
            });
            let service = Service {
                admission: Admission { gateway: gateway.clone(), line },
                proxy: Arc::new(http_proxy(&conf, Callbacks)),
                gateway,
                never: watch::channel(false).1,
            };
            for (listener, accepting) in listeners {
                tokio::spawn(accept(listener, service.clone(), accepting));
            }
            // Connections go on while draining; the process ends when the control thread says so.
            pending::<()>().await;
        });
    }
}

async fn accept(mut listener: Listener<TcpListener>, service: Service, accepting: Accepting) {
    let mut phase = service.gateway.phase();
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
                let Some(place) = Place::take(&accepting.0, &service.gateway) else {
                    service.gateway.connection_refused(ConnectionRefused::MaxConnections, client);
                    continue;
                };
                let tls = listener.https.as_mut().map(|https| {
                    https.follow(&service.gateway.live().settings.listen);
                    https.server.clone()
                });
                tokio::spawn(serve(service.clone(), socket, tls, client, place));
            }
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                service.gateway.accept_failed(&error);
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
    if socket.set_nodelay(true).is_ok() {
        let transport = match tls {
            None => Some(Transport::Plain(socket)),
            // In a box, so that plain connections do not carry the room for it.
            Some(tls) => Box::pin(Transport::secure(socket, client, tls, &service.gateway)).await,
        };
        match transport {
            // In a box for the same reason.
            Some(transport) if transport.speaks_http2() => {
                Box::pin(service.serve_http2(transport, client)).await;
            }
            Some(transport) => service.serve(transport, client).await,
            None => {}
        }
    }
    drop(place);
}
