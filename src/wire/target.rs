//! The parts of a request target (RFC 9112 section 3.2).

/// The path without its query, as it goes into the log.
pub fn without_query(target: &str) -> &str {
    let target = origin_form(target);
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The path and query of an absolute-form target (RFC 9112 section 3.2.2); any other as it is.
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

/// The authority of an absolute-form target with a scheme of HTTP's.
pub fn authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then(|| &rest[..rest.find(['/', '?']).unwrap_or(rest.len())])
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
