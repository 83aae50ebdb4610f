//! The parts of a request target (RFC 9112 section 3.2).

use http::Uri;

use crate::reason::Reason;

/// The path without its query, as it goes into the log.
pub fn without_query(target: &str) -> &str {
    let target = origin_form(target);
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The path and query of an absolute-form target (RFC 9112 section 3.2.2); any other as it is. It begins with `?` where
/// there is a query and no path.
pub fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((_, rest)) = target.split_once("://") else {
        return target;
    };
    match rest.find(['/', '?']) {
        Some(at) => &rest[at..],
        None => "/",
    }
}

/// A target in origin form, as it is passed on where it is not the unlock call's.
///
/// # Errors
/// `request_malformed` for bytes that no URI has.
pub fn uri(target: &str) -> Result<Uri, Reason> {
    Uri::builder().path_and_query(origin_form(target)).build().map_err(|_| Reason::RequestMalformed)
}

/// Scheme and authority of an absolute-form target with a scheme of HTTP's.
pub fn authority(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    is_http(scheme).then_some(())?;
    Some((scheme, &rest[..rest.find(['/', '?']).unwrap_or(rest.len())]))
}

/// Whether a scheme is HTTP's.
pub fn is_http(scheme: &str) -> bool {
    default_port(scheme).is_some()
}

/// The port that a scheme of HTTP's has where none is given (RFC 9110 sections 4.2.1 and 4.2.2).
fn default_port(scheme: &str) -> Option<&'static [u8]> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(b"80")
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(b"443")
    } else {
        None
    }
}

/// Whether two authorities name the same host and port: case does not count, and neither does a port that is empty
/// or the scheme's own (RFC 9110 section 4.2.3).
pub fn is_same_host(scheme: &str, one: &[u8], other: &[u8]) -> bool {
    let port = default_port(scheme);
    without_port(one, port).eq_ignore_ascii_case(without_port(other, port))
}

/// An authority without its port, where that says nothing.
fn without_port<'a>(authority: &'a [u8], default: Option<&[u8]>) -> &'a [u8] {
    let bare = |port: &[u8]| authority.strip_suffix(port).and_then(|rest| rest.strip_suffix(b":"));
    bare(b"").or_else(|| bare(default?)).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logged_path_has_no_query() {
        assert_eq!(without_query("/a?customer_id=1"), "/a");
        assert_eq!(without_query("http://h/a?b"), "/a");
        assert_eq!(without_query("http://h?b"), "");
    }
}
