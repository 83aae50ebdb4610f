//! HTTP/2: every stream is written out as the HTTP/1.1 request it stands for, and then judged as one.
//!
//! So the rules exist once. What HTTP/2 frames otherwise is what [`request_head`] writes: `:authority` as a
//! Host beside any other there is, a body of unknown length as chunks. What contradicts itself before that
//! (a body that is not of its declared length, fields of a connection) is reset by the protocol's own layer.

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{HeaderName, Method, Request, StatusCode, header, request::Parts};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    answer::{End, answer_head, chunk_size, end_of, line},
    frames::Watched,
    patience::Patience,
    service::{FAREWELL, Service, record},
    transport::{Lingering, Transport},
};
use crate::{
    outcome::{Beginning, RequestId},
    policy::framing::MAX_HEAD,
    reason::Reason::RequestMalformed,
    server::Phase,
    unserved::ConnectionRefused,
};

/// Streams a client may have open at once.
const MAX_STREAMS: u32 = 16;

/// Requests of one connection that may be under way at once. They can be more than its streams: a call goes
/// on when its stream is reset.
const MAX_UNDER_WAY: usize = 4 * MAX_STREAMS as usize;

/// The longest header list, as HTTP/2 counts it: more than any head that passes has, so that the longest of those
/// that do not are judged like others.
const MAX_HEADER_LIST: u32 = MAX_HEAD as u32 + 4096;

/// Requests of one connection that may be on their way in at once. The others wait where they cost least: a body
/// that does not come holds buffers, and its head, which HTTP/2 packs tightly, is unpacked.
const MAX_COMING_IN: usize = 4;

/// How much of a request or an answer waits between the two protocols.
const BUFFER: usize = 8 * 1024;

/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
const OF_THE_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

