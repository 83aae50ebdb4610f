//! The settings, as meant, and how they are read from the configuration file.

mod advice;
mod enumeration;
mod fault;
mod peer;
mod resolve;
mod surroundings;
mod table;
mod tls;
mod units;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, Method, StatusCode};
use ipnet::IpNet;

pub use fault::Fault;
pub use peer::PeerHost;
pub use surroundings::Inspection;
pub use units::HostPort;

use crate::{
    enumeration::{Limit, UnlistedLimit},
    files,
    guessing::Allowance,
    policy::{LookupKey, Patterns, Policy, UserRules},
    quota::{Quota, UnlistedQuota},
    quota_store::{Address, WhenRedisFails},
    tls::{ClientCa, Expiring, Trust},
};

/// Everything the gateway is told, each value in its own unit.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// What it forwards to.
    pub upstream: Upstream,
    /// The rules of admission.
    pub policy: Policy,
    /// How long a request may take to arrive.
    pub deadlines: Deadlines,
    /// The client's fields that are forwarded with an unlock call, the built-in ones included; each once.
    pub forward_headers: Vec<HeaderName>,
    /// The quota of each client address; none: unlimited.
    pub client_quota: Option<Quota>,
    /// When clients are shut out for wrong keys; none: never.
    pub wrong_keys: Option<WrongKeys>,
    /// The quota of unlisted users; none: unlimited.
    pub quota: Option<UnlistedQuota>,
    /// Where users' accounts are shared; none: they are in this process alone.
    pub quota_store: Option<QuotaStore>,
    /// How many different customers unlisted users may ask for; none: as many as they like.
    pub enumeration: Option<UnlistedLimit>,
    /// The listed users.
    pub users: Vec<User>,
    /// What is written where.
    pub log: Log,
    /// What is sound and perhaps not what was meant, as only the file tells.
    pub notes: Vec<String>,
}

/// Where the gateway listens, and how much it takes on.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Plain HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// TLS listeners, each with an address of its own.
    pub https: Vec<Https>,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Host names the live page answers to, beside IP addresses and localhost.
    pub admin_hosts: Vec<String>,
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// Connections at once; over it they are closed unanswered.
    pub max_connections: usize,
    /// Calls in flight at once; over it they are refused as `overloaded`.
    pub max_in_flight: usize,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long calls in flight may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Where a process that is to take over waits; none: there is no upgrade.
    pub upgrade_socket: Option<PathBuf>,
    /// Where the gateway is asked to act; none: nowhere.
    pub admin_socket: Option<PathBuf>,
}

impl Listen {
    /// Every address that is listened on, with its key.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let http = self.http.iter().map(|&address| ("http", address));
        let https = self.https.iter().map(|https| ("https", https.address));
        http.chain(https).chain([("admin", self.admin)])
    }

    /// Every Unix socket, with its key.
    pub fn sockets(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("upgrade_socket", &self.upgrade_socket), ("admin_socket", &self.admin_socket)];
        all.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?)))
    }

    /// Whether a socket there takes IPv6 alone. One for `[::]` takes IPv4 too, unless another is for all of that.
    pub fn takes_ipv6_alone(&self, address: SocketAddr) -> bool {
        let is_ipv4_beside = |other: SocketAddr| {
            other.ip().to_canonical() == Ipv4Addr::UNSPECIFIED
                && other.port() == address.port()
                && other.port() != 0
        };
        address.ip() == Ipv6Addr::UNSPECIFIED && self.addresses().any(|(_, other)| is_ipv4_beside(other))
    }
}

/// A TLS listener.
#[derive(Debug, Clone)]
pub struct Https {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificates and its client CA.
    pub server: Arc<rustls::ServerConfig>,
    /// Its client CA; none: clients show no certificate.
    pub client_ca: Option<Arc<ClientCa>>,
    /// The files of its certificates and of its client CA.
    pub certificates: Vec<Expiring>,
}

impl Https {
    /// Follows the settings in force for this address; keeps its own where they no longer name it.
    pub fn follow(&mut self, listen: &Listen) {
        if let Some(now) = listen.https.iter().find(|now| now.address == self.address)
            && !Arc::ptr_eq(&now.server, &self.server)
        {
            self.clone_from(now);
        }
    }
}

/// What the gateway forwards to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The n4n hosts, at least one.
    pub peers: Vec<PeerHost>,
    /// The Host sent to them.
    pub host: String,
    /// TLS to it; none: plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// How peers are checked; none: they are judged by their connects alone.
    pub health_check: Option<HealthCheck>,
    /// How long one connect may take.
    pub connect_timeout: Duration,
    /// From the request's last byte until the whole response header is in.
    pub response_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

