//! A request as a PHP application behind CGI sees it.

use std::collections::BTreeMap;

use http::StatusCode;
use httparse::{Header, Status};

/// The longest body that is read.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// Fields that are read; a request with more is refused.
const MAX_FIELDS: usize = 256;

/// One request, read whole.
#[derive(Debug)]
pub(super) struct CgiRequest {
    /// The method of the request line.
    pub(super) method: String,
    /// The target's path, as it was sent, without the query string.
    pub(super) path: String,
    /// The body, without its framing.
    pub(super) body: Vec<u8>,
    /// Whether the client speaks HTTP/1.0, which knows no chunks.
    pub(super) is_http10: bool,
    /// Whether the connection ends with the answer.
    pub(super) is_last: bool,
    /// The fields by the names CGI gives them.
    variables: BTreeMap<String, Vec<u8>>,
}

/// How the end of a body is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

/// What is made of the bytes at hand: how many it took and what they say; `None` when it takes more.
pub(super) type Parsed<T> = Result<Option<(usize, T)>, StatusCode>;

impl CgiRequest {
    /// The value of a field by its CGI name, such as `HTTP_API_KEY`.
    pub(super) fn variable(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(name).map(Vec::as_slice)
    }

    /// Whether the client waits for a `100 Continue` before it sends the body.
    pub(super) fn expects_continue(&self) -> bool {
        !self.is_http10
            && self.variable("HTTP_EXPECT").is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"))
    }
}

/// Reads a head: the request without its body, and how the body is framed.
pub(super) fn parse_head(bytes: &[u8]) -> Parsed<(CgiRequest, Framing)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let framing = framing(head.headers)?;
    let variables = variables(head.headers);
    let is_http10 = head.version == Some(0);
    let asks_to_close = variables.get("HTTP_CONNECTION").is_some_and(|options| {
        options.split(|&b| b == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    let request = CgiRequest {
        method: head.method.unwrap_or_default().to_owned(),
        path: path(head.path.unwrap_or_default()).to_owned(),
        body: Vec::new(),
        is_http10,
        is_last: is_http10 || asks_to_close,
        variables,
    };
    Ok(Some((length, (request, framing))))
}

/// The path of a target in origin form or absolute form.
fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    }
}

/// How the body is framed; as in most servers, chunks win over a length.
fn framing(fields: &[Header<'_>]) -> Result<Framing, StatusCode> {
    let values = |name: &'static str| {
        fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value.trim_ascii())
    };
    let mut codings = values("transfer-encoding");
    if let Some(coding) = codings.next() {
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return if is_chunked { Ok(Framing::Chunked) } else { Err(StatusCode::NOT_IMPLEMENTED) };
    }
    let mut lengths = values("content-length");
    let Some(length) = lengths.next() else { return Ok(Framing::Length(0)) };
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if !is_number || lengths.any(|other| other != length) {
        return Err(StatusCode::BAD_REQUEST);
    }
    // A number that does not parse is too large for any body.
    let length = str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
    let length = length.filter(|&length| length <= MAX_BODY).ok_or(StatusCode::PAYLOAD_TOO_LARGE)?;
    Ok(Framing::Length(length))
}

/// The fields as CGI hands them on: several of one folded name are one value, joined.
fn variables(fields: &[Header<'_>]) -> BTreeMap<String, Vec<u8>> {
    let mut variables = BTreeMap::<_, Vec<u8>>::new();
    for field in fields {
        let name = format!("HTTP_{}", field.name.to_ascii_uppercase().replace(['-', '.'], "_"));
        variables
            .entry(name)
            .and_modify(|joined| {
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(field.value.trim_ascii());
            })
            .or_insert_with(|| field.value.trim_ascii().to_vec());
    }
    variables
}

/// Reads the line before a chunk's data: the size of the data.
pub(super) fn parse_chunk_size(bytes: &[u8]) -> Parsed<usize> {
    match httparse::parse_chunk_size(bytes) {
        Ok(Status::Complete((length, size))) => {
            usize::try_from(size).map(|size| Some((length, size))).or(Err(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Status::Partial) => Ok(None),
        Err(httparse::InvalidChunkSize) => Err(StatusCode::BAD_REQUEST),
    }
}

/// Reads the line break that ends a chunk's data.
pub(super) fn parse_chunk_end(bytes: &[u8]) -> Parsed<()> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(Some((2, ()))),
        [] | [b'\r'] => Ok(None),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

/// Reads the trailer section, which a PHP application never sees.
pub(super) fn parse_trailers(bytes: &[u8]) -> Parsed<()> {
    match httparse::parse_headers(bytes, &mut [httparse::EMPTY_HEADER; MAX_FIELDS]) {
        Ok(Status::Complete((length, _))) => Ok(Some((length, ()))),
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}
