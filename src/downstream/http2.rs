//! One stream of HTTP/2, as a request's way to and from its client.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason as ResetReason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};

use super::{
    Client, HeadWriter, Progress,
    body::whole_body,
    header_blocks::{Part, Repaired},
    write_budget::WriteBudget,
};
use crate::{
    alarm::Alarm,
    reason::Reason,
    stream_memory::{NoMemory, StreamMemory},
    wire::{
        RequestHead,
        answer::End,
        chunked::BrokenChunking,
        target::{is_http, is_same_host},
    },
};

/// One stream: a request's body on its way in, and its answer on its way out.
#[derive(Debug)]
pub struct Stream {
    address: SocketAddr,
    body: RecvStream,
    is_read: bool,
    respond: SendResponse<Bytes>,
    /// What was repaired in the requests of its connection.
    repaired: Repaired,
    sending: Option<SendStream<Bytes>>,
    /// What of the answer's body is still to come; none where its end alone tells.
    left: Option<u64>,
    is_ended: bool,
    budget: WriteBudget,
    alarm: Alarm,
    /// What its request's head and body are held in.
    memory: StreamMemory,
}

impl Stream {
    /// A stream whose request's head has come, and whose client has so much time to take the answer.
    pub fn new(
        address: SocketAddr,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        repaired: Repaired,
        write_budget: Duration,
        memory: StreamMemory,
    ) -> Self {
        Self {
            address,
            is_read: body.is_end_stream(),
            body,
            respond,
            repaired,
            sending: None,
            left: None,
            is_ended: false,
            budget: WriteBudget::new(write_budget),
            alarm: Alarm::default(),
            memory,
        }
    }

    /// Ends the stream so that the client cannot take what was sent for a whole answer.
    pub fn reset(&mut self) {
        self.respond.send_reset(ResetReason::INTERNAL_ERROR);
    }

    /// Takes what is left of the request in and drops it: ending a stream before its request is whole resets it, and
    /// some clients then lose an answer that they had.
    pub async fn drain(&mut self, most: usize, by: Instant) {
        let mut left = most;
        while let Ok(Some(piece)) = self.piece(by).await {
            let Some(rest) = left.checked_sub(piece.len()) else { return };
            left = rest;
        }
    }

    /// Whether a part of the request is not what the client sent.
    pub fn is_repaired(&self, part: Part) -> bool {
        self.repaired.has(self.respond.stream_id().as_u32(), part)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        while !self.is_read {
            match ready!(self.body.poll_data(cx)) {
                Some(piece) => {
                    let piece = piece.map_err(io::Error::other)?;
                    self.body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
                    self.is_read = self.body.is_end_stream();
                    if !piece.is_empty() {
                        return Poll::Ready(Ok(Some(piece)));
                    }
                }
                None => {
                    // Trailers are dropped like those of a chunked body, and must be fields like those.
                    ready!(self.body.poll_trailers(cx)).map_err(io::Error::other)?;
                    self.is_read = true;
                    if self.is_repaired(Part::Trailers) {
                        return Poll::Ready(Err(BrokenChunking.into()));
                    }
                }
            }
        }
        Poll::Ready(Ok(None))
    }

    async fn send(&mut self, mut bytes: Bytes, is_last: bool) -> io::Result<()> {
        let Some(sending) = &mut self.sending else { return Err(io::ErrorKind::InvalidData.into()) };
        while !bytes.is_empty() {
            sending.reserve_capacity(bytes.len());
            let room = poll_fn(|cx| {
                let room = sending.poll_capacity(cx).map(|room| match room {
                    Some(room) => room.map_err(io::Error::other),
                    None => Err(io::ErrorKind::BrokenPipe.into()),
                });
                self.budget.watch(cx, room, |room| *room)
            });
            let piece = bytes.split_to(room.await?.min(bytes.len()));
            let is_end = is_last && bytes.is_empty();
            sending.send_data(piece, is_end).map_err(io::Error::other)?;
            self.is_ended |= is_end;
        }
        Ok(())
    }
}

/// The head of a request as HTTP/1.1 would have it: `:authority` as its Host, a body of unknown length as chunks.
///
/// # Errors
/// The first broken rule of framing.
pub fn request_head(parts: &Parts, has_body: bool) -> Result<RequestHead, Reason> {
    // As of a target in HTTP/1.1 that names its scheme.
    if parts.uri.scheme_str().is_some_and(|scheme| !is_http(scheme)) {
        return Err(Reason::FramingAmbiguous);
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let target = parts.uri.path_and_query().map_or(authority.unwrap_or_default(), |target| target.as_str());
    // One Host that says the same is no second one.
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let repeats = match (hosts.next(), hosts.next(), authority) {
        (Some(host), None, Some(authority)) => {
            let scheme = parts.uri.scheme_str().unwrap_or_default();
            is_same_host(scheme, authority.as_bytes(), host.as_bytes())
        }
        (_, _, _) => false,
    };
    let host = authority.map(|authority| (&b"host"[..], authority.as_bytes()));
    let fields = parts.headers.iter().filter(move |(name, _)| !(repeats && *name == header::HOST));
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let fields: Vec<_> = host.into_iter().chain(fields).collect();
    let is_chunked = has_body && !parts.headers.contains_key(header::CONTENT_LENGTH);
    RequestHead::of_parts(parts.method.as_str(), target, &fields, is_chunked)
}

/// The head of an answer.
#[derive(Debug, Default)]
pub struct Head(Response<()>);

impl HeadWriter for Head {
    fn status(&mut self, status: u16, _phrase: &[u8]) {
        *self.0.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            self.0.headers_mut().append(name, value);
        }
    }
}