/// A request by which a peer's health is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Its method.
    pub method: Method,
    /// Its target, in origin form.
    pub path: String,
    /// The statuses of a healthy peer.
    pub expect: Vec<StatusCode>,
    /// From the beginning of one check to that of the next.
    pub every: Duration,
    /// How long one may take in all.
    pub timeout: Duration,
    /// How many must be passed in a row for an unhealthy peer to be healthy again.
    pub rise: NonZeroU32,
    /// How many must be failed in a row for a healthy peer to be unhealthy.
    pub fall: NonZeroU32,
}

/// TLS to the upstream.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// The CAs that it is verified by, and the client certificate.
    pub trust: Trust,
    /// The files of the client certificate and of the CAs.
    pub certificates: Vec<Expiring>,
}

/// How long a request may take to arrive, each a total.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte to the end of the header.
    pub header: Duration,
    /// From the end of the header to the end of the body.
    pub body: Duration,
}

/// Where users' accounts are shared.
#[derive(Debug, Clone)]
pub struct QuotaStore {
    /// The Redis server.
    pub redis: Address,
    /// What is done while it fails.
    pub when_redis_fails: WhenRedisFails,
}

/// When clients are shut out for wrong keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongKeys {
    /// How many a client network may show, and what comes then.
    pub allowance: Allowance,
    /// Networks that are never shut out.
    pub except: Vec<IpNet>,
}

/// A user whom the operator knows by name.
#[derive(Debug, Clone)]
pub struct User {
    /// The api-username, in the spelling that goes upstream.
    pub name: String,
    /// What the user must show.
    pub rules: UserRules,
    /// The user's own quota; none: the one for all.
    pub quota: Option<Quota>,
    /// How many different customers the user may ask for; none: as many as it likes.
    pub enumeration: Option<Limit>,
}

/// What is written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much the operational log tells.
    pub level: tracing::Level,
    /// How its lines are written.
    pub format: LogFormat,
    /// Where access log lines go.
    pub access: AccessSink,
    /// The audit trail's file; none: no trail.
    pub audit: Option<PathBuf>,
}

/// How lines of the operational log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object each.
    Json,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessSink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error, among the lines of the operational log.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

impl Settings {
    /// Reads the configuration file, and inspects what it names as far as `inspection` says.
    ///
    /// # Errors
    /// Every fault found, in the order of the file.
    pub fn load(file: &Path, inspection: Inspection) -> Result<Self, Vec<Fault>> {
        let text = files::read_text(file).map_err(|error| {
            vec![Fault {
                line: None,
                place: String::new(),
                reason: format!("cannot be read: {error}"),
                mend: "name a readable TOML file in UTF-8".into(),
            }]
        })?;
        resolve::resolve(&text, file.parent().unwrap_or(Path::new("")), inspection)
    }

    /// Reads the text of a configuration whose relative paths start at `folder`.
    ///
    /// # Errors
    /// Every fault found, in the order of the text.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Fault>> {
        resolve::resolve(text, folder, Inspection::Alone)
    }

    /// What an operator should know today although the gateway starts.
    pub fn warnings(&self) -> Vec<String> {
        let dates = self.certificates().into_iter().filter_map(Expiring::warning);
        let unreachable = enumeration::warnings(self).into_iter();
        let unmeant = self.notes.iter().cloned().chain(advice::warnings(self));
        let misread = misread(&self.policy.patterns).into_iter();
        surroundings::warnings(self)
            .into_iter()
            .chain(unmeant)
            .chain(unreachable)
            .chain(misread)
            .chain(dates)
            .collect()
    }

    /// The files of the certificates that the gateway shows to either side, or believes; each once.
    pub fn certificates(&self) -> Vec<&Expiring> {
        let listeners = self.listen.https.iter().flat_map(|listener| &listener.certificates);
        let mut files: Vec<&Expiring> = Vec::new();
        for file in listeners.chain(self.upstream.tls.iter().flat_map(|tls| &tls.certificates)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files
    }
}

/// How many values of a kind a warning names.
const NAMED: usize = 4;

/// Tells of lookup values that pass and that a number column reads as others; keys that let the same pass together.
fn misread(patterns: &Patterns) -> Vec<String> {
    let mut found: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for key in LookupKey::ALL {
        // One that lets anything pass is told apart.
        let is_open = patterns.of(key).is_open();
        let values = if is_open { Vec::new() } else { patterns.of(key).misread() };
        match found.iter_mut().find(|(known, _)| *known == values) {
            Some((_, keys)) => keys.push(key.name()),
            None => found.push((values, vec![key.name()])),
        }
    }
    found.retain(|(values, _)| !values.is_empty());
    let told = found.into_iter().map(|(values, keys)| {
        let named: Vec<String> = values.iter().take(NAMED).map(|value| format!("`{}`", value.escape_debug())).collect();
        let more = if values.len() > NAMED { " and their like" } else { "" };
        format!(
            "policy.patterns: {} may be {}{more}, which a number column takes for another number: n4n may unlock another \
             customer than the trail names; begin numbers with [1-9], of up to 18 digits, and let nothing follow them",
            keys.join(", "),
            named.join(", "),
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests;
