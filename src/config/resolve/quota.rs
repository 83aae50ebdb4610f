//! `[quota]`, and the quotas of users and clients.

use std::{env::VarError, num::NonZeroU32, path::Path, time::Duration};

use zeroize::Zeroizing;

use super::{choice, count, period, seconds};
use crate::{
    config::{QuotaStore, fault::Faults, table::Table, units::Period},
    files,
    quota::{Quota, UnlistedQuota},
    quota_store::{Address, WhenRedisFails},
};

/// The longest time in which a quota's burst may come back, so that its arithmetic stays exact.
const MAX_WINDOW: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

pub(super) fn unlisted_quota(
    mut table: Table<'_>,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> (UnlistedQuota, Option<QuotaStore>) {
    let default = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let quota = Quota {
        requests: table.or("requests", default(10), faults),
        per: period(&mut table, "per", seconds(1), faults),
        burst: table.or("burst", default(20), faults),
    };
    check_window(&table, &quota, faults);
    if !table.has("burst") && quota.requests > quota.burst {
        let reason = format!("is {}, and burst, which is absent, is {}", quota.requests, quota.burst);
        let mend = format!("no more than {} pass at once, so write the burst that is meant", quota.burst);
        faults.note("quota.requests", reason, mend);
    }
    let max_users = count(&mut table, "max_users", 100_000, faults);
    let store = store(&mut table, folder, faults);
    table.close(faults);
    (UnlistedQuota { quota, max_users }, store)
}

fn store(table: &mut Table<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<QuotaStore> {
    let choices = [
        ("local", WhenRedisFails::Local),
        ("reject", WhenRedisFails::Reject),
        ("forward", WhenRedisFails::Forward),
    ];
    let is_shared = table.has("redis");
    let written: Option<String> = table.optional("redis", faults);
    let when_redis_fails = choice(table, "when_redis_fails", &choices, faults);
    // "local" is what happens without it, too.
    if !is_shared && when_redis_fails != WhenRedisFails::Local {
        let key = "when_redis_fails";
        faults.add(table.span(key), table.place(key), "stands without redis", "name redis, or leave it out");
    }
    let url =
        secret(&written.map(Zeroizing::new)?, folder).map_err(|(reason, mend)| (reason, mend.to_owned()));
    match url.and_then(|url| Address::parse(&url).map_err(|why| (why.to_string(), why.mend().to_owned()))) {
        Ok(redis) => Some(QuotaStore { redis, when_redis_fails }),
        Err((reason, mend)) => {
            faults.add(table.span("redis"), table.place("redis"), reason, mend);
            None
        }
    }
}

/// A value that may stand elsewhere: in the environment, as `env:NAME`, or in a file, as `file:PATH`; the
/// line break that ends a file is no part of it. Or else what is wrong, and the mend.
fn secret(written: &str, folder: &Path) -> Result<Zeroizing<String>, (String, &'static str)> {
    if let Some(name) = written.strip_prefix("env:") {
        // What can be no variable's name may be the secret itself.
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let shown = if is_name { format!(" `{name}`") } else { String::new() };
        let value = std::env::var(name).map_err(|error| match error {
            VarError::NotPresent => (
                format!("names the variable{shown}, which is not set in the environment"),
                "set it for the gateway",
            ),
            VarError::NotUnicode(_) => (
                format!("names the variable{shown}, which is not in UTF-8"),
                "set it for the gateway in UTF-8",
            ),
        })?;
        return Ok(Zeroizing::new(value));
    }
    if let Some(path) = written.strip_prefix("file:") {
        let text = files::read_text(&folder.join(path)).map_err(|error| {
            (
                format!("names a file that cannot be read: {error}"),
                "name one that the gateway's user can read",
            )
        })?;
        let text = Zeroizing::new(text);
        return Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(Zeroizing::new(written.to_owned()))
}

pub(super) fn quota(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Quota> {
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
