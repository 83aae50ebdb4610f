//! What the live page shows, taken once a second from the counters that are kept anyway.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::suspects::{Suspect, is_watching};
use crate::{
    blocks::Blocks,
    client_network::ClientNetwork,
    gateway::{Gateway, Live, Phase},
    outcome::{Outcome, UnlockResult},
    policy::Mode,
    reason::Reason,
    telemetry::{
        reading::{Distribution, Reading},
        refusals::Refusal,
        suspects,
    },
    upstream::{Peers, peer::Standing},
    users::ListedUser,
};

const EVERY: Duration = Duration::from_secs(1);

/// How many samples the rates are shown of.
const RATES: usize = 120;

/// How many samples back the "last minute" begins.
const MINUTE: usize = 60;

/// How long an unlisted user who was over the quota is shown.
const LATELY: Duration = Duration::from_secs(60);

/// How many client networks that are shut out are shown.
const BLOCKED: usize = 12;

/// How many users near their quota are shown.
const USERS: usize = 12;

/// The whole state of the page, the same for all who watch.
#[derive(Serialize)]
struct Event<'a> {
    version: &'static str,
    phase: &'static str,
    observes: bool,
    /// Milliseconds since 1970, as all times here.
    time: u64,
    config_since: u64,
    /// Whether the configuration in force is the one last asked for.
    config_is_current: bool,
    in_flight: usize,
    max_in_flight: usize,
    connections: i64,
    max_connections: usize,
    log_lines_dropped: u64,
    audit_errors: u64,
    /// Calls per second by outcome, one entry a second, the latest last.
    rates: &'a VecDeque<[f64; Outcome::LABELS.len()]>,
    codes: Vec<Code>,
    unlocks: Vec<Counted>,
    latency: [Latency; 3],
    peers: Vec<Host>,
    users: Vec<User>,
    /// How many client networks are shut out.
    clients_blocked: usize,
    /// The last of them.
    blocked: Vec<Blocked>,
    refusals: Vec<Refused>,
    /// Whether it is counted of anybody how many different customers they ask for.
    watches: bool,
    suspects: Vec<Suspect>,
}

#[derive(Serialize)]
struct Code {
    code: &'static str,
    title: &'static str,
    outcome: &'static str,
    minute: u64,
    total: u64,
    observed: u64,
}

#[derive(Serialize)]
struct Counted {
    result: &'static str,
    minute: u64,
    total: u64,
}

/// Over the last minute, in milliseconds.
#[derive(Serialize)]
struct Latency {
    of: &'static str,
    count: u64,
    quantiles: [Option<f64>; 3],
}

#[derive(Serialize)]
struct User {
    name: Box<str>,
    is_listed: bool,
    remaining: u32,
    burst: u32,
    whole_in_ms: u64,
    refused: u64,
}

#[derive(Serialize)]
struct Refused {
    time: u64,
    client: Option<IpAddr>,
    user: Option<Box<str>>,
    outcome: &'static str,
    code: &'static str,
    title: &'static str,
    peer: Option<SocketAddr>,
    times: u64,
}

/// A client network that is shut out.
#[derive(Serialize)]
struct Blocked {
    network: String,
    let_in_ms: u64,
}

/// One address of a peer.
#[derive(Serialize)]
struct Host {
    name: String,
    /// None: the name does not resolve.
    address: Option<SocketAddr>,
    standing: &'static str,
    /// What is wrong with it; none while it is healthy.
    trouble: Option<Cow<'static, str>>,
    in_flight: usize,
}

/// Takes the samples and remembers the last of them.
pub(super) struct Sampler {
    gateway: Arc<Gateway>,
    readings: VecDeque<Reading>,
    read_at: Instant,
    rates: VecDeque<[f64; Outcome::LABELS.len()]>,
}

