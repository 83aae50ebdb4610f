//! `[upstream]`.

use std::{num::NonZeroU32, path::Path};

use http::{Method, StatusCode};

use super::{period, seconds};
use crate::{
    config::{HealthCheck, PeerHost, Upstream, fault::Faults, table::Table, tls},
    tls::Name,
};

pub(super) fn upstream(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<Upstream> {
    let peers: Option<Vec<PeerHost>> = table.required("peers", faults);
    if peers.as_ref().is_some_and(Vec::is_empty) {
        faults.add(table.span("peers"), table.place("peers"), "is empty", "name at least one n4n host");
    }
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
    let check = HealthCheck {
        method: table.or("method", Method::GET, faults),
        path,
        expect,
        every: period(&mut table, "every", seconds(5), faults),
        timeout: period(&mut table, "timeout", seconds(1), faults),
        rise: table.or("rise", default(2), faults),
        fall: table.or("fall", default(3), faults),
    };
    table.close(faults);
    check
}
