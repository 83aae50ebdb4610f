//! The process: it opens the listeners, starts the workers, and ends when it is told to.

use std::{
    fmt,
    future::pending,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pingora::{apps::HttpServerOptions, proxy::http_proxy, server::configuration::ServerConf};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    time::{interval, sleep, timeout},
};

use crate::{
    admin,
    config::{Https, Listen, Settings},
    downstream::{connection::Service, transport::Transport},
    gateway::Gateway,
    proxy::Handle,
    upstream::peers::LOOKUP_EVERY,
};

/// Connections that may wait to be accepted, per listener.
const BACKLOG: u32 = 4096;

/// How often idle users are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How often the log is told of certificates that expire soon.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not accepting yet.
    Starting,
    /// Accepting.
    Serving,
    /// Accepting no more, finishing what is in flight.
    Draining,
}

/// Why the gateway could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A log file cannot be opened.
    #[error("cannot open the access log: {0}")]
    AccessLog(io::Error),
    /// A runtime, thread or signal handler cannot be had.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// A gateway that listens, ready to be run.
pub struct Server {
    gateway: Arc<Gateway>,
    control: Runtime,
    listeners: Vec<Listener<TcpListener>>,
    admin: TcpListener,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens what the settings name: log files and listeners.
    ///
    /// # Errors
    /// What cannot be opened.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let control = runtime::Builder::new_current_thread().enable_all().build()?;
        let gateway = Arc::new(Gateway::open(settings).map_err(Error::AccessLog)?);
        let live = gateway.live();
        let _entered = control.enter();
        let Listen { http, https, .. } = &live.settings.listen;
        let plain = http.iter().map(|&address| (address, None));
        let secured = https.iter().map(|https| (https.address, Some(https.clone())));
        let open = |(address, https)| Ok(Listener { socket: listen(address)?, https });
        let listeners = plain.chain(secured).map(open).collect::<Result<_, Error>>()?;
        let admin = listen(live.settings.listen.admin)?;
        drop(_entered);
        Ok(Self { gateway, control, listeners, admin })
    }

    /// Where it listens for calls.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }

    /// Where the admin listener is.
    ///
    /// # Errors
    /// Those of the system.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until a signal ends it, `beside` running along. SIGHUP reads `config` again, where there is one.
    ///
    /// # Errors
    /// When a thread or signal handler cannot be had.
    pub fn run(self, config: Option<&Path>, beside: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { gateway, control, listeners, admin } = self;
        for listener in &listeners {
            let address = listener.socket.local_addr()?;
            match listener.https {
                None => tracing::info!(http = %address, "listening"),
                Some(_) => tracing::info!(https = %address, "listening"),
            }
        }
        tracing::info!(admin = %admin.local_addr()?, "listening");
        let (phase, phases) = watch::channel(Phase::Starting);
        let (draining, drain) = watch::channel(false);
        let open = Arc::new(OpenConnections::default());
        let listeners = listeners
            .into_iter()
            .map(|listener| listener.try_map(TcpListener::into_std))
            .collect::<io::Result<Vec<_>>>()?;
        let result = control.block_on(async {
            gateway.live().peers.look_up().await;
            for number in 0..gateway.live().settings.listen.threads.get() {
                let clone = |listener: &Listener<std::net::TcpListener>| {
                    let socket = listener.socket.try_clone()?;
                    Ok(Listener { socket, https: listener.https.clone() })
                };
                let listeners = listeners.iter().map(clone).collect::<io::Result<_>>()?;
                let worker =
                    Worker { gateway: gateway.clone(), listeners, open: open.clone(), drain: drain.clone() };
                thread::Builder::new().name(format!("worker-{number}")).spawn(move || worker.run())?;
            }
            drop(listeners);
            phase.send_replace(Phase::Serving);
            tracing::info!("ready");
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            // The admin listener stays until the process ends, so that readiness can be seen to go.
            let draining = async {
                terminate.recv().await;
                phase.send_replace(Phase::Draining);
                draining.send_replace(true);
                drained(&gateway, &open).await;
            };
            let ended = tokio::select! {
                _ = interrupt.recv() => "at once",
                () = draining => "drained",
                served = admin::serve(admin, gateway.clone(), phases) => {
                    served?;
                    "for want of the admin listener"
                }
                reloads = reload_on_hangup(&gateway, config) => {
                    reloads?;
                    "for want of signals"
                }
                () = housekeeping(&gateway) => "for want of housekeeping",
                () = async { beside.await; pending().await } => "for want of company",
            };
            tracing::info!(?ended, "stopped");
            Ok(())
        });
        if let Some(log) = &gateway.live().access_log {
            log.close();
        }
        result
    }
}

/// Reads the configuration again whenever SIGHUP asks for it.
async fn reload_on_hangup(gateway: &Gateway, config: Option<&Path>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        hangup.recv().await;
        let Some(config) = config else {
            tracing::info!("there is no configuration to read again");
            continue;
        };
        let is_successful = reload(gateway, config);
        gateway.metrics.reloaded(is_successful);
        if is_successful {
            gateway.live().peers.look_up().await;
        }
    }
}

