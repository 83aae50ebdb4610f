//! Heads: where one ends does not depend on how it arrives, and what is accepted is clear to all readers.
#![no_main]

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    sync::LazyLock,
};

use bytes::Bytes;
use httparse::Status;
use libfuzzer_sys::fuzz_target;
use n4n_gateway_fuzz::{
    divisions, expand,
    operation::UNLOCK,
    policy::{Credentials, Head, OtherPaths, Policy, Route},
    policy_of,
    reason::Reason,
    wire::{
        BodyFraming, HeadScanner, MAX_FIELDS, MAX_HEAD, RequestHead, request::readable_request_line,
        scanner::TLS_HANDSHAKE,
    },
};

/// The default rules, and the most lenient.
static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let lenient = "listen.trusted_proxies = [\"0.0.0.0/0\"]\npolicy.other_paths = \"forward\"\n\
                   policy.legacy_credentials = true";
    ["", lenient].map(policy_of)
});

/// The other end of the connection.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Names that an application could take for another target, as CGI folds them.
const TARGET_OVERRIDES: [&str; 4] = ["X_ORIGINAL_URL", "X_REWRITE_URL", "X_ORIGINAL_URI", "X_FORWARDED_URI"];

/// Names that an application could take for another method, as CGI folds them.
const METHOD_OVERRIDES: [&str; 3] = ["X_HTTP_METHOD", "X_HTTP_METHOD_OVERRIDE", "X_METHOD_OVERRIDE"];

fuzz_target!(|input: &[u8]| {
    let bytes = expand(input);
    let found = scan(&bytes, [bytes.len()]);
    for at in divisions(bytes.len()) {
        assert_eq!(scan(&bytes, [at, bytes.len()]), found, "divided at {at}");
    }
    assert_eq!(scan(&bytes, 0..=bytes.len()), found, "byte by byte");
    let expected = head_in(&bytes);
    let _ = readable_request_line(&bytes);
    if let Ok(Some(range)) = found {
        assert_eq!(Some(&range), expected.as_ref());
        assert!(range.len() <= MAX_HEAD);
        let head = &bytes[range];
        let _ = readable_request_line(head);
        if let Ok(read) = RequestHead::read(Bytes::copy_from_slice(head)) {
            let fields = Fields(
                read.fields()
                    .iter()
                    .map(|(name, value)| (str::from_utf8(name).expect("a token"), value))
                    .collect(),
            );
            fields.are_clear_for(&read);
            fields.are_read_alike(&read, head);
            fields.are_judged(&read);
        }
    } else {
        // A TLS hello is refused by its first byte, whatever follows.
        let is_tls = bytes.first() == Some(&TLS_HANDSHAKE);
        assert!(is_tls || expected.is_none_or(|range| range.end > MAX_HEAD));
        assert!(found.is_err() || bytes.len() <= MAX_HEAD);
    }
});

