//! HTTP/1.1 messages off a socket, read strictly: what is not exactly right is an error, never a guess.

use std::fmt;
use std::io::{self, Read};

use super::assert_unseen;

/// Why no message could be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The other side closed before the first byte of a message.
    Closed,
    /// The other side closed within a message.
    Truncated,
    /// Nothing came within the read time-out.
    TimedOut,
    /// The bytes are not HTTP/1.1, as told.
    Malformed(String),
}

/// One request or answer.
#[derive(Clone)]
pub(crate) struct Message {
    /// The request line or status line.
    pub(crate) start_line: String,
    /// The fields in order, spelt as they came.
    pub(crate) fields: Vec<(String, String)>,
    /// The body, its chunks joined.
    pub(crate) body: Vec<u8>,
    /// Every byte of the message as it came.
    pub(crate) raw: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.raw))
    }
}

impl Message {
    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that may be absent, but not repeated.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} is repeated: {self:?}");
        values.first().copied()
    }

    /// The value of a field that must be there exactly once.
    pub(crate) fn one(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.start_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The `code` of a problem document.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no code: {self:?}")).to_owned()
    }
}

/// Reads one message after another.
pub(crate) struct MessageReader<R> {
    source: R,
    /// What was read and not yet given out, and before it the message being read.
    bytes: Vec<u8>,
    /// Up to where `bytes` belongs to the message being read.
    at: usize,
}

impl<R: Read> MessageReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, bytes: Vec::new(), at: 0 }
    }

    /// What is read from, to write to.
    pub(crate) fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Result<Message, Broken> {
        let (start_line, fields) = self.head()?;
        let parts: Vec<&str> = start_line.split(' ').collect();
        if parts.len() != 3 || parts[2] != "HTTP/1.1" || parts.iter().any(|part| part.is_empty()) {
            return Err(Broken::Malformed(format!("request line {start_line:?}")));
        }
        let body = match framing(&fields)? {
            Framing::Chunked => self.chunks()?,
            Framing::Length(length) => self.exactly(length)?,
            Framing::None => Vec::new(),
        };
        Ok(self.message(start_line, fields, body))
    }

    /// The next answer, to a request of any method but HEAD.
    pub(crate) fn answer(&mut self) -> Result<Message, Broken> {
        let (start_line, fields) = self.answer_head()?;
        let bodiless = start_line.starts_with("HTTP/1.1 1")
            || start_line.contains(" 204 ")
            || start_line.contains(" 304 ");
        let body = match framing(&fields)? {
            _ if bodiless => Vec::new(),
            Framing::Chunked => self.chunks()?,
            Framing::Length(length) => self.exactly(length)?,
            Framing::None => self.rest()?,
        };
        let answer = self.message(start_line, fields, body);
        if answer.all("Content-Type").contains(&"application/problem+json") {
            assert_unseen("a problem document", &answer.raw);
        }
        Ok(answer)
    }

    /// The next answer, to a HEAD.
    pub(crate) fn answer_to_head(&mut self) -> Result<Message, Broken> {
        let (start_line, fields) = self.answer_head()?;
        Ok(self.message(start_line, fields, Vec::new()))
    }

    fn answer_head(&mut self) -> Result<(String, Vec<(String, String)>), Broken> {
        let (start_line, fields) = self.head()?;
        let status = start_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        if !status.is_some_and(|status| status.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(Broken::Malformed(format!("status line {start_line:?}")));
        }
        Ok((start_line, fields))
    }

    fn message(&mut self, start_line: String, fields: Vec<(String, String)>, body: Vec<u8>) -> Message {
        let raw = self.bytes.drain(..self.at).collect();
        self.at = 0;
        Message { start_line, fields, body, raw }
    }

    fn head(&mut self) -> Result<(String, Vec<(String, String)>), Broken> {
        let start_line = self.line()?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((start_line, fields));
            }
            let malformed = || Broken::Malformed(format!("field line {line:?}"));
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(malformed());
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A line without its CR LF; either of the two alone is malformed.
    fn line(&mut self) -> Result<String, Broken> {
        let start = self.at;
        let length = loop {
            match self.bytes[start..].iter().position(|&byte| byte == b'\n') {
                Some(length) => break length,
                None => self.fill()?,
            }
        };
        self.at = start + length + 1;
        let line = str::from_utf8(&self.bytes[start..start + length])
            .map_err(|_| Broken::Malformed("a line that is not UTF-8".to_owned()))?;
        match line.strip_suffix('\r') {
            Some(line) if !line.contains('\r') => Ok(line.to_owned()),
            Some(_) | None => Err(Broken::Malformed(format!("line end of {line:?}"))),
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        while self.bytes.len() < self.at + length {
            self.fill()?;
        }
        self.at += length;
        Ok(self.bytes[self.at - length..self.at].to_vec())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let length = usize::from_str_radix(&size, 16)
                .map_err(|_| Broken::Malformed(format!("chunk size {size:?}")))?;
            body.extend(self.exactly(length)?);
            match self.line()? {
                end if end.is_empty() && length == 0 => return Ok(body),
                end if end.is_empty() => {}
                end => return Err(Broken::Malformed(format!("chunk end {end:?}"))),
            }
        }
    }

    fn rest(&mut self) -> Result<Vec<u8>, Broken> {
        let start = self.at;
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(Broken::Truncated) => break,
                Err(broken) => return Err(broken),
            }
        }
        self.at = self.bytes.len();
        Ok(self.bytes[start..].to_vec())
    }

    fn fill(&mut self) -> Result<(), Broken> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.source.read(&mut piece) {
                Ok(0) if self.bytes.is_empty() => return Err(Broken::Closed),
                Ok(0) => return Err(Broken::Truncated),
                Ok(read) => {
                    self.bytes.extend_from_slice(&piece[..read]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Broken::TimedOut),
                Err(_) if self.bytes.is_empty() => return Err(Broken::Closed),
                Err(_) => return Err(Broken::Truncated),
            }
        }
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn framing(fields: &[(String, String)]) -> Result<Framing, Broken> {
    let named = |name: &str| -> Vec<&str> {
        let named = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    };
    match (named("content-length").as_slice(), named("transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::None),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(Framing::Length).map_err(|error| Broken::Malformed(error.to_string()))
        }
        (lengths, codings) => Err(Broken::Malformed(format!("framing {lengths:?} {codings:?}"))),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