impl Sampler {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        let readings = VecDeque::from([gateway.metrics.read()]);
        Self { gateway, readings, read_at: Instant::now(), rates: VecDeque::with_capacity(RATES) }
    }

    /// Gives an event every second.
    pub(super) async fn run(mut self, events: watch::Sender<Bytes>) -> Infallible {
        let mut seconds = interval(EVERY);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        seconds.tick().await;
        loop {
            seconds.tick().await;
            self.sample();
            events.send_replace(self.event());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "calls within a second stay far below 2^52")]
    fn sample(&mut self) {
        let (reading, now) = (self.gateway.metrics.read(), Instant::now());
        let elapsed = now.duration_since(self.read_at).as_secs_f64().max(f64::EPSILON);
        let before = self.latest().outcomes();
        let mut rates = [0.0; Outcome::LABELS.len()];
        for (rate, (count, before)) in rates.iter_mut().zip(reading.outcomes().into_iter().zip(before)) {
            *rate = rounded(count.saturating_sub(before) as f64 / elapsed, 10.0);
        }
        push(&mut self.rates, rates, RATES);
        push(&mut self.readings, reading, MINUTE + 1);
        self.read_at = now;
    }

    fn latest(&self) -> &Reading {
        self.readings.back().expect("the first reading is taken at once and one always stays")
    }

    /// The state of things, as the server-sent event that tells it.
    pub(super) fn event(&self) -> Bytes {
        let live = self.gateway.live();
        let (now, minute_ago) = (self.latest(), &self.readings[0]);
        let refusals = self.gateway.refusals.latest();
        let latency = |of, now: &Distribution, before| {
            let minute = now.since(before);
            let quantile = |share| minute.quantile(share).map(|seconds| rounded(seconds * 1e3, 1e3));
            Latency { of, count: minute.count(), quantiles: [0.5, 0.9, 0.99].map(quantile) }
        };
        let [forwarded, rejected, ..] = &now.durations;
        let suspect = |suspect: suspects::Suspect| Suspect::at(millis(suspect.time), suspect);
        let event = Event {
            version: env!("CARGO_PKG_VERSION"),
            phase: match *self.gateway.phase().borrow() {
                Phase::Starting => "starting",
                Phase::Serving => "serving",
                Phase::Retiring | Phase::Draining => "draining",
            },
            observes: live.settings.policy.mode == Mode::Observe,
            time: millis(SystemTime::now()),
            config_since: millis(live.since),
            config_is_current: self.gateway.metrics.is_config_current(),
            in_flight: self.gateway.in_flight.load(Ordering::Relaxed),
            max_in_flight: live.shares.in_flight,
            connections: self.gateway.metrics.connections.get(),
            max_connections: live.settings.listen.max_connections,
            log_lines_dropped: self.gateway.metrics.access_log_dropped.get(),
            audit_errors: self.gateway.metrics.audit_errors.get(),
            rates: &self.rates,
            codes: codes(now, minute_ago),
            unlocks: unlocks(now, minute_ago),
            latency: [
                latency("Forwarded calls, in all", forwarded, &minute_ago.durations[0]),
                latency("of that, n4n", &now.upstream_duration, &minute_ago.upstream_duration),
                latency("Refused calls", rejected, &minute_ago.durations[1]),
            ],
            peers: hosts(&live.peers),
            users: users(&live, &refusals),
            clients_blocked: live.blocks.as_ref().map_or(0, Blocks::count),
            blocked: blocked(&live),
            refusals: refusals.into_iter().map(Refused::from).collect(),
            watches: is_watching(&live),
            suspects: self.gateway.suspects.latest().into_iter().map(suspect).collect(),
        };
        let json = serde_json::to_string(&event).expect("numbers and text can always be written");
        // `retry` is how long a browser waits before it connects again.
        Bytes::from(format!("retry: 1000\ndata: {json}\n\n"))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { time, client, user, is_listed: _, outcome, peer, times } = refusal;
        Self {
            time: millis(time),
            client,
            user,
            outcome: outcome.label(),
            code: outcome.code(),
            title: outcome.reason().map_or("", |reason| reason.face().title),
            peer,
            times,
        }
    }
}

fn codes(now: &Reading, before: &Reading) -> Vec<Code> {
    let counted = |(index, reason): (usize, Reason)| Code {
        code: reason.code(),
        title: reason.face().title,
        outcome: Outcome::of(reason).label(),
        minute: now.ended[index] - before.ended[index],
        total: now.ended[index],
        observed: now.observed[index],
    };
    let codes = Reason::ALL.into_iter().enumerate().map(counted);
    codes.filter(|code| code.total + code.observed > 0).collect()
}

