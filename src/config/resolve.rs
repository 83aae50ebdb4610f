//! From the file as written to the settings as meant, every fault on the way noted.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    thread,
    time::Duration,
};

use http::HeaderName;
use regex::bytes::Regex;
use toml::de::DeTable;

use super::{
    AccessSink, Deadlines, Fault, HostPort, Listen, Log, Settings, Upstream, User,
    fault::Faults,
    table::Table,
    units::{ByteSize, Period},
};
use crate::{
    policy::{self, OtherPaths, Policy, fields::fold_alike},
    quota::{Quota, UnlistedQuota},
};

/// The most `policy.max_body` can be: what is judged is held in memory.
const MAX_BODY: usize = 64 * 1024;

/// The longest time in which a quota's burst may come back, so that its arithmetic stays exact.
const MAX_WINDOW: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

pub(super) fn resolve(text: &str, folder: &Path) -> Result<Settings, Vec<Fault>> {
    let mut faults = Faults::of(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What stands behind a syntax error is read wrongly, so nothing else is worth telling yet.
        for error in errors {
            faults.add(error.span(), "the file", error.message(), "write it as TOML 1.0");
        }
        return Err(faults.into_list());
    }
    let mut file = Table::of("", Some(0..0), document.get_ref());
    let mut section =
        |key, faults: &mut Faults<'_>| file.table(key, faults).unwrap_or_else(|| Table::absent(key));
    let listen = listen(section("listen", &mut faults), &mut faults);
    let upstream = upstream(section("upstream", &mut faults), &mut faults);
    let (policy, deadlines, forward_headers) = policy(section("policy", &mut faults), &mut faults);
    let quota = file.table("quota", &mut faults).and_then(|table| unlisted_quota(table, &mut faults));
    let users = users(file.tables("users", &mut faults), &mut faults);
    let log =
        log(file.table("log", &mut faults).unwrap_or_else(|| Table::absent("log")), folder, &mut faults);
    file.close(&mut faults);
    match (listen, upstream, policy) {
        (Some(listen), Some(upstream), Some(policy)) if faults.is_empty() => {
            Ok(Settings { listen, upstream, policy, deadlines, forward_headers, quota, users, log })
        }
        _ => Err(faults.into_list()),
    }
}

fn period(table: &mut Table<'_>, key: &'static str, default: Duration, faults: &mut Faults<'_>) -> Duration {
    table.or(key, Period(default), faults).0
}

