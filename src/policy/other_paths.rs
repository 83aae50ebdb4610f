//! Which paths pass beside the unlock path.

use http::Method;
use percent_encoding::percent_decode_str;

use super::Head;
use crate::{php::escape, wire::target::without_query};

/// What becomes of paths other than the unlock path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherPaths {
    /// Refuse them with `path_unknown`.
    Reject,
    /// Pass them on, unless they could be read as the unlock path.
    Forward,
    /// Of those, pass on the listed ones alone.
    Listed(Vec<ListedPath>),
}

/// Paths that may be asked for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPath {
    /// What they begin with, in whole segments: `/static/` is all below it, `/health` also itself.
    pub prefix: String,
    /// The methods by which they may be asked for.
    pub methods: Vec<Method>,
}

impl OtherPaths {
    /// Whether a request that cannot be read as an unlock call may pass.
    pub fn let_pass(&self, head: &Head<'_>) -> bool {
        match self {
            Self::Reject => false,
            Self::Forward => true,
            Self::Listed(listed) => {
                let path = without_query(head.target);
                is_plain(path)
                    && listed.iter().any(|listed| listed.covers(path) && listed.allows(head.method))
            }
        }
    }
}

impl ListedPath {
    /// Whether a path is one of these.
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.prefix)
            .is_some_and(|rest| self.prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
    }

    fn allows(&self, method: &str) -> bool {
        self.methods.iter().any(|allowed| allowed.as_str() == method)
    }
}

/// Whether every upstream finds the same segments in a path, and none of them elsewhere: no segment but the last is empty,
/// none leads upwards or to itself, and what parts or ends segments, or leads upwards, is not hidden by encoding.
pub fn is_plain(path: &str) -> bool {
    let Some(inside) = path.strip_prefix('/') else { return false };
    let mut segments = inside.split('/').rev();
    let last = segments.next().unwrap_or_default();
    (last.is_empty() || is_plain_segment(last)) && segments.all(is_plain_segment)
}

fn is_plain_segment(segment: &str) -> bool {
    let mut escapes = segment.split('%').skip(1).map(|tail| escape(tail.as_bytes()));
    let is_clear =
        |byte: u8| !matches!(byte, ..b' ' | 0x7f | b'/' | b'\\' | b'%' | b'.' | b';' | b'?' | b'#');
    // File systems pass over spaces and dots behind a name, and what is nothing but those is a place of their own.
    !segment.contains(['\\', ';'])
        && escapes.all(|byte| byte.is_some_and(is_clear))
        && percent_decode_str(segment).any(|byte| !matches!(byte, b' ' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Fields;

    #[test]
    fn a_plain_path_is_read_in_one_way() {
        for path in ["/", "/a", "/a/", "/a/b.c", "/a/.b/c..d", "/%7Euser/a%20b/%e2%82%ac", "/a:b,c@d!e=f&g+h"]
        {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "*",
            "a",
            "//",
            "/a//b",
            "//a",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/a/...",
            "/a/.%20",
            "/%20/a",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a%00b",
            "/a%0ab",
            "/a%7f",
            "/a;b",
            "/a/..;/b",
            "/a%3bb",
            "/a%252fb",
            "/a%25",
            "/a%3fb",
            "/a%23b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a/b%2ejs",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn a_prefix_counts_in_whole_segments() {
        let covers = |prefix: &str, path| ListedPath { prefix: prefix.into(), methods: vec![] }.covers(path);
        for (prefix, inside, outside) in [
            (
                "/static/",
                &["/static/", "/static/a", "/static/a/b"][..],
                &["/static", "/staticx/a", "/Static/a"][..],
            ),
            ("/health", &["/health", "/health/", "/health/live"], &["/healthz", "/healt", "/", "/x/health"]),
            ("/", &["/", "/a", "/a/b"], &["*"]),
        ] {
            assert!(inside.iter().all(|path| covers(prefix, path)), "{prefix}");
            assert!(!outside.iter().any(|path| covers(prefix, path)), "{prefix}");
        }
    }

    #[test]
    fn of_other_paths_the_listed_ones_pass_by_their_methods() {
        let listed =
            |prefix: &str, methods: &[Method]| ListedPath { prefix: prefix.into(), methods: methods.into() };
        let list = vec![
            listed("/static/", &[Method::GET]),
            listed("/health", &[Method::GET, Method::HEAD]),
            listed("/static/up", &[Method::POST]),
            listed("/", &[Method::OPTIONS]),
        ];
        let listed = OtherPaths::Listed(list);
        for (method, target, want) in [
            ("GET", "/static/app.js?v=1", true),
            ("GET", "http://h/static/app.js", true),
            ("GET", "/static/up", true),
            ("POST", "/static/up/1", true),
            ("HEAD", "/health", true),
            ("GET", "/health/live", true),
            ("OPTIONS", "/anything", true),
            ("HEAD", "/static/app.js", false),
            ("get", "/static/app.js", false),
            ("POST", "/health", false),
            ("GET", "/healthz", false),
            ("GET", "/static", false),
            ("GET", "/Static/app.js", false),
            ("GET", "/other", false),
            ("GET", "/static/../api/x", false),
            ("GET", "/static/%2e%2e/api/x", false),
            ("GET", "/static/..%2fapi/x", false),
            ("GET", "/static//app.js", false),
            ("GET", "//static/app.js", false),
            ("CONNECT", "/static/app.js", false),
            ("OPTIONS", "*", false),
        ] {
            let head = Head { method, target, fields: Fields::new(b"", &[]) };
            assert_eq!(listed.let_pass(&head), want, "{method} {target}");
        }
    }
}