impl Service {
    /// Serves the streams of one connection until either side has enough of it.
    pub async fn serve_http2(self, transport: Transport, client: SocketAddr) {
        let live = self.gateway.live();
        let idle = live.settings.listen.idle_timeout;
        let transport = Lingering::new(transport, Patience::new(idle));
        let greeting = options().handshake::<_, Bytes>(Watched::new(transport, self.gateway.clone(), client));
        let greeted = timeout(live.settings.deadlines.header, greeting).await;
        drop(live);
        let mut connection = match greeted {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.record_broken(client, &error),
            Err(_) => return self.gateway.connection_refused(ConnectionRefused::Http2Preface, client),
        };
        let mut phase = self.gateway.phase();
        let mut calls = JoinSet::new();
        let coming_in = Arc::new(Semaphore::new(MAX_COMING_IN));
        let mut is_ending = false;
        loop {
            tokio::select! {
                // Also what drives everything that goes over the connection.
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) if calls.len() < MAX_UNDER_WAY => {
                        let call = exchange(self.clone(), client, request, respond, idle, coming_in.clone());
                        calls.spawn(call);
                    }
                    Some(Ok(_)) => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
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

    /// Records what was no HTTP/2 and ended its connection. What ends a stream alone (a request that is malformed
    /// or whose header list is too long by far) is answered by the protocol's layer, which [`Watched`] tells of.
    fn record_broken(&self, client: SocketAddr, error: &h2::Error) {
        if error.is_library() {
            record(&self.gateway, &[], client, Beginning::now(), RequestId::next(), RequestMalformed, None);
        }
    }
}

fn options() -> Builder {
    let mut options = Builder::new();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(8 * BUFFER);
    options
}

/// Carries one stream's request in and its answer out.
async fn exchange(
    service: Service,
    client: SocketAddr,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    patience: Duration,
    coming_in: Arc<Semaphore>,
) {
    let within = service.gateway.live().settings.deadlines.body;
    let Ok(Ok(place)) = timeout(within, coming_in.acquire_owned()).await else {
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    };
    let (near, far) = tokio::io::duplex(BUFFER);
    // In this order: where draining has begun, a request that is there already is still served.
    tokio::join!(
        biased;
        carry(near, request, place, respond, patience),
        service.serve(Transport::Stream(far), client),
    );
}

async fn carry(
    near: DuplexStream,
    request: Request<RecvStream>,
    place: OwnedSemaphorePermit,
    mut respond: SendResponse<Bytes>,
    patience: Duration,
) {
    let (head, body) = request.into_parts();
    let (answer, mut writer) = tokio::io::split(near);
    let up = async {
        // A body that breaks off ends early here too, and that is what it is judged by.
        let _ = send_request(&head, body, &mut writer).await;
        let _ = writer.shutdown().await;
        drop(place);
        pending::<()>().await;
    };
    let down = send_answer(BufReader::new(answer), &head.method, &mut respond, patience);
    tokio::select! {
        biased;
        () = up => {}
        answered = down => {
            if answered.is_err() {
                respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }
}

async fn send_request(
    head: &Parts,
    mut body: RecvStream,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let is_chunked = !body.is_end_stream() && !head.headers.contains_key(header::CONTENT_LENGTH);
    to.write_all(&request_head(head, is_chunked)).await?;
    while let Some(data) = body.data().await {
        let data = data.map_err(io::Error::other)?;
        // A chunk without bytes would be the last.
        if is_chunked && !data.is_empty() {
            to.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
            to.write_all(&data).await?;
            to.write_all(b"\r\n").await?;
        } else {
            to.write_all(&data).await?;
        }
        body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
    }
    // Trailers are dropped like those of a chunked body.
    body.trailers().await.map_err(io::Error::other)?;
    if is_chunked { to.write_all(b"0\r\n\r\n").await } else { Ok(()) }
}

/// The head as HTTP/1.1 has it. No name or value that got here can hold a line break.
fn request_head(head: &Parts, is_chunked: bool) -> Vec<u8> {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let target = match head.uri.path_and_query() {
        Some(target) => target.as_str(),
        None => authority.unwrap_or_default(),
    };
    let mut bytes = Vec::with_capacity(1024);
    for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    };
    if let Some(authority) = authority {
        field("host", authority.as_bytes());
    }
    // One Host that says the same is no second one.
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let repeats = match (hosts.next(), hosts.next(), authority) {
        (Some(host), None, Some(authority)) => host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()),
        (_, _, _) => false,
    };
    for (name, value) in &head.headers {
        if !(repeats && name == header::HOST) {
            field(name.as_str(), value.as_bytes());
        }
    }
    if is_chunked {
        field("transfer-encoding", b"chunked");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

async fn send_answer(
    mut from: impl AsyncBufRead + Unpin,
    method: &Method,
    respond: &mut SendResponse<Bytes>,
    patience: Duration,
) -> io::Result<()> {
    let mut head = answer_head(&mut from).await?;
    while head.status().is_informational() {
        if head.status() == StatusCode::CONTINUE {
            respond.send_informational(head).map_err(io::Error::other)?;
        }
        head = answer_head(&mut from).await?;
    }
    let end = end_of(head.status(), head.headers(), method == Method::HEAD)?;
    for name in OF_THE_CONNECTION {
        head.headers_mut().remove(name);
    }
    let is_empty = matches!(end, End::Empty);
    let stream = respond.send_response(head, is_empty).map_err(io::Error::other)?;
    let mut answer = Answer { stream, patience: Patience::new(patience) };
    match end {
        End::Empty => return Ok(()),
        End::Length(length) => answer.copy(&mut from, length, true).await?,
        End::Close => answer.copy(&mut from, u64::MAX, false).await?,
        End::Chunked => loop {
            let length = chunk_size(&line(&mut from).await?)?;
            if length == 0 {
                break;
            }
            answer.copy(&mut from, length, true).await?;
            line(&mut from).await?;
        },
    }
    answer.stream.send_data(Bytes::new(), true).map_err(io::Error::other)
}

/// An answer's body on its way out.
struct Answer {
    stream: SendStream<Bytes>,
    /// For leaving no room for more.
    patience: Patience,
}

impl Answer {
    /// Sends so many bytes, or, where they need not all be there, what there is.
    async fn copy(
        &mut self,
        from: &mut (impl AsyncBufRead + Unpin),
        length: u64,
        is_exact: bool,
    ) -> io::Result<()> {
        let mut from = from.take(length);
        loop {
            let bytes = Bytes::copy_from_slice(from.fill_buf().await?);
            if bytes.is_empty() {
                let is_whole = !is_exact || from.limit() == 0;
                return if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            from.consume(bytes.len());
            self.send(bytes).await?;
        }
    }

    async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.reserve_capacity(bytes.len());
            let room = poll_fn(|cx| {
                let room = self.stream.poll_capacity(cx).map(|room| match room {
                    Some(room) => room.map_err(io::Error::other),
                    None => Err(io::ErrorKind::BrokenPipe.into()),
                });
                self.patience.watch(cx, room, |room| *room)
            });
            let room = room.await?;
            let piece = bytes.split_to(room.min(bytes.len()));
            self.stream.send_data(piece, false).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: http::request::Builder, is_chunked: bool) -> String {
        String::from_utf8(request_head(&request.body(()).unwrap().into_parts().0, is_chunked)).unwrap()
    }

    #[test]
    fn a_host_that_differs_from_the_authority_or_repeats_is_there_to_be_judged() {
        let request = || Request::builder().method("PATCH").uri("https://gateway.test/a?b");
        let head = "PATCH /a?b HTTP/1.1\r\nhost: gateway.test\r\n";
        assert_eq!(written(request(), false), format!("{head}\r\n"));
        assert_eq!(written(request().header("host", "Gateway.test"), false), format!("{head}\r\n"));
        let other = written(request().header("host", "other.test"), true);
        assert_eq!(other, format!("{head}host: other.test\r\ntransfer-encoding: chunked\r\n\r\n"));
        let twice = request().header("host", "gateway.test").header("host", "gateway.test");
        let line = "host: gateway.test\r\n";
        assert_eq!(written(twice, false), format!("{head}{line}{line}\r\n"));
    }
}
