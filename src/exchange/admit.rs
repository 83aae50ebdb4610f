//! The order of judgement: bodies are read, quotas spent and intents written where their turn is. The rules are policy's.

use std::sync::Arc;

use bytes::Bytes;

use super::canonical;
use crate::{
    downstream::Client,
    policy::{Call, Head, Mode, Route},
    quota_store::Line,
    reason::Reason,
    request::Request,
    upstream::peers::PeerSelection,
};

/// A request that may pass.
pub enum Admitted {
    /// A judged call, held whole.
    Call(Outgoing),
    /// Another path's request, which passes through.
    Other(PeerSelection),
}

/// A call as it goes upstream; its bytes have an api-key in them.
pub struct Outgoing {
    /// Its head and body.
    pub bytes: Vec<u8>,
    /// The peers that it may go to.
    pub peers: PeerSelection,
}

/// Judges a request and makes it ready to go: the order of the contract's table, on one screen.
///
/// # Errors
/// The first broken rule; nothing has been forwarded then.
pub async fn admit(request: &mut Request, client: &mut impl Client, line: &Line) -> Result<Admitted, Reason> {
    let live = Arc::clone(&request.live);
    let policy = &live.settings.policy;
    request.client = policy.judge_client(request.client, &Head::from(&request.head))?;
    request.spend_client()?;
    let route = policy.route(&Head::from(&request.head))?;
    request.is_observed = route == Route::Unlock && policy.mode == Mode::Observe;
    if route == Route::Other {
        // What could not be passed on must not have taken a place by then.
        request.head.uri()?;
    }
    let call = match route {
        Route::Other => None,
        Route::Unlock => match judge(request, client).await {
            Ok(call) => Some(call),
            Err(reason) => {
                request.tolerate(reason)?;
                None
            }
        },
    };
    if request.is_observed {
        // A rule that let it pass may have come before its body, which refuses it all the same.
        request.body(client).await?;
    }
    request.enter().or_else(|reason| request.tolerate(reason))?;
    let peers = live.peers.select();
    if peers.is_empty() {
        return Err(Reason::UpstreamUnavailable);
    }
    if let Some(call) = &call {
        request.spend(call, line).await.or_else(|reason| request.tolerate(reason))?;
    }
    if route == Route::Other {
        return Ok(Admitted::Other(peers));
    }
    let lookup = call.as_ref().map(|call| &call.lookup);
    request.intend(lookup).or_else(|reason| request.tolerate(reason))?;
    let bytes = match call.filter(|_| request.observed.is_none()) {
        Some(call) => canonical::call(request, &call),
        None => {
            let body: Bytes = request.body(client).await?;
            canonical::as_it_came(request, &body)
        }
    };
    Ok(Admitted::Call(Outgoing { bytes, peers }))
}

/// Judges an unlock call, head and body.
async fn judge(request: &mut Request, client: &mut impl Client) -> Result<Call, Reason> {
    let live = Arc::clone(&request.live);
    let policy = &live.settings.policy;
    let credentials = policy.judge_head(&Head::from(&request.head))?;
    request.credentials = Some(credentials.clone());
    let caller = policy.judge_caller(credentials, &Head::from(&request.head), request.client)?;
    request.is_listed = caller.is_listed;
    let body = request.body(client).await?;
    let call = policy.judge_body(caller, &body)?;
    request.lookup = Some(call.lookup.key);
    Ok(call)
}
