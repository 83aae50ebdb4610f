//! The process: listeners, workers, housekeeping, and how it starts and ends.

mod connections;
mod control;
mod ending;
mod health;
mod listener;
mod reload;
mod report;
mod upgrade;
mod worker;

use std::{
    fmt,
    future::pending,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::{net::TcpListener, time::interval};

use crate::{
    admin, admin_socket,
    config::{Listen, Settings},
    descriptors,
    gateway::{self, Gateway, Phase},
    threads,
    unix_socket::OwnSocket,
    upstream::peers::LOOKUP_EVERY,
};
use connections::{Accepting, OpenConnections};
use control::Signals;
use ending::Ends;
use listener::{Listener, Sockets, listen};
use reload::reload_on_hangup;
use upgrade::{Inherited, Predecessor, await_sockets};
use worker::Worker;

pub use control::Control;

/// How often idle users are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How often it is told that client networks are let in again.
const END_BLOCKS_EVERY: Duration = Duration::from_secs(1);

/// How often the log is told what an operator should know, such as which certificates expire soon.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

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
    #[error(transparent)]
    Open(#[from] gateway::OpenError),
    /// An upgrade was asked for, and there is no place for it.
    #[error(
        "listen.upgrade_socket is not set; set it, as in the running process's configuration, to upgrade"
    )]
    NoUpgradeSocket,
    /// The sockets cannot be taken over.
    #[error("cannot take the sockets over by {}: {source}", socket.display())]
    Upgrade {
        /// Where the running process was waited for.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The admin socket cannot be listened on.
    #[error("cannot listen on listen.admin_socket {}: {source}", socket.display())]
    AdminSocket {
        /// Its path.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A runtime, thread or signal handler cannot be had.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// A gateway that listens, ready to be run.
pub struct Server {
    gateway: Arc<Gateway>,
    control: Control,
    listeners: Vec<Listener<TcpListener>>,
    admin: Listener<TcpListener>,
    admin_socket: Option<OwnSocket>,
    predecessor: Option<Predecessor>,
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
    pub fn open(settings: Settings, control: Control) -> Result<Self, Error> {
        descriptors::raise_limit();
        let gateway = Arc::new(Gateway::open(settings)?);
        Self::with(control, gateway, Inherited::default(), None)
    }

    /// Opens what the settings name but for the listeners, which it takes over from the running process; waits
    /// for that process to hand them over. `None`: it was told to end before that.
    ///
    /// # Errors
    /// What cannot be opened; then the running process goes on as before.
    pub fn take_over(settings: Settings, mut control: Control) -> Result<Option<Self>, Error> {
        let socket = settings.listen.upgrade_socket.clone().ok_or(Error::NoUpgradeSocket)?;
        descriptors::raise_limit();
        // Before anything is taken over, so that what fails here has changed nothing.
        let gateway = Arc::new(Gateway::open(settings)?);
        let handed_over = control.signals.unless_ended(await_sockets(&socket));
        let Some(handed_over) = control.runtime.block_on(handed_over) else { return Ok(None) };
        let (inherited, predecessor) =
            handed_over.map_err(|source| Error::Upgrade { socket: socket.clone(), source })?;
        Self::with(control, gateway, inherited, Some(predecessor)).map(Some)
    }

    fn with(
        control: Control,
        gateway: Arc<Gateway>,
        mut inherited: Inherited,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, Error> {
        let live = gateway.live();
        live.warn_of_shares();
        let entered = control.runtime.enter();
        let settings = &live.settings.listen;
        let Listen { http, https, admin, .. } = settings;
        let plain = http.iter().map(|&address| (address, None));
        let secured = https.iter().map(|https| (https.address, Some(https.clone())));
        let mut open = |(address, https)| {
            Ok::<_, Error>(Listener { address, socket: listen(address, settings, &mut inherited)?, https })
        };
        let listeners = plain.chain(secured).map(&mut open).collect::<Result<_, _>>()?;
        let admin = open((*admin, None))?;
        let admin_socket = settings.admin_socket.as_deref().map(|socket| {
            let taken = match predecessor {
                None => control.runtime.block_on(OwnSocket::take(socket)),
                // That one goes on without it.
                Some(_) => OwnSocket::replace(socket),
            };
            taken.map_err(|source| Error::AdminSocket { socket: socket.to_owned(), source })
        });
        let admin_socket = admin_socket.transpose()?;
        drop(entered);
        Ok(Self { gateway, control, listeners, admin, admin_socket, predecessor })
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
        self.admin.socket.local_addr()
    }

    /// Serves until a signal ends it, `beside` running along. SIGHUP reads `config` again, where there is one.
    ///
    /// # Errors
    /// When a thread or signal handler cannot be had.
    pub fn run(self, config: Option<&Path>, beside: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { gateway, control, listeners, admin, admin_socket, predecessor } = self;
        for listener in &listeners {
            let address = listener.socket.local_addr()?;
            match listener.https {
                None => tracing::info!(http = %address, "listening"),
                Some(_) => tracing::info!(https = %address, "listening"),
            }
        }
        tracing::info!(admin = %admin.socket.local_addr()?, "listening");
        let open = Arc::new(OpenConnections::on(gateway.live().settings.listen.threads.get()));
        let sockets = Sockets {
            listeners: listeners
                .into_iter()
                .map(|listener| listener.try_map(TcpListener::into_std))
                .collect::<io::Result<_>>()?,
            admin: admin.try_map(TcpListener::into_std)?,
        };
        let Control { runtime, mut signals } = control;
        let peers = gateway.live().peers.clone();
        if runtime.block_on(signals.unless_ended(peers.look_up())).is_none() {
            tracing::info!("stopped before serving");
            gateway.close();
            runtime.shutdown_background();
            return Ok(());
        }
        let Signals { mut interrupt, terminate, hangup, quit, _file_too_large } = signals;
        // Not within the runtime: what fails here drops another, which must not happen in one.
        let started = start_workers(&gateway, &sockets, &open);
        let serving = async {
            let admin = TcpListener::from_std(sockets.admin.duplicate()?.socket)?;
            let ends = Ends { gateway: &gateway, open: &open, sockets, terminate, quit };
            gateway.enter(Phase::Serving);
            tracing::info!("ready");
            // With its number, for a service manager that knew the process before it as the service's.
            let ready = [
                NotifyState::Ready,
                NotifyState::MainPid(std::process::id()),
                NotifyState::Status(report::SERVING),
            ];
            if let Err(error) = sd_notify::notify(&ready) {
                tracing::warn!(%error, "the service manager cannot be told");
            }
            if let Some(predecessor) = predecessor
                && let Err(error) = predecessor.relieve().await
            {
                tracing::warn!(%error, "the process that handed its sockets over cannot be told");
            }
            let ended = tokio::select! {
                _ = interrupt.recv() => "at once",
                () = ends.wait() => "drained",
                never = admin::serve(admin, gateway.clone()) => match never {},
                never = admin_socket::serve(admin_socket, &gateway) => match never {},
                never = open.follow(&gateway) => match never {},
                never = reload_on_hangup(&gateway, config, hangup) => match never {},
                () = housekeeping(&gateway) => "for want of housekeeping",
                () = async { beside.await; pending().await } => "for want of company",
            };
            tracing::info!(ended, "stopped");
            Ok(())
        };
        let result = started.and_then(|()| runtime.block_on(serving));
        gateway.close();
        // A name that is still being looked up is waited for by nobody.
        runtime.shutdown_background();
        result
    }
}

/// Starts the workers' threads; they serve from when the whole process does.
fn start_workers(
    gateway: &Arc<Gateway>,
    sockets: &Sockets,
    open: &Arc<OpenConnections>,
) -> Result<(), Error> {
    for (number, idle) in open.idle().iter().enumerate() {
        let duplicate = |listener: &Listener<_>| Ok((listener.duplicate()?, Accepting::begin(open)));
        let listeners = sockets.listeners.iter().map(duplicate).collect::<io::Result<_>>()?;
        let worker = Worker::new(gateway.clone(), listeners, idle.clone())?;
        threads::spawn(&format!("worker-{number}"), move || worker.run())?;
    }
    Ok(())
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
            let live = gateway.live();
            live.ledger.forget_idle(Instant::now());
            live.watchlist.iter().for_each(|watchlist| watchlist.forget_idle(Instant::now()));
        }
    };
    let blocks = async {
        let mut ends = interval(END_BLOCKS_EVERY);
        loop {
            ends.tick().await;
            if let Some(blocks) = &gateway.live().blocks {
                blocks.end(Instant::now());
            }
        }
    };
    let certificates = async {
        let mut warnings = interval(WARN_EVERY);
        // The first tick is at once, and at the start the warning has been given.
        warnings.tick().await;
        loop {
            warnings.tick().await;
            gateway.live().warn();
        }
    };
    tokio::select! {
        never = health::watch(gateway) => match never {},
        () = names => {}
        () = certificates => {}
        () = idle_users => {}
        () = blocks => {}
    }
}
