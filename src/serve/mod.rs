//! Serving a connection: each request is judged, exchanged or passed through, answered and recorded.

mod connection;
mod frames;
mod idle;
mod streams;
mod terms;

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::time::interval;

use crate::{
    downstream::{Client, Progress, transport::Transport},
    exchange::{
        admit::{Admitted, OutgoingCall, admit},
        relay::relay,
        send::{UpstreamConnections, send},
    },
    gateway::Gateway,
    outcome::{Beginning, Outcome, Record, RequestId},
    passage::{Passage, Passed},
    quota_store::StoreConnection,
    reason::Reason,
    request::{Request, problem},
    upstream::peers::PeerSelection,
    wire::{request::readable_request_line, target},
};

pub use idle::IdleConnections;
pub use terms::Terms;

/// How long a client may take to read the answer to what was no request, or to close after its last answer. It comes on
/// top of every deadline, so it is short.
const FAREWELL: Duration = Duration::from_millis(750);

/// How often connections to n4n that have been idle for too long are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What one worker serves its connections with.
#[derive(Clone)]
pub struct Service {
    gateway: Arc<Gateway>,
    /// The connection to the Redis that keeps quotas, if there is one.
    redis: Arc<StoreConnection>,
    /// The connections that judged calls use.
    upstream: Arc<UpstreamConnections>,
    /// The Pingora that other paths pass through.
    passage: Passage,
    /// Its connections that wait for a request.
    idle: Arc<IdleConnections>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
struct Remote {
    address: SocketAddr,
    /// Whom the certificate is for that it has shown.
    certificate: Option<Arc<str>>,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy)]
enum Next {
    /// More requests may come by it.
    Persists,
    /// It closes, once the client has the answer.
    Closes,
    /// It ends at once, so that the client cannot take what it has for a whole answer.
    Ends,
}

impl Next {
    const fn after(is_sent: bool, persists: bool) -> Self {
        match (is_sent, persists) {
            (true, true) => Self::Persists,
            (true, false) => Self::Closes,
            (false, _) => Self::Ends,
        }
    }
}

impl Service {
    /// What a worker of this gateway serves with.
    pub fn new(gateway: Arc<Gateway>, redis: Arc<StoreConnection>, idle: Arc<IdleConnections>) -> Self {
        let passage = Passage::new(gateway.live().shares.kept);
        Self { gateway, redis, upstream: Arc::new(UpstreamConnections::default()), passage, idle }
    }

    /// Serves a connection until either side has enough of it, or, where it is idle, another is to have its place. Once
    /// its terms hold no more, one more answer ends it.
    pub async fn serve(self, transport: Transport, client: SocketAddr, terms: Option<Box<Terms>>) {
        if transport.speaks_http2() {
            // In a box, so that the other kind does not carry the room for it.
            Box::pin(self.serve_streams(transport, client, terms)).await;
        } else {
            self.serve_connection(transport, client, terms).await;
        }
    }

    /// Closes idle connections to n4n in time, for as long as it is polled.
    pub async fn sweep(self) {
        let mut sweeps = interval(SWEEP_EVERY);
        loop {
            sweeps.tick().await;
            self.upstream.pool.sweep(Instant::now(), self.gateway.live().shares.kept);
        }
    }

    /// Serves one request.
    async fn serve_request<C: Client>(&self, mut request: Request, mut client: C) -> (Next, C) {
        let next = match admit(&mut request, &mut client, &self.redis).await {
            Ok(Admitted::Call(call)) => self.exchange(&mut request, &mut client, call).await,
            Ok(Admitted::Other(peers)) => {
                // In a box, so that calls do not carry the room for it.
                return Box::pin(self.pass(request, client, peers)).await;
            }
            Err(reason) => self.refuse(&mut request, &mut client, reason).await,
        };
        (next, client)
    }

    /// Sends a call to n4n and passes the answer on.
    async fn exchange(&self, request: &mut Request, client: &mut impl Client, call: OutgoingCall) -> Next {
        match send(request, call, &self.upstream, client.alarm()).await {
            Ok(answer) => {
                let status = answer.head.status;
                let result = crate::exchange::result::of(&answer);
                request.note_result(result);
                request.learn(status, result);
                request.conclude(status, result).await;
                request.leave();
                let persists = request.head.persists && client.is_read() && !self.gateway.is_ending();
                let is_sent = relay(request, &answer, client, persists).await.is_ok();
                request.record(Outcome::Forwarded { status }, Some(status).filter(|_| is_sent));
                Next::after(is_sent, persists)
            }
            Err(reason) => self.fail(request, client, reason).await,
        }
    }