impl Client for Stream {
    type Head = Head;

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn scheme(&self) -> &'static str {
        "https"
    }

    fn alarm(&mut self) -> &mut Alarm {
        &mut self.alarm
    }

    fn progress(&self) -> Progress {
        match (&self.sending, self.is_ended, self.left) {
            (None, _, _) => Progress::NotBegun,
            (Some(_), true, _) | (Some(_), _, Some(0)) => Progress::Whole,
            (Some(_), false, Some(left)) => Progress::Body(End::Length(left)),
            (Some(_), false, None) => Progress::Body(End::Chunked),
        }
    }

    fn is_read(&self) -> bool {
        self.is_read
    }

    async fn ask_for_body(&mut self) -> io::Result<()> {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::CONTINUE;
        self.respond.send_informational(interim).map_err(io::Error::other)
    }

    async fn piece(&mut self, by: Instant) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| match self.poll_piece(cx) {
            Poll::Ready(piece) => Poll::Ready(piece),
            Poll::Pending => self.alarm.poll(by, cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }

    fn keep(&mut self, bytes: usize) -> Result<(), NoMemory> {
        self.memory.grow(bytes)
    }

    async fn body(&mut self, most: usize, by: Instant) -> Result<Bytes, Reason> {
        whole_body(self, most, by).await
    }

    fn begin(&mut self) -> Head {
        Head::default()
    }

    async fn answer(&mut self, head: Head, body: Option<&[u8]>, persists: bool) -> io::Result<()> {
        let body = body.unwrap_or_default();
        let end = if body.is_empty() { End::Empty } else { End::Length(body.len() as u64) };
        self.start(head, end, persists).await?;
        self.send(Bytes::copy_from_slice(body), true).await
    }

    async fn start(&mut self, head: Head, end: End, _persists: bool) -> io::Result<()> {
        let Head(head) = head;
        self.left = match end {
            End::Empty => Some(0),
            End::Length(length) => Some(length),
            End::Chunked | End::Close => None,
        };
        let sending = self.respond.send_response(head, end == End::Empty).map_err(io::Error::other)?;
        self.sending = Some(sending);
        self.is_ended = end == End::Empty;
        Ok(())
    }

    async fn put(&mut self, piece: &Bytes) -> io::Result<()> {
        let left = match self.left {
            Some(left) => Some(left.checked_sub(piece.len() as u64).ok_or(io::ErrorKind::InvalidData)?),
            None => None,
        };
        self.send(piece.clone(), false).await?;
        self.left = left;
        Ok(())
    }

    async fn end(&mut self) -> io::Result<()> {
        match (&mut self.sending, self.left) {
            (None, _) | (Some(_), Some(1..)) => Err(io::ErrorKind::UnexpectedEof.into()),
            (Some(_), _) if self.is_ended => Ok(()),
            (Some(sending), _) => {
                self.is_ended = true;
                sending.send_data(Bytes::new(), true).map_err(io::Error::other)
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        // The connection's own task sends what was given to it.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::pause;

    use super::*;
    use crate::stream_memory::ConnectionMemory;

    #[tokio::test]
    async fn a_piece_that_could_not_be_sent_is_still_to_come() {
        pause();
        let (client, server) = tokio::io::duplex(64 * 1024);
        let calling = async {
            // What is sent to it has room for four bytes.
            let builder = h2::client::Builder::new().initial_window_size(4).to_owned();
            let (mut sender, connection) = builder.handshake::<_, Bytes>(client).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = http::Request::get("https://gateway.test/").body(()).unwrap();
            let (answer, _body) = sender.send_request(request, true).unwrap();
            (answer.await.unwrap(), connection)
        };
        let serving = async {
            let mut connection = h2::server::handshake(server).await.unwrap();
            let (request, respond) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
            let memory = ConnectionMemory::new(Arc::default(), 0, 1).open(0).unwrap();
            let (body, budget) = (request.into_body(), Duration::from_secs(1));
            let mut stream =
                Stream::new(([0; 4], 0).into(), body, respond, Repaired::default(), budget, memory);
            stream.start(Head::default(), End::Length(8), true).await.unwrap();
            stream.put(&Bytes::from_static(b"four")).await.unwrap();
            assert_eq!(stream.progress(), Progress::Body(End::Length(4)));
            let late = stream.put(&Bytes::from_static(b"more")).await.unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
            assert_eq!(stream.progress(), Progress::Body(End::Length(4)));
            assert_eq!(stream.end().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        };
        let (_answer, ()) = tokio::join!(calling, serving);
    }
}