/// Follows the configuration file as it is now, or, where that is faulty, tells why and changes nothing.
fn reload(gateway: &Gateway, config: &Path) -> bool {
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in faults {
                tracing::error!(%fault, "the configuration is not sound; the one in force stays");
            }
            return false;
        }
    };
    let addresses = |listen: &Listen| -> Vec<_> { listen.https.iter().map(|https| https.address).collect() };
    let (new, old) = (settings.listen.clone(), gateway.live().settings.listen.clone());
    if let Err(error) = gateway.reload(settings) {
        tracing::error!(%error, "the configuration cannot be followed; the one in force stays");
        return false;
    }
    for (key, is_changed) in [
        ("listen.http", new.http != old.http),
        ("listen.https", addresses(&new) != addresses(&old)),
        ("listen.admin", new.admin != old.admin),
        ("listen.threads", new.threads != old.threads),
    ] {
        if is_changed {
            tracing::warn!(key, "cannot change while running; restart or upgrade to follow it");
        }
    }
    tracing::info!("the configuration is in force");
    true
}

/// Waits until no connection is left, or no longer than that may take.
async fn drained(gateway: &Gateway, open: &OpenConnections) {
    let within = gateway.live().settings.listen.drain_timeout;
    tracing::info!(connections = open.count(), "draining");
    if timeout(within, open.none()).await.is_err() {
        tracing::warn!(connections = open.count(), "draining took too long; what is left is cut");
    }
}

/// What goes on beside the requests, for as long as the process lives.
async fn housekeeping(gateway: &Gateway) {
    let names = async {
        let mut lookups = interval(LOOKUP_EVERY);
        loop {
            lookups.tick().await;
            let peers = gateway.live().peers.clone();
            if !peers.are_literal() {
                peers.look_up().await;
            }
        }
    };
    let idle_users = async {
        let mut sweeps = interval(FORGET_EVERY);
        loop {
            sweeps.tick().await;
            gateway.live().ledger.forget_idle(Instant::now());
        }
    };
    let certificates = async {
        let mut warnings = interval(WARN_EVERY);
        // The first tick is at once, and at the start the warning has been given.
        warnings.tick().await;
        loop {
            warnings.tick().await;
            gateway.live().warn_of_expiry();
        }
    };
    tokio::select! {
        () = names => {}
        () = certificates => {}
        () = idle_users => {}
    }
}

/// One address that is listened on.
#[derive(Debug)]
struct Listener<S> {
    socket: S,
    /// The TLS there, as it was configured at the start; none: plain HTTP.
    https: Option<Https>,
}

impl<S> Listener<S> {
    fn try_map<T>(self, map: impl FnOnce(S) -> io::Result<T>) -> io::Result<Listener<T>> {
        Ok(Listener { socket: map(self.socket)?, https: self.https })
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| Error::Listen { address, source })
}

/// How many connections are open, over all workers.
#[derive(Debug, Default)]
struct OpenConnections {
    count: AtomicUsize,
    closed: Notify,
}

impl OpenConnections {
    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there are none.
    async fn none(&self) {
        loop {
            let closed = self.closed.notified();
            if self.count() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// One connection's place among those allowed, given back when dropped.
struct Place {
    open: Arc<OpenConnections>,
    gateway: Arc<Gateway>,
}

impl Place {
    fn take(open: &Arc<OpenConnections>, gateway: &Arc<Gateway>) -> Option<Self> {
        let before = open.count.fetch_add(1, Ordering::AcqRel);
        gateway.metrics.connections.inc();
        let place = Self { open: open.clone(), gateway: gateway.clone() };
        (before < gateway.live().settings.listen.max_connections).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.metrics.connections.dec();
        if self.open.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.open.closed.notify_waiters();
        }
    }
}

/// One thread with a runtime of its own: a request stays where its connection was accepted.
struct Worker {
    gateway: Arc<Gateway>,
    listeners: Vec<Listener<std::net::TcpListener>>,
    open: Arc<OpenConnections>,
    drain: watch::Receiver<bool>,
}

impl Worker {
    fn run(self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "a worker cannot start");
                return;
            }
        };
        runtime.block_on(async {
            let conf = Arc::new(ServerConf { threads: 1, ..ServerConf::default() });
            let mut proxy = http_proxy(&conf, Handle(self.gateway.clone()));
            // CONNECT is refused like any other method, in the gateway's own words.
            let mut options = HttpServerOptions::default();
            options.allow_connect_method_proxying = true;
            proxy.server_options = Some(options);
            let service = Service {
                proxy: Arc::new(proxy),
                gateway: self.gateway.clone(),
                draining: self.drain.clone(),
            };
            for listener in self.listeners {
                match listener.try_map(TcpListener::from_std) {
                    Ok(listener) => {
                        tokio::spawn(accept(listener, service.clone(), self.open.clone()));
                    }
                    Err(error) => tracing::error!(%error, "a worker cannot listen"),
                }
            }
            // Connections go on while draining; the process ends when the control thread says so.
            pending::<()>().await;
        });
    }
}

async fn accept(mut listener: Listener<TcpListener>, service: Service, open: Arc<OpenConnections>) {
    let mut draining = service.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match accepted {
            Ok((socket, client)) => {
                if let Some(place) = Place::take(&open, &service.gateway) {
                    let tls = listener.https.as_mut().map(|https| {
                        https.follow(&service.gateway.live().settings.listen);
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
    if socket.set_nodelay(true).is_ok() {
        let transport = match tls {
            None => Some(Transport::Plain(socket)),
            // In a box, so that plain connections do not carry the room for it.
            Some(tls) => Box::pin(Transport::secure(socket, tls)).await,
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
