//! What an operator should know of `[enumeration]` although it is sound.

use super::Settings;
use crate::{
    enumeration::{Limit, MISS_WEIGHT},
    quota::Quota,
};

/// Limits that do not do what they seem to.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let quota_for_all = settings.quota.map(|users| users.quota);
    let mut warnings = Vec::new();
    for user in &settings.users {
        if let Some(calls) = unreachable(user.enumeration, user.quota.or(quota_for_all)) {
            warnings.push(never_reached(&format!("of user `{}`", user.name), calls));
        }
    }
    let Some(unlisted) = settings.enumeration.filter(|_| !settings.policy.access.refuses_unlisted()) else {
        return warnings;
    };
    if let Some(calls) = unreachable(Some(unlisted.limit), quota_for_all) {
        warnings.push(never_reached("of users who are not listed", calls));
    }
    if unlisted.limit.enforces {
        warnings.push(
            "enumeration: users who are not listed are counted by the name they give: whoever invents another has not \
             asked for anything yet, and whoever knows one can use up what it may ask for; list them with their keys, \
             or set access.unlisted_users = \"reject\""
                .into(),
        );
    }
    warnings
}

fn never_reached(whose: &str, calls: u64) -> String {
    format!("enumeration.distinct {whose} is never reached: the quota lets {calls} calls pass in its per")
}

/// How many calls a quota lets pass in a limit's period, where they cannot reach it even if n4n refuses them all.
fn unreachable(limit: Option<Limit>, quota: Option<Quota>) -> Option<u64> {
    let (limit, quota) = limit.zip(quota)?;
    let returning = limit.per.as_nanos() / quota.interval().as_nanos();
    let calls = u64::try_from(returning).unwrap_or(u64::MAX).saturating_add(quota.burst.get().into());
    (calls.saturating_mul(MISS_WEIGHT.into()) <= limit.distinct.get().into()).then_some(calls)
}
