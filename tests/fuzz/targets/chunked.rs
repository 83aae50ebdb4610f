//! Chunked bodies: where one ends does not depend on how it arrives, and other readers agree on it.
#![no_main]

use http::HeaderName;
use httparse::Status;
use libfuzzer_sys::fuzz_target;
use n4n_gateway_fuzz::{
    divisions, expand,
    wire::chunked::{BrokenChunking, ChunkScanner},
};

/// The most digits of a size.
const MAX_DIGITS: usize = 16;

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
    let whole = found.ok().filter(|body| body.is_done).map(|body| (body.length, body.data));
    assert_eq!(whole, read(&bytes), "another reader finds another body");
});

/// What of a body a scanner has found.
#[derive(Debug, PartialEq)]
struct Body {
    length: usize,
    is_done: bool,
    data: Vec<u8>,
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Body, BrokenChunking> {
    let mut scanner = ChunkScanner::default();
    let (mut length, mut data) = (0, Vec::new());
    for piece in pieces {
        let taken = scanner.follow(piece, |more| data.extend_from_slice(more))?;
        assert!(taken == piece.len() || taken < piece.len() && scanner.is_done());
        length += taken;
    }
    Ok(Body { length, is_done: scanner.is_done(), data })
}

/// The length and the data of a body that is there to its end, found line by line rather than byte by byte.
fn read(body: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let line = line(&body[at..])?;
        let digits = line.split(|&byte| byte == b';').next()?;
        let is_strict = digits.len() <= MAX_DIGITS
            && digits.iter().all(u8::is_ascii_hexdigit)
            && is_text(line)
            && line.is_ascii()
            && line.len() + 2 <= MAX_LINE;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_strict)?;
        if let Ok(Status::Complete(found)) = httparse::parse_chunk_size(&body[at..]) {
            assert_eq!(found, (line.len() + 2, size as u64), "httparse finds another size");
        }
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        data.extend_from_slice(body.get(at..end)?);
        body[end..].strip_prefix(b"\r\n")?;
        at = end + 2;
    }
    let trailers = at;
    loop {
        let line = line(&body[at..])?;
        at += line.len() + 2;
        if at - trailers > MAX_TRAILERS {
            return None;
        }
        if line.is_empty() {
            return Some((at, data));
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        HeaderName::from_bytes(&line[..colon]).ok().filter(|_| is_text(line))?;
    }
}

fn is_text(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// The first line, without its CR LF.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&bytes[..end])
}
