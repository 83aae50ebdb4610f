//! Requests of one HTTP/2 connection, a task for each stream.
//!
//! What contradicts itself in HTTP/2's own framing (a body that is not of its declared length, fields of a connection) is
//! reset by the protocol's own layer.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::{
    Reason as ResetReason, RecvStream,
    server::{Builder, SendResponse},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Defects, FAREWELL, Next, Remote, Service,
    frames::{Streams, Watched},
    record,
    terms::Terms,
};
use crate::{
    downstream::{
        Client,
        header_blocks::{Part, Repaired},
        http2::{Stream, request_head},
        transport::{Lingering, MOST_DROPPED, Transport},
        write_budget::WriteBudget,
    },
    gateway::Phase,
    outcome::{Beginning, RequestId},
    reason::Reason,
    request::{Arrival, Request, problem},
    stream_memory::ConnectionMemory,
    unserved::ConnectionRefused,
    wire::{MAX_HEAD, RequestHead},
};

/// Streams a client may have open at once.
const MAX_STREAMS: u32 = 16;

/// Requests of one connection that may be under way at once. They can be more than its streams: a call goes
/// on when its stream is reset.
const MAX_UNDER_WAY: usize = 4 * MAX_STREAMS as usize;

/// The longest header list, as HTTP/2 counts it: more than any head that passes has, so that the longest of those
/// that do not are judged like others.
const MAX_HEADER_LIST: u32 = MAX_HEAD as u32 + 4096;

/// How many bytes of answers wait to be sent, for each stream.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// What the streams of one connection have in common.
struct Common {
    remote: Remote,
    /// How long in all the client may leave an answer untaken.
    write_budget: Duration,
    memory: Arc<ConnectionMemory>,
    streams: Arc<Streams>,
    repaired: Repaired,
}

/// A stream whose request's head has come.
struct Opened {
    stream: Stream,
    remote: Remote,
    /// The head, or the rule of framing that it broke.
    head: Result<RequestHead, Reason>,
    is_head: bool,
    beginning: Beginning,
}

impl Service {
    /// Serves the streams of one connection until either side has enough of it.
    pub(super) async fn serve_streams(
        self,
        transport: Transport,
        client: SocketAddr,
        mut terms: Option<Box<Terms>>,
    ) {
        let live = self.gateway.live();
        let idle = live.settings.listen.idle_timeout;
        let memory = ConnectionMemory::new(
            self.gateway.stream_memory.clone(),
            live.settings.policy.max_body,
            live.shares.in_flight,
        );
        let remote = Remote { address: client, certificate: transport.client_certificate() };
        let common = Common {
            remote,
            write_budget: idle,
            memory,
            streams: Arc::default(),
            repaired: Repaired::default(),
        };
        let transport = Lingering::new(transport, WriteBudget::new(idle));
        let transport = Watched::new(
            transport,
            self.gateway.clone(),
            common.streams.clone(),
            common.remote.clone(),
            common.repaired.clone(),
        );
        let greeting = options().handshake::<_, Bytes>(transport);
        let greeted = timeout(live.settings.deadlines.header, greeting).await;
        drop(live);
        let mut connection = match greeted {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.record_broken(&common.remote, &error),
            Err(_) => return self.gateway.connection_refused(ConnectionRefused::Http2Preface, client),
        };
        let mut phase = self.gateway.phase();
        let mut calls = JoinSet::new();
        let mut is_ending = false;
        let mut membership = self.idle.enlist();
        // Since when no stream is wanted any more.
        let mut disowned: Option<Instant> = None;
        loop {
            let since = Instant::now();
            tokio::select! {
                // Also what drives everything that goes over the connection.
                accepted = connection.accept() => match accepted {
                    Some(Ok((_, mut respond))) if disowned.is_some_and(|since| since.elapsed() > FAREWELL) => {
                        if calls.is_empty() {
                            break;
                        }
                        if common.streams.accept(respond.stream_id().as_u32()) {
                            respond.send_reset(ResetReason::REFUSED_STREAM);
                        }
                    }
                    Some(Ok((request, respond))) if calls.len() < MAX_UNDER_WAY => {
                        if terms.as_mut().is_some_and(|terms| !terms.hold(&self.gateway.live())) {
                            disowned.get_or_insert(since);
                        }
                        if !is_ending
                            && (disowned.is_some() || membership.is_asked() || common.repaired.is_lost())
                        {
                            // It has this answer, and those to what comes before the client has heard of it.
                            connection.graceful_shutdown();
                            is_ending = true;
                        }
                        if let Some(opened) = common.open(request, respond) {
                            calls.spawn(self.clone().serve_stream(opened));
                        }
                    }
                    Some(Ok(_)) => connection.abrupt_shutdown(ResetReason::ENHANCE_YOUR_CALM),
                    Some(Err(error)) => {
                        self.record_broken(&common.remote, &error);
                        break;
                    }
                    None => break,
                },
                _ = calls.join_next(), if !calls.is_empty() => {}
                () = membership.idle(since), if calls.is_empty() && !is_ending => {
                    self.gateway.gave_way(client, since);
                    // Its place is wanted now: this sends what ends it, and waits for nothing.
                    connection.abrupt_shutdown(ResetReason::NO_ERROR);
                    let _ = connection.accept().now_or_never();
                    break;
                }
                () = sleep(if is_ending { FAREWELL } else { idle }), if calls.is_empty() => {
                    if is_ending {
                        break;
                    }
                    connection.graceful_shutdown();
                    is_ending = true;
                }
                _ = phase.wait_for(|phase| *phase >= Phase::Retiring), if !is_ending => {
                    connection.graceful_shutdown();
                    is_ending = true;
                }
            }
        }
        drop(connection);
        // What has been forwarded is carried to its end, whoever is there to hear of it.
        while calls.join_next().await.is_some() {}
    }

