//! Watches HTTP/2 frames for what the `h2` crate does without telling: the resets, closes and answers that it sends, and what
//! it repairs in header blocks that come.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Remote, record};
use crate::{
    alarm::Alarm,
    downstream::header_blocks::{HeaderBlocks, Repaired},
    gateway::Gateway,
    outcome::{Beginning, RequestId},
    reason::Reason as Refusal,
    unserved::{ConnectionRefused, StreamRefused},
};

/// The length of a frame's header (RFC 9113 section 4.1).
const HEADER: usize = 9;

/// The type of the frame that begins an answer.
const HEADERS: u8 = 1;

/// The types of the frames that refuse something, and where their error code ends.
const RST_STREAM: (u8, usize) = (3, HEADER + 4);
const GOAWAY: (u8, usize) = (7, HEADER + 8);

/// How many streams that the protocol's layer ended are remembered: more than it may have waiting to be accepted.
const MOST_ENDED: usize = 64;

/// What whoever accepts streams and whoever watches the frames that are sent tell each other.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The last stream that was accepted.
    accepted: u32,
    /// Resets for want of memory that have not been sent yet.
    without_memory: usize,
    /// The later streams that the protocol's layer ended by itself.
    ended: VecDeque<u32>,
}

impl Streams {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a stream is accepted. Tells whether it is to be served: it may have ended before.
    pub(super) fn accept(&self, stream: u32) -> bool {
        let mut known = self.known();
        known.accepted = stream;
        let has_ended = known.ended.contains(&stream);
        known.ended.retain(|ended| *ended > stream);
        !has_ended
    }

    /// Notes that a stream is about to be reset for want of memory.
    pub(super) fn refuse(&self) {
        self.known().without_memory += 1;
    }

    /// Why a stream was reset that is refused for this reason.
    fn why(&self, why: StreamRefused) -> StreamRefused {
        let mut known = self.known();
        match known.without_memory.checked_sub(1) {
            Some(left) if why == StreamRefused::NoRoom => {
                known.without_memory = left;
                StreamRefused::NoMemory
            }
            Some(_) | None => why,
        }
    }

    /// Notes that the protocol's layer ends a stream. Tells whether nobody else knows of it: it was neither accepted nor
    /// has it been noted before.
    fn ends_unknown(&self, stream: u32) -> bool {
        let mut known = self.known();
        let is_unknown = stream > known.accepted && !known.ended.contains(&stream);
        if is_unknown {
            known.ended.truncate(MOST_ENDED - 1);
            known.ended.push_front(stream);
        }
        is_unknown
    }
}

/// A connection's transport, whose refusals are counted and told, and which ends where a header block does not come to its
/// end in time: the protocol's layer keeps what there is of one for as long as the connection lives.
#[derive(Debug)]
pub(super) struct Watched<T> {
    transport: T,
    frames: Frames,
    header_blocks: HeaderBlocks,
    /// How long a header block may take.
    header_timeout: Duration,
    /// By when the one that has begun is to be whole.
    due: Option<Instant>,
    alarm: Alarm,
    watch: Watch,
}

/// Where what is seen is told.
#[derive(Debug)]
struct Watch {
    gateway: Arc<Gateway>,
    streams: Arc<Streams>,
    client: Remote,
}

impl<T> Watched<T> {
    /// A transport on which nothing has been sent; streams of which something is repaired are told to `repaired`.
    pub(super) fn new(
        transport: T,
        gateway: Arc<Gateway>,
        streams: Arc<Streams>,
        client: Remote,
        repaired: Repaired,
    ) -> Self {
        let header_timeout = gateway.live().settings.deadlines.header;
        Self {
            transport,
            frames: Frames::default(),
            header_blocks: HeaderBlocks::new(repaired),
            header_timeout,
            due: None,
            alarm: Alarm::default(),
            watch: Watch { gateway, streams, client },
        }
    }
}

impl Watch {
    fn tell(&self, seen: Seen) {
        match seen {
            Seen::Close(why) => self.gateway.connection_refused(why, self.client.address),
            // Of a stream that was never accepted: its header list is too long by far.
            Seen::Head(stream) => {
                if self.streams.ends_unknown(stream) {
                    self.record(Refusal::HeaderTooLarge, true);
                }
            }
            Seen::Reset(why, stream) => {
                let why = self.streams.why(why);
                self.gateway.stream_refused(why, self.client.address);
                let is_unknown = self.streams.ends_unknown(stream);
                // What is refused for want of room was not looked at, and may come again.
                if is_unknown && matches!(why, StreamRefused::Protocol | StreamRefused::Flood) {
                    self.record(Refusal::RequestMalformed, false);
                }
            }
        }
    }

