//! From the file as written to the settings as meant, every fault on the way noted.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    sync::LazyLock,
    thread,
    time::Duration,
};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use regex::bytes::Regex;
use toml::de::DeTable;

use super::{
    AccessSink, Deadlines, Fault, HostPort, Listen, Log, Settings, Upstream, User,
    fault::Faults,
    table::Table,
    tls,
    units::{ByteSize, Period},
};
use crate::{
    policy::{
        self, Access, Clients, Mode, OtherPaths, Policy,
        access::{KeyDigest, Listed},
        fields::fold_alike,
    },
    quota::{Quota, UnlistedQuota},
    tls::Name,
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
    let (listen, trusted_proxies) = listen(section("listen", &mut faults), folder, &mut faults);
    let upstream = upstream(section("upstream", &mut faults), folder, &mut faults);
    let policy_section = section("policy", &mut faults);
    let clients_section = section("clients", &mut faults);
    let access_section = section("access", &mut faults);
    let mode =
        choice(&mut file, "mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)], &mut faults);
    let (networks, client_quota) = clients(clients_section, &mut faults);
    let (users, listed) = users(file.tables("users", &mut faults), &mut faults);
    let access = access(access_section, listed, &mut faults);
    let clients = Clients { networks, trusted_proxies };
    let (policy, deadlines, forward_headers) = policy(policy_section, mode, clients, access, &mut faults);
    let quota = file.table("quota", &mut faults).and_then(|table| unlisted_quota(table, &mut faults));
    let log =
        log(file.table("log", &mut faults).unwrap_or_else(|| Table::absent("log")), folder, &mut faults);
    file.close(&mut faults);
    match (listen, upstream, policy) {
        (Some(listen), Some(upstream), Some(policy)) if faults.is_empty() => Ok(Settings {
            listen,
            upstream,
            policy,
            deadlines,
            forward_headers,
            client_quota,
            quota,
            users,
            log,
        }),
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

/// Reads a key that names one of a few choices, the first of which is the default.
fn choice<T: Copy>(
    table: &mut Table<'_>,
    key: &'static str,
    choices: &[(&str, T); 2],
    faults: &mut Faults<'_>,
) -> T {
    let [(first, default), (second, _)] = *choices;
    let Some(written) = table.optional::<String>(key, faults) else {
        return default;
    };
    let chosen = choices.iter().find(|(name, _)| *name == written);
    chosen.map_or_else(
        || {
            let mend = format!("write \"{first}\" or \"{second}\"");
            faults.add(table.span(key), table.place(key), "is neither", mend);
            default
        },
        |(_, choice)| *choice,
    )
}

fn listen(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> (Option<Listen>, Vec<IpNet>) {
    let http: Option<Vec<SocketAddr>> =
        if table.has("https") { table.optional("http", faults) } else { table.required("http", faults) };
    let https = table.tables("https", faults);
    let entries = https.len();
    let https = tls::https(https, folder, faults);
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
    for address in https.iter().map(|listener| listener.address) {
        if address.port() != 0 && !seen.insert((address.ip(), address.port())) {
            let reason = format!("names {address}, which is another listener's");
            let mend = "give each listener an address of its own";
            faults.add(table.span("https"), table.place("https"), reason, mend);
        }
    }
    let (key, is_empty) = match &http {
        Some(http) => ("http", http.is_empty()),
        None => ("https", table.has("https") && !table.has("http")),
    };
    if is_empty && entries == 0 {
        faults.add(table.span(key), table.place(key), "is empty", "name at least one address");
    }
    let listen = Listen {
        http: http.unwrap_or_default(),
        https,
        admin,
        admin_hosts: admin_hosts(&mut table, faults),
        threads,
        max_connections: count(&mut table, "max_connections", 10_000, faults),
        max_in_flight: count(&mut table, "max_in_flight", 1_000, faults),
        idle_timeout: period(&mut table, "idle_timeout", seconds(60), faults),
        drain_timeout: period(&mut table, "drain_timeout", seconds(30), faults),
    };
    let trusted_proxies = table.or("trusted_proxies", Vec::new(), faults);
    table.close(faults);
    (Some(listen), trusted_proxies)
}

/// The names under which browsers may ask for the live page.
fn admin_hosts(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Vec<String> {
    let hosts: Vec<String> = table.or("admin_hosts", Vec::new(), faults);
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    if hosts.iter().any(|host| !is_name(host)) {
        let mend = "write names such as \"gateway.internal\", without scheme and port";
        faults.add(
            table.span("admin_hosts"),
            table.place("admin_hosts"),
            "has an entry that is no host name",
            mend,
        );
    }
    hosts
}

fn upstream(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<Upstream> {
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
    let host = host.or_else(|| Some(peers.as_ref()?.first()?.host.clone()));
    let name = host.as_deref().and_then(Name::of_host);
    if table.has("tls") && host.is_some() && name.is_none() {
        let mend = "write the name that n4n's certificate is for, without underscores";
        let reason = "is no name that a certificate can be checked for";
        faults.add(table.span("host"), table.place("host"), reason, mend);
    }
    let tls = table.table("tls", faults).and_then(|table| tls::upstream(table, name, folder, faults));
    table.close(faults);
    Some(Upstream { peers: peers?, host: host?, tls, connect_timeout, response_timeout, idle_timeout })
}

fn policy(
    mut table: Table<'_>,
    mode: Mode,
    clients: Clients,
    access: Access,
    faults: &mut Faults<'_>,
) -> (Option<Policy>, Deadlines, Vec<HeaderName>) {
    let other_paths = choice(
        &mut table,
        "other_paths",
        &[("reject", OtherPaths::Reject), ("forward", OtherPaths::Forward)],
        faults,
    );
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
    let pattern: Option<String> = table.optional("value_pattern", faults);
    let value_pattern = pattern.map_or_else(|| Ok(DEFAULT_VALUE_PATTERN.clone()), |pattern| whole(&pattern));
    if let Err(error) = &value_pattern {
        let mend = "write a regular expression in the syntax of Rust's regex crate";
        faults.add(table.span("value_pattern"), table.place("value_pattern"), error.clone(), mend);
    }
    let forward_headers = forward_headers(&mut table, faults);
    let legacy_credentials = table.or("legacy_credentials", false, faults);
    table.close(faults);
    let policy = value_pattern.ok().map(|value_pattern| Policy {
        mode,
        clients,
        other_paths,
        legacy_credentials,
        access,
        max_body,
        value_pattern,
    });
    (policy, deadlines, forward_headers)
}

/// What a lookup value must be unless the file says otherwise; compiled once.
static DEFAULT_VALUE_PATTERN: LazyLock<Regex> =
    LazyLock::new(|| whole("[0-9A-Za-z_.:-]{1,64}").expect("the default is a regular expression"));

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

fn clients(mut table: Table<'_>, faults: &mut Faults<'_>) -> (Vec<IpNet>, Option<Quota>) {
    let everywhere = || vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let networks = table.optional("networks", faults).unwrap_or_else(everywhere);
    if networks.is_empty() {
        let mend = "name the networks that may call, or leave it out for all";
        faults.add(table.span("networks"), table.place("networks"), "is empty: nobody could call", mend);
    }
    let quota = table.table("quota", faults).and_then(|table| quota(table, faults));
    table.close(faults);
    (networks, quota)
}

fn access(mut table: Table<'_>, listed: HashMap<Box<str>, Listed>, faults: &mut Faults<'_>) -> Access {
    let refuses_unlisted =
        choice(&mut table, "unlisted_users", &[("forward", false), ("reject", true)], faults);
    if refuses_unlisted && listed.is_empty() {
        let mend = "list the users that may call, each under [[users]]";
        faults.add(
            table.span("unlisted_users"),
            table.place("unlisted_users"),
            "leaves nobody who may call",
            mend,
        );
    }
    table.close(faults);
    Access::new(listed, refuses_unlisted)
}

fn users(tables: Vec<Table<'_>>, faults: &mut Faults<'_>) -> (Vec<User>, HashMap<Box<str>, Listed>) {
    let mut users: Vec<User> = Vec::new();
    let mut listed = HashMap::new();
    for mut table in tables {
        let name: Option<String> = table.required("name", faults);
        let quota = table.table("quota", faults).and_then(|table| quota(table, faults));
        let keys = keys(&mut table, faults);
        let networks: Option<Vec<IpNet>> = table.optional("networks", faults);
        if networks.as_ref().is_some_and(Vec::is_empty) {
            let mend = "name the user's networks, or leave it out for any";
            faults.add(
                table.span("networks"),
                table.place("networks"),
                "is empty: the user could not call",
                mend,
            );
        }
        if let Some(name) = name {
            if !policy::credential::is_well_formed(name.as_bytes()) || name.is_empty() {
                let mend = "write 1 to 256 visible ASCII characters, without spaces";
                faults.add(table.span("name"), table.place("name"), "can be no api-username", mend);
            } else if listed.insert(name.clone().into(), Listed { keys, networks }).is_some() {
                let reason = format!("`{name}` is listed twice");
                faults.add(table.span("name"), table.place("name"), reason, "list each user once");
            } else {
                users.push(User { name, quota });
            }
        }
        table.close(faults);
    }
    (users, listed)
}

/// One key, or two during a rotation; a single one stands in both places.
fn keys(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<[KeyDigest; 2]> {
    match table.optional::<Vec<KeyDigest>>("key_sha256", faults)?.as_slice() {
        [key] => Some([*key; 2]),
        [old, new] => Some([*old, *new]),
        _ => {
            let mend =
                "write one digest, two during a rotation, or leave it out to let any key pass on to n4n";
            faults.add(
                table.span("key_sha256"),
                table.place("key_sha256"),
                "has not one or two digests",
                mend,
            );
            None
        }
    }
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
    let audit: Option<String> = table.optional("audit", faults);
    if audit.as_ref().is_some_and(String::is_empty) {
        let mend = "write a file's path, or leave it out for no audit trail";
        faults.add(table.span("audit"), table.place("audit"), "is empty", mend);
    }
    let audit = audit.map(|file| folder.join(file));
    if audit.as_ref().is_some_and(|audit| access == AccessSink::File(audit.clone())) {
        let mend = "give the audit trail a file of its own";
        faults.add(table.span("audit"), table.place("audit"), "is the access log's file too", mend);
    }
    table.close(faults);
    Log { access, audit }
}
