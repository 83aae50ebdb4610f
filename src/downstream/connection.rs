//! A client connection's life: one request after the other, each let in whole or answered at the gate.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use pingora::{apps::HttpServerApp, protocols::http::ServerSession, proxy::HttpProxy, server::ShutdownWatch};
use tokio::{sync::watch, time::timeout};

use super::{
    gate::{Connection, Gate, Home, NoHead},
    patience::Patience,
    transport::Transport,
};
use crate::{
    gateway::Gateway,
    outcome::{Beginning, Outcome, Record, RequestId},
    policy::{framing, path},
    proxy::{Arrival, Handle, answer},
    reason::Reason,
    server::Phase,
};

/// How long the client may take to read an answer of the gate's, and to go away after its last one: short, since
/// it comes on top of every deadline.
pub(super) const FAREWELL: Duration = Duration::from_millis(750);

/// What a worker needs to serve a connection.
#[derive(Clone)]
pub struct Service {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// This worker's Pingora, with its own pool of upstream connections.
    pub proxy: Arc<HttpProxy<Handle>>,
    /// What would make Pingora end connections; the gateway's answers do that.
    pub never: ShutdownWatch,
}

impl Service {
    /// Serves requests from one connection until either side has enough of it.
    pub async fn serve(self, transport: Transport, client: SocketAddr) {
        let _defects = Defects { gateway: &self.gateway, client };
        let home = Arc::new(Home::default());
        let mut phase = self.gateway.phase();
        let patience = Patience::new(self.gateway.live().settings.listen.idle_timeout);
        let mut connection = Connection::new(transport, patience);
        let record_end = |head: &[u8], beginning, reason| {
            record(&self.gateway, head, client, beginning, RequestId::next(), reason);
        };
        loop {
            let beginning = match self.next_head(&mut connection, &mut phase).await {
                Ok(beginning) => beginning,
                Err((_, NoHead::Closed)) => return,
                Err((beginning, NoHead::Gone)) => {
                    record_end(connection.refused_head(), beginning, Reason::ClientGone);
                    return;
                }
                Err((beginning, NoHead::Refused(reason))) => {
                    self.turn_away(connection, client, beginning, reason).await;
                    return;
                }
            };
            home.expect_answer(None);
            let scheme = connection.scheme();
            let mut session = ServerSession::new_http1(Box::new(Gate::new(connection, home.clone())));
            session.set_connection_user_context(Some(Box::new(Arrival {
                client,
                scheme,
                beginning,
                home: home.clone(),
            })));
            let reusable = self.proxy.process_new_http(session, &self.never).await.is_some();
            let Some(returned) = home.take() else {
                return;
            };
            connection = returned;
            if !home.was_judged() {
                // Pingora's own parser is stricter on some targets; it has answered 400 by itself. Its head has
                // been handed over: what is in the inbox now is what follows.
                record_end(&[], beginning, Reason::RequestMalformed);
            }
            if !reusable || !connection.is_between_requests() {
                let _ = timeout(FAREWELL, connection.linger()).await;
                return;
            }
        }
    }

    /// Waits for the next request and reads its head, each within its time.
    async fn next_head(
        &self,
        connection: &mut Connection,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<Beginning, (Beginning, NoHead)> {
        let live = self.gateway.live();
        let settings = &live.settings;
        let arrival = async {
            tokio::select! {
                biased;
                arrival = timeout(settings.listen.idle_timeout, connection.first_byte()) => {
                    arrival.unwrap_or(Err(NoHead::Closed))
                }
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => Err(NoHead::Closed),
            }
        };
        let arrived = arrival.await;
        let beginning = Beginning::now();
        arrived.map_err(|end| (beginning, end))?;
        match timeout(settings.deadlines.header, connection.head()).await {
            Ok(Ok(())) => Ok(beginning),
            Ok(Err(end)) => Err((beginning, end)),
            Err(_) => Err((beginning, NoHead::Refused(Reason::HeaderTimeout))),
        }
    }

    /// Answers a request whose head cannot be let through, and closes.
    async fn turn_away(
        &self,
        mut connection: Connection,
        client: SocketAddr,
        beginning: Beginning,
        reason: Reason,
    ) {
        let id = RequestId::next();
        let answer = answer::raw(reason, id);
        record(&self.gateway, connection.refused_head(), client, beginning, id, reason);
        let farewell = async {
            if connection.send(&answer).await.is_ok() {
                connection.linger().await;
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// Counts and logs what has come to no request of Pingora's.
pub(super) fn record(
    gateway: &Gateway,
    head: &[u8],
    client: SocketAddr,
    beginning: Beginning,
    request_id: RequestId,
    reason: Reason,
) {
    let line = framing::readable_request_line(head);
    let record = Record {
        time: beginning.time,
        request_id,
        client: Some(client.ip().to_canonical()),
        user: None,
        is_listed: false,
        method: line.map(|(method, _)| method),
        path: line.map(|(_, target)| path::without_query(target)),
        outcome: Outcome::of(reason),
        status: Outcome::of(reason).status(),
        duration: beginning.instant.elapsed(),
        upstream_duration: None,
        peer: None,
        lookup: None,
        unlock: None,
        observed: None,
    };
    gateway.record(&gateway.live(), &record);
}

/// Counts and logs a panic, which ends the connection it happened on and nothing else.
struct Defects<'a> {
    gateway: &'a Gateway,
    client: SocketAddr,
}

impl Drop for Defects<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            record(self.gateway, &[], self.client, Beginning::now(), RequestId::next(), Reason::Internal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_panic_is_counted_as_a_defect() {
        let text =
            "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"192.0.2.1:80\"]\nlog.access = \"off\"";
        let gateway = Gateway::open(Settings::parse(text, Path::new("")).unwrap()).unwrap();
        let client = "192.0.2.7:4000".parse().unwrap();
        let count = || gateway.metrics.read().ended[Reason::Internal as usize];
        drop(Defects { gateway: &gateway, client });
        assert_eq!(count(), 0);
        thread::scope(|scope| {
            let connection = scope.spawn(|| {
                let _defects = Defects { gateway: &gateway, client };
                panic!("on purpose");
            });
            assert!(connection.join().is_err());
        });
        assert_eq!(count(), 1);
    }
}
