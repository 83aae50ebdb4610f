//! Requests of one HTTP/2 connection, a task for each stream.
//!
//! What contradicts itself in HTTP/2's own framing (a body that is not of its declared length, fields of a connection) is
//! reset by the protocol's own layer.

use std::{net::SocketAddr, time::Duration, time::Instant};

use bytes::Bytes;
use h2::{
    Reason as ResetReason, RecvStream,
    server::{Builder, SendResponse},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Defects, FAREWELL, Next, Service, frames::Watched, record};
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
    unserved::ConnectionRefused,
    wire::MAX_HEAD,
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

impl Service {
    /// Serves the streams of one connection until either side has enough of it.
    pub(super) async fn serve_streams(self, transport: Transport, client: SocketAddr) {
        let live = self.gateway.live();
        let idle = live.settings.listen.idle_timeout;
        let transport = Lingering::new(transport, WriteBudget::new(idle));
        let repaired = Repaired::default();
        let watched = Watched::new(transport, self.gateway.clone(), client, repaired.clone());
        let greeting = options().handshake::<_, Bytes>(watched);
        let greeted = timeout(live.settings.deadlines.header, greeting).await;
        drop(live);
        let mut connection = match greeted {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.record_broken(client, &error),
            Err(_) => return self.gateway.connection_refused(ConnectionRefused::Http2Preface, client),
        };
        let mut phase = self.gateway.phase();
        let mut calls = JoinSet::new();
        let mut is_ending = false;
        loop {
            tokio::select! {
                // Also what drives everything that goes over the connection.
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) if calls.len() < MAX_UNDER_WAY => {
                        let stream = (request, respond, repaired.clone());
                        calls.spawn(self.clone().serve_stream(client, stream, idle));
                    }
                    Some(Ok(_)) => connection.abrupt_shutdown(ResetReason::ENHANCE_YOUR_CALM),
                    Some(Err(error)) => {
                        self.record_broken(client, &error);
                        break;
                    }
                    None => break,
                },
                _ = calls.join_next(), if !calls.is_empty() => {}
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
    async fn serve_stream(
        self,
        client: SocketAddr,
        (request, respond, repaired): (http::Request<RecvStream>, SendResponse<Bytes>, Repaired),
        write_budget: Duration,
    ) {
        let _defects = Defects { gateway: &self.gateway, client };
        let beginning = Beginning::now();
        let (parts, body) = request.into_parts();
        let mut stream = Stream::new(client, body, respond, repaired, write_budget);
        let head = if stream.is_repaired(Part::Head) {
            Err(Reason::FramingAmbiguous)
        } else {
            request_head(&parts, !stream.is_read())
        };
        let is_head = parts.method == http::Method::HEAD;
        drop(parts);
        let next = match head {
            Ok(head) => {
                let arrival = Arrival { client, scheme: stream.scheme(), beginning, head };
                self.serve_request(Request::new(self.gateway.clone(), arrival), stream).await
            }
            Err(reason) => {
                self.turn_stream_away(&mut stream, is_head, beginning, reason).await;
                Next::Closes(stream)
            }
        };
        match next {
            Next::Persists(mut stream) | Next::Closes(mut stream) => {
                stream.drain(MOST_DROPPED, Instant::now() + FAREWELL).await;
            }
            Next::Ends(mut stream) => stream.reset(),
        }
    }

    /// Answers a request whose head cannot be let through.
    async fn turn_stream_away(
        &self,
        stream: &mut Stream,
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
        record(&self.gateway, &[], stream.address(), beginning, id, reason, is_sent);
    }

    /// Records what was no HTTP/2 and ended its connection. What ends a stream alone (a request that is malformed
    /// or whose header list is too long by far) is answered by the protocol's layer, which [`Watched`] tells of.
    fn record_broken(&self, client: SocketAddr, error: &h2::Error) {
        if error.is_library() {
            let (now, id) = (Beginning::now(), RequestId::next());
            record(&self.gateway, &[], client, now, id, Reason::RequestMalformed, false);
        }
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
        type Parts = (http::Request<RecvStream>, SendResponse<Bytes>, Repaired);
        let stream = size(|(service, address, stream): (Service, SocketAddr, Parts)| {
            service.serve_stream(address, stream, FAREWELL)
        });
        let connection =
            size(|(service, transport): (Service, Transport)| service.serve(transport, ([0; 4], 0).into()));
        assert!(stream < 8192 && connection < 8192, "a stream {stream}, a connection {connection} bytes");
    }
}