    /// Lets another path's request pass through.
    async fn pass<C: Client>(&self, request: Request, client: C, peers: PeerSelection) -> (Next, C) {
        let Passed { request, client, failed, status } = self.passage.pass(request, client, peers).await;
        let (Some(mut request), Some(mut client)) = (request, client) else {
            unreachable!("Pingora ends every session and logs it")
        };
        let is_flushed = client.flush().await.is_ok();
        if let (Some(reason), Progress::NotBegun) = (failed, client.progress()) {
            return (self.fail(&mut request, &mut client, reason).await, client);
        }
        let outcome = match (failed, status) {
            // n4n did not wait for the whole body.
            (Some(Reason::BodyTimeout), Some(status)) if client.progress() == Progress::Whole => {
                Outcome::Forwarded { status }
            }
            (Some(reason), _) => Outcome::of(reason),
            (None, Some(status)) => Outcome::Forwarded { status },
            (None, None) => Outcome::Abandoned,
        };
        request.record(outcome, status);
        let next = match client.progress() {
            _ if !is_flushed => Next::Ends,
            Progress::Whole => Next::Persists,
            Progress::NotBegun => Next::Closes,
            Progress::Body(_) => Next::Ends,
        };
        (next, client)
    }

    /// Answers a request that was admitted and then failed.
    async fn fail(&self, request: &mut Request, client: &mut impl Client, reason: Reason) -> Next {
        request.conclude_unanswered(reason).await;
        let persists = request.head.persists && client.is_read() && !self.gateway.is_ending();
        self.answer(request, client, reason, persists).await
    }

    /// Answers a request that was refused.
    async fn refuse(&self, request: &mut Request, client: &mut impl Client, reason: Reason) -> Next {
        request.take_back();
        // There is an intent where the trail had to be tried first.
        request.conclude_unanswered(reason).await;
        let is_body_at_fault = matches!(reason, Reason::BodyTimeout | Reason::BodyMalformed);
        let is_unsafe = reason == Reason::BodyTooLarge
            || !client.is_read()
                && (is_body_at_fault
                    || request.head.awaits_continue()
                    || request.head.declares_more_than(request.live.settings.policy.max_body));
        let persists = request.head.persists && !is_unsafe && !self.gateway.is_ending();
        self.answer(request, client, reason, persists).await
    }

    async fn answer(
        &self,
        request: &Request,
        client: &mut impl Client,
        reason: Reason,
        persists: bool,
    ) -> Next {
        let outcome = Outcome::of(reason);
        let is_sent = match problem::document(reason, request.id) {
            Some(document) => {
                let mut head = client.begin();
                problem::head(&mut head, reason, request);
                let body = (request.head.method() != "HEAD").then_some(&document[..]);
                client.answer(head, body, persists).await.is_ok()
            }
            None => false,
        };
        request.record(outcome, outcome.status().filter(|_| is_sent));
        Next::after(is_sent, persists)
    }
}

/// Counts and logs what was no request.
fn record(
    gateway: &Gateway,
    head: &[u8],
    client: &Remote,
    beginning: Beginning,
    request_id: RequestId,
    reason: Reason,
    is_sent: bool,
) {
    let line = readable_request_line(head);
    let record = Record {
        time: beginning.time,
        request_id,
        client: Some(client.address.ip().to_canonical()),
        user: None,
        listed: None,
        method: line.map(|(method, _)| method),
        path: line.map(|(_, target)| target::without_query(target)),
        outcome: Outcome::of(reason),
        status: Outcome::of(reason).status().filter(|_| is_sent),
        duration: beginning.instant.elapsed(),
        upstream_duration: None,
        peer: None,
        lookup: None,
        unlock: None,
        observed: None,
        client_certificate: client.certificate.as_deref(),
        suspicion: None,
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
            let (now, id) = (Beginning::now(), RequestId::next());
            let client = Remote { address: self.client, certificate: None };
            record(self.gateway, &[], &client, now, id, Reason::Internal, false);
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
