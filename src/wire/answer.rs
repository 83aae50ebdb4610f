//! An upstream's answer: its head, where its body ends, and when it is whole.

use std::mem::MaybeUninit;

use super::{
    Fields,
    chunked::ChunkScanner,
    fields::{FieldSpan, Span, is_same},
    framing,
};

/// The most bytes of an answer's head.
pub const MAX_ANSWER_HEAD: usize = 32 * 1024;

/// The most fields of an answer.
pub const MAX_ANSWER_FIELDS: usize = 256;

/// Interim answers before the one that counts; n4n sends none.
pub const MAX_INTERIM: u32 = 32;

/// Why an answer cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Its head is no HTTP/1.
    #[error("its head is not HTTP/1.1")]
    Head,
    /// Its head is over [`MAX_ANSWER_HEAD`] or has more than [`MAX_ANSWER_FIELDS`] fields.
    #[error("its head is too large")]
    HeadTooLarge,
    /// Where its body ends is said in more than one way, or in none that all readers share.
    #[error("its length is unclear")]
    Length,
    /// It changes the protocol, which nobody asked for.
    #[error("it is an upgrade that nobody asked for")]
    Upgrade,
    /// More interim answers came than [`MAX_INTERIM`].
    #[error("only interim answers came")]
    Interim,
    /// Its chunks are broken.
    #[error("its chunks are broken")]
    Chunks,
    /// Its body is longer than is taken.
    #[error("its body is too long")]
    TooLong,
    /// The connection ended before it was whole.
    #[error("the connection ended before it was whole")]
    Cut,
}

/// How an answer's body ends (RFC 9112 section 6.3).
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

impl End {
    /// The end that an answer's fields declare. It must be said in one way: by a plain length, by chunks, which no other
    /// coding precedes and HTTP/1.0 does not have, or by the connection's end.
    ///
    /// # Errors
    /// [`BadAnswer::Length`].
    pub fn declared<'a>(
        mut lengths: impl Iterator<Item = &'a [u8]>,
        mut codings: impl Iterator<Item = &'a [u8]>,
        is_http_10: bool,
    ) -> Result<Self, BadAnswer> {
        match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
            (Some(length), None, None, None) if !length.is_empty() => {
                framing::length(length).map(Self::Length).ok_or(BadAnswer::Length)
            }
            (None, None, Some(coding), None) if is_same(coding, "chunked") && !is_http_10 => {
                Ok(Self::Chunked)
            }
            (None, None, None, None) => Ok(Self::Close),
            _ => Err(BadAnswer::Length),
        }
    }

    /// The end of an answer that declares this one: some have no body, whatever they declare.
    pub fn of_answer(self, status: u16, is_to_head: bool) -> Self {
        if is_to_head || matches!(status, 204 | 304) || self == Self::Length(0) { Self::Empty } else { self }
    }
}

/// The head of an answer, by places in the bytes that it was read from.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: u16,
    phrase: Span,
    fields: Vec<FieldSpan>,
    is_http_10: bool,
    /// How many bytes it has.
    pub length: usize,
}

impl AnswerHead {
    /// Reads the head at the start of `bytes`; `None` while it is not all there.
    ///
    /// # Errors
    /// [`BadAnswer::Head`] or [`BadAnswer::HeadTooLarge`].
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, BadAnswer> {
        let mut space = [MaybeUninit::uninit(); MAX_ANSWER_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_ANSWER_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_ANSWER_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadAnswer::HeadTooLarge),
            Err(_) => return Err(BadAnswer::Head),
        };
        let span = |part: &[u8]| Span::of(part, bytes).ok_or(BadAnswer::Head);
        let phrase = parsed.reason.unwrap_or_default();
        let phrase = if phrase.is_empty() { Span::default() } else { span(phrase.as_bytes())? };
        let mut fields = Vec::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let value = if field.value.is_empty() { Span::default() } else { span(field.value)? };
            fields.push(FieldSpan { name: span(field.name.as_bytes())?, value });
        }
        let status = parsed.code.filter(|status| (100..1000).contains(status)).ok_or(BadAnswer::Head)?;
        Ok(Some(Self { status, phrase, fields, is_http_10: parsed.version == Some(0), length }))
    }

    /// The words beside the status, in the bytes that it was read from.
    pub fn phrase<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.phrase.in_bytes(bytes)
    }

    /// The fields, in the bytes that it was read from.
    pub fn fields<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields::new(bytes, &self.fields)
    }

    /// Whether another answer follows.
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// How the body ends; `is_to_head` where HEAD was asked.
    ///
    /// # Errors
    /// [`BadAnswer::Length`].
    pub fn end(&self, bytes: &[u8], is_to_head: bool) -> Result<End, BadAnswer> {
        let fields = self.fields(bytes);
        let declared =
            End::declared(fields.all("content-length"), fields.all("transfer-encoding"), self.is_http_10)?;
        Ok(declared.of_answer(self.status, is_to_head))
    }

    /// Whether the connection can be used for another call once this answer is whole.
    pub fn persists(&self, bytes: &[u8]) -> bool {
        let fields = self.fields(bytes);
        let mut options = fields.all("connection").flat_map(super::fields::list);
        let declares_body =
            fields.has("transfer-encoding") || fields.all("content-length").any(|length| length != b"0");
        if self.status == 204 && declares_body {
            // It may still send what 204 cannot have, and that would be read as the next answer.
            false
        } else if self.is_http_10 {
            options.any(|option| is_same(option, "keep-alive"))
        } else {
            !options.any(|option| is_same(option, "close"))
        }
    }
}

