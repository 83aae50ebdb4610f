//! Header blocks of HTTP/2: what is found in them does not depend on how they arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n4n_gateway_fuzz::{
    divisions,
    header_blocks::{HeaderBlocks, Part, Repaired},
};

/// What comes before the first frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The streams that are asked about: the first a client can open, and one that it cannot.
const STREAMS: [u32; 4] = [1, 3, 5, 2];

fuzz_target!(|frames: &[u8]| {
    let bytes = [PREFACE, frames].concat();
    let found = follow([&bytes[..]]);
    for at in divisions(bytes.len()) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(follow([first, second]), found, "divided at {at}");
    }
    assert_eq!(follow(bytes.chunks(1)), found, "byte by byte");
});

fn follow<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<[bool; 2]> {
    let repaired = Repaired::default();
    let mut blocks = HeaderBlocks::new(repaired.clone());
    for piece in pieces {
        blocks.follow(piece);
    }
    STREAMS.map(|stream| [Part::Head, Part::Trailers].map(|part| repaired.has(stream, part))).to_vec()
}
