//! What may pass, glued to a connection: bodies are read, quotas spent, intents written. The rules are policy's.

use std::sync::Arc;

use pingora::http::RequestHeader;

use super::{
    Request,
    context::{InFlight, Passage},
    forward::Forwarding,
};
use crate::{
    downstream::{connection::Connection, session::Body},
    gateway::{Gateway, Live},
    policy::{Call, Mode, Route},
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
    /// Judges a request and makes it ready to go: the order of the contract's table, on one screen.
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
        request.client = policy.judge_client(request.client, &request.head.view())?;
        request.spend_client()?;
        let route = policy.route(&request.head.view())?;
        request.is_observed = route == Route::Unlock && policy.mode == Mode::Observe;
        if route == Route::Other || request.is_observed {
            // What could not be passed on as it came must not have been counted by then.
            request.head.uri()?;
        }
        let call = match route {
            Route::Other => None,
            Route::Unlock => judge(connection, request, &live).await.map(Some).or_else(|reason| {
                request.tolerate(reason)?;
                Ok(None)
            })?,
        };
        if request.is_observed {
            // A rule that let it pass may have come before its body, which refuses it all the same.
            request.body(connection).await?;
        }
        let in_flight = InFlight::take(&self.gateway);
        if in_flight.is_over(live.shares.in_flight) {
            request.tolerate(Reason::Overloaded)?;
        }
        let turns = live.peers.turns();
        if turns.is_empty() {
            return Err(Reason::UpstreamUnavailable);
        }
        if let Some(call) = &call {
            request.spend(call, &self.line).await.or_else(|reason| request.tolerate(reason))?;
        }
        if route == Route::Unlock {
            let lookup = call.as_ref().map(|call| &call.lookup);
            request.intend(lookup).or_else(|reason| request.tolerate(reason))?;
        }
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

/// Judges an unlock call, head and body.
async fn judge(connection: &mut Connection, request: &mut Request, live: &Live) -> Result<Call, Reason> {
    let policy = &live.settings.policy;
    let credentials = policy.judge_head(&request.head.view())?;
    request.credentials = Some(credentials.clone());
    let caller = policy.judge_caller(credentials, &request.head.view(), request.client)?;
    request.is_listed = caller.is_listed;
    let body = request.body(connection).await?;
    let call = policy.judge_body(caller, &body)?;
    request.lookup = Some(call.lookup.key);
    Ok(call)
}
