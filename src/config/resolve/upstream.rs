//! `[upstream]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::Path,
};

use http::{Method, StatusCode};

use super::{period, seconds};
use crate::{
    config::{
        HealthCheck, Inspection, Listen, PeerHost, Upstream, fault::Faults, surroundings, table::Table, tls,
    },
    tls::Name,
};

pub(super) fn upstream(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<Upstream> {
    let peers: Option<Vec<PeerHost>> = table.required("peers", faults);
    if peers.as_ref().is_some_and(Vec::is_empty) {
        faults.add(table.span("peers"), table.place("peers"), "is empty", "name at least one n4n host");
    }
    tell_twins(peers.as_deref().unwrap_or_default(), &table, faults);
    let host: Option<String> = table.optional("host", faults);
    if host.as_ref().is_some_and(|host| !crate::wire::framing::is_authority(host.as_bytes())) {
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
    let is_named = |peer: &PeerHost| peer.name.is_some();
    if !table.has("tls") && peers.as_ref().is_some_and(|peers| peers.iter().any(is_named)) {
        let mend = "add upstream.tls, or write the address alone";
        let reason = "names what a certificate must be for, and there is no TLS";
        faults.add(table.span("peers"), table.place("peers"), reason, mend);
    }
    if host.is_none() && table.has("tls") {
        note_assumed_name(peers.as_deref().unwrap_or_default(), faults);
    }
    let is_https = |peer: &&PeerHost| matches!(peer.address.port, 443 | 8443);
    if !table.has("tls")
        && let Some(peer) = peers.iter().flatten().find(is_https)
    {
        let reason = format!("`{}` has a port of HTTPS, and is spoken to in plain HTTP", peer.address);
        faults.note("upstream.peers", reason, "add upstream.tls, {} for the system's roots");
    }
    let host = host.or_else(|| peers.as_ref()?.first().map(PeerHost::host));
    let name = host.as_deref().and_then(Name::of_host);
    if table.has("tls") && host.is_some() && name.is_none() {
        let mend = "write the name that n4n's certificate is for, without underscores";
        let reason = "is no name that a certificate can be checked for";
        faults.add(table.span("host"), table.place("host"), reason, mend);
    }
    let tls = table.table("tls", faults).and_then(|table| tls::upstream(table, name, folder, faults));
    let health_check = table.table("health_check", faults).map(|table| health_check(table, faults));
    table.close(faults);
    Some(Upstream {
        peers: peers?,
        host: host?,
        tls,
        health_check,
        connect_timeout,
        response_timeout,
        idle_timeout,
    })
}

/// Finds peers that are named a second time, which would get twice the share of calls.
fn tell_twins(peers: &[PeerHost], table: &Table<'_>, faults: &mut Faults<'_>) {
    for (index, PeerHost { address, .. }) in peers.iter().enumerate() {
        let is_same = |other: &PeerHost| {
            other.address.port == address.port && other.address.host.eq_ignore_ascii_case(&address.host)
        };
        if peers[..index].iter().any(is_same) {
            let reason = format!("names `{address}` twice");
            faults.add(table.span("peers"), table.place("peers"), reason, "name each n4n host once");
        }
    }
}

/// Tells which name certificates are verified for, where it was not said and is likely another.
fn note_assumed_name(peers: &[PeerHost], faults: &mut Faults<'_>) {
    let Some(assumed) = peers.first().map(PeerHost::host) else { return };
    let unnamed = || peers.iter().filter(|peer| peer.name.is_none());
    let mend = "write the name that n4n's certificates are for, or { address, name } for each";
    if unnamed().count() > 0 && assumed.parse::<IpAddr>().is_ok() {
        let reason = format!("is absent: certificates must be for the address {assumed}");
        faults.note("upstream.host", reason, mend);
    } else if let Some(peer) = unnamed().find(|peer| peer.address.host != assumed) {
        let reason = format!("is absent: the certificate of `{}` must be for `{assumed}`", peer.address);
        faults.note("upstream.host", reason, mend);
    }
}

/// Finds peers that are the gateway's own listeners: one call would go round until nothing is left for others.
pub(super) fn tell_loops(
    upstream: &Upstream,
    listen: &Listen,
    inspection: Inspection,
    faults: &mut Faults<'_>,
) {
    for PeerHost { address: peer, .. } in &upstream.peers {
        let is_localhost = peer.host.eq_ignore_ascii_case("localhost");
        let literal = if is_localhost { Ok(IpAddr::from(Ipv4Addr::LOCALHOST)) } else { peer.host.parse() };
        let Ok(at) = literal.map(|at: IpAddr| at.to_canonical()) else { continue };
        let is_itself = |listener: SocketAddr| {
            let own = listener.ip().to_canonical();
            let takes = own == at
                || (at.is_unspecified() && own.is_loopback())
                || (is_localhost && own.is_loopback())
                || (own.is_unspecified()
                    && (own.is_ipv6() || at.is_ipv4())
                    && (at.is_loopback() || at.is_unspecified() || surroundings::is_here(at, inspection)));
            listener.port() == peer.port && takes
        };
        if let Some((key, listener)) = listen.addresses().find(|&(_, listener)| is_itself(listener)) {
            let reason = format!("names `{peer}`, which is the gateway itself: listen.{key} is {listener}");
            faults.add_at("upstream.peers", reason, "name n4n's own address");
        }
    }
}

/// The statuses that show a peer to be alive, whatever it thinks of who asks.
const ALIVE: [StatusCode; 6] = [
    StatusCode::OK,
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
];

fn health_check(mut table: Table<'_>, faults: &mut Faults<'_>) -> HealthCheck {
    let path = table.or("path", "/".to_owned(), faults);
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        let mend = "write a path such as \"/\" or \"/health?full=1\", percent-encoded where need be";
        faults.add(table.span("path"), table.place("path"), "is no path", mend);
    }
    let expect = table.or("expect", ALIVE.to_vec(), faults);
    if expect.is_empty() {
        let mend = "name the statuses of a healthy peer";
        faults.add(table.span("expect"), table.place("expect"), "is empty: no peer could be healthy", mend);
    }
    let default = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let every = period(&mut table, "every", seconds(5), faults);
    // One check has ended before the next begins.
    let timeout = period(&mut table, "timeout", seconds(1).min(every), faults);
    if timeout > every {
        let mend = "write at most what every says";
        faults.add(table.span("timeout"), table.place("timeout"), "is longer than every", mend);
    }
    let check = HealthCheck {
        method: table.or("method", Method::GET, faults),
        path,
        expect,
        every,
        timeout,
        rise: table.or("rise", default(2), faults),
        fall: table.or("fall", default(3), faults),
    };
    table.close(faults);
    check
}
