//! Watches HTTP/2 frames for what the `h2` crate does without telling: the resets and closes that it sends, and what it repairs
//! in header blocks that come.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    downstream::header_blocks::{HeaderBlocks, Repaired},
    gateway::Gateway,
    unserved::{ConnectionRefused, StreamRefused},
};

/// The length of a frame's header (RFC 9113 section 4.1).
const HEADER: usize = 9;

/// The types of the frames that refuse something, and where their error code ends.
const RST_STREAM: (u8, usize) = (3, HEADER + 4);
const GOAWAY: (u8, usize) = (7, HEADER + 8);

/// A connection's transport, whose refusals are counted and told.
#[derive(Debug)]
pub(super) struct Watched<T> {
    transport: T,
    frames: Frames,
    header_blocks: HeaderBlocks,
    gateway: Arc<Gateway>,
    client: SocketAddr,
}

impl<T> Watched<T> {
    /// A transport on which nothing has been sent; streams of which something is repaired are told to `repaired`.
    pub(super) fn new(transport: T, gateway: Arc<Gateway>, client: SocketAddr, repaired: Repaired) -> Self {
        let header_blocks = HeaderBlocks::new(repaired);
        Self { transport, frames: Frames::default(), header_blocks, gateway, client }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { transport, header_blocks, .. } = self.get_mut();
        let before = into.filled().len();
        ready!(Pin::new(transport).poll_read(cx, into))?;
        header_blocks.follow(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { transport, frames, gateway, client, .. } = self.get_mut();
        let sent = ready!(Pin::new(transport).poll_write(cx, bytes))?;
        frames.follow(&bytes[..sent], |refusal| match refusal {
            FrameRefusal::Connection(why) => gateway.connection_refused(why, *client),
            FrameRefusal::Stream(why) => gateway.stream_refused(why, *client),
        });
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

/// What a frame refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameRefusal {
    Connection(ConnectionRefused),
    Stream(StreamRefused),
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

    fn follow(&mut self, mut sent: &[u8], mut found: impl FnMut(FrameRefusal)) {
        while !sent.is_empty() {
            let passed = self.skip.min(sent.len());
            self.skip -= passed;
            sent = &sent[passed..];
            let (taken, rest) = sent.split_at((self.wanted() - self.length).min(sent.len()));
            self.beginning[self.length..][..taken.len()].copy_from_slice(taken);
            self.length += taken.len();
            sent = rest;
            if self.length == self.wanted() {
                self.refusal().into_iter().for_each(&mut found);
                let payload = self.beginning[..3].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                self.skip = (HEADER + payload).saturating_sub(self.length);
                self.length = 0;
            }
        }
    }

    /// What the present frame refuses, all that must be seen of it being there.
    fn refusal(&self) -> Option<FrameRefusal> {
        let kind = self.beginning[3];
        let code = || {
            let code = self.beginning[..self.length].last_chunk().copied().unwrap_or_default();
            Reason::from(u32::from_be_bytes(code))
        };
        if kind == RST_STREAM.0 {
            StreamRefused::of_reset(code()).map(FrameRefusal::Stream)
        } else if kind == GOAWAY.0 {
            ConnectionRefused::of_goaway(code()).map(FrameRefusal::Connection)
        } else {
            None
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
                frames.follow(piece, |refusal| found.push(refusal));
            }
            let expected = [
                FrameRefusal::Stream(StreamRefused::NoRoom),
                FrameRefusal::Stream(StreamRefused::Protocol),
                FrameRefusal::Connection(ConnectionRefused::Http2Flood),
            ];
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }
}
