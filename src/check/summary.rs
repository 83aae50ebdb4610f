//! What a gateway would do by its settings, in a few lines to compare with what was meant.

use std::{
    fmt::{self, Display},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    config::{AccessSink, Listen, Settings, User},
    policy::{Mode, OtherPaths},
    quota::Quota,
    tls::ClientAuth,
};

/// How many entries of a list are written out for people.
const SHOWN: usize = 8;

/// What will be. Durations are written as in the configuration.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    mode: &'static str,
    listeners: Vec<Listener>,
    upstream: Upstream,
    other_paths: Vec<String>,
    clients: Clients,
    users: Vec<Listed>,
    unlisted_users: &'static str,
    quotas: Quotas,
    enumeration: Option<String>,
    files: Files,
    limits: Limits,
}

#[derive(Debug, Serialize)]
struct Listener {
    address: String,
    serves: &'static str,
    client_certificates: Option<&'static str>,
}

/// A peer, and where it is as far as that is known here and now.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    pub(super) peer: String,
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
}

#[derive(Debug, Serialize)]
struct Upstream {
    peers: Vec<Target>,
    host: String,
    tls: bool,
    health_check: Option<String>,
}

#[derive(Debug, Serialize)]
struct Clients {
    networks: Vec<String>,
    deny: Vec<String>,
    trusted_proxies: Vec<String>,
    wrong_keys: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    disabled: bool,
    keys: usize,
    networks: Option<Vec<String>>,
    quota: Option<String>,
}

#[derive(Debug, Serialize)]
struct Quotas {
    users: Option<String>,
    clients: Option<String>,
    redis: Option<String>,
}

#[derive(Debug, Serialize)]
struct Files {
    access_log: String,
    audit_trail: Option<String>,
    upgrade_socket: Option<String>,
    admin_socket: Option<String>,
    certificates: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Limits {
    max_connections: usize,
    max_in_flight: usize,
    max_body: usize,
    header_timeout: String,
    body_timeout: String,
    connect_timeout: String,
    response_timeout: String,
    drain_timeout: String,
}

impl Summary {
    /// What will be by these settings, with their peers where they were found.
    pub(super) fn of(settings: &Settings, peers: Vec<Target>) -> Self {
        let Settings { listen, upstream, policy, deadlines, log, .. } = settings;
        let path = |path: &std::path::PathBuf| path.display().to_string();
        Self {
            mode: match policy.mode {
                Mode::Enforce => "enforce",
                Mode::Observe => "observe",
            },
            listeners: listeners(listen),
            upstream: Upstream {
                peers,
                host: upstream.host.clone(),
                tls: upstream.tls.is_some(),
                health_check: upstream
                    .health_check
                    .as_ref()
                    .map(|check| format!("{} {} every {}", check.method, check.path, written(check.every))),
            },
            other_paths: match &policy.other_paths {
                OtherPaths::Reject => Vec::new(),
                OtherPaths::Forward => vec!["/".into()],
                OtherPaths::Listed(listed) => listed.iter().map(|path| path.prefix.to_string()).collect(),
            },
            clients: Clients {
                networks: in_text(&policy.clients.networks),
                deny: in_text(&policy.clients.denied),
                trusted_proxies: in_text(&policy.clients.trusted_proxies),
                wrong_keys: settings.wrong_keys.as_ref().map(|wrong_keys| {
                    let allowance = &wrong_keys.allowance;
                    let (per, block) = (written(allowance.per), written(allowance.block));
                    format!("{} in {per}, then shut out for {block}", allowance.wrong_keys)
                }),
            },
            users: settings.users.iter().map(Listed::of).collect(),
            unlisted_users: if policy.access.refuses_unlisted() { "reject" } else { "forward" },
            quotas: Quotas {
                users: settings.quota.map(|unlisted| in_words(unlisted.quota)),
                clients: settings.client_quota.map(in_words),
                redis: settings.quota_store.as_ref().map(|store| store.redis.to_string()),
            },
            enumeration: settings.enumeration.map(|unlisted| {
                let limit = unlisted.limit;
                let mode = if limit.enforces { "enforce" } else { "observe" };
                format!("{} customers in {}, {mode}", limit.distinct, written(limit.per))
            }),
            files: Files {
                access_log: match &log.access {
                    AccessSink::Off => "off".into(),
                    AccessSink::Stdout => "stdout".into(),
                    AccessSink::Stderr => "stderr".into(),
                    AccessSink::File(file) => path(file),
                },
                audit_trail: log.audit.as_ref().map(path),
                upgrade_socket: listen.upgrade_socket.as_ref().map(path),
                admin_socket: listen.admin_socket.as_ref().map(path),
                certificates: settings.certificates().iter().map(|file| file.file.clone()).collect(),
            },
            limits: Limits {
                max_connections: listen.max_connections,
                max_in_flight: listen.max_in_flight,
                max_body: policy.max_body,
                header_timeout: written(deadlines.header),
                body_timeout: written(deadlines.body),
                connect_timeout: written(upstream.connect_timeout),
                response_timeout: written(upstream.response_timeout),
                drain_timeout: written(listen.drain_timeout),
            },
        }
    }
}

fn listeners(listen: &Listen) -> Vec<Listener> {
    let plain = |serves| {
        move |address: &std::net::SocketAddr| Listener {
            address: address.to_string(),
            serves,
            client_certificates: None,
        }
    };
    let https = listen.https.iter().map(|https| Listener {
        address: https.address.to_string(),
        serves: "https",
        client_certificates: https.client_ca.as_ref().map(|ca| match ca.auth() {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        }),
    });
    listen.http.iter().map(plain("http")).chain(https).chain([plain("admin")(&listen.admin)]).collect()
}

impl Listed {
    fn of(user: &User) -> Self {
        let keys = user.rules.keys.map_or(0, |[old, new]| if old == new { 1 } else { 2 });
        let networks = user.rules.networks.as_deref().map(in_text);
        let disabled = user.rules.is_disabled;
        Self { name: user.name.clone(), disabled, keys, networks, quota: user.quota.map(in_words) }
    }
}

fn in_text(networks: &[IpNet]) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

fn in_words(quota: Quota) -> String {
    format!("{} in {}, {} at once", quota.requests, written(quota.per), quota.burst)
}

/// A duration as the configuration writes it, in the largest unit that it is whole in.
fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, name) = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit))
        .unwrap_or((1, "ms"));
    format!("{}{name}", millis / unit)
}

