//! What can be asked for on the admin socket, carried out.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use ipnet::IpNet;

use super::Request;
use crate::{
    audit::{Act, Deed},
    gateway::{Gateway, Live},
    outcome::RequestId,
    policy::{ApiUsername, credential},
    quota::Balance,
    quota_store,
    users::ListedUser,
};

/// Does what is asked by a user of the system; returns what is to be printed.
pub(super) async fn carry_out(gateway: &Gateway, request: &Request, uid: u32) -> Result<String, String> {
    let live = gateway.live();
    match request {
        Request::QuotaShow { user } => show_quota(gateway, &live, &User::find(&live, user)?).await,
        Request::QuotaReset { user } => reset_quota(gateway, &live, &User::find(&live, user)?, uid).await,
        Request::ClientsForgive { network } => {
            let network = network.parse().map_err(|_| format!("`{network}` is no network"))?;
            forgive(&live, network, uid).await
        }
    }
}

/// A user that is asked about.
struct User {
    name: ApiUsername,
    listed: Option<Arc<ListedUser>>,
}

impl User {
    fn find(live: &Live, name: &str) -> Result<Self, String> {
        if name.is_empty() || !credential::is_well_formed(name.as_bytes()) {
            return Err("an api-username is 1 to 256 visible ASCII characters".into());
        }
        let name = ApiUsername::from(name);
        if let Some(listed) = live.users.find(name.folded()) {
            return Ok(Self { name: listed.name.clone(), listed: Some(listed.clone()) });
        }
        if live.settings.policy.access.known.in_bare_username(&name).is_some() {
            return Err("that is an api-key; name the api-username, and change the key".into());
        }
        Ok(Self { name, listed: None })
    }
}

async fn show_quota(gateway: &Gateway, live: &Live, user: &User) -> Result<String, String> {
    let (name, listed) = (user.name.as_str(), user.listed.as_deref());
    let known = if listed.is_some() { "listed" } else { "not listed" };
    let quota = match listed {
        Some(listed) => listed.quota(),
        None => live.ledger.quota(),
    };
    let Some(quota) = quota else {
        return Ok(format!("user: {name}, {known}\nquota: none\n"));
    };
    let now = Instant::now();
    let store = gateway.quota_store.borrow().clone();
    let (balance, place) = match &store {
        Some(store) => {
            let asked = quota_store::balance(store, user.name.folded(), quota).await;
            let balance = asked.map_err(|fault| format!("Redis does not say: {fault}"))?;
            (Some(balance), format!("Redis at {}", store.address()))
        }
        None => {
            let balance = match listed {
                Some(listed) => listed.balance(now),
                None => live.ledger.balance(user.name.folded(), now),
            };
            (balance, "this process".into())
        }
    };
    let left = match balance {
        Some(Balance { remaining, whole_in, .. }) => {
            format!("{remaining}, whole in {:.3} s", whole_in.as_secs_f64())
        }
        // Of those who share an account because there is no room it is not known by name who they are.
        None => "all of it, or what newcomers share for whom there was no room".into(),
    };
    Ok(format!(
        "user: {name}, {known}\nquota: {} requests in {} s, burst {}\nleft: {left}\nkept in: {place}\n",
        quota.requests,
        quota.per.as_secs_f64(),
        quota.burst,
    ))
}

async fn reset_quota(gateway: &Gateway, live: &Live, user: &User, uid: u32) -> Result<String, String> {
    let (name, folded) = (user.name.as_str(), user.name.folded());
    record(live, uid, Deed::QuotaReset { user: name }).await?;
    let has_one = match &user.listed {
        Some(listed) => listed.reset_quota(),
        None => live.ledger.reset(folded, Instant::now()),
    };
    tracing::info!(user = name, uid, "a user's quota is reset");
    let store = gateway.quota_store.borrow().clone();
    if let Some(store) = store {
        quota_store::reset(&store, folded).await.map_err(|fault| {
            format!("the quota of {name} is whole in this process, and in Redis it is as it was: {fault}")
        })?;
    } else if !has_one {
        return Ok(format!("{name} has no account of its own here: nothing to reset\n"));
    }
    Ok(format!("the quota of {name} is whole\n"))
}

async fn forgive(live: &Live, network: IpNet, uid: u32) -> Result<String, String> {
    let Some(blocks) = &live.blocks else {
        return Err("nobody is shut out: clients.wrong_keys is not in force".into());
    };
    record(live, uid, Deed::ClientsForgiven { network }).await?;
    let networks = blocks.forgive(network);
    tracing::info!(%network, networks, uid, "client networks are forgiven");
    Ok(format!("client networks that are let in again: {networks}\n"))
}

/// Puts into the trail who asked for what; what cannot be recorded is not done.
async fn record(live: &Live, uid: u32, deed: Deed<'_>) -> Result<(), String> {
    let Some(trail) = &live.trail else { return Ok(()) };
    let act = Act { time: SystemTime::now(), request_id: RequestId::next(), uid, deed };
    trail.act(&act).await.map_err(|error| format!("nothing is done: {error}"))
}
