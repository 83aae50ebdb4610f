//! Requests of one HTTP/1.1 connection, one after the other.

use std::{net::SocketAddr, time::Instant};

use tokio::{sync::watch, time::timeout};

use super::{Defects, FAREWELL, Next, Remote, Service, idle::Membership, record, terms::Terms};
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

/// What every connection of HTTP/2 begins with (RFC 9113 section 3.4), as far as HTTP/1.1 takes it for a head.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

impl Service {
    /// Serves requests from one connection until either side has enough of it.
    pub(super) async fn serve_connection(
        self,
        transport: Transport,
        client: SocketAddr,
        mut terms: Option<Box<Terms>>,
    ) {
        let _defects = Defects { gateway: &self.gateway, client };
        let mut phase = self.gateway.phase();
        let budget = WriteBudget::new(self.gateway.live().settings.listen.idle_timeout);
        let remote = Remote { address: client, certificate: transport.client_certificate() };
        let mut connection = Connection::new(transport, client, budget);
        let mut membership = self.idle.enlist();
        loop {
            let (beginning, head) = match self.next_head(&mut connection, &mut membership, &mut phase).await {
                Ok(next) => next,
                Err((beginning, NoHead::Closed)) => {
                    if membership.is_asked() {
                        self.gateway.gave_way(client, beginning.instant);
                    }
                    return;
                }
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
            let mut request = Request::new(self.gateway.clone(), arrival);
            if membership.is_asked() || terms.as_mut().is_some_and(|terms| !terms.hold(&request.live)) {
                request.head.persists = false;
            }
            let next;
            (next, connection) = self.serve_request(request, connection).await;
            match next {
                Next::Persists => {
                    let settings = &self.gateway.live().settings;
                    let by = Instant::now() + settings.deadlines.body;
                    let goes_on = connection.persists()
                        && (connection.is_read() || connection.drain(settings.policy.max_body, by).await);
                    if !goes_on {
                        return linger(connection).await;
                    }
                }
                Next::Closes => return linger(connection).await,
                Next::Ends => return connection.reset(),
            }
        }
    }

    /// Waits for the next request and reads its head, each within its time.
    async fn next_head(
        &self,
        connection: &mut Connection,
        membership: &mut Membership,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(Beginning, RequestHead), (Beginning, NoHead)> {
        let (idle, header) = {
            let live = self.gateway.live();
            (live.settings.listen.idle_timeout, live.settings.deadlines.header)
        };
        let since = Instant::now();
        let arrived = tokio::select! {
            biased;
            arrived = connection.first_byte(since + idle) => arrived,
            () = membership.idle(since) => Err(NoHead::Closed),
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
        } else if head.starts_with(HTTP2_PREFACE) {
            self.gateway.connection_refused(ConnectionRefused::Http2PriorKnowledge, client.address);
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
