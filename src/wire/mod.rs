//! HTTP/1.1 as bytes: heads, fields, chunks and answers, read strictly and without I/O; of HTTP/2, its header blocks.
//!
//! The parsers are stricter than RFC 9112 allows a recipient to be: whatever two readers could take
//! differently is refused rather than repaired.

pub mod ambiguity;
pub mod answer;
pub mod chunked;
pub mod claims;
pub mod fields;
pub mod framing;
pub mod hop_by_hop;
pub mod hpack;
pub mod request;
pub mod scanner;
pub mod target;

pub use answer::AnswerHead;
pub use fields::Fields;
pub use framing::BodyFraming;
pub use request::RequestHead;
pub use scanner::HeadScanner;

/// The most bytes a request's head may have, from the request line to the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most header fields a request may have.
pub const MAX_FIELDS: usize = 64;

/// Appends one field's line.
pub fn put_field(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    to.reserve(name.len() + value.len() + 4);
    to.extend_from_slice(name);
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