/// A list in a line, its end left out where it is long; "none" where there is nothing.
fn list<T: Display>(items: &[T]) -> String {
    let mut shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    if items.len() > SHOWN {
        shown.push(format!("and {} more", items.len() - SHOWN));
    }
    if shown.is_empty() { "none".into() } else { shown.join(", ") }
}

fn or_none(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("none")
}

impl Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, serves, client_certificates } = self;
        write!(f, "{serves} {address}")?;
        client_certificates.map_or(Ok(()), |auth| write!(f, " (client certificates {auth})"))
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match self.addresses.as_slice() {
            [] => "not found".into(),
            found => list(found),
        };
        write!(f, "{} ({found}", self.peer)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, ", certificate for {name}"))?;
        f.write_str(")")
    }
}

impl Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self.keys {
            _ if self.disabled => "disabled",
            0 => "any key",
            1 => "its key",
            _ => "its two keys",
        };
        write!(f, "{} ({keys}", self.name)?;
        if let Some(networks) = &self.networks {
            write!(f, ", from {}", list(networks))?;
        }
        self.quota.as_ref().map_or(Ok(()), |quota| write!(f, ", quota {quota}"))?;
        f.write_str(")")
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, listeners, upstream, clients, quotas, files, limits, .. } = self;
        let protocol = if upstream.tls { "TLS" } else { "plain HTTP" };
        let checks = or_none(&upstream.health_check);
        writeln!(f, "  mode       {mode}")?;
        writeln!(f, "  listeners  {}", list(listeners))?;
        writeln!(f, "  peers      {}", list(&upstream.peers))?;
        writeln!(f, "             over {protocol}; Host {}; health check: {checks}", upstream.host)?;
        writeln!(f, "  paths      the unlock call; others: {}", list(&self.other_paths))?;
        writeln!(
            f,
            "  clients    {}; denied: {}; trusted proxies: {}; wrong keys: {}",
            list(&clients.networks),
            list(&clients.deny),
            list(&clients.trusted_proxies),
            clients.wrong_keys.as_deref().unwrap_or("any number"),
        )?;
        let unlisted = if self.unlisted_users == "reject" { "refused" } else { "forwarded" };
        writeln!(f, "  users      {}; all others are {unlisted}", list(&self.users))?;
        writeln!(
            f,
            "  quotas     each user: {}; each client: {}; counted in {}; enumeration: {}",
            or_none(&quotas.users),
            or_none(&quotas.clients),
            quotas.redis.as_ref().map_or("this process".into(), |redis| format!("Redis at {redis}")),
            or_none(&self.enumeration),
        )?;
        writeln!(
            f,
            "  files      access log: {}; audit trail: {}; upgrade socket: {}; admin socket: {}; certificates: {}",
            files.access_log,
            or_none(&files.audit_trail),
            or_none(&files.upgrade_socket),
            or_none(&files.admin_socket),
            list(&files.certificates),
        )?;
        writeln!(
            f,
            "  limits     {} connections, {} calls in flight, bodies of {} bytes",
            limits.max_connections, limits.max_in_flight, limits.max_body,
        )?;
        writeln!(
            f,
            "  timeouts   header {}, body {}, connect {}, response {}, drain {}",
            limits.header_timeout,
            limits.body_timeout,
            limits.connect_timeout,
            limits.response_timeout,
            limits.drain_timeout,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_lists_are_short_to_read() {
        for (millis, text) in [
            (250, "250ms"),
            (1500, "1500ms"),
            (2000, "2s"),
            (90_000, "90s"),
            (300_000, "5m"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(written(Duration::from_millis(millis)), text);
        }
        assert_eq!(list::<u32>(&[]), "none");
        assert_eq!(list(&[1, 2]), "1, 2");
        assert_eq!(list(&(1..=10).collect::<Vec<_>>()), "1, 2, 3, 4, 5, 6, 7, 8, and 2 more");
    }
}