/// Puts an answer together from bytes that arrive piece by piece.
#[derive(Debug)]
pub struct AnswerReader {
    is_to_head: bool,
    most: usize,
    interim: u32,
    head: Option<AnswerHead>,
    end: End,
    chunks: ChunkScanner,
    decoded: Vec<u8>,
}

/// An answer that is whole.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    /// Its head.
    pub head: AnswerHead,
    /// The body, where it did not stand in one piece behind the head.
    decoded: Option<Vec<u8>>,
    body_end: usize,
    /// Whether the connection it came by can be used again.
    pub persists: bool,
}

impl Answer {
    /// Its fields.
    pub fn fields(&self) -> Fields<'_> {
        self.head.fields(&self.bytes)
    }

    /// The words beside its status.
    pub fn phrase(&self) -> &[u8] {
        self.head.phrase(&self.bytes)
    }

    /// Its body, freed of its framing.
    pub fn body(&self) -> &[u8] {
        match &self.decoded {
            Some(body) => body,
            None => self.bytes.get(self.head.length..self.body_end).unwrap_or_default(),
        }
    }
}

impl AnswerReader {
    /// A reader of the answer to one request, of whose body at most so many bytes are taken; `is_to_head` where HEAD
    /// was asked.
    pub fn new(is_to_head: bool, most: usize) -> Self {
        let chunks = ChunkScanner::default();
        Self { is_to_head, most, interim: 0, head: None, end: End::Empty, chunks, decoded: Vec::new() }
    }

    /// Whether the head of the answer that counts is there.
    pub const fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Looks at all bytes that have come so far; gives the answer once it is whole.
    ///
    /// Interim answers and chunks are taken out of `bytes`. `is_closed` tells that no more will come.
    ///
    /// # Errors
    /// Why it cannot be passed on.
    pub fn advance(&mut self, bytes: &mut Vec<u8>, is_closed: bool) -> Result<Option<Answer>, BadAnswer> {
        while self.head.is_none() {
            match AnswerHead::read(bytes)? {
                None if is_closed => return Err(BadAnswer::Cut),
                None => return Ok(None),
                Some(head) if head.status == 101 => return Err(BadAnswer::Upgrade),
                Some(head) if head.is_interim() => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err(BadAnswer::Interim);
                    }
                    bytes.drain(..head.length);
                }
                Some(head) => {
                    self.end = head.end(bytes, self.is_to_head)?;
                    self.head = Some(head);
                }
            }
        }
        let Some(start) = self.head.as_ref().map(|head| head.length) else { return Ok(None) };
        let there = bytes.len() - start;
        let body_end = match self.end {
            End::Empty => Some(start),
            End::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > self.most {
                    return Err(BadAnswer::TooLong);
                }
                (there >= length).then_some(start + length)
            }
            End::Chunked => {
                let decoded = &mut self.decoded;
                let taken = self.chunks.follow(&bytes[start..], |data| decoded.extend_from_slice(data));
                // What frames the chunks can be many times as long as they are, and is not kept.
                bytes.drain(start..start + taken.map_err(|_| BadAnswer::Chunks)?);
                if self.decoded.len() > self.most {
                    return Err(BadAnswer::TooLong);
                }
                self.chunks.is_done().then_some(start)
            }
            End::Close if there > self.most => return Err(BadAnswer::TooLong),
            End::Close => is_closed.then_some(bytes.len()),
        };
        let (Some(body_end), Some(head)) = (body_end, self.head.take_if(|_| body_end.is_some())) else {
            return if is_closed { Err(BadAnswer::Cut) } else { Ok(None) };
        };
        // What came behind the answer was asked for by nobody.
        let persists =
            !is_closed && self.end != End::Close && body_end == bytes.len() && head.persists(bytes);
        let decoded = (self.end == End::Chunked).then(|| std::mem::take(&mut self.decoded));
        Ok(Some(Answer { bytes: std::mem::take(bytes), head, decoded, body_end, persists }))
    }
}
