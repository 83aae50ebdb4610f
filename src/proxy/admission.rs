//! What may pass, glued to a connection: bodies are read, quotas spent, intents written. The rules are policy's.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use pingora::http::RequestHeader;

use super::{
    Request,
    context::{InFlight, Passage},
    forward::Forwarding,
};
use crate::{
    downstream::{connection::Connection, session::Body},
    gateway::Gateway,
    policy::{
        Head, Route,
        order::{Found, Judged, Judgement},
    },
    quota_store::Line,
    reason::Reason,
};

/// Who admits one worker's requests.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The worker's way to the Redis that keeps quotas, if there is one.
    pub line: Arc<Line>,
}

/// A request that may pass, as it goes upstream.
#[derive(Debug)]
pub struct Admitted {
    /// Its head.
    pub head: RequestHeader,
    /// Its body.
    pub body: Body,
}

impl Admission {
    /// Judges a request, asks what is no part of it, and makes it ready to go.
    ///
    /// # Errors
    /// The first broken rule; nothing has been forwarded then.
    pub async fn admit(
        &self,
        connection: &mut Connection,
        request: &mut Request,
    ) -> Result<Admitted, Reason> {
        let live = request.live.clone();
        let policy = &live.settings.policy;
        let judgement = policy.judge(&mut UnderWay { request, connection }).await?;
        let in_flight = InFlight::take(&self.gateway);
        if in_flight.is_over(live.settings.listen.max_in_flight) {
            request.tolerate(Reason::Overloaded)?;
        }
        let turns = live.peers.turns();
        if turns.is_empty() {
            return Err(Reason::UpstreamUnavailable);
        }
        if let Some(call) = &judgement.call {
            request.spend(call, &self.line).await.or_else(|reason| request.tolerate(reason))?;
        }
        if judgement.asks(Reason::AuditUnavailable) {
            let lookup = judgement.call.as_ref().map(|call| &call.lookup);
            request.intend(lookup).or_else(|reason| request.tolerate(reason))?;
        }
        let Judgement { route, call } = judgement;
        let call = call.filter(|_| request.observed.is_none());
        let body = match (route, &call) {
            (Route::Unlock, Some(call)) => Body::Whole(call.canonical_body.clone()),
            (Route::Unlock, None) => Body::Whole(request.body(connection).await?),
            (Route::Other, _) => Body::Streamed(live.settings.listen.idle_timeout),
        };
        let forwarding = Forwarding::of(request);
        let head = match &call {
            Some(call) => forwarding.canonical(call, &request.head.fields),
            None => forwarding.passed_on(&request.head, &body),
        };
        let head = head.map_err(|_| Reason::Internal)?;
        request.passage = Some(Passage::new(route, call.is_some(), turns, in_flight));
        Ok(Admitted { head, body })
    }
}

/// A request that is judged while its body is still to come.
struct UnderWay<'a> {
    request: &'a mut Request,
    connection: &'a mut Connection,
}

impl Judged for UnderWay<'_> {
    fn head(&self) -> Head<'_> {
        self.request.head.view()
    }

    fn peer(&self) -> IpAddr {
        self.request.client
    }

    fn note(&mut self, found: Found<'_>) {
        let request = &mut *self.request;
        match found {
            Found::Client(client) => request.client = client,
            Found::Route(route) => request.is_observed = request.live.settings.policy.observes(route),
            Found::Credentials(credentials) => request.credentials = Some(credentials.clone()),
            Found::Caller(caller) => request.is_listed = caller.is_listed,
            Found::Lookup(lookup) => request.lookup = Some(lookup.key),
            Found::Observed(broken) => request.observed = Some(broken),
        }
    }

    fn spend_client(&mut self) -> Result<(), Reason> {
        self.request.spend_client()
    }

    async fn body(&mut self) -> Result<Bytes, Reason> {
        self.request.body(self.connection).await
    }
}
