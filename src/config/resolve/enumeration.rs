//! `[enumeration]`, and what users have of it for themselves.

use std::{num::NonZeroU32, time::Duration};

use super::{choice, count};
use crate::{
    config::{fault::Faults, table::Table, units::Period},
    enumeration::{LONGEST, Limit, MOST_DISTINCT, SHORTEST, UnlistedLimit},
};

/// Fifty customers an hour are more than people ask for by hand, and few for whoever walks through ids.
const DEFAULT: Limit = Limit {
    distinct: NonZeroU32::new(50).expect("50 is not zero"),
    per: Duration::from_secs(60 * 60),
    enforces: false,
};

/// The limit of everyone who has none of their own.
pub(super) fn for_all(mut table: Table<'_>, faults: &mut Faults<'_>) -> UnlistedLimit {
    let enforces = choice(&mut table, "mode", &[("observe", false), ("enforce", true)], faults);
    let limit = limit(&mut table, Limit { enforces, ..DEFAULT }, faults);
    let max_users = count(&mut table, "max_users", 100_000, faults);
    table.close(faults);
    UnlistedLimit { limit, max_users }
}

/// A user's own limit, which is `for_all` but for what it says itself; none where that is off.
pub(super) fn of_user(
    mut table: Table<'_>,
    for_all: Option<Limit>,
    faults: &mut Faults<'_>,
) -> Option<Limit> {
    let default = for_all.unwrap_or(DEFAULT);
    let mut modes = [("observe", Some(false)), ("enforce", Some(true)), ("off", None)];
    // The first is what holds where nothing is said.
    modes.sort_by_key(|(_, enforces)| *enforces != Some(default.enforces));
    let enforces = choice(&mut table, "mode", &modes, faults);
    let limit = limit(&mut table, Limit { enforces: enforces.unwrap_or_default(), ..default }, faults);
    if enforces.is_none() && (table.has("distinct") || table.has("per")) {
        let mend = "leave that mode out, or all else";
        faults.add(table.span("mode"), table.place("mode"), "is \"off\" beside a limit", mend);
    }
    table.close(faults);
    enforces.map(|_| limit)
}

fn limit(table: &mut Table<'_>, default: Limit, faults: &mut Faults<'_>) -> Limit {
    let distinct = table.or("distinct", default.distinct, faults);
    if distinct.get() > MOST_DISTINCT {
        let reason = format!("is over {MOST_DISTINCT}, the most that can be told apart in bounded memory");
        let mend = "write fewer and a shorter per; mode = \"off\" excepts a user";
        faults.add(table.span("distinct"), table.place("distinct"), reason, mend);
    }
    let per = table.or("per", Period(default.per), faults).0;
    if !(SHORTEST..=LONGEST).contains(&per) {
        let reason = if per < SHORTEST { "is under a second" } else { "is over 31 days" };
        faults.add(table.span("per"), table.place("per"), reason, "write from \"1s\" to \"744h\"");
    }
    Limit { distinct, per, ..default }
}
