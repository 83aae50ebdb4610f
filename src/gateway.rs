//! What all requests share: the settings in force, what is derived from them, and the counters.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    audit::Trail,
    config::Settings,
    descriptors::{self, Shares},
    enumeration::Watchlist,
    outcome::Record,
    quota::{Ledger, Quotas},
    quota_store::Store,
    telemetry::{
        access_log::AccessLog,
        limited::{Limited, QUIET, Spell},
        metrics::Metrics,
        refusals::Refusals,
        suspects::Suspects,
    },
    threads,
    tls::HandshakeFailure,
    unserved::{ConnectionRefused, StreamRefused},
    upstream::Peers,
    users::Users,
};

/// How long the end of the process waits for its log and its trail.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// The gateway, shared by all workers.
#[derive(Debug)]
pub struct Gateway {
    live: ArcSwap<Live>,
    /// The metrics.
    pub metrics: Metrics,
    /// Calls admitted and not yet answered.
    pub in_flight: AtomicUsize,
    /// What was refused or failed last.
    pub refusals: Refusals,
    /// Who asked for too many different customers last.
    pub suspects: Suspects,
    /// The Redis that the settings in force name.
    pub quota_store: watch::Sender<Option<Arc<Store>>>,
    /// Notified when other settings are in force.
    pub reloaded: Notify,
    phase: watch::Sender<Phase>,
    not_accepting: Spell,
    lines: Lines,
}

/// Log lines that strangers can bring about, each kind limited by itself.
#[derive(Debug, Default)]
struct Lines {
    handshakes: [Limited; HandshakeFailure::ALL.len()],
    connections: [Limited; ConnectionRefused::ALL.len()],
    streams: [Limited; StreamRefused::ALL.len()],
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not accepting yet.
    Starting,
    /// Accepting.
    Serving,
    /// Accepting no more, for another process does; connections may each have one more answer.
    Retiring,
    /// Accepting no more, finishing what is in flight.
    Draining,
}

