//! HTTP/2: every stream is written out as the HTTP/1.1 request it stands for, and then judged as one.
//!
//! So the rules exist once. What HTTP/2 frames otherwise is what [`request_head`] writes: `:authority` as a
//! Host beside any other there is, a body of unknown length as chunks. What contradicts itself before that
//! (a body that is not of its declared length, fields of a connection) is reset by the protocol's own layer.

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{HeaderName, Method, Request, Response, StatusCode, header, request::Parts};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    connection::{FAREWELL, Service},
    transport::{Lingering, Transport},
};
use crate::{policy::framing::MAX_HEAD, server::Phase};

/// Streams a client may have open at once.
const MAX_STREAMS: u32 = 16;

/// Requests of one connection that may be under way at once. They can be more than its streams: a call goes
/// on when its stream is reset.
const MAX_UNDER_WAY: usize = 4 * MAX_STREAMS as usize;

/// How much of a request or an answer waits between the two protocols.
const BUFFER: usize = 16 * 1024;

/// More header fields than Pingora takes of an upstream, with those that it and the gateway add.
const MAX_ANSWER_FIELDS: usize = 300;

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
        let greeting = options().handshake::<_, Bytes>(Lingering::new(transport));
        let greeted = timeout(live.settings.deadlines.header, greeting).await;
        drop(live);
        let Ok(Ok(mut connection)) = greeted else {
            return;
        };
        let mut phase = self.gateway.phase();
        let mut calls = JoinSet::new();
        let mut is_ending = false;
        loop {
            tokio::select! {
                // Also what drives everything that goes over the connection.
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) if calls.len() < MAX_UNDER_WAY => {
                        calls.spawn(exchange(self.clone(), client, request, respond, idle));
                    }
                    Some(Ok(_)) => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
                    Some(Err(_)) | None => break,
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
}

fn options() -> Builder {
    let mut options = Builder::new();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buffer_size(4 * BUFFER);
    options
}

/// Carries one stream's request in and its answer out.
async fn exchange(
    service: Service,
    client: SocketAddr,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    patience: Duration,
) {
    let (near, far) = tokio::io::duplex(BUFFER);
    // In this order: where draining has begun, a request that is there already is still served.
    tokio::join!(
        biased;
        carry(near, request, respond, patience),
        service.serve(Transport::Stream(far), client),
    );
}

async fn carry(
    near: DuplexStream,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    patience: Duration,
) {
    let (head, body) = request.into_parts();
    let (answer, mut writer) = tokio::io::split(near);
    let up = async {
        // A body that breaks off ends early here too, and that is what it is judged by.
        let _ = send_request(&head, body, &mut writer).await;
        let _ = writer.shutdown().await;
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

/// How an answer's body ends.
enum End {
    /// It has none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    Close,
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
    let end = end_of(&head, method)?;
    for name in OF_THE_CONNECTION {
        head.headers_mut().remove(name);
    }
    let is_empty = matches!(end, End::Empty);
    let stream = respond.send_response(head, is_empty).map_err(io::Error::other)?;
    let mut answer = Answer { stream, patience };
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
    /// How long the client may leave no room for more.
    patience: Duration,
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
            let room = timeout(self.patience, poll_fn(|cx| self.stream.poll_capacity(cx))).await?;
            let room = room.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
            let piece = bytes.split_to(room.min(bytes.len()));
            self.stream.send_data(piece, false).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    if line.ends_with(b"\r\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = str::from_utf8(line).unwrap_or_default().trim_end();
    u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}

async fn answer_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Response<()>> {
    let mut bytes = Vec::new();
    loop {
        let line = line(from).await?;
        bytes.extend_from_slice(&line);
        if line == b"\r\n" {
            return parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

fn parse(head: &[u8]) -> Option<Response<()>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_ANSWER_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    parsed.parse(head).ok()?.is_complete().then_some(())?;
    let mut response = Response::builder().status(parsed.code?);
    for field in parsed.headers.iter() {
        response = response.header(field.name, field.value);
    }
    response.body(()).ok()
}

fn end_of(head: &Response<()>, method: &Method) -> io::Result<End> {
    let is_bodiless = matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless || method == Method::HEAD {
        Ok(End::Empty)
    } else if head.headers().contains_key(header::TRANSFER_ENCODING) {
        Ok(End::Chunked)
    } else if let Some(length) = head.headers().get(header::CONTENT_LENGTH) {
        let length = length.to_str().ok().and_then(|length| length.parse().ok());
        match length.ok_or(io::ErrorKind::InvalidData)? {
            0 => Ok(End::Empty),
            length => Ok(End::Length(length)),
        }
    } else {
        Ok(End::Close)
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
