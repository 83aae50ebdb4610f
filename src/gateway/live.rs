//! The settings in force, and what is derived from them.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::OpenError;
use crate::{
    audit::Trail,
    blocks::Blocks,
    config::Settings,
    descriptors::{self, Shares},
    enumeration::Watchlist,
    quota::{Ledger, Quotas},
    telemetry::{access_log::AccessLog, metrics::Metrics},
    upstream::Peers,
    users::Users,
};

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
    /// The clients that are shut out for guessing keys; none where nobody is.
    pub blocks: Option<Blocks>,
    /// What everyone else asked for; none where that is not counted.
    pub watchlist: Option<Watchlist>,
    /// The n4n hosts.
    pub peers: Arc<Peers>,
    /// The access log; none where it is off.
    pub access_log: Option<Arc<AccessLog>>,
    /// The audit trail; none where it is not kept.
    pub trail: Option<Arc<Trail>>,
}

impl Live {
    pub(super) fn open(
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
        let known = previous.and_then(|previous| previous.blocks.as_ref());
        let blocks = Blocks::open(&settings, known, metrics, now);
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
        let live = Self {
            settings,
            since,
            generation,
            shares,
            users,
            ledger,
            blocks,
            watchlist,
            peers,
            access_log,
            trail,
        };
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
