//! `[listen]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    thread,
};

use ipnet::IpNet;

use super::{count, period, seconds};
use crate::config::{Listen, fault::Faults, table::Table, tls};

pub(super) fn listen(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> (Listen, Vec<IpNet>) {
    let http: Option<Vec<SocketAddr>> =
        if table.has("https") { table.optional("http", faults) } else { table.required("http", faults) };
    let https = table.tables("https", faults);
    let entries = https.len();
    let https = tls::https(https, folder, faults);
    let admin = table.or("admin", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464), faults);
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
        upgrade_socket: socket(&mut table, "upgrade_socket", folder, faults),
        admin_socket: socket(&mut table, "admin_socket", folder, faults),
    };
    tell_overlaps(&listen, &table, faults);
    if listen.admin_socket.is_some() && listen.admin_socket == listen.upgrade_socket {
        let mend = "give each socket a path of its own";
        faults.add(
            table.span("admin_socket"),
            table.place("admin_socket"),
            "is listen.upgrade_socket too",
            mend,
        );
    }
    let trusted_proxies = table.or("trusted_proxies", Vec::new(), faults);
    table.close(faults);
    (listen, trusted_proxies)
}

/// Finds listeners of which the second could not be opened beside the first.
fn tell_overlaps(listen: &Listen, table: &Table<'_>, faults: &mut Faults<'_>) {
    let all: Vec<_> = listen.addresses().collect();
    for (index, &(key, address)) in all.iter().enumerate() {
        let other = all[..index].iter().find(|&&(_, other)| overlap(address, other));
        let Some(&(other_key, other)) = other else { continue };
        // The admin listener is absent from many files, and where it is there it is not the one to give way.
        let (key, address, other) =
            if key == "admin" { (other_key, other, address) } else { (key, address, other) };
        let reason = if address.ip().to_canonical() != other.ip().to_canonical() {
            format!("names {address}, which claims the port of {other}")
        } else if key == "http" {
            format!("names {address} twice, or the admin listener's")
        } else {
            format!("names {address}, which is another listener's")
        };
        let mend = if is_both(address, other) {
            "give each listener an address of its own; [::] leaves IPv4 alone only beside 0.0.0.0 with its port"
        } else {
            "give each listener an address of its own"
        };
        faults.add(table.span(key), table.place(key), reason, mend);
    }
}

/// Whether one of them is an IPv4 address, and the other one all of IPv6.
fn is_both(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical().is_ipv4() != other.ip().to_canonical().is_ipv4()
}

/// Whether two sockets would claim the same port of the same address.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    if one.port() == 0 || one.port() != other.port() {
        return false;
    }
    // Link-local addresses are those of one interface.
    if let (SocketAddr::V6(one), SocketAddr::V6(other)) = (one, other)
        && one.scope_id() != other.scope_id()
        && one.ip() == other.ip()
    {
        return false;
    }
    let (one, other) = (one.ip().to_canonical(), other.ip().to_canonical());
    let takes = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
        // Beside 0.0.0.0 it takes IPv6 alone; any other IPv4 address it would take too.
        IpAddr::V6(wide) => wide.is_unspecified() && narrow != Ipv4Addr::UNSPECIFIED,
    };
    one == other || takes(one, other) || takes(other, one)
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

/// The path of a Unix socket.
fn socket(
    table: &mut Table<'_>,
    key: &'static str,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> Option<PathBuf> {
    let written: String = table.optional(key, faults)?;
    let path = folder.join(&written);
    let is_too_long = path.as_os_str().len() > LONGEST_SOCKET;
    if written.is_empty() || is_too_long {
        let reason = if written.is_empty() { "is empty" } else { "is too long for a Unix socket" };
        let mend = "write a short path, in a folder that only the service's user can enter";
        faults.add(table.span(key), table.place(key), reason, mend);
    }
    Some(path)
}