/// Why a log file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The access log.
    #[error("cannot open the access log: {0}")]
    AccessLog(#[source] io::Error),
    /// The audit trail.
    #[error("cannot open the audit trail: {0}")]
    Trail(#[source] io::Error),
}

/// The settings in force and what belongs to them. A request keeps those it began with.
#[derive(Debug)]
pub struct Live {
    /// The settings.
    pub settings: Settings,
    /// Since when they are in force.
    pub since: SystemTime,
    /// How many settings were in force before these.
    pub generation: u64,
    /// How many connections and calls the limit on open files has room for.
    pub shares: Shares,
    /// The listed users.
    pub users: Users,
    /// The accounts of everyone else.
    pub ledger: Ledger,
    /// What everyone else asked for; none where that is not counted.
    pub watchlist: Option<Watchlist>,
    /// The n4n hosts.
    pub peers: Arc<Peers>,
    /// The access log; none where it is off.
    pub access_log: Option<Arc<AccessLog>>,
    /// The audit trail; none where it is not kept.
    pub trail: Option<Arc<Trail>>,
}

impl Gateway {
    /// A gateway that follows these settings.
    ///
    /// # Errors
    /// Those of opening the log files.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let metrics = Metrics::new();
        let (quota_store, _) = watch::channel(store_of(&settings));
        let audit = settings.log.audit.as_deref();
        let trail = audit.map(|file| Trail::open(file, metrics.audit_errors.clone())).transpose();
        let trail = trail.map_err(OpenError::Trail)?.map(Arc::new);
        let live = ArcSwap::from_pointee(Live::open(settings, trail, None, &metrics)?);
        Ok(Self {
            live,
            metrics,
            in_flight: AtomicUsize::new(0),
            refusals: Refusals::default(),
            suspects: Suspects::default(),
            reloaded: Notify::new(),
            phase: watch::Sender::new(Phase::Starting),
            quota_store,
            not_accepting: Spell::default(),
            lines: Lines::default(),
        })
    }

    /// Where the process is in its life, and word of when it gets on.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Gets on in life.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Whether connections end with their next answer.
    pub fn is_ending(&self) -> bool {
        *self.phase.borrow() >= Phase::Retiring
    }

    /// Writes out what has been logged and recorded, as far as that does not hold up the end of the process.
    pub fn close(&self) {
        let deadline = Instant::now() + CLOSED_WITHIN;
        let left = || deadline.saturating_duration_since(Instant::now());
        let live = self.live();
        // A successor goes on in the same file, and a disk that is forced holds up what it writes there.
        let to_disk = *self.phase.borrow() != Phase::Retiring;
        let flushed = live.trail.clone().map(|trail| flush(trail, to_disk));
        if let Some(log) = &live.access_log {
            log.close(left());
        }
        let flushed = flushed.map(|flushed| {
            let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the disk takes too long"));
            flushed.and_then(|flushed| flushed.recv_timeout(left()).unwrap_or_else(late))
        });
        if let Some(Err(error)) = flushed {
            tracing::error!(%error, "the audit trail's last records may not be on the disk");
        }
    }

    /// The settings in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Follows other settings from the next request on, and opens log files anew.
    ///
    /// # Errors
    /// Those of opening the log files; then nothing has changed.
    pub async fn reload(&self, settings: Settings) -> Result<(), OpenError> {
        let previous = self.live();
        let trail = self.trail(&settings, &previous).await.map_err(OpenError::Trail)?;
        let live = Live::open(settings, trail, Some(&previous), &self.metrics)?;
        self.quota_store.send_if_modified(|store| {
            let named = live.settings.quota_store.as_ref().map(|store| &store.redis);
            let is_other = named != store.as_ref().map(|store| store.address());
            if is_other {
                *store = store_of(&live.settings);
            }
            is_other
        });
        self.live.store(Arc::new(live));
        self.reloaded.notify_waiters();
        Ok(())
    }

    /// The trail that these settings name, opened anew; whatever holds it up holds up nothing else.
    async fn trail(&self, settings: &Settings, previous: &Live) -> io::Result<Option<Arc<Trail>>> {
        let Some(file) = &settings.log.audit else { return Ok(None) };
        match previous.trail.as_ref().filter(|_| previous.settings.log.audit.as_ref() == Some(file)) {
            Some(trail) => {
                trail.reopen().await?;
                Ok(Some(trail.clone()))
            }
            None => Trail::open_aside(file, self.metrics.audit_errors.clone()).await.map(Arc::new).map(Some),
        }
    }

    /// Updates the gauges that are read off when metrics are asked for.
    pub fn update_gauges(&self) {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let live = self.live.load();
        let ledger = &live.ledger;
        self.metrics.in_flight.set(signed(self.in_flight.load(Ordering::Relaxed)));
        self.metrics.quota_users.set(signed(ledger.remembered()));
        self.metrics.quota_evictions.inc_by(ledger.take_forgotten());
        if let Some(watchlist) = &live.watchlist {
            self.metrics.enumeration.remembers(watchlist.remembered(), watchlist.take_evicted());
        }
        self.metrics.peers(live.peers.by_name());
    }

    /// Counts and tells of a TLS handshake that failed.
    pub fn handshake_failed(&self, failure: HandshakeFailure, client: SocketAddr, cause: &dyn fmt::Display) {
        self.metrics.handshake_failed(failure);
        if let Some(left_out) = self.lines.handshakes[failure as usize].admit(Instant::now()) {
            let (reason, detail) = (failure.label(), failure.detail());
            tracing::warn!(%client, reason, detail, %cause, left_out, "a TLS handshake failed");
        }
    }

    /// Counts and tells of a connection that was closed without serving what came on it.
    pub fn connection_refused(&self, why: ConnectionRefused, client: SocketAddr) {
        self.metrics.connection_refused(why);
        if let Some(left_out) = self.lines.connections[why as usize].admit(Instant::now()) {
            let (reason, detail) = (why.label(), why.detail());
            tracing::warn!(%client, reason, detail, left_out, "a connection was refused");
        }
    }

    /// Counts and tells of a stream of HTTP/2 that was reset without an answer to its request.
    pub fn stream_refused(&self, why: StreamRefused, client: SocketAddr) {
        self.metrics.stream_refused(why);
        if let Some(left_out) = self.lines.streams[why as usize].admit(Instant::now()) {
            tracing::warn!(%client, reason = why.label(), left_out, "a stream of HTTP/2 was refused");
        }
    }

    /// Counts a connection that could not be accepted for want of something of the system's; tells when that begins,
    /// and when it is over.
    pub fn accept_failed(self: &Arc<Self>, error: &io::Error) {
        self.metrics.accept_errors.inc();
        if !self.not_accepting.begin(Instant::now()) {
            return;
        }
        tracing::error!(%error, "connections cannot be accepted; trying on");
        let gateway = self.clone();
        tokio::spawn(async move {
            let failures = loop {
                sleep(QUIET).await;
                if let Some(failures) = gateway.not_accepting.end(Instant::now()) {
                    break failures;
                }
            };
            let seconds = failures.since.elapsed().as_secs();
            tracing::info!(seconds, failures = failures.count, "connections can be accepted again");
        });
    }

    /// Counts and logs a request that has ended.
    pub fn record(&self, live: &Live, record: &Record<'_>) {
        self.metrics.record(record);
        self.refusals.record(record);
        self.suspects.record(record);
        if let Some(log) = &live.access_log {
            log.write(record);
        }
    }
}

