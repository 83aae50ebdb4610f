//! `[upstream]`.

use std::path::Path;

use super::{period, seconds};
use crate::{
    config::{HostPort, Upstream, fault::Faults, table::Table, tls},
    policy,
    tls::Name,
};

pub(super) fn upstream(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<Upstream> {
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
