//! Turns the configuration file into settings, and collects every fault.

mod enumeration;
mod listen;
mod other_paths;
mod policy;
mod quota;
mod upstream;
mod users;

use std::{num::NonZeroU32, path::Path, time::Duration};

use toml::de::DeTable;
use tracing::Level;

use super::{
    AccessSink, Fault, Inspection, Log, LogFormat, Settings, fault::Faults, surroundings, table::Table,
    units::Period,
};
use crate::policy::Mode;

pub(super) fn resolve(text: &str, folder: &Path, inspection: Inspection) -> Result<Settings, Vec<Fault>> {
    let mut faults = Faults::of(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // Behind a syntax error everything is read wrongly, so no other fault is worth telling yet.
        for error in errors {
            let mend = if error.message().contains("escape") {
                "write it as TOML 1.0, a pattern in single quotes, '\\d', where a backslash is itself"
            } else {
                "write it as TOML 1.0"
            };
            faults.add(error.span(), "the file", error.message(), mend);
        }
        return Err(faults.into_list());
    }
    let mut file = Table::of("", Some(0..0), document.get_ref());
    let mut section =
        |key, faults: &mut Faults<'_>| file.table(key, faults).unwrap_or_else(|| Table::absent(key));
    let (listen, trusted_proxies) = listen::listen(section("listen", &mut faults), folder, &mut faults);
    let upstream = upstream::upstream(section("upstream", &mut faults), folder, &mut faults);
    let policy_section = section("policy", &mut faults);
    let clients_section = section("clients", &mut faults);
    let access_section = section("access", &mut faults);
    let mode =
        choice(&mut file, "mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)], &mut faults);
    let (clients, client_quota, wrong_keys) = users::clients(clients_section, trusted_proxies, &mut faults);
    let enumeration =
        file.table("enumeration", &mut faults).map(|table| enumeration::for_all(table, &mut faults));
    let for_all = enumeration.map(|unlisted| unlisted.limit);
    let users = users::users(file.tables("users", &mut faults), for_all, &mut faults);
    let access = users::access(access_section, &users, &mut faults);
    let (policy, deadlines, forward_headers) =
        policy::policy(policy_section, mode, clients, access, &mut faults);
    let (quota, quota_store) = file
        .table("quota", &mut faults)
        .map(|table| quota::unlisted_quota(table, folder, &mut faults))
        .unzip();
    let log =
        log(file.table("log", &mut faults).unwrap_or_else(|| Table::absent("log")), folder, &mut faults);
    file.close(&mut faults);
    if let Some(upstream) = &upstream {
        upstream::tell_loops(upstream, &listen, inspection, &mut faults);
    }
    surroundings::look(&listen, &log, inspection, &mut faults);
    match (upstream, policy) {
        (Some(upstream), Some(policy)) if faults.is_empty() => Ok(Settings {
            listen,
            upstream,
            policy,
            deadlines,
            forward_headers,
            client_quota,
            wrong_keys,
            quota,
            quota_store: quota_store.flatten(),
            enumeration,
            users,
            log,
            notes: faults.take_notes(),
        }),
        _ => Err(faults.into_list()),
    }
}

/// How much the operational log may tell.
const LEVELS: [(&str, Level); 5] = [
    ("info", Level::INFO),
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

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
    choices: &[(&str, T)],
    faults: &mut Faults<'_>,
) -> T {
    let default = choices[0].1;
    let Some(written) = table.optional::<String>(key, faults) else {
        return default;
    };
    let chosen = choices.iter().find(|(name, _)| *name == written);
    chosen.map_or_else(
        || {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let reason = if names.len() == 2 { "is neither" } else { "is none of these" };
            faults.add(table.span(key), table.place(key), reason, format!("write {}", names.join(" or ")));
            default
        },
        |(_, choice)| *choice,
    )
}

fn log(mut table: Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Log {
    let level = choice(&mut table, "level", &LEVELS, faults);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = choice(&mut table, "format", &formats, faults);
    let access = match table.or("access", "stdout".to_owned(), faults).as_str() {
        "off" => AccessSink::Off,
        "stdout" => AccessSink::Stdout,
        "stderr" => AccessSink::Stderr,
        // A word is more often meant to say something than to name a file.
        word if word.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            let reason = if word.is_empty() { "is empty" } else { "is a word, and no path" };
            let mend = "write \"off\", \"stdout\", \"stderr\" or a file's path, such as \"access.log\" or \"./access\"";
            faults.add(table.span("access"), table.place("access"), reason, mend);
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
    Log { level, format, access, audit }
}
