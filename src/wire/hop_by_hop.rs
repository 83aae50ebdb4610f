//! Fields that concern one connection and are not passed on (RFC 9110 section 7.6.1).

use super::fields::{Fields, list};

/// The fields of a connection, in requests and in answers.
pub const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a field of this name is not passed on, whatever `Connection` says.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a request's `Connection` option concerns the connection alone.
///
/// Any other names a field that a proxy then removes, after this one has judged it. Removing
/// `Transfer-Encoding` would change where the body ends, so that one counts as end-to-end here.
pub fn is_connection_option(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"close")
        || is_hop_by_hop(option)
            && !option.eq_ignore_ascii_case(b"transfer-encoding")
            && !option.eq_ignore_ascii_case(b"connection")
}

/// The names in an answer's `Connection` fields.
pub fn nominated<'a>(fields: Fields<'a>) -> impl Iterator<Item = &'a [u8]> + Clone {
    fields.all("connection").flat_map(list)
}
