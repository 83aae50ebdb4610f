//! Admission: a request is judged, takes its place, its quota and its audit intent, and becomes bytes to send.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;

use super::canonical;
use crate::{
    downstream::Client,
    policy::{
        ApiUsername, Head, Listed, Route,
        order::{Found, Judged, Judgement},
    },
    quota_store::StoreConnection,
    reason::Reason,
    request::Request,
    upstream::peers::PeerSelection,
    users::{ListedUser, Users},
};

/// A request that may pass.
pub enum Admitted {
    /// A judged call, held whole.
    Call(OutgoingCall),
    /// A request for another path, which passes through.
    Other(PeerSelection),
}

/// A call ready to be sent. No `Debug`: the bytes have an api-key in them.
pub struct OutgoingCall {
    /// Its head and body.
    pub bytes: Vec<u8>,
    /// The peers that it may go to.
    pub peers: PeerSelection,
}

/// Judges a request, and takes its place in flight, its place among what its user asks for, its quota and its audit
/// intent, in that order.
///
/// # Errors
/// The first broken rule; nothing has been forwarded then.
pub async fn admit(
    request: &mut Request,
    client: &mut impl Client,
    redis: &StoreConnection,
) -> Result<Admitted, Reason> {
    let live = Arc::clone(&request.live);
    let mut under_way = UnderWay { request, client, users: &live.users, named: None };
    let judgement = live.settings.policy.judge(&mut under_way).await?;
    request.enter(judgement.route)?;
    let lookup = judgement.lookup();
    let is_recorded = judgement.asks(Reason::AuditUnavailable);
    let is_tried = is_recorded && request.doubts_trail();
    if is_tried {
        // While it cannot be written no quota is to be spent. Nothing but an intent shows whether it can: on a full disk
        // there may be room for nothing, or for less than that.
        request.intend(lookup).await?;
    }
    let peers = live.peers.select();
    if peers.is_empty() {
        return Err(Reason::UpstreamUnavailable);
    }
    if let Some(call) = &judgement.call {
        request.ask(call).or_else(|reason| request.tolerate(reason))?;
        request.spend(call, redis).await.or_else(|reason| request.tolerate(reason))?;
    }
    if is_recorded && !is_tried {
        // After the quota, so that a flood of calls over it leaves nothing in the trail.
        request.intend(lookup).await?;
    }
    let Judgement { route, call, .. } = judgement;
    let bytes = match (route, call.filter(|_| request.observed.is_none())) {
        (Route::Other, _) => return Ok(Admitted::Other(peers)),
        (Route::Unlock, Some(call)) => canonical::call(request, &call),
        (Route::Unlock, None) => {
            let body = request.body(client).await?;
            canonical::as_it_came(request, &body)
        }
    };
    Ok(Admitted::Call(OutgoingCall { bytes, peers }))
}

/// A request that is judged while its body may still be on the wire.
struct UnderWay<'a, C> {
    request: &'a mut Request,
    client: &'a mut C,
    users: &'a Users,
    /// The listed user whom its credentials name, the key not judged.
    named: Option<&'a Arc<ListedUser>>,
}

impl<C: Client> Judged for UnderWay<'_, C> {
    fn head(&self) -> Head<'_> {
        Head::from(&self.request.head)
    }

    fn peer(&self) -> IpAddr {
        self.request.client
    }

    fn note(&mut self, found: Found<'_>) {
        let request = &mut *self.request;
        match found {
            Found::Client(client) => request.client = client,
            Found::Route(route) => request.is_observed = request.live.settings.policy.observes(route),
            Found::Credentials(credentials) => request.username = Some(credentials.username.clone()),
            Found::Username(username) => request.username = Some(username),
            Found::WrongKey => request.note_wrong_key(),
            Found::User => request.user = self.named.cloned(),
            Found::Lookup(lookup) => request.lookup = Some(lookup.key),
            Found::Misplaced(misplaced) => {
                request.gateway.key_misplaced(&misplaced, Some(request.client), request.id);
            }
            Found::Observed(broken) => request.observed = Some(broken),
        }
    }

    fn find_user(&mut self, name: &ApiUsername) -> Option<Listed<'_>> {
        self.named = self.users.find(name.folded());
        self.named.map(|user| user.as_listed())
    }

    fn refuse_blocked(&mut self) -> Result<(), Reason> {
        self.request.refuse_blocked()
    }

    fn spend_client(&mut self) -> Result<(), Reason> {
        self.request.spend_client()
    }

    async fn body(&mut self) -> Result<Bytes, Reason> {
        self.request.body(self.client).await
    }
}
