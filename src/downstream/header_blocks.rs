//! Follows the header blocks that a client of HTTP/2 sends, for what the `h2` crate would repair in them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::wire::hpack::Decoder;

/// The parts of a request that a header block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its head, of which the target or the scheme is not what was sent.
    Head,
    /// Its trailers, which had pseudo-fields.
    Trailers,
}

/// What was repaired in the requests of a connection: which part of which stream's.
#[derive(Debug, Clone, Default)]
pub struct Repaired(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    latest: VecDeque<(u32, Part)>,
    /// The last stream of which something is remembered no more: of those up to it nothing is believed. Streams that are
    /// refused for want of room are followed as well, and there may be any number of them before one is served.
    forgotten: u32,
    /// Whether nothing is known of what comes from now on.
    is_lost: bool,
}

/// How many parts are remembered: more than those of all streams that can be open.
const REMEMBERED: usize = 256;

impl Repaired {
    /// Whether this part of a stream's request is one of them.
    pub fn has(&self, stream: u32, part: Part) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream <= parts.forgotten || parts.latest.contains(&(stream, part))
    }

    /// Whether the connection is of no use any more, since header blocks on it can no longer be read.
    pub fn is_lost(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_lost
    }

    fn lose(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_lost = true;
    }

    fn note(&self, stream: u32, part: Part) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.latest.len() == REMEMBERED
            && let Some((forgotten, _)) = parts.latest.pop_front()
        {
            parts.forgotten = parts.forgotten.max(forgotten);
        }
        parts.latest.push_back((stream, part));
    }
}

/// What a client says before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The length of a frame's header (RFC 9113 section 4.1).
const HEADER: usize = 9;

/// The types of the frames that header blocks come in.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Their flags.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The longest frame, as nobody is told that it may be longer (RFC 9113 section 4.2).
const MAX_FRAME: usize = 16 * 1024;

/// The longest header block that is followed; one of this length has far more than any head may.
const MAX_BLOCK: usize = 4 * MAX_FRAME;

/// What a client sends, piece by piece.
#[derive(Debug)]
pub struct HeaderBlocks {
    repaired: Repaired,
    decoder: Decoder,
    /// What of the preface is still to come.
    preface: usize,
    /// The header of the present frame, as far as it has come.
    header: [u8; HEADER],
    length: usize,
    /// How much of the present frame is still to come.
    left: usize,
    /// What has come of the present frame, if that has a piece of a header block.
    frame: Vec<u8>,
    /// What has come of the present header block before this frame.
    block: Vec<u8>,
    /// Whether a header block has begun and is not whole.
    is_open: bool,
    /// The latest stream that was opened.
    latest: u32,
    /// Whether a block was broken, so that no later one can be read. The protocol's layer then ends the connection; should
    /// it not, nothing on it is believed.
    is_lost: bool,
}

impl HeaderBlocks {
    /// What is sent on a connection that has just begun.
    pub fn new(repaired: Repaired) -> Self {
        Self {
            repaired,
            decoder: Decoder::default(),
            preface: PREFACE,
            header: [0; HEADER],
            length: 0,
            left: 0,
            frame: Vec::new(),
            block: Vec::new(),
            is_open: false,
            latest: 0,
            is_lost: false,
        }
    }

    /// Goes on over what the client sends.
    pub fn follow(&mut self, bytes: &[u8]) {
        let (preface, mut bytes) = bytes.split_at(self.preface.min(bytes.len()));
        self.preface -= preface.len();
        while !bytes.is_empty() {
            if self.length < HEADER {
                let (header, rest) = bytes.split_at((HEADER - self.length).min(bytes.len()));
                self.header[self.length..][..header.len()].copy_from_slice(header);
                self.length += header.len();
                bytes = rest;
                if self.length < HEADER {
                    return;
                }
                self.left = self.header[..3].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                self.is_open |= self.is_of_a_block();
                self.is_lost |= self.is_of_a_block() && self.left > MAX_FRAME;
            }
            let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
            if self.is_of_a_block() && !self.is_lost {
                self.frame.extend_from_slice(payload);
            }
            self.left -= payload.len();
            bytes = rest;
            if self.left == 0 {
                self.length = 0;
                if self.is_of_a_block() {
                    self.end_frame();
                }
            }
        }
    }

    /// Whether a header block has begun of which more is to come.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the present frame has a piece of a header block.
    fn is_of_a_block(&self) -> bool {
        matches!(self.header[3], HEADERS | CONTINUATION)
    }

