//! Active health checks: a request to each peer at regular intervals, and what its answer means.

use std::{convert::Infallible, future::pending};

use futures_util::future::join_all;
use http::header;
use pingora::{connectors::http::v1::Connector, http::RequestHeader};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    config::HealthCheck,
    gateway::{Gateway, Live},
    upstream::{connector, fault, peer::Peer},
};

/// Checks the peers for as long as it is polled, the way the settings in force want it.
pub(super) async fn watch(gateway: &Gateway) -> Infallible {
    let checker = Connector::new(None);
    loop {
        let reloaded = gateway.reloaded.notified();
        let live = gateway.live();
        let round = async {
            match &live.settings.upstream.health_check {
                Some(check) => {
                    let next = Instant::now() + check.every;
                    join_all(live.peers.all().iter().map(|peer| examine(&checker, &live, check, peer))).await;
                    sleep_until(next).await;
                }
                None => {
                    live.peers.all().iter().for_each(|peer| peer.unchecked());
                    pending().await
                }
            }
        };
        tokio::select! {
            () = round => {}
            () = reloaded => {}
        }
    }
}

async fn examine(checker: &Connector, live: &Live, check: &HealthCheck, peer: &Peer) {
    let result = timeout(check.timeout, ask(checker, live, check, peer)).await;
    let result = result.unwrap_or_else(|_| Err(Some(format!("no answer within {:?}", check.timeout))));
    let result = match result {
        Ok(()) => Ok(()),
        Err(Some(cause)) => Err(cause),
        // The machine could not make a connection, which says nothing of the peer.
        Err(None) => return,
    };
    if result.is_ok() {
        peer.connected();
    }
    peer.checked(result, check.rise, check.fall);
}

/// Asks over a connection of its own, which also shows that one can be made; `None` is the error of a machine that lacks
/// what a connection takes.
async fn ask(
    checker: &Connector,
    live: &Live,
    check: &HealthCheck,
    peer: &Peer,
) -> Result<(), Option<String>> {
    let said = |error: Box<pingora::Error>| {
        (!fault::is_local(&error)).then(|| fault::cause(&error).words().to_owned())
    };
    let upstream = &live.settings.upstream;
    let peer = connector::peer(peer, upstream, live.generation, check.timeout);
    let (mut session, _) = checker.get_http_session(&peer).await.map_err(said)?;
    session
        .write_request_header(Box::new(request(check, &upstream.host).map_err(said)?))
        .await
        .map_err(said)?;
    loop {
        session.read_response().await.map_err(said)?;
        match session.get_status() {
            Some(status) if status.is_informational() => {}
            Some(status) if check.expect.contains(&status) => return Ok(()),
            Some(status) => return Err(Some(format!("status {}", status.as_u16()))),
            None => return Err(Some("no status".into())),
        }
    }
}

fn request(check: &HealthCheck, host: &str) -> pingora::Result<RequestHeader> {
    let mut request = RequestHeader::build(check.method.clone(), check.path.as_bytes(), Some(3))?;
    request.insert_header(header::HOST, host)?;
    request.insert_header(header::USER_AGENT, concat!("n4n-gateway/", env!("CARGO_PKG_VERSION")))?;
    request.insert_header(header::CONNECTION, "close")?;
    Ok(request)
}
