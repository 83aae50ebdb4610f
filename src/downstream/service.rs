//! A client connection's life: one request after the other, each judged whole before Pingora hears of it.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use pingora::{apps::HttpServerApp, protocols::http::ServerSession, proxy::HttpProxy, server::ShutdownWatch};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    answer::End,
    connection::{Connection, NoHead},
    patience::{Patience, within},
    reply::{Problem, Progress, Reply},
    session::{Home, Returned, Session},
    transport::Transport,
};
use crate::{
    gateway::Gateway,
    outcome::{Beginning, Outcome, Record, RequestId},
    policy::{
        framing::{self, RequestHead},
        path,
    },
    proxy::{Admission, Admitted, Arrival, Callbacks, Request, Unanswered, answer, carry},
    reason::Reason,
    server::Phase,
    unserved::ConnectionRefused,
};

/// How long the client may take to read an answer to what was no request, and to go away after its last one: short, since
/// it comes on top of every deadline.
pub(super) const FAREWELL: Duration = Duration::from_millis(750);

/// What a worker needs to serve a connection.
#[derive(Clone)]
pub struct Service {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Who says what may pass.
    pub admission: Admission,
    /// This worker's Pingora, with its own pool of upstream connections.
    pub proxy: Arc<HttpProxy<Callbacks>>,
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
        loop {
            let (beginning, head) = match self.next_head(&mut connection, &mut phase).await {
                Ok(next) => next,
                Err((_, NoHead::Closed)) => return,
                Err((beginning, NoHead::Gone)) => {
                    let head = connection.refused_head();
                    record(
                        &self.gateway,
                        head,
                        client,
                        beginning,
                        RequestId::next(),
                        Reason::ClientGone,
                        None,
                    );
                    return;
                }
                Err((beginning, NoHead::Refused(reason))) => {
                    self.turn_away(connection, client, beginning, reason).await;
                    return;
                }
            };
            let (scheme, home) = (connection.scheme(), home.clone());
            let arrival = Arrival { client, scheme, beginning, head, home };
            let mut request = Request::new(self.gateway.clone(), arrival);
            let goes_on = match self.admission.admit(&mut connection, &mut request).await {
                Ok(admitted) => self.forward(connection, request, admitted).await,
                Err(reason) => self.refuse(connection, request, reason).await,
            };
            match goes_on {
                Some(returned) => connection = returned,
                None => return,
            }
        }
    }

    /// Answers a request that was refused; gives the connection back where that can be used again.
    async fn refuse(
        &self,
        mut connection: Connection,
        request: Request,
        reason: Reason,
    ) -> Option<Connection> {
        let settings = &request.live.settings;
        let is_body_at_fault = matches!(reason, Reason::BodyTimeout | Reason::BodyMalformed);
        let is_unread = !connection.is_between_requests();
        let is_unsafe = reason == Reason::BodyTooLarge
            || is_unread
                && (is_body_at_fault
                    || request.head.awaits_continue()
                    || request.head.declares_more_than(settings.policy.max_body));
        let persists = request.head.persists && !is_unsafe && !self.gateway.is_ending();
        let answer = answer::refusal(reason, &request, persists);
        let sent = async {
            connection.write(&answer).await?;
            connection.flush().await
        };
        let is_sent = sent.await.is_ok();
        let outcome = Outcome::of(reason);
        request.record(outcome, outcome.status().filter(|_| is_sent));
        if !is_sent || answer.is_empty() {
            return None;
        }
        let is_clear = persists
            && (connection.is_between_requests()
                || connection.drain(settings.policy.max_body, settings.deadlines.body).await);
        if is_clear {
            return Some(connection);
        }
        let _ = timeout(FAREWELL, connection.linger()).await;
        None
    }

    /// Has Pingora forward a request that was admitted; gives the connection back where that can be used again.
    async fn forward(
        &self,
        connection: Connection,
        request: Request,
        admitted: Admitted,
    ) -> Option<Connection> {
        let home = request.home.clone();
        let reply = Reply::to(&request.head, answer::marks(&request));
        let Admitted { head, body } = admitted;
        let session = Session::new(head, body, reply, connection, home.clone());
        let session = ServerSession::new_custom(Box::new(session));
        let mut unanswered = carry(request, self.proxy.process_new_http(session, &self.never)).await;
        let Returned { mut connection, reply, problem } = home.take()?;
        if connection.flush().await.is_err() {
            // What is left of an answer must not come before the next one, nor pass for its end.
            connection.reset();
            return None;
        }
        let persists = match (reply.progress(), problem) {
            (Progress::NotBegun, Some(Problem { answer, persists })) => {
                connection.write(&answer).await.ok()?;
                connection.flush().await.ok()?;
                unanswered.iter_mut().for_each(Unanswered::answered);
                persists
            }
            (Progress::Whole, _) => reply.persists(),
            // By its framing the client cannot tell that it is not whole.
            (Progress::Body(End::Close), _) => {
                connection.reset();
                return None;
            }
            (Progress::NotBegun | Progress::Body(_), _) => false,
        };
        // Recorded now, not when the client has gone.
        drop(unanswered);
        if persists && connection.is_between_requests() {
            return Some(connection);
        }
        let _ = timeout(FAREWELL, connection.linger()).await;
        None
    }

    /// Waits for the next request and reads its head, each within its time.
    async fn next_head(
        &self,
        connection: &mut Connection,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(Beginning, RequestHead), (Beginning, NoHead)> {
        let live = self.gateway.live();
        let settings = &live.settings;
        let arrival = async {
            tokio::select! {
                biased;
                arrival = within(settings.listen.idle_timeout, connection.first_byte()) => {
                    arrival.unwrap_or(Err(NoHead::Closed))
                }
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => Err(NoHead::Closed),
            }
        };
        let arrived = arrival.await;
        let beginning = Beginning::now();
        arrived.map_err(|end| (beginning, end))?;
        match within(settings.deadlines.header, connection.head()).await {
            Ok(Ok(head)) => Ok((beginning, head)),
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
        let until = Instant::now() + FAREWELL;
        let is_sent = matches!(timeout_at(until, connection.send(&answer)).await, Ok(Ok(())));
        let head = connection.refused_head();
        if head.first() == Some(&framing::TLS_HANDSHAKE) {
            self.gateway.connection_refused(ConnectionRefused::TlsOnPlainPort, client);
        }
        let status = Outcome::of(reason).status().filter(|_| is_sent);
        record(&self.gateway, head, client, beginning, id, reason, status);
        if is_sent {
            let _ = timeout_at(until, connection.linger()).await;
        }
    }
}

/// Counts and logs what has come to no request of Pingora's; `status` is what the client was sent.
pub(super) fn record(
    gateway: &Gateway,
    head: &[u8],
    client: SocketAddr,
    beginning: Beginning,
    request_id: RequestId,
    reason: Reason,
    status: Option<u16>,
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
        status,
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
            record(
                self.gateway,
                &[],
                self.client,
                Beginning::now(),
                RequestId::next(),
                Reason::Internal,
                None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pingora::{proxy::http_proxy, server::configuration::ServerConf};
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{
        config::Settings,
        quota_store::{ANSWER_WITHIN, Line},
    };

    /// A gateway before a port that nobody listens on.
    fn gateway() -> Gateway {
        let text =
            "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]\nlog.access = \"off\"";
        Gateway::open(Settings::parse(text, Path::new("")).unwrap()).unwrap()
    }

    fn service() -> Service {
        let gateway = Arc::new(gateway());
        let line = Line::new(ANSWER_WITHIN, gateway.metrics.quota_store_errors.clone());
        Service {
            admission: Admission { gateway: gateway.clone(), line: Arc::new(line) },
            proxy: Arc::new(http_proxy(&Arc::new(ServerConf::default()), Callbacks)),
            gateway,
            never: watch::channel(false).1,
        }
    }

    #[tokio::test]
    async fn no_status_is_recorded_that_nobody_was_there_to_be_sent() {
        let call = "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-key: k\r\napi-username: u\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n\r\ncustomer_id=191";
        for (request, outcome, code) in [
            ("hello\r\n\r\n", "rejected", "request_malformed"),
            ("GET /api/customer/unlock HTTP/1.1\r\nHost: h\r\n\r\n", "rejected", "method_not_allowed"),
            (call, "failed", "upstream_unreachable"),
        ] {
            for (is_gone, class) in [(true, "none"), (false, if outcome == "failed" { "5xx" } else { "4xx" })]
            {
                let (service, (mut near, far)) = (service(), tokio::io::duplex(4096));
                near.write_all(request.as_bytes()).await.unwrap();
                near.shutdown().await.unwrap();
                let near = (!is_gone).then_some(near);
                let client = "192.0.2.7:4000".parse().unwrap();
                service.clone().serve(Transport::Stream(far), client).await;
                drop(near);
                let metrics = String::from_utf8(service.gateway.metrics.encode().unwrap()).unwrap();
                let labels = format!("code=\"{code}\",outcome=\"{outcome}\",status_class=\"{class}\"");
                let counted = format!("n4n_gateway_requests_total{{{labels}}} 1\n");
                assert!(metrics.contains(&counted), "no {counted}");
            }
        }
    }

    #[test]
    fn a_panic_is_counted_as_a_defect() {
        let gateway = gateway();
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
