//! `[clients]`, `[access]` and `[[users]]`.

use std::collections::HashMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{choice, enumeration, quota::quota};
use crate::{
    config::{User, WrongKeys, fault::Faults, table::Table, units::Period},
    enumeration::Limit,
    guessing::Allowance,
    policy::{self, Access, Clients, UserRules, access::KeyDigest},
    quota::Quota,
};

pub(super) fn clients(
    mut table: Table<'_>,
    trusted_proxies: Vec<IpNet>,
    faults: &mut Faults<'_>,
) -> (Clients, Option<Quota>, Option<WrongKeys>) {
    let everywhere = || vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let networks = table.optional("networks", faults).unwrap_or_else(everywhere);
    if networks.is_empty() {
        let mend = "name the networks that may call, or leave it out for all";
        faults.add(table.span("networks"), table.place("networks"), "is empty: nobody could call", mend);
    }
    let denied = table.or("deny", Vec::new(), faults);
    let quota = table.table("quota", faults).and_then(|table| quota(table, faults));
    let wrong_keys = table.table("wrong_keys", faults).and_then(|table| wrong_keys(table, faults));
    table.close(faults);
    (Clients { networks, denied, trusted_proxies }, quota, wrong_keys)
}

fn wrong_keys(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<WrongKeys> {
    let allowed = table.required("allowed", faults);
    let per: Option<Period> = table.required("per", faults);
    let block: Option<Period> = table.required("block", faults);
    let except = table.or("except", Vec::new(), faults);
    table.close(faults);
    let (wrong_keys, per, block) = (allowed?, per?.0, block?.0);
    Some(WrongKeys { allowance: Allowance { wrong_keys, per, block }, except })
}

pub(super) fn access(mut table: Table<'_>, users: &[User], faults: &mut Faults<'_>) -> Access {
    let refuses_unlisted =
        choice(&mut table, "unlisted_users", &[("forward", false), ("reject", true)], faults);
    if refuses_unlisted && users.is_empty() {
        let mend = "list the users that may call, each under [[users]]";
        faults.add(
            table.span("unlisted_users"),
            table.place("unlisted_users"),
            "leaves nobody who may call",
            mend,
        );
    }
    table.close(faults);
    Access::new(users.iter().map(|user| (&*user.name, &user.rules)), refuses_unlisted)
}

/// `limit` is how many different customers a user may ask for who has no limit of its own.
pub(super) fn users(tables: Vec<Table<'_>>, limit: Option<Limit>, faults: &mut Faults<'_>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    let mut names: HashMap<String, String> = HashMap::new();
    for (index, mut table) in tables.into_iter().enumerate() {
        // Whoever can be called by name is.
        match table.text("name").filter(|name| is_name(name)) {
            Some(name) => table.call(format_args!("\"{name}\"")),
            None => table.call(index + 1),
        }
        let name: Option<String> = table.required("name", faults);
        let quota = table.table("quota", faults).and_then(|table| quota(table, faults));
        let enumeration = match table.table("enumeration", faults) {
            Some(own) => enumeration::of_user(own, limit, faults),
            None => limit,
        };
        let keys = keys(&mut table, faults);
        let is_disabled = table.or("disabled", false, faults);
        let networks: Option<Vec<IpNet>> = table.optional("networks", faults);
        if networks.as_ref().is_some_and(Vec::is_empty) {
            let mend = "name the user's networks, or leave it out for any";
            faults.add(
                table.span("networks"),
                table.place("networks"),
                "is empty: the user could not call",
                mend,
            );
        }
        if let Some(name) = name {
            if !is_name(&name) {
                let mend = "write 1 to 256 visible ASCII characters, without spaces";
                faults.add(table.span("name"), table.place("name"), "can be no api-username", mend);
            } else if let Some(listed) = names.get(&name.to_ascii_lowercase()) {
                let reason = if *listed == name {
                    format!("`{name}` is listed twice")
                } else {
                    format!("`{name}` is listed as `{listed}` already: case does not tell users apart")
                };
                faults.add(table.span("name"), table.place("name"), reason, "list each user once");
            } else {
                names.insert(name.to_ascii_lowercase(), name.clone());
                users.push(User {
                    name,
                    rules: UserRules { keys, networks, is_disabled },
                    quota,
                    enumeration,
                });
            }
        }
        table.close(faults);
    }
    users
}

/// Whether it can be an api-username.
fn is_name(name: &str) -> bool {
    !name.is_empty() && policy::credential::is_well_formed(name.as_bytes())
}

/// One key, or two during a rotation; a single one stands in both places.
fn keys(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<[KeyDigest; 2]> {
    match table.optional::<Vec<KeyDigest>>("key_sha256", faults)?.as_slice() {
        [key] => Some([*key; 2]),
        [old, new] => {
            if old == new {
                let mend = "write it once; during a rotation, the old one and the new one";
                faults.add(table.span("key_sha256"), table.place("key_sha256"), "has one digest twice", mend);
            }
            Some([*old, *new])
        }
        _ => {
            let mend =
                "write one digest, two during a rotation, or leave it out to let any key pass on to n4n";
            faults.add(
                table.span("key_sha256"),
                table.place("key_sha256"),
                "has not one or two digests",
                mend,
            );
            None
        }
    }
}
