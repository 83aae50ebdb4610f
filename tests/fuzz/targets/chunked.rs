//! Chunked bodies: where one ends does not depend on how it arrives, and other readers agree on it.
#![no_main]

use httparse::Status;
use libfuzzer_sys::fuzz_target;
use n4n_gateway_fuzz::{
    chunked::{Broken, ChunkScanner},
    divisions, expand,
};

/// The most bytes of a size line, CR LF included.
const MAX_LINE: usize = 256;

/// The most bytes of trailer section, its empty line included.
const MAX_TRAILERS: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let bytes = expand(input);
    let found = scan([&bytes[..]]);
    for at in divisions(bytes.len()) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(scan([first, second]), found, "divided at {at}");
    }
    assert_eq!(scan(bytes.chunks(1)), found, "byte by byte");
    assert_eq!(found.ok().and_then(|(length, is_done)| is_done.then_some(length)), end_of(&bytes));
});

/// How many bytes belong to the body, and whether it has ended.
fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(usize, bool), Broken> {
    let mut scanner = ChunkScanner::default();
    let mut length = 0;
    for piece in pieces {
        let taken = scanner.advance(piece)?;
        assert!(taken == piece.len() || taken < piece.len() && scanner.is_done());
        length += taken;
    }
    Ok((length, scanner.is_done()))
}

/// Where the body ends if all of it is there, found line by line rather than byte by byte.
fn end_of(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line(&body[at..])?;
        let digits = line.split(|&byte| byte == b';').next()?;
        let extension = &line[digits.len()..];
        let is_strict = digits.iter().all(u8::is_ascii_hexdigit)
            && extension.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
            && line.len() + 2 <= MAX_LINE;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_strict)?;
        if let Ok(Status::Complete(read)) = httparse::parse_chunk_size(&body[at..]) {
            assert_eq!(read, (line.len() + 2, size as u64), "another reader takes the size otherwise");
        }
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?;
        body.get(at..)?.strip_prefix(b"\r\n")?;
        at += 2;
    }
    let trailers = at;
    loop {
        let line = line(&body[at..])?;
        at += line.len() + 2;
        let is_text = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
        if !is_text || at - trailers > MAX_TRAILERS {
            return None;
        }
        if line.is_empty() {
            return Some(at);
        }
    }
}

/// The first line, without its CR LF.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&bytes[..end])
}