fn unlocks(now: &Reading, before: &Reading) -> Vec<Counted> {
    let counts = UnlockResult::LABELS.into_iter().zip(now.unlocks.into_iter().zip(before.unlocks));
    counts.map(|(result, (total, before))| Counted { result, minute: total - before, total }).collect()
}

fn hosts(peers: &Peers) -> Vec<Host> {
    let now = Instant::now();
    let mut hosts = Vec::new();
    for (name, addresses) in peers.by_name() {
        let name = name.to_string();
        if addresses.is_empty() {
            hosts.push(Host {
                name: name.clone(),
                address: None,
                standing: "unknown",
                trouble: None,
                in_flight: 0,
            });
        }
        hosts.extend(addresses.iter().map(|peer| Host {
            name: name.clone(),
            address: Some(peer.address()),
            standing: match peer.standing(now) {
                Standing::Open => "open",
                Standing::HalfOpen => "due",
                Standing::Ejected => "ejected",
                Standing::Unfit => "unfit",
            },
            trouble: peer.trouble().filter(|_| !peer.is_healthy()),
            in_flight: peer.in_flight(),
        }));
    }
    hosts
}

fn blocked(live: &Live) -> Vec<Blocked> {
    let latest =
        live.blocks.as_ref().map(|blocks| blocks.latest(BLOCKED, Instant::now())).unwrap_or_default();
    let shown = |(network, let_in): (ClientNetwork, Duration)| Blocked {
        network: network.to_string(),
        let_in_ms: u64::try_from(let_in.as_millis()).unwrap_or(u64::MAX),
    };
    latest.into_iter().map(shown).collect()
}

/// Listed users with at most half of their burst left, and unlisted ones who were over theirs lately.
fn users(live: &Live, refusals: &[Refusal]) -> Vec<User> {
    // By name in lower case; spelt as it was last.
    let mut refused: BTreeMap<(String, bool), (&str, u64)> = BTreeMap::new();
    for refusal in refusals {
        let is_late = refusal.time.elapsed().is_ok_and(|age| age > LATELY);
        if let (Some(user), false, Some(Reason::QuotaExceeded)) =
            (&refusal.user, is_late, refusal.outcome.reason())
        {
            let key = (user.to_ascii_lowercase(), refusal.is_listed);
            refused.entry(key).or_insert((user, 0)).1 += refusal.times;
        }
    }
    let now = Instant::now();
    let near = |user: &ListedUser| {
        let balance = user.balance(now)?;
        let refused = refused.get(&(user.name.folded().to_owned(), true)).map_or(0, |(_, times)| *times);
        let burst = balance.quota.burst.get();
        (refused > 0 || balance.remaining <= burst / 2).then(|| User {
            name: user.name.as_str().into(),
            is_listed: true,
            remaining: balance.remaining,
            burst,
            whole_in_ms: u64::try_from(balance.whole_in.as_millis()).unwrap_or(u64::MAX),
            refused,
        })
    };
    let unlisted = refused.iter().filter(|((_, is_listed), _)| !is_listed).map(|(_, (name, times))| User {
        name: (*name).into(),
        is_listed: false,
        remaining: 0,
        burst: live.settings.quota.map_or(0, |users| users.quota.burst.get()),
        whole_in_ms: 0,
        refused: *times,
    });
    let mut users: Vec<User> = live.users.iter().filter_map(near).chain(unlisted).collect();
    let fullness = |user: &User| f64::from(user.remaining) / f64::from(user.burst.max(1));
    users.sort_by(|a, b| fullness(a).total_cmp(&fullness(b)).then_with(|| a.name.cmp(&b.name)));
    users.truncate(USERS);
    users
}

fn push<T>(samples: &mut VecDeque<T>, sample: T, capacity: usize) {
    if samples.len() == capacity {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn rounded(value: f64, digits: f64) -> f64 {
    (value * digits).round() / digits
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
