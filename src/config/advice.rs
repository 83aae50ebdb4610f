//! What is sound and perhaps not what was meant: each of these is told, and nothing is kept from starting.

use std::collections::HashMap;

use ipnet::IpNet;

use super::{Settings, User};
use crate::policy::{LookupKey, access::KeyDigest};

/// What the settings say that few would mean.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    clients(settings, &mut warnings);
    users(settings, &mut warnings);
    patterns(settings, &mut warnings);
    for https in &settings.listen.https {
        let leaves = https.client_ca.as_ref().map_or(0, |ca| ca.leaves());
        if leaves > 0 {
            warnings.push(format!(
                "listen.https.client_ca: of {}: {leaves} of its certificates may issue no others; name the CA's that clients' \
                 certificates are from",
                https.address,
            ));
        }
    }
    let (drain, response) = (settings.listen.drain_timeout, settings.upstream.response_timeout);
    if drain < response {
        warnings.push(format!(
            "listen.drain_timeout: is {drain:?}, under upstream.response_timeout, {response:?}: a stop cuts off calls that n4n \
             would still answer; write as much or more",
        ));
    }
    warnings
}

fn clients(settings: &Settings, warnings: &mut Vec<String>) {
    let is_all = |network: &&IpNet| network.prefix_len() == 0;
    if let Some(all) = settings.policy.clients.trusted_proxies.iter().find(is_all) {
        warnings.push(format!(
            "listen.trusted_proxies: {all} believes everyone: any client names its own address in X-Forwarded-For; name your \
             proxies",
        ));
    }
}

fn users(settings: &Settings, warnings: &mut Vec<String>) {
    let clients = &settings.policy.clients.networks;
    let refuses_unlisted = settings.policy.access.refuses_unlisted();
    let mut known: HashMap<KeyDigest, &User> = HashMap::new();
    for user in &settings.users {
        let name = &user.name;
        let overlap = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
        let is_outside = |network: &&IpNet| !clients.iter().any(|client| overlap(client, network));
        for outside in user.rules.networks.iter().flatten().filter(is_outside) {
            warnings.push(format!(
                "users[\"{name}\"].networks: {outside} is outside clients.networks, so nobody can call from there; add it there, \
                 or leave it out here",
            ));
        }
        let Some(keys) = &user.rules.keys else {
            if refuses_unlisted {
                warnings.push(format!(
                    "users[\"{name}\"]: has no key_sha256: whoever knows the name passes, although access.unlisted_users is \
                     \"reject\"; add what `n4n-gateway hash-key` prints",
                ));
            }
            continue;
        };
        if let Some(other) = keys.iter().find_map(|key| known.get(key)) {
            warnings.push(format!(
                "users[\"{name}\"].key_sha256: has a digest of users[\"{}\"] too, so each can call as the other; give each its \
                 own key",
                other.name,
            ));
        }
        known.extend(keys.map(|key| (key, user)));
    }
}

fn patterns(settings: &Settings, warnings: &mut Vec<String>) {
    for key in LookupKey::ALL {
        let pattern = settings.policy.patterns.of(key);
        let name = key.name();
        if pattern.is_empty() {
            warnings.push(format!(
                "policy.patterns: that for {name} is empty, which no value is: every call by {name} is refused; write what it \
                 must be, or leave it out",
            ));
        } else if pattern.is_open() {
            warnings.push(format!(
                "policy.patterns: that for {name} lets anything pass, quotes and markup too; write what n4n's ids are, such as \
                 '[1-9][0-9]{{0,17}}'",
            ));
        }
    }
}
