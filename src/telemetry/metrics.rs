//! Every metric: its name, help, labels and buckets, and the handles they are counted by.
//!
//! All series are made here, once, so that counting is an addition and no label ever takes a value
//! that a client chooses.

use std::sync::{Arc, LazyLock, OnceLock};

use prometheus::{
    Encoder, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::{
    config::HostPort,
    outcome::{Outcome, Record, UnlockResult, UserCounters},
    policy::Place,
    reason::Reason,
    telemetry::{
        enumeration_metrics::EnumerationMetrics,
        reading::{Distribution, Reading},
        series::{DEFINITION, Maker, counter, gauge, histogram, register},
    },
    tls::{Expiring, HandshakeFailure},
    unserved::{ConnectionRefused, StreamRefused},
    upstream::peer::Peer,
};

/// Classes of status, by the first digit; `none` where nothing was answered.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The user label of everyone who is not listed.
const OTHER: &str = "other";

/// Lines of the operational log that were lost. The process has one such log, whoever scrapes it.
pub static LOG_DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let opts =
        Maker::opts("log_dropped_total", "Lines of the operational log, on standard error, that were lost.");
    IntCounter::with_opts(opts).expect(DEFINITION)
});

/// One counter for each class of status.
type ByClass = [OnceLock<IntCounter>; STATUS_CLASSES.len()];

