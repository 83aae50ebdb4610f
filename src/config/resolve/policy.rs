//! `[policy]`.

use http::{HeaderName, header};
use regex::Regex;

use super::{period, seconds};
use crate::{
    config::{Deadlines, fault::Faults, table::Table, units::ByteSize},
    policy::{Access, Clients, LookupKey, Mode, OtherPaths, Pattern, Patterns, Policy},
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
    let patterns = patterns(&mut table, faults);
    let forward_headers = forward_headers(&mut table, faults);
    let legacy_credentials = table.or("legacy_credentials", false, faults);
    table.close(faults);
    let policy = patterns.map(|patterns| Policy {
        mode,
        clients,
        other_paths,
        legacy_credentials,
        access,
        max_body,
        patterns,
    });
    (policy, deadlines, forward_headers)
}

/// What lookup values must be: `value_pattern` is for every key that `patterns` does not name, and without it the default.
fn patterns(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Patterns> {
    let known = faults.count();
    let for_all = pattern(table, "value_pattern", faults);
    let by_key = table.table("patterns", faults).map_or([None, None, None], |mut patterns| {
        let by_key = LookupKey::ALL.map(|key| pattern(&mut patterns, key.name(), faults));
        patterns.close(faults);
        by_key
    });
    if for_all.is_some() && by_key.iter().all(Option::is_some) {
        let mend = "leave it out, or a key of policy.patterns";
        faults.add(
            table.span("value_pattern"),
            table.place("value_pattern"),
            "is for no key: policy.patterns names each of them",
            mend,
        );
    }
    let default = Patterns::default();
    let mut by_key = by_key.into_iter();
    let patterns = LookupKey::ALL.map(|key| {
        let own = by_key.next().flatten();
        own.or_else(|| for_all.clone()).unwrap_or_else(|| default.of(key).clone())
    });
    (faults.count() == known).then(|| patterns.into())
}

/// Reads a pattern, where the key is there and its value is one.
fn pattern(table: &mut Table<'_>, key: &'static str, faults: &mut Faults<'_>) -> Option<Pattern> {
    let text: String = table.optional(key, faults)?;
    let error = match Pattern::new(&text) {
        Ok(pattern) => return Some(pattern),
        Err(error) => error,
    };
    let syntax = "write a regular expression in the syntax of Rust's regex crate";
    let (reason, mend) = match error {
        regex::Error::Syntax(_) if Regex::new(&text).is_ok() => (
            "is about characters beyond ASCII".to_owned(),
            "write what it is to match in ASCII, or `(?u)` at its beginning",
        ),
        regex::Error::Syntax(_) => ("is no regular expression".to_owned(), syntax),
        regex::Error::CompiledTooBig(_) => ("is too large once compiled".to_owned(), syntax),
        other => (format!("cannot be used: {other}"), syntax),
    };
    faults.add(table.span(key), table.place(key), reason, mend);
    None
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