/// Looks for the end of the head whenever the bytes have arrived up to the next of `ends`.
fn scan(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Option<Range<usize>>, Reason> {
    let mut scanner = HeadScanner::default();
    for end in ends {
        if let Some(head) = scanner.scan(&bytes[..end])? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// Where the first head is, found in bytes that are all there.
fn head_in(bytes: &[u8]) -> Option<Range<usize>> {
    let start = 2 * bytes.chunks(2).take_while(|pair| pair == b"\r\n").count();
    let end = start + bytes[start..].windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let is_clear = (0..end).all(|at| bytes[at] != b'\n' || at > 0 && bytes[at - 1] == b'\r');
    is_clear.then_some(start..end)
}

/// The fields of an accepted head, in order.
#[derive(Default)]
struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Fields<'a> {
    fn named(&self, name: &str) -> Vec<&'a [u8]> {
        self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|&(_, value)| value).collect()
    }

    /// The values under every name that CGI folds onto `variable`.
    fn folded(&self, variable: &str) -> Vec<&'a [u8]> {
        let fold = |name: &str| name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        self.0.iter().filter(|(name, _)| fold(name) == variable).map(|&(_, value)| value).collect()
    }

    fn are_clear_for(&self, read: &RequestHead) {
        assert!(self.0.len() <= MAX_FIELDS);
        assert_eq!(self.named("host").len(), 1);
        let (lengths, codings) = (self.folded("CONTENT_LENGTH"), self.folded("TRANSFER_ENCODING"));
        match read.body {
            BodyFraming::Length(length) => {
                let declared: Option<u64> =
                    lengths.first().map(|digits| str::from_utf8(digits).unwrap().parse().unwrap());
                assert!(lengths.len() <= 1 && codings.is_empty());
                assert_eq!(declared.unwrap_or(0), length);
            }
            BodyFraming::Chunked => {
                assert!(lengths.is_empty() && codings.len() == 1);
                assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
            }
        }
        assert_eq!(self.folded("CONTENT_TYPE").len(), self.named("content-type").len());
    }

    /// Another reader must find the same head in the same bytes.
    fn are_read_alike(&self, read: &RequestHead, head: &[u8]) {
        let mut space = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut other = httparse::Request::new(&mut space);
        assert_eq!(other.parse(head), Ok(Status::Complete(head.len())));
        assert_eq!((other.method, other.path), (Some(read.method()), Some(read.target())));
        let others: Vec<_> = other.headers.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(others, self.0);
    }

    fn are_judged(&self, read: &RequestHead) {
        let head = Head::from(read);
        for policy in &*POLICIES {
            let Ok(client) = policy.client(PEER, &head) else { continue };
            if policy.clients.judge(client).is_err() {
                continue;
            }
            match policy.route(&head) {
                Ok(Route::Unlock) => {
                    let judged = policy.judge_head(&head).and_then(|credentials| {
                        policy.judge_user(&credentials, None, client)?;
                        policy.judge_declaration(&head).map(|()| credentials)
                    });
                    if let Ok(credentials) = judged {
                        self.make_an_unlock_call(read, &credentials, policy);
                    }
                }
                Ok(Route::Other) => self.leave_the_unlock_path_alone(read, policy),
                Err(_) => {}
            }
        }
    }

    fn make_an_unlock_call(&self, read: &RequestHead, credentials: &Credentials, policy: &Policy) {
        assert_eq!(read.method(), UNLOCK.method.as_str());
        let before = read.target().strip_suffix(UNLOCK.path).expect("the exact path");
        let host = String::from_utf8_lossy(self.named("host")[0]);
        let origins = [("http", "80"), ("https", "443")].into_iter().flat_map(|(scheme, port)| {
            let ports = [format!(":{port}"), ":".into()];
            let name = ports.iter().find_map(|port| host.strip_suffix(&**port)).unwrap_or(&host);
            ["".into(), ports[0].clone(), ports[1].clone()].map(|port| format!("{scheme}://{name}{port}"))
        });
        let mut origins = origins.chain(["".into()]);
        assert!(origins.any(|origin| before.eq_ignore_ascii_case(&origin)), "{before}");
        for name in METHOD_OVERRIDES.into_iter().chain(TARGET_OVERRIDES) {
            assert_eq!(self.folded(name), [&b""[..]; 0]);
        }
        assert_eq!(self.folded("API_KEY"), [credentials.key.as_bytes()]);
        assert_eq!(self.folded("API_USERNAME"), [credentials.username.as_str().as_bytes()]);
        assert_eq!(self.named("content-type").len(), 1);
        if let BodyFraming::Length(length) = read.body {
            assert!(length <= policy.max_body as u64);
        }
    }

    fn leave_the_unlock_path_alone(&self, read: &RequestHead, policy: &Policy) {
        assert_eq!(policy.other_paths, OtherPaths::Forward);
        assert_ne!(read.method(), "CONNECT");
        for name in METHOD_OVERRIDES.into_iter().chain(TARGET_OVERRIDES) {
            assert_eq!(self.folded(name), [&b""[..]; 0]);
        }
        let target = read.target().to_ascii_lowercase();
        assert!(!UNLOCK.words.iter().all(|word| target.contains(word)), "{target}");
    }
}