/// Flushes a trail, on a thread that nobody need wait for.
fn flush(trail: Arc<Trail>, to_disk: bool) -> io::Result<mpsc::Receiver<io::Result<()>>> {
    let (done, flushed) = mpsc::sync_channel(1);
    // Who does not wait any more is not told.
    threads::spawn("audit-flush", move || drop(done.send(trail.flush(to_disk))))?;
    Ok(flushed)
}

fn store_of(settings: &Settings) -> Option<Arc<Store>> {
    settings.quota_store.as_ref().map(|store| Arc::new(Store::at(store.redis.clone())))
}

impl Live {
    fn open(
        settings: Settings,
        trail: Option<Arc<Trail>>,
        previous: Option<&Self>,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let log = &settings.log;
        let access_log = match previous.filter(|previous| previous.settings.log.access == log.access) {
            Some(previous) => {
                let log = previous.access_log.clone();
                log.as_ref().map_or(Ok(()), |log| log.reopen()).map_err(OpenError::AccessLog)?;
                log
            }
            None => AccessLog::open(&log.access, metrics.access_log_dropped.clone())
                .map_err(OpenError::AccessLog)?
                .map(Arc::new),
        };
        let now = Instant::now();
        let quota_for_all = settings.quota.map(|users| users.quota);
        let known = previous.map(|previous| &previous.users);
        let users = Users::open(&settings.users, quota_for_all, metrics, known, now);
        let quotas = Quotas { users: settings.quota, clients: settings.client_quota };
        let ledger = Ledger::open(quotas, previous.map(|previous| &previous.ledger), now);
        let watchlist = settings.enumeration.map(|unlisted| {
            Watchlist::open(unlisted, previous.and_then(|previous| previous.watchlist.as_ref()), now)
        });
        let peers = previous
            .filter(|previous| previous.settings.upstream.peers == settings.upstream.peers)
            .map_or_else(
                || {
                    metrics.forget_peers();
                    Arc::new(Peers::new(&settings.upstream.peers))
                },
                |previous| previous.peers.clone(),
            );
        metrics.certificates(settings.certificates().into_iter());
        let generation = previous.map_or(0, |previous| previous.generation + 1);
        let since = SystemTime::now();
        let shares = Shares::of(&settings, descriptors::limit());
        let live =
            Self { settings, since, generation, shares, users, ledger, watchlist, peers, access_log, trail };
        live.warn();
        Ok(live)
    }

    /// Tells the log where the limit on open files is too low for what is configured.
    pub fn warn_of_shares(&self) {
        if let Some(warning) = self.shares.warning() {
            tracing::warn!("{warning}");
        }
    }

    /// Tells the log what an operator should know, such as which certificates expire soon.
    pub fn warn(&self) {
        for warning in self.settings.warnings() {
            tracing::warn!("{warning}");
        }
    }
}