/// All metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    /// By class of the status that the client was sent.
    forwarded: [IntCounter; STATUS_CLASSES.len()],
    /// By reason, and by class of the status that the client was sent.
    ended: [ByClass; Reason::ALL.len()],
    durations: [Histogram; Outcome::LABELS.len()],
    upstream_duration: Histogram,
    unlocks: [IntCounter; UnlockResult::LABELS.len()],
    user_requests: IntCounterVec,
    other_users: UserCounters,
    /// By reason; those that observe mode cannot let pass stay at zero.
    observed: [IntCounter; Reason::ALL.len()],
    config_reloads: [IntCounter; 2],
    config_last_reload_successful: IntGauge,
    certificate_expiry: IntGaugeVec,
    upstream_healthy: IntGaugeVec,
    /// Unlock calls admitted that n4n has not answered yet.
    pub in_flight: IntGauge,
    /// Requests for other paths admitted and not yet answered.
    pub passing: IntGauge,
    /// Client connections open.
    pub connections: IntGauge,
    /// Attempts to accept a connection that failed for want of something of the system's.
    pub accept_errors: IntCounter,
    handshake_failures: [IntCounter; HandshakeFailure::ALL.len()],
    connections_refused: [IntCounter; ConnectionRefused::ALL.len()],
    streams_refused: [IntCounter; StreamRefused::ALL.len()],
    misplaced_keys: [IntCounter; Place::ALL.len()],
    /// Idle connections closed so that others could be opened.
    pub connections_evicted: IntCounter,
    /// Access log lines that were lost.
    pub access_log_dropped: IntCounter,
    /// Audit records that could not be written when they were due.
    pub audit_errors: IntCounter,
    /// Times the quota table forgot an idle user.
    pub quota_evictions: IntCounter,
    /// Questions to Redis that failed or were answered late, and failed attempts to connect to it.
    pub quota_store_errors: IntCounter,
    /// Unlisted users whose quota is remembered.
    pub quota_users: IntGauge,
    /// Client networks that are shut out for wrong keys.
    pub clients_blocked: IntGauge,
    /// Times that one was.
    pub client_blocks: IntCounter,
    /// What is counted of users who ask for many different customers.
    pub enumeration: EnumerationMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes every series but those of listed users.
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        let requests = make.counters(
            "requests_total",
            "Requests, by how they ended, the contract's code and the class of the answer's status.",
            &["outcome", "code", "status_class"],
        );
        let durations = make.histograms(
            "request_duration_seconds",
            "Time from a request's first byte to its end, by how it ended.",
            &["outcome"],
        );
        let upstream_duration = make.histograms(
            "upstream_duration_seconds",
            "Time from when there is a connection to n4n to the header of its answer.",
            &[],
        );
        let unlocks =
            make.counters("unlocks_total", "Forwarded calls, by what n4n made of them.", &["result"]);
        let user_requests = make.counters(
            "user_requests_total",
            "Requests by listed user and how they ended; everyone else is `other`.",
            &["user", "outcome"],
        );
        let build_info = make.gauges("build_info", "The running version; always 1.", &["version"]);
        gauge(&build_info, &[env!("CARGO_PKG_VERSION")]).set(1);
        let observed = make.counters(
            "observed_rejections_total",
            "Calls that observe mode let pass, by the code that would have refused them.",
            &["code"],
        );
        let handshake_failures = make.counters(
            "tls_handshake_failures_total",
            "TLS handshakes with clients that came to nothing, by reason.",
            &["reason"],
        );
        let connections_refused = make.counters(
            "connections_refused_total",
            "Connections closed without serving what came on them, by reason.",
            &["reason"],
        );
        let streams_refused = make.counters(
            "streams_refused_total",
            "Streams of HTTP/2 reset without an answer to their request, by reason.",
            &["reason"],
        );
        let misplaced_keys = make.counters(
            "misplaced_keys_total",
            "Api-keys that stood where something else belongs and were masked, by place.",
            &["place"],
        );
        let config_reloads =
            make.counters("config_reloads_total", "Reloads of the configuration, by result.", &["result"]);
        let config_last_reload_successful = make.gauge(
            "config_last_reload_successful",
            "Whether the configuration in force is the one that was last asked for.",
        );
        config_last_reload_successful.set(1);
        register(&registry, LOG_DROPPED.clone());
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        Self {
            forwarded: STATUS_CLASSES.map(|class| counter(&requests, &["forwarded", "ok", class])),
            ended: Reason::ALL.map(|reason| {
                let counters = ByClass::default();
                for status in [Outcome::of(reason).status(), None].into_iter().chain(begun_before(reason)) {
                    ended(&counters, &requests, reason, status);
                }
                counters
            }),
            requests,
            durations: Outcome::LABELS.map(|outcome| histogram(&durations, &[outcome])),
            upstream_duration: histogram(&upstream_duration, &[]),
            unlocks: UnlockResult::LABELS.map(|result| counter(&unlocks, &[result])),
            other_users: user_counters(&user_requests, OTHER),
            user_requests,
            observed: Reason::ALL.map(|reason| counter(&observed, &[reason.code()])),
            config_reloads: ["failure", "success"].map(|result| counter(&config_reloads, &[result])),
            config_last_reload_successful,
            certificate_expiry: make.gauges(
                "certificate_expiry_timestamp_seconds",
                "When the first certificate in a file expires, shown or believed, by the file.",
                &["certificate"],
            ),
            upstream_healthy: make.gauges(
                "upstream_healthy",
                "Whether calls go to a peer: it passes its checks, if there are any, and could be connected to.",
                &["peer"],
            ),
            in_flight: make.gauge("in_flight", "Unlock calls admitted that n4n has not answered yet."),
            passing: make.gauge(
                "in_flight_other_paths",
                "Requests for other paths admitted and not yet answered.",
            ),
            connections: make.gauge("connections", "Client connections open."),
            accept_errors: make.counter(
                "accept_errors_total",
                "Attempts to accept a connection that failed, for want of file descriptors or memory.",
            ),
            handshake_failures: HandshakeFailure::ALL
                .map(|failure| counter(&handshake_failures, &[failure.label()])),
            connections_refused: ConnectionRefused::ALL
                .map(|refused| counter(&connections_refused, &[refused.label()])),
            streams_refused: StreamRefused::ALL.map(|refused| counter(&streams_refused, &[refused.label()])),
            misplaced_keys: Place::ALL.map(|place| counter(&misplaced_keys, &[place.label()])),
            connections_evicted: make.counter(
                "connections_evicted_total",
                "Idle connections closed to make room for new ones, those idle for longest first.",
            ),
            access_log_dropped: make.counter(
                "access_log_dropped_total",
                "Access log lines that were lost: they could not be written, or not as fast as they came.",
            ),
            audit_errors: make.counter("audit_errors_total", "Audit records that could not be written."),
            quota_evictions: make
                .counter("quota_evictions_total", "Idle users forgotten, their quota whole again."),
            quota_store_errors: make.counter(
                "quota_store_errors_total",
                "Questions to Redis that failed or were answered late, and failed attempts to connect to it.",
            ),
            quota_users: make.gauge("quota_users", "Unlisted users whose quota is remembered."),
            clients_blocked: make.gauge("clients_blocked", "Client networks shut out for wrong keys."),
            client_blocks: make
                .counter("client_blocks_total", "Times that a client network was shut out for wrong keys."),
            enumeration: EnumerationMetrics::new(&make),
            registry,
        }
    }

    /// The counters of a listed user; they go on counting where they were, should there have been such a user.
    pub fn user_counters(&self, name: &str) -> UserCounters {
        user_counters(&self.user_requests, name)
    }

    /// Tells when these certificates expire, and forgets all others.
    pub fn certificates<'a>(&self, certificates: impl Iterator<Item = &'a Expiring>) {
        self.certificate_expiry.reset();
        for certificate in certificates {
            gauge(&self.certificate_expiry, &[&certificate.file]).set(certificate.at);
        }
    }

    /// Forgets the peers that there were.
    pub fn forget_peers(&self) {
        self.upstream_healthy.reset();
    }

    /// Tells which peers are healthy: those of which one address at least is.
    pub fn peers(&self, peers: Vec<(&HostPort, Vec<Arc<Peer>>)>) {
        for (name, peers) in peers {
            let is_healthy = peers.iter().any(|peer| peer.is_healthy());
            gauge(&self.upstream_healthy, &[&name.to_string()]).set(i64::from(is_healthy));
        }
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, is_successful: bool) {
        self.config_reloads[usize::from(is_successful)].inc();
        self.config_last_reload_successful.set(i64::from(is_successful));
    }

    /// Whether the configuration in force is the one that was last asked for.
    pub fn is_config_current(&self) -> bool {
        self.config_last_reload_successful.get() == 1
    }

    /// Counts a request that has ended.
    pub fn record(&self, record: &Record<'_>) {
        let outcome = record.outcome;
        match outcome.reason() {
            None => self.forwarded[class_of(record.status)].inc(),
            Some(reason) => {
                ended(&self.ended[reason as usize], &self.requests, reason, record.status).inc();
            }
        }
        self.durations[outcome.index()].observe(record.duration.as_secs_f64());
        if let Some(duration) = record.upstream_duration {
            self.upstream_duration.observe(duration.as_secs_f64());
        }
        if let Some(unlock) = record.unlock {
            self.unlocks[unlock.index()].inc();
        }
        if let Some(observed) = record.observed {
            self.observed[observed as usize].inc();
        }
        record.listed.unwrap_or(&self.other_users)[outcome.index()].inc();
        self.enumeration.record(record);
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&self, failure: HandshakeFailure) {
        self.handshake_failures[failure as usize].inc();
    }

    /// Counts a connection that was closed unserved.
    pub fn connection_refused(&self, why: ConnectionRefused) {
        self.connections_refused[why as usize].inc();
    }

    /// Counts a stream of HTTP/2 that was reset.
    pub fn stream_refused(&self, why: StreamRefused) {
        self.streams_refused[why as usize].inc();
    }

    /// Counts an api-key where something else belongs.
    pub fn key_misplaced(&self, place: Place) {
        self.misplaced_keys[place as usize].inc();
    }

    /// What the live page shows of them, as they stand now.
    pub fn read(&self) -> Reading {
        let read = |counter: &IntCounter| counter.get();
        Reading {
            forwarded: self.forwarded.iter().map(read).sum(),
            ended: self
                .ended
                .each_ref()
                .map(|by_class| by_class.iter().filter_map(OnceLock::get).map(read).sum()),
            observed: self.observed.each_ref().map(read),
            unlocks: self.unlocks.each_ref().map(read),
            durations: self.durations.each_ref().map(Distribution::of),
            upstream_duration: Distribution::of(&self.upstream_duration),
        }
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    /// Those of the encoder, a defect.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn user_counters(requests: &IntCounterVec, user: &str) -> UserCounters {
    Outcome::LABELS.map(|outcome| counter(requests, &[user, outcome]))
}

/// A status of each class that an answer may have begun with by the time that it broke off for this reason.
fn begun_before(reason: Reason) -> impl Iterator<Item = Option<u16>> {
    let may_break_off = matches!(Outcome::of(reason), Outcome::Failed(_))
        || matches!(reason, Reason::BodyMalformed | Reason::BodyTimeout);
    [200, 300, 400, 500].into_iter().filter(move |_| may_break_off).map(Some)
}

/// The counter of the requests that ended for a reason and whose client was sent this status.
fn ended<'a>(
    counters: &'a ByClass,
    requests: &IntCounterVec,
    reason: Reason,
    status: Option<u16>,
) -> &'a IntCounter {
    let class = class_of(status);
    counters[class].get_or_init(|| {
        counter(requests, &[Outcome::of(reason).label(), reason.code(), STATUS_CLASSES[class]])
    })
}

fn class_of(status: Option<u16>) -> usize {
    status.map_or(0, |status| usize::from(status / 100)).min(STATUS_CLASSES.len() - 1)
}
