//! How answers end, and those of one stream read again to be sent by HTTP/2.

use std::io;

use http::{HeaderMap, Response, StatusCode, header};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// More header fields than Pingora takes of an upstream, with those that it and the gateway add.
const MAX_ANSWER_FIELDS: usize = 300;

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

pub(super) async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    if line.ends_with(b"\r\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(super) fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = str::from_utf8(line).unwrap_or_default().trim_end();
    u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}

pub(super) async fn answer_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Response<()>> {
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

/// How the body ends of an answer with this head (RFC 9112 section 6.3); `is_to_head` where HEAD was asked.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a length that is none.
pub(super) fn end_of(status: StatusCode, fields: &HeaderMap, is_to_head: bool) -> io::Result<End> {
    let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless || is_to_head {
        Ok(End::Empty)
    } else if fields.contains_key(header::TRANSFER_ENCODING) {
        Ok(End::Chunked)
    } else if let Some(length) = fields.get(header::CONTENT_LENGTH) {
        let length = length.to_str().ok().and_then(|length| length.parse().ok());
        match length.ok_or(io::ErrorKind::InvalidData)? {
            0 => Ok(End::Empty),
            length => Ok(End::Length(length)),
        }
    } else {
        Ok(End::Close)
    }
}
