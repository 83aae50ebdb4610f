//! `[quota]`, and the quotas of users and clients.

use std::{num::NonZeroU32, time::Duration};

use super::{count, period, seconds};
use crate::{
    config::{fault::Faults, table::Table, units::Period},
    quota::{Quota, UnlistedQuota},
};

/// The longest time in which a quota's burst may come back, so that its arithmetic stays exact.
const MAX_WINDOW: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

pub(super) fn unlisted_quota(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<UnlistedQuota> {
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
