//! `[policy]`.

use std::sync::LazyLock;

use http::{HeaderName, header};
use regex::bytes::Regex;

use super::{period, seconds};
use crate::{
    config::{Deadlines, fault::Faults, table::Table, units::ByteSize},
    policy::{Access, Clients, Mode, OtherPaths, Policy},
    wire::{claims, fields::fold_alike, hop_by_hop::HOP_BY_HOP},
};

/// The most `policy.max_body` can be: what is judged is held in memory.
const MAX_BODY: usize = 64 * 1024;

pub(super) fn policy(
    mut table: Table<'_>,
    mode: Mode,
    clients: Clients,
    access: Access,
    faults: &mut Faults<'_>,
) -> (Option<Policy>, Deadlines, Vec<HeaderName>) {
    let other_paths = table.or("other_paths", OtherPaths::Reject, faults);
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
static RESERVED: [(&str, &[&str]); 7] = [
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
    ("forwarding", claims::ORIGIN.all()),
    ("an override", claims::METHOD.all()),
    ("an override", claims::TARGET.all()),
    ("the connection alone", &HOP_BY_HOP),
    ("the connection alone", &["proxy-authenticate", "proxy-authorization"]),
];

/// The client's fields that are forwarded with every unlock call.
const ALWAYS_FORWARDED: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The client's fields that are forwarded with an unlock call, each once.
fn forward_headers(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Vec<HeaderName> {
    let names: Vec<String> = table.or("forward_headers", Vec::new(), faults);
    let mut named = Vec::new();
    for name in names {
        let place = table.place("forward_headers");
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => {
                let mend = "write field names such as \"x-correlation-id\"";
                faults.add(table.span("forward_headers"), place, "has an entry that is no field name", mend);
            }
            Ok(header) => {
                let reserved = RESERVED.iter().find(|(_, fields)| {
                    fields.iter().any(|field| fold_alike(header.as_str().as_bytes(), field))
                });
                if let Some((purpose, _)) = reserved {
                    let reason = format!("`{header}` folds onto a field that concerns {purpose}");
                    faults.add(table.span("forward_headers"), place, reason, "leave it out");
                } else if named.contains(&header) {
                    let reason = format!("names `{header}` twice");
                    faults.add(table.span("forward_headers"), place, reason, "name it once");
                } else {
                    named.push(header);
                }
            }
        }
    }
    // One that is forwarded anyway may be named, and is sent once all the same.
    named.retain(|header| !ALWAYS_FORWARDED.contains(header));
    [ALWAYS_FORWARDED.as_slice(), &named].concat()
}
