//! The admin listener's connections: as many as there is room for, each with a deadline for all that it does, so that
//! nobody keeps `/readyz` and `/metrics` from those who need them.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{
    server::conn::http1::Builder,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{interval, sleep, timeout},
};

use super::visit::Visit;
use crate::{
    descriptors::ACCEPT_PAUSE,
    downstream::{
        transport::{Lingering, Transport},
        write_budget::WriteBudget,
    },
    gateway::Gateway,
    unserved::ConnectionRefused,
};

/// The most that is read of a request's head before it is refused.
const MAX_HEAD: usize = 16 * 1024;

/// How much the system is to hold for one who does not read: enough for a page of metrics, so little that who watches the
/// events and does not read them is found out soon.
const SEND_BUFFER: usize = 64 * 1024;

/// How often it is asked whether a request is overdue.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long a client may take to close after its answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves whoever connects, for as long as it is polled; those who are connected then are served on.
pub(super) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, routes: Router) -> Infallible {
    let mut visitors = Visitors(Vec::new());
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                if visitors.make_room(&gateway).await {
                    let visit = Visit::begin();
                    let attending = attend(socket, gateway.clone(), routes.clone(), visit.clone());
                    let task = tokio::spawn(attending).abort_handle();
                    visitors.0.push(Visitor { client, visit, task });
                } else {
                    gateway.connection_refused(ConnectionRefused::AdminConnections, client);
                }
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

/// Those who are connected.
struct Visitors(Vec<Visitor>);

/// One connection.
struct Visitor {
    client: SocketAddr,
    visit: Arc<Visit>,
    task: AbortHandle,
}

impl Visitors {
    /// Tells whether there is room for a newcomer; where there is not, somebody who is waited for gives way.
    async fn make_room(&mut self, gateway: &Gateway) -> bool {
        let Self(visitors) = self;
        visitors.retain(|visitor| !visitor.task.is_finished());
        let most = gateway.live().shares.admin;
        let before = visitors.len();
        while visitors.len() >= most {
            let ranked =
                visitors.iter().enumerate().filter_map(|(at, visitor)| Some((visitor.visit.rank()?, at)));
            let Some((_, at)) = ranked.min() else { return false };
            let Visitor { client, task, .. } = visitors.swap_remove(at);
            task.abort();
            gateway.connection_refused(ConnectionRefused::AdminConnections, client);
        }
        if visitors.len() < before {
            // For their sockets to be closed before there is another.
            yield_now().await;
        }
        true
    }
}

/// Answers one client's requests.
async fn attend(socket: TcpStream, gateway: Arc<Gateway>, routes: Router, visit: Arc<Visit>) {
    // Where that cannot be set, it is found out later.
    let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER);
    let (header, idle) = {
        let settings = &gateway.live().settings;
        (settings.deadlines.header, settings.listen.idle_timeout)
    };
    let transport = Lingering::new(Transport::Plain(socket), WriteBudget::new(idle));
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request| {
        visit.ask();
        let (answer, visit) = (routes.call(request), visit.clone());
        async { answer.await.map(|answer| answer.map(|body| visit.answer(body))) }
    });
    let serving = Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(transport), service)
        .without_shutdown();
    let overdue = async {
        let mut checks = interval(CHECK_EVERY);
        while !visit.is_overdue(Instant::now(), header, idle) {
            checks.tick().await;
        }
    };
    let served = tokio::select! {
        served = serving => served,
        () = overdue => return,
    };
    match served {
        Ok(parts) => {
            // Whatever ends it, it is over.
            let _ = timeout(FAREWELL, parts.io.into_inner().shutdown()).await;
        }
        Err(error) => tracing::debug!(%error, "a connection of the admin listener ends"),
    }
}
