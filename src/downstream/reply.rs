//! An answer on its way to the client: its head with the gateway's fields, its body framed as its client can read it.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora::{http::ResponseHeader, protocols::http::date::get_cached_date};

use super::{
    answer::{End, end_of},
    connection::Connection,
};
use crate::policy::{fields::list, framing::RequestHead};

/// Fields of a connection, named in its `Connection` field or not (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"];

/// An interim answer that asks for the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The fields that the gateway adds to an answer.
#[derive(Debug)]
pub struct Marks {
    /// Their names; what else has one of them is left out.
    pub names: &'static [&'static str],
    /// Their lines.
    pub lines: Vec<u8>,
}

/// An answer of the gateway's own.
#[derive(Debug)]
pub struct Problem {
    /// Its bytes.
    pub answer: Vec<u8>,
    /// Whether the connection goes on after it.
    pub persists: bool,
}

/// One request's answer, as far as it has got.
#[derive(Debug)]
pub struct Reply {
    marks: Marks,
    is_to_head: bool,
    is_http_10: bool,
    persists: bool,
    awaits_continue: bool,
    progress: Progress,
}

/// How far an answer has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not a byte of it is written.
    NotBegun,
    /// Its head is written, and its body is to end like this.
    Body(End),
    /// It is whole.
    Whole,
}

impl Reply {
    /// The answer to come to a request.
    pub fn to(request: &RequestHead, marks: Marks) -> Self {
        Self {
            marks,
            is_to_head: request.method == http::Method::HEAD,
            is_http_10: request.is_http_10,
            persists: request.persists,
            awaits_continue: request.awaits_continue(),
            progress: Progress::NotBegun,
        }
    }

    /// How far it has got.
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the connection goes on after it, once it is whole.
    pub const fn persists(&self) -> bool {
        self.persists
    }

    /// Writes an answer's head; interim ones pass where the client waits for them. `is_last` ends the connection.
    ///
    /// # Errors
    /// Those of the connection, or [`io::ErrorKind::InvalidData`] for a second head or one of unclear length.
    pub async fn head(
        &mut self,
        to: &mut Connection,
        head: &ResponseHeader,
        is_last: bool,
    ) -> io::Result<()> {
        if head.status.is_informational() {
            if head.status == StatusCode::CONTINUE && self.awaits_continue {
                to.write(CONTINUE).await?;
                to.flush().await?;
            }
            return Ok(());
        }
        if self.progress != Progress::NotBegun {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut end = end_of(head.status, &head.headers, self.is_to_head)?;
        if self.is_http_10 && end == End::Chunked {
            end = End::Close;
        }
        self.persists &= !is_last && end != End::Close && to.is_between_requests();
        let bytes = self.head_bytes(head);
        self.progress = if end == End::Empty { Progress::Whole } else { Progress::Body(end) };
        to.write(&bytes).await
    }

    fn head_bytes(&self, head: &ResponseHeader) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(head.status.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        let nominated = nominated(&head.headers);
        let mut field = |name: &[u8], value: &[u8]| {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let is_left_out = HOP_BY_HOP.iter().chain(self.marks.names).any(|other| is(other))
                || nominated.iter().any(|other| name.eq_ignore_ascii_case(other))
                || (self.is_http_10 && is("transfer-encoding"));
            if !is_left_out {
                line(&mut bytes, name, value);
            }
        };
        if head.has_case() {
            head.case_header_iter().for_each(|(name, value)| field(name.as_slice(), value.as_bytes()));
        } else {
            head.headers.iter().for_each(|(name, value)| field(name.as_str().as_bytes(), value.as_bytes()));
        }
        if !head.headers.contains_key(header::DATE) {
            line(&mut bytes, b"Date", get_cached_date().as_bytes());
        }
        bytes.extend_from_slice(&self.marks.lines);
        bytes.extend_from_slice(connection_line(self.persists));
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Writes a piece of the body.
    ///
    /// # Errors
    /// Those of the connection, or [`io::ErrorKind::InvalidData`] for one that the head has no room for.
    pub async fn piece(&mut self, to: &mut Connection, piece: &Bytes) -> io::Result<()> {
        if piece.is_empty() || self.is_to_head {
            return Ok(());
        }
        match self.progress {
            Progress::Body(End::Length(left)) => {
                let left = left.checked_sub(piece.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
                to.write(piece).await?;
                self.progress = if left == 0 { Progress::Whole } else { Progress::Body(End::Length(left)) };
                Ok(())
            }
            Progress::Body(End::Chunked) => {
                to.write(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                to.write(piece).await?;
                to.write(b"\r\n").await
            }
            Progress::Body(End::Close) => to.write(piece).await,
            Progress::Body(End::Empty) | Progress::NotBegun | Progress::Whole => {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// Writes what tells the client that the answer is whole.
    ///
    /// # Errors
    /// Those of the connection, or [`io::ErrorKind::UnexpectedEof`] for one that is not.
    pub async fn end(&mut self, to: &mut Connection) -> io::Result<()> {
        match self.progress {
            Progress::NotBegun | Progress::Body(End::Length(_)) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Progress::Body(End::Chunked) => to.write(b"0\r\n\r\n").await?,
            Progress::Body(End::Close | End::Empty) | Progress::Whole => {}
        }
        self.progress = Progress::Whole;
        Ok(())
    }
}

/// Says whether the connection goes on after an answer.
pub const fn connection_line(persists: bool) -> &'static [u8] {
    if persists { b"Connection: keep-alive\r\n" } else { b"Connection: close\r\n" }
}

/// Appends one field's line.
pub fn line(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        to.extend_from_slice(part);
    }
}

/// The fields that an answer's `Connection` field names. The framing stays: the answer is framed by it.
fn nominated(fields: &HeaderMap) -> Vec<&[u8]> {
    let is_framing = |name: &&[u8]| {
        ["content-length", "transfer-encoding"]
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    };
    fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| list(value.as_bytes()))
        .filter(|name| !is_framing(name))
        .collect()
}
