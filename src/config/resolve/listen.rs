//! `[listen]`.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    thread,
};

use ipnet::IpNet;

use super::{count, period, seconds};
use crate::config::{Listen, fault::Faults, table::Table, tls};

pub(super) fn listen(
    mut table: Table<'_>,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> (Option<Listen>, Vec<IpNet>) {
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
        upgrade_socket: upgrade_socket(&mut table, folder, faults),
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

/// The longest path that a Unix socket can have (`sockaddr_un`).
const LONGEST_SOCKET: usize = 107;

fn upgrade_socket(table: &mut Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<PathBuf> {
    let written: String = table.optional("upgrade_socket", faults)?;
    let path = folder.join(&written);
    let is_too_long = path.as_os_str().len() > LONGEST_SOCKET;
    if written.is_empty() || is_too_long {
        let reason = if written.is_empty() { "is empty" } else { "is too long for a Unix socket" };
        let mend = "write a short path, in a folder that only the service's user can enter";
        faults.add(table.span("upgrade_socket"), table.place("upgrade_socket"), reason, mend);
    }
    Some(path)
}
