//! The process: it opens the listeners, starts the workers, and ends when it is told to.

mod connections;
mod listener;
mod reload;
mod worker;

use std::{
    fmt,
    future::pending,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{interval, timeout},
};

use crate::{
    admin,
    config::{Listen, Settings},
    gateway::Gateway,
    upstream::{health, peers::LOOKUP_EVERY},
};
use connections::OpenConnections;
use listener::{Listener, listen};
use reload::reload_on_hangup;
use worker::Worker;

/// How often idle users are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How often the log is told of certificates that expire soon.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

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
        never = health::watch(gateway) => match never {},
        () = names => {}
        () = certificates => {}
        () = idle_users => {}
    }
}