    /// Records a request that nobody but the protocol's layer saw.
    fn record(&self, reason: Refusal, is_sent: bool) {
        let (now, id) = (Beginning::now(), RequestId::next());
        record(&self.gateway, &[], &self.client, now, id, reason, is_sent);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { transport, header_blocks, header_timeout, due, alarm, watch, .. } = self.get_mut();
        let before = into.filled().len();
        let arrived = Pin::new(transport).poll_read(cx, into)?;
        header_blocks.follow(&into.filled()[before..]);
        *due = header_blocks.is_open().then(|| due.unwrap_or_else(|| Instant::now() + *header_timeout));
        if due.is_some_and(|due| alarm.poll(due, cx).is_ready()) {
            watch.record(Refusal::HeaderTimeout, false);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        arrived.map(Ok)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { transport, frames, watch, .. } = self.get_mut();
        let sent = ready!(Pin::new(transport).poll_write(cx, bytes))?;
        frames.follow(&bytes[..sent], |seen| watch.tell(seen));
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

/// A frame that is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The connection is refused.
    Close(ConnectionRefused),
    /// A stream is refused.
    Reset(StreamRefused, u32),
    /// A stream's answer begins.
    Head(u32),
}

/// Frames that are sent piece by piece.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of the present frame, as far as it was sent.
    beginning: [u8; GOAWAY.1],
    length: usize,
    /// How much of a frame is still to be passed over.
    skip: usize,
}

impl Frames {
    /// How much of the present frame must be seen.
    fn wanted(&self) -> usize {
        let kind = self.beginning[3];
        match self.length {
            ..HEADER => HEADER,
            _ if kind == RST_STREAM.0 => RST_STREAM.1,
            _ if kind == GOAWAY.0 => GOAWAY.1,
            _ => HEADER,
        }
    }

    fn follow(&mut self, mut sent: &[u8], mut found: impl FnMut(Seen)) {
        while !sent.is_empty() {
            let passed = self.skip.min(sent.len());
            self.skip -= passed;
            sent = &sent[passed..];
            let (taken, rest) = sent.split_at((self.wanted() - self.length).min(sent.len()));
            self.beginning[self.length..][..taken.len()].copy_from_slice(taken);
            self.length += taken.len();
            sent = rest;
            if self.length == self.wanted() {
                self.seen().into_iter().for_each(&mut found);
                let payload = self.beginning[..3].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                self.skip = (HEADER + payload).saturating_sub(self.length);
                self.length = 0;
            }
        }
    }

    /// What the present frame tells, all that must be seen of it being there.
    fn seen(&self) -> Option<Seen> {
        let last = || self.beginning[..self.length].last_chunk().copied().unwrap_or_default();
        let code = || Reason::from(u32::from_be_bytes(last()));
        let stream = || {
            let [.., a, b, c, d] = *self.beginning.first_chunk::<HEADER>().unwrap_or(&[0; HEADER]);
            u32::from_be_bytes([a, b, c, d])
        };
        match self.beginning[3] {
            HEADERS => Some(Seen::Head(stream())),
            kind if kind == RST_STREAM.0 => {
                StreamRefused::of_reset(code()).map(|why| Seen::Reset(why, stream()))
            }
            kind if kind == GOAWAY.0 => ConnectionRefused::of_goaway(code()).map(Seen::Close),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    fn code(reason: Reason) -> [u8; 4] {
        u32::from(reason).to_be_bytes()
    }

    #[test]
    fn refusals_are_found_among_other_frames_however_they_are_cut() {
        let goaway = |reason| frame(7, &[&[0; 4][..], &code(reason), b"why"].concat());
        let sent = [
            frame(4, &[0; 18]),
            frame(1, b"head"),
            frame(3, &code(Reason::REFUSED_STREAM)),
            frame(3, &code(Reason::NO_ERROR)),
            frame(0, &frame(3, &code(Reason::PROTOCOL_ERROR))),
            frame(0, b""),
            frame(3, &code(Reason::PROTOCOL_ERROR)),
            goaway(Reason::NO_ERROR),
            goaway(Reason::ENHANCE_YOUR_CALM),
        ];
        let sent = sent.concat();
        for size in 1..=sent.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in sent.chunks(size) {
                frames.follow(piece, |seen| found.push(seen));
            }
            let expected = [
                Seen::Head(1),
                Seen::Reset(StreamRefused::NoRoom, 1),
                Seen::Reset(StreamRefused::Protocol, 1),
                Seen::Close(ConnectionRefused::Http2Flood),
            ];
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_ends_before_it_is_accepted_is_recorded_once_and_not_served() {
        let streams = Streams::default();
        assert!(streams.accept(1));
        assert!(!streams.ends_unknown(1), "it is served");
        assert!(streams.ends_unknown(3) && !streams.ends_unknown(3));
        assert!(streams.ends_unknown(7));
        assert!(streams.accept(5) && !streams.accept(7) && streams.accept(9));
        assert!(!streams.ends_unknown(3) && !streams.ends_unknown(9));
        assert!((0..1000).all(|number| streams.ends_unknown(11 + 2 * number)));
        assert!(streams.known().ended.len() <= MOST_ENDED);
    }

    #[test]
    fn resets_for_want_of_memory_are_told_from_those_for_want_of_room() {
        let streams = Streams::default();
        streams.refuse();
        assert_eq!(streams.why(StreamRefused::Protocol), StreamRefused::Protocol);
        assert_eq!(streams.why(StreamRefused::NoRoom), StreamRefused::NoMemory);
        assert_eq!(streams.why(StreamRefused::NoRoom), StreamRefused::NoRoom);
    }
}
