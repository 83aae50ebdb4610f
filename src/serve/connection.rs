//! Requests of one HTTP/1.1 connection, one after the other.

use std::{net::SocketAddr, time::Instant};

use tokio::{sync::watch, time::timeout};

use super::{Defects, FAREWELL, Next, Remote, Service, record};
use crate::{
    downstream::{
        Client,
        http1::{Connection, NoHead},
        transport::Transport,
        write_budget::WriteBudget,
    },
    gateway::Phase,
    outcome::{Beginning, RequestId},
    reason::Reason,
    request::{Arrival, Request, problem},
    unserved::ConnectionRefused,
    wire::{RequestHead, scanner::TLS_HANDSHAKE},
};

impl Service {
    /// Serves requests from one connection until either side has enough of it.
    pub(super) async fn serve_connection(self, transport: Transport, client: SocketAddr) {
        let _defects = Defects { gateway: &self.gateway, client };
        let mut phase = self.gateway.phase();
        let budget = WriteBudget::new(self.gateway.live().settings.listen.idle_timeout);
        let remote = Remote { address: client, certificate: transport.client_certificate() };
        let mut connection = Connection::new(transport, client, budget);
        loop {
            let (beginning, head) = match self.next_head(&mut connection, &mut phase).await {
                Ok(next) => next,
                Err((_, NoHead::Closed)) => return,
                Err((beginning, NoHead::Gone)) => {
                    let (head, id) = (connection.refused_head(), RequestId::next());
                    record(&self.gateway, head, &remote, beginning, id, Reason::ClientGone, false);
                    return;
                }
                Err((beginning, NoHead::Refused(reason))) => {
                    self.turn_away(connection, &remote, beginning, reason).await;
                    return;
                }
            };
            let (certificate, scheme) = (remote.certificate.clone(), connection.scheme());
            let arrival = Arrival { client, certificate, scheme, beginning, head };
            let request = Request::new(self.gateway.clone(), arrival);
            connection = match self.serve_request(request, connection).await {
                Next::Persists(mut connection) => {
                    let settings = &self.gateway.live().settings;
                    let by = Instant::now() + settings.deadlines.body;
                    if connection.persists()
                        && (connection.is_read() || connection.drain(settings.policy.max_body, by).await)
                    {
                        connection
                    } else {
                        return linger(connection).await;
                    }
                }
                Next::Closes(connection) => return linger(connection).await,
                Next::Ends(connection) => return connection.reset(),
            };
        }
    }

    /// Waits for the next request and reads its head, each within its time.
    async fn next_head(
        &self,
        connection: &mut Connection,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(Beginning, RequestHead), (Beginning, NoHead)> {
        let (idle, header) = {
            let live = self.gateway.live();
            (live.settings.listen.idle_timeout, live.settings.deadlines.header)
        };
        let by = Instant::now() + idle;
        let arrived = tokio::select! {
            biased;
            arrived = connection.first_byte(by) => arrived,
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => Err(NoHead::Closed),
        };
        let beginning = Beginning::now();
        let head = match arrived {
            Ok(()) => connection.head(beginning.instant + header).await,
            Err(end) => Err(end),
        };
        head.map(|head| (beginning, head)).map_err(|end| (beginning, end))
    }

    /// Answers a request whose head cannot be let through, and closes.
    async fn turn_away(
        &self,
        mut connection: Connection,
        client: &Remote,
        beginning: Beginning,
        reason: Reason,
    ) {
        let id = RequestId::next();
        let answer = async {
            let document = problem::document(reason, id)?;
            let mut head = connection.begin();
            problem::head_to_no_request(&mut head, reason, id);
            connection.answer(head, Some(&document), false).await.ok()
        };
        let is_sent = matches!(timeout(FAREWELL, answer).await, Ok(Some(())));
        let head = connection.refused_head();
        if head.first() == Some(&TLS_HANDSHAKE) {
            self.gateway.connection_refused(ConnectionRefused::TlsOnPlainPort, client.address);
        }
        record(&self.gateway, head, client, beginning, id, reason, is_sent);
        if is_sent {
            linger(connection).await;
        }
    }
}

/// Closes a connection so that the last answer arrives.
async fn linger(connection: Connection) {
    let _: Result<(), _> = timeout(FAREWELL, connection.linger()).await;
}