    fn end_frame(&mut self) {
        let [_, _, _, kind, flags, stream @ ..] = self.header;
        let stream = u32::from_be_bytes(stream) & !(1 << 31);
        let frame = std::mem::take(&mut self.frame);
        let piece = if kind == HEADERS { fragment(&frame, flags) } else { Some(&frame[..]) };
        self.is_lost |= piece.is_none_or(|piece| self.block.len() + piece.len() > MAX_BLOCK);
        let piece = piece.filter(|_| !self.is_lost).unwrap_or_default();
        match (self.block.is_empty(), flags & END_HEADERS != 0) {
            (true, true) => self.end_block(stream, piece),
            (false, true) => {
                let block = [&std::mem::take(&mut self.block), piece].concat();
                self.end_block(stream, &block);
            }
            (_, false) => self.block.extend_from_slice(piece),
        }
    }

    fn end_block(&mut self, stream: u32, block: &[u8]) {
        self.is_open = false;
        // A stream has one header block before its body, and one after it at the most.
        let part = if stream <= self.latest { Part::Trailers } else { Part::Head };
        self.latest = self.latest.max(stream);
        let is_repaired = match (self.decoder.read(block), part) {
            (Ok(found), Part::Head) => found.is_to_be_repaired,
            (Ok(found), Part::Trailers) => found.has_pseudo_field,
            (Err(_), _) => {
                self.is_lost = true;
                true
            }
        };
        if self.is_lost {
            self.repaired.lose();
        }
        if is_repaired || self.is_lost {
            self.repaired.note(stream, part);
        }
    }
}

/// The piece of a header block in a HEADERS frame (RFC 9113 section 6.2).
fn fragment(frame: &[u8], flags: u8) -> Option<&[u8]> {
    let mut piece = frame;
    if flags & PADDED != 0 {
        let (&padding, rest) = piece.split_first()?;
        piece = rest.get(..rest.len().checked_sub(padding.into())?)?;
    }
    if flags & PRIORITY != 0 {
        piece = piece.get(5..)?;
    }
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_STREAM: u8 = 0x1;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn streams_are_found_by_their_header_blocks_however_these_are_cut() {
        // A path with a fragment, which is kept as a field's name and value; then by its number.
        let odd = [&[0x82, 0x87, 0x44, 3][..], b"/#x"].concat();
        let sent = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[0; 18]),
            frame(HEADERS, END_HEADERS, 1, b"\x82\x87\x84"),
            frame(0, 0, 1, &frame(HEADERS, END_HEADERS, 99, &odd)),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x01x\x01y"),
            frame(HEADERS, 0, 3, &odd[..5]),
            frame(CONTINUATION, 0, 3, b""),
            frame(CONTINUATION, END_HEADERS, 3, &odd[5..]),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 5, b"\x02\0\0\0\0\x07\x82\x87\xbe\0\0"),
            frame(HEADERS, END_HEADERS, 7, b"\x82\x87\x84"),
            frame(HEADERS, END_HEADERS | END_STREAM, 7, b"\x84"),
            frame(HEADERS, END_HEADERS, 9, b"\x82\x87\x84"),
        ];
        let sent = sent.concat();
        for size in 1..=sent.len() {
            let repaired = Repaired::default();
            let mut blocks = HeaderBlocks::new(repaired.clone());
            sent.chunks(size).for_each(|piece| blocks.follow(piece));
            let found = Vec::from(repaired.0.lock().unwrap().latest.clone());
            assert_eq!(found, [(3, Part::Head), (5, Part::Head), (7, Part::Trailers)], "in pieces of {size}");
        }
    }

    #[test]
    fn nothing_is_believed_behind_a_broken_block() {
        for broken in [
            frame(HEADERS, END_HEADERS, 1, b"\xff"),
            frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05\x82"),
            frame(HEADERS, END_HEADERS, 1, &[0x82; MAX_FRAME + 1]),
            [frame(HEADERS, 0, 1, b""), frame(CONTINUATION, 0, 1, &[0x82; MAX_FRAME]).repeat(5)].concat(),
        ] {
            let repaired = Repaired::default();
            let mut blocks = HeaderBlocks::new(repaired.clone());
            blocks.follow(&[0; PREFACE]);
            blocks.follow(&broken);
            blocks.follow(&frame(HEADERS, END_HEADERS, 3, b"\x82\x87\x84"));
            assert!(repaired.has(3, Part::Head));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_believed_of_what_is_forgotten() {
        let repaired = Repaired::default();
        (1..10_000).for_each(|stream| repaired.note(stream, Part::Head));
        assert!((1..10_000).all(|stream| repaired.has(stream, Part::Head)));
        assert!(!repaired.has(9_999, Part::Trailers) && !repaired.has(10_000, Part::Head));
        assert_eq!(repaired.0.lock().unwrap().latest.len(), REMEMBERED);
    }
}
