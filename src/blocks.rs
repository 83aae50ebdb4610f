//! Client networks that are shut out for guessing keys: whose guesses count, and what is told of it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use prometheus::{IntCounter, IntGauge};

use crate::{
    client_network::ClientNetwork,
    config::Settings,
    guessing::Guessing,
    policy::{Mode, access::is_in},
    telemetry::{limited::Limited, metrics::Metrics},
};

/// Who is shut out, by the settings in force.
#[derive(Debug)]
pub struct Blocks {
    guessing: Arc<Guessing>,
    /// Who never is: proxies, which stand for many, and whom the operator has named.
    exempt: Vec<IpNet>,
    begun: Limited,
    ended: Limited,
    /// How many networks are shut out.
    blocked: IntGauge,
    /// How often one was.
    blocks: IntCounter,
}

impl Blocks {
    /// Those of `previous`, where the numbers are still the same, or else none yet. Nothing where the settings shut nobody
    /// out; in observe mode they do not, for n4n judges the keys that it lets pass.
    pub fn open(
        settings: &Settings,
        previous: Option<&Self>,
        metrics: &Metrics,
        now: Instant,
    ) -> Option<Self> {
        let wrong_keys = settings.wrong_keys.as_ref().filter(|_| settings.policy.mode == Mode::Enforce);
        let allowance = wrong_keys.map(|wrong_keys| wrong_keys.allowance);
        let previous = previous.map(|previous| &previous.guessing);
        let kept = previous.filter(|previous| Some(previous.allowance()) == allowance).cloned();
        if let (Some(ended), None) = (previous.filter(|previous| previous.blocked() > 0), &kept) {
            let networks = ended.blocked();
            tracing::info!(
                networks,
                "all client networks are let in again, since clients.wrong_keys has changed"
            );
        }
        metrics.clients_blocked.set(0);
        let opened = Self {
            guessing: kept.or_else(|| Some(Arc::new(Guessing::open(allowance?, now))))?,
            exempt: [&settings.policy.clients.trusted_proxies[..], &wrong_keys?.except].concat(),
            begun: Limited::default(),
            ended: Limited::default(),
            blocked: metrics.clients_blocked.clone(),
            blocks: metrics.client_blocks.clone(),
        };
        opened.tell_count();
        Some(opened)
    }

    /// Whether a client is shut out.
    pub fn hold(&self, client: IpAddr, now: Instant) -> bool {
        self.guessing.is_blocked(ClientNetwork::of(client), now) && !is_in(&self.exempt, client)
    }

    /// Takes note of a wrong key from a client; counts and tells of it where that shuts its network out.
    pub fn wrong_key(&self, client: IpAddr, now: Instant) {
        let network = ClientNetwork::of(client);
        if is_in(&self.exempt, client) || !self.guessing.wrong_key(network, now) {
            return;
        }
        self.blocks.inc();
        self.tell_count();
        if let Some(left_out) = self.begun.admit(now) {
            let seconds = self.guessing.allowance().block.as_secs_f64();
            tracing::warn!(%network, seconds, left_out, "a client network is shut out, for its wrong keys");
        }
    }

    /// Lets client networks in again that meet a network, and forgets their wrong keys; gives how many were shut out.
    pub fn forgive(&self, network: IpNet) -> usize {
        let forgiven = self.guessing.forgive(network);
        self.tell_count();
        forgiven
    }

    /// Lets networks in again whose time is over, and tells of it.
    pub fn end(&self, now: Instant) {
        for network in self.guessing.let_in(now) {
            if let Some(left_out) = self.ended.admit(now) {
                tracing::info!(%network, left_out, "a client network is let in again");
            }
        }
        self.tell_count();
    }

    /// The networks that were shut out last, at most so many, each with the time until it is let in again.
    pub fn latest(&self, count: usize, now: Instant) -> Vec<(ClientNetwork, Duration)> {
        self.guessing.latest_blocked(count, now)
    }

    /// How many networks are shut out.
    pub fn count(&self) -> usize {
        self.guessing.blocked()
    }

    fn tell_count(&self) {
        self.blocked.set(i64::try_from(self.count()).unwrap_or(i64::MAX));
    }
}