    /// Serves the one request of a stream.
    async fn serve_stream(self, opened: Opened) {
        let Opened { mut stream, remote, head, is_head, beginning } = opened;
        let client = remote.address;
        let _defects = Defects { gateway: &self.gateway, client };
        let next = match head {
            Ok(head) => {
                let (certificate, scheme) = (remote.certificate, stream.scheme());
                let arrival = Arrival { client, certificate, scheme, beginning, head };
                let request = Request::new(self.gateway.clone(), arrival);
                let next;
                (next, stream) = self.serve_request(request, stream).await;
                next
            }
            Err(reason) => {
                self.turn_stream_away(&mut stream, &remote, is_head, beginning, reason).await;
                Next::Closes
            }
        };
        match next {
            Next::Persists | Next::Closes => stream.drain(MOST_DROPPED, Instant::now() + FAREWELL).await,
            Next::Ends => stream.reset(),
        }
    }

    /// Answers a request whose head cannot be let through.
    async fn turn_stream_away(
        &self,
        stream: &mut Stream,
        client: &Remote,
        is_head: bool,
        beginning: Beginning,
        reason: Reason,
    ) {
        let id = RequestId::next();
        let answer = async {
            let document = problem::document(reason, id)?;
            let mut head = stream.begin();
            problem::head_to_no_request(&mut head, reason, id);
            stream.answer(head, (!is_head).then_some(&document[..]), true).await.ok()
        };
        let is_sent = answer.await.is_some();
        record(&self.gateway, &[], client, beginning, id, reason, is_sent);
    }

    /// Records what was no HTTP/2 and ended its connection. What ends a stream alone (a request that is malformed
    /// or whose header list is too long by far) is answered by the protocol's layer, which [`Watched`] tells of.
    fn record_broken(&self, client: &Remote, error: &h2::Error) {
        if error.is_library() {
            let (now, id) = (Beginning::now(), RequestId::next());
            record(&self.gateway, &[], client, now, id, Reason::RequestMalformed, false);
        }
    }
}

impl Common {
    /// Takes a stream on whose request's head has come; `None` where it is not to be served. One that there is no memory
    /// for is refused so that its client may safely try again (RFC 9113 section 8.7).
    fn open(&self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<Opened> {
        let beginning = Beginning::now();
        if !self.streams.accept(respond.stream_id().as_u32()) {
            return None;
        }
        let (parts, body) = request.into_parts();
        let head = if self.repaired.has(respond.stream_id().as_u32(), Part::Head) {
            Err(Reason::FramingAmbiguous)
        } else {
            request_head(&parts, !body.is_end_stream())
        };
        let Ok(memory) = self.memory.open(head.as_ref().map_or(0, RequestHead::size)) else {
            self.streams.refuse();
            respond.send_reset(ResetReason::REFUSED_STREAM);
            return None;
        };
        let is_head = parts.method == http::Method::HEAD;
        let remote = self.remote.clone();
        let stream =
            Stream::new(remote.address, body, respond, self.repaired.clone(), self.write_budget, memory);
        Some(Opened { stream, remote, head, is_head, beginning })
    }
}

fn options() -> Builder {
    let mut options = Builder::new();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, R>(_: impl Fn(A) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn what_waits_for_a_client_takes_little_room() {
        let stream = size(|(service, opened): (Service, Opened)| service.serve_stream(opened));
        let connection = size(|(service, transport): (Service, Transport)| {
            service.serve(transport, ([0; 4], 0).into(), None)
        });
        assert!(stream < 4096 && connection < 5120, "a stream {stream}, a connection {connection} bytes");
    }
}