fn count(table: &mut Table<'_>, key: &'static str, default: u32, faults: &mut Faults<'_>) -> usize {
    table.optional(key, faults).map_or(default, NonZeroU32::get) as usize
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn listen(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Listen> {
    let http: Option<Vec<SocketAddr>> = table.required("http", faults);
    let admin = table.or("admin", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090), faults);
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = table
        .optional("threads", faults)
        .map_or(cores, |threads: NonZeroU32| NonZeroUsize::try_from(threads).unwrap_or(cores));
    if threads.get() > 1024 {
        faults.add(
            table.span("threads"),
            table.place("threads"),
            "is over 1024",
            "write the machine's cores",
        );
    }
    let mut seen = HashSet::from([admin].map(|address| (address.ip(), address.port())));
    for address in http.iter().flatten() {
        if address.port() != 0 && !seen.insert((address.ip(), address.port())) {
            let reason = format!("names {address} twice, or the admin listener's");
            faults.add(
                table.span("http"),
                table.place("http"),
                reason,
                "give each listener an address of its own",
            );
        }
    }
    if http.as_ref().is_some_and(Vec::is_empty) {
        faults.add(table.span("http"), table.place("http"), "is empty", "name at least one address");
    }
    let listen = Listen {
        http: http.unwrap_or_default(),
        admin,
        threads,
        max_connections: count(&mut table, "max_connections", 10_000, faults),
        max_in_flight: count(&mut table, "max_in_flight", 1_000, faults),
        idle_timeout: period(&mut table, "idle_timeout", seconds(60), faults),
        drain_timeout: period(&mut table, "drain_timeout", seconds(30), faults),
    };
    table.close(faults);
    Some(listen)
}

fn upstream(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Upstream> {
    let peers: Option<Vec<HostPort>> = table.required("peers", faults);
    if peers.as_ref().is_some_and(Vec::is_empty) {
        faults.add(table.span("peers"), table.place("peers"), "is empty", "name at least one n4n host");
    }
    let host: Option<String> = table.optional("host", faults);
    if host.as_ref().is_some_and(|host| !policy::framing::is_authority(host.as_bytes())) {
        faults.add(
            table.span("host"),
            table.place("host"),
            "is no host",
            "write a host, with a port if need be",
        );
    }
    let connect_timeout = period(&mut table, "connect_timeout", seconds(2), faults);
    let response_timeout = period(&mut table, "response_timeout", seconds(30), faults);
    let idle_timeout = period(&mut table, "idle_timeout", seconds(4), faults);
    table.close(faults);
    let peers = peers?;
    let host = host.or_else(|| peers.first().map(|peer| peer.host.clone()))?;
    Some(Upstream { peers, host, connect_timeout, response_timeout, idle_timeout })
}

fn policy(mut table: Table<'_>, faults: &mut Faults<'_>) -> (Option<Policy>, Deadlines, Vec<HeaderName>) {
    let other_paths = match table.or("other_paths", "reject".to_owned(), faults).as_str() {
        "reject" => Some(OtherPaths::Reject),
        "forward" => Some(OtherPaths::Forward),
        _ => {
            let mend = "write \"reject\" or \"forward\"";
            faults.add(table.span("other_paths"), table.place("other_paths"), "is neither", mend);
            None
        }
    };
    let max_body = table.or("max_body", ByteSize(8 * 1024), faults).0;
    if max_body > MAX_BODY {
        faults.add(
            table.span("max_body"),
            table.place("max_body"),
            "is over 64KiB",
            "write at most \"64KiB\"",
        );
    }
    let deadlines = Deadlines {
        header: period(&mut table, "header_timeout", seconds(10), faults),
        body: period(&mut table, "body_timeout", seconds(10), faults),
    };
    let pattern = table.or("value_pattern", "[0-9A-Za-z_.:-]{1,64}".to_owned(), faults);
    let value_pattern = whole(&pattern);
    if let Err(error) = &value_pattern {
        let mend = "write a regular expression in the syntax of Rust's regex crate";
        faults.add(table.span("value_pattern"), table.place("value_pattern"), error.clone(), mend);
    }
    let forward_headers = forward_headers(&mut table, faults);
    let legacy_credentials = table.or("legacy_credentials", false, faults);
    table.close(faults);
    let policy = other_paths.zip(value_pattern.ok()).map(|(other_paths, value_pattern)| Policy {
        other_paths,
        max_body,
        value_pattern,
        legacy_credentials,
    });
    (policy, deadlines, forward_headers)
}

/// Compiles a pattern that must match the whole value.
fn whole(pattern: &str) -> Result<Regex, String> {
    let reason = |error: regex::Error| match error {
        regex::Error::Syntax(_) => "is no regular expression".to_owned(),
        regex::Error::CompiledTooBig(_) => "is too large once compiled".to_owned(),
        other => format!("cannot be used: {other}"),
    };
    // Compiled alone first: `a)|(b` must not pass for want of the brackets around it.
    Regex::new(pattern).map_err(reason)?;
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(reason)
}

/// Fields that mean something to the gateway, to framing or to the application behind n4n's web server.
const RESERVED: [(&str, &[&str]); 5] = [
    ("a credential", &["api-key", "api-username"]),
    (
        "framing",
        &[
            "content-length",
            "content-type",
            "content-encoding",
            "transfer-encoding",
            "host",
            "expect",
            "trailer",
        ],
    ),
    (
        "forwarding",
        &[
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-real-ip",
            "x-request-id",
        ],
    ),
    (
        "an override",
        &["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"],
    ),
    (
        "the connection alone",
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "upgrade",
            "http2-settings",
        ],
    ),
];

fn forward_headers(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Vec<HeaderName> {
    let names: Vec<String> = table.or("forward_headers", Vec::new(), faults);
    let mut headers = Vec::new();
    for name in names {
        let place = table.place("forward_headers");
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => {
                let mend = "write field names such as \"x-correlation-id\"";
                faults.add(table.span("forward_headers"), place, "has an entry that is no field name", mend);
            }
            Ok(header) => {
                let reserved = RESERVED
                    .iter()
                    .find(|(_, fields)| fields.iter().any(|field| fold_alike(header.as_str(), field)));
                if let Some((purpose, _)) = reserved {
                    let reason = format!("`{header}` folds onto a field that concerns {purpose}");
                    faults.add(table.span("forward_headers"), place, reason, "leave it out");
                } else {
                    headers.push(header);
                }
            }
        }
    }
    headers
}

fn unlisted_quota(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<UnlistedQuota> {
    let default = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let quota = Quota {
        requests: table.or("requests", default(10), faults),
        per: period(&mut table, "per", seconds(1), faults),
        burst: table.or("burst", default(20), faults),
    };
    check_window(&table, &quota, faults);
    let max_users = count(&mut table, "max_users", 100_000, faults);
    table.close(faults);
    Some(UnlistedQuota { quota, max_users })
}

fn quota(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Quota> {
    let requests = table.required("requests", faults);
    let per: Option<Period> = table.required("per", faults);
    let burst = table.required("burst", faults);
    let quota =
        requests.zip(per).zip(burst).map(|((requests, per), burst)| Quota { requests, per: per.0, burst });
    if let Some(quota) = &quota {
        check_window(&table, quota, faults);
    }
    table.close(faults);
    quota
}

fn check_window(table: &Table<'_>, quota: &Quota, faults: &mut Faults<'_>) {
    if quota.window() > MAX_WINDOW {
        let reason = "a whole burst would take over ten years to come back";
        faults.add(
            table.span("burst"),
            table.place("burst"),
            reason,
            "lower burst or per, or raise requests",
        );
    }
}

fn users(tables: Vec<Table<'_>>, faults: &mut Faults<'_>) -> Vec<User> {
    let mut names = HashSet::new();
    let mut users = Vec::new();
    for mut table in tables {
        let name: Option<String> = table.required("name", faults);
        let own = table.table("quota", faults).and_then(|table| quota(table, faults));
        if let Some(name) = name {
            if !policy::credential::is_well_formed(name.as_bytes()) || name.is_empty() {
                let mend = "write 1 to 256 visible ASCII characters, without spaces";
                faults.add(table.span("name"), table.place("name"), "can be no api-username", mend);
            } else if !names.insert(name.clone()) {
                let reason = format!("`{name}` is listed twice");
                faults.add(table.span("name"), table.place("name"), reason, "list each user once");
            } else {
                users.push(User { name, quota: own });
            }
        }
        table.close(faults);
    }
    users
}

fn log(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Log {
    let access = match table.or("access", "stdout".to_owned(), faults).as_str() {
        "off" => AccessSink::Off,
        "stdout" => AccessSink::Stdout,
        "" => {
            let mend = "write \"off\", \"stdout\" or a file's path";
            faults.add(table.span("access"), table.place("access"), "is empty", mend);
            AccessSink::Off
        }
        file => AccessSink::File(folder.join(file)),
    };
    table.close(faults);
    Log { access }
}
