//! What all requests share: the settings in force, what is derived from them, and the counters.

mod live;
mod telling;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::{
    audit::Trail,
    config::Settings,
    operation::UNLOCK,
    outcome::Record,
    quota_store::Store,
    stream_memory::SharedMemory,
    telemetry::{limited::Spell, metrics::Metrics, refusals::Refusals, suspects::Suspects},
    threads,
};
use telling::Lines;

pub use live::Live;

/// How long the end of the process waits for its log and its trail.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// The gateway, shared by all workers.
#[derive(Debug)]
pub struct Gateway {
    live: ArcSwap<Live>,
    /// The metrics.
    pub metrics: Metrics,
    /// Unlock calls admitted that n4n has not answered yet.
    pub in_flight: AtomicUsize,
    /// Requests for other paths admitted and not yet answered.
    pub passing: AtomicUsize,
    /// What streams of HTTP/2 hold beyond what their connections have of their own.
    pub stream_memory: Arc<SharedMemory>,
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
            passing: AtomicUsize::new(0),
            stream_memory: Arc::default(),
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
        self.metrics.passing.set(signed(self.passing.load(Ordering::Relaxed)));
        self.metrics.quota_users.set(signed(ledger.remembered()));
        self.metrics.quota_evictions.inc_by(ledger.take_forgotten());
        if let Some(watchlist) = &live.watchlist {
            self.metrics.enumeration.remembers(watchlist.remembered(), watchlist.take_evicted());
        }
        self.metrics.peers(live.peers.by_name());
        if let Some(blocks) = &live.blocks {
            blocks.end(Instant::now());
        }
    }

    /// Counts and logs a request that has ended.
    pub fn record(&self, live: &Live, record: &Record<'_>) {
        let other_path = record.path.filter(|path| *path != UNLOCK.path);
        match other_path.and_then(|path| live.settings.policy.access.known.in_path(path)) {
            None => self.record_masked(live, record),
            Some((path, misplaced)) => {
                self.key_misplaced(&misplaced, record.client, record.request_id);
                self.record_masked(live, &Record { path: Some(&path), ..*record });
            }
        }
    }

    fn record_masked(&self, live: &Live, record: &Record<'_>) {
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
