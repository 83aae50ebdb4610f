//! Attack cases as they are written down: what their bytes are, and what must come of them.
//!
//! ```text
//! # A comment.
//! case: what the case is about
//! host: where it calls, if not at gateway.test
//! want: how the first request in it is answered
//! want: how the next one is answered, kept
//! | PATCH /api/customer/unlock HTTP/1.1
//! | {caller}
//! | Content-Length: 15
//! |
//! | customer_id=191\
//! ```
//!
//! Each line after `|` goes on the wire with CR LF behind it, or without where it ends in `\`; `25*|` sends it
//! 25 times. Escapes are `\r`, `\n`, `\t`, `\s` (a space), `\0`, `\\`, `\{` and `\xHH`. `{20*ab}` is `ab` twenty
//! times, the names in braces stand for what [`named`] gives them, and `{stop}` ends the client's sending.
//!
//! A `want` is the code of a refusal, `true` with the body that goes upstream, or `100` for an interim answer.
//! `25* true …` wants it 25 times. The last one also says whether the connection is then `kept` or `closed`.

use crate::harness::{API_KEY, API_USERNAME, Call, secret_key};

/// What one client sends on one connection, and what it must get.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) bytes: Vec<u8>,
    /// Whether the client ends its side of the connection behind the bytes.
    pub(super) stops: bool,
    pub(super) wants: Vec<Want>,
    /// Whether the connection can be used again.
    pub(super) is_kept: bool,
}

/// What must come of one request.
#[derive(Debug, Clone)]
pub(super) enum Want {
    /// An interim answer, which asks for the body.
    Continue,
    /// The upstream's `true`, for a call with this body.
    True(String),
    /// A problem document with this code.
    Refused(String),
    /// No answer, since nobody is left to be answered.
    Nothing,
}

impl Case {
    /// Reads all cases of a text.
    pub(super) fn read_all(text: &str) -> Vec<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let joined: Vec<&str> = lines.collect();
        let blocks = joined.split(|line| line.is_empty()).filter(|block| !block.is_empty());
        blocks.map(Self::read).collect()
    }

    fn read(block: &[&str]) -> Self {
        let mut case = Self {
            name: String::new(),
            host: "gateway.test".to_owned(),
            bytes: Vec::new(),
            stops: false,
            wants: Vec::new(),
            is_kept: false,
        };
        let mut ending = None;
        for line in block {
            let faulty = || -> ! { panic!("{:?}: cannot read {line:?}", case.name) };
            let (key, value) = line.split_once([':', '|']).unwrap_or_else(|| faulty());
            match key {
                "case" => value.trim().clone_into(&mut case.name),
                "host" => value.trim().clone_into(&mut case.host),
                "want" => {
                    let (count, want) = repeated(value);
                    let (want, last) = match want.rsplit_once(", ") {
                        Some((want, last)) => (want, Some(last)),
                        None => (want, None),
                    };
                    case.wants.extend(vec![Want::read(want); count]);
                    ending = last;
                }
                count => {
                    let count = if count.is_empty() { 1 } else { repeated(count).0 };
                    let wire = wire_line(value.strip_prefix(' ').unwrap_or(value), &mut case.stops);
                    case.bytes.extend(wire.repeat(count));
                }
            }
        }
        case.is_kept = match ending {
            Some("kept") => true,
            Some("closed") => false,
            other => panic!("{:?}: {other:?} is neither kept nor closed", case.name),
        };
        case
    }
}

impl Want {
    fn read(text: &str) -> Self {
        match text.split_once(' ') {
            Some(("true", body)) => Self::True(body.to_owned()),
            Some(_) => panic!("nobody can want {text:?}"),
            None if text == "100" => Self::Continue,
            None if text == "client_gone" => Self::Nothing,
            None => Self::Refused(text.to_owned()),
        }
    }
}

/// Splits `25* rest` into the count and the rest; without a count it is once.
fn repeated(text: &str) -> (usize, &str) {
    let counted = text.split_once('*').and_then(|(count, rest)| Some((count.trim().parse().ok()?, rest)));
    let (count, rest) = counted.unwrap_or((1, text));
    (count, rest.trim())
}

/// The bytes of a line; those of `{stop}` are none.
fn wire_line(line: &str, stops: &mut bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find(['\\', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (mark, tail) = rest[at..].split_at(1);
        if mark == "{" {
            let (name, tail) = tail.split_once('}').unwrap_or_else(|| panic!("no end of {{ in {line:?}"));
            *stops |= name == "stop";
            bytes.extend(named(name));
            rest = tail;
        } else if tail.is_empty() {
            return bytes;
        } else {
            let (byte, length) = escape(tail);
            bytes.push(byte);
            rest = &tail[length..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    if !*stops {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The byte that the text behind a `\` stands for, and how long that text is.
fn escape(text: &str) -> (u8, usize) {
    match text.as_bytes()[0] {
        b'r' => (b'\r', 1),
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b's' => (b' ', 1),
        b'0' => (0, 1),
        b'x' => (u8::from_str_radix(&text[1..3], 16).unwrap(), 3),
        mark @ (b'\\' | b'{') => (mark, 1),
        other => panic!("no escape is written \\{}", char::from(other)),
    }
}

/// What a name in braces stands for.
fn named(name: &str) -> Vec<u8> {
    let credentials = format!("api-key: {API_KEY}\r\napi-username: {API_USERNAME}");
    let form = "Content-Type: application/x-www-form-urlencoded";
    match name {
        "key" => API_KEY.into(),
        "other-key" => secret_key("other").into(),
        "credentials" => credentials.into(),
        "form" => form.into(),
        "caller" => format!("Host: gateway.test\r\n{credentials}\r\n{form}").into(),
        "call" => Call::unlock().body("customer_id=7").bytes(),
        "stop" => Vec::new(),
        repetition => {
            let (count, text) =
                repetition.split_once('*').unwrap_or_else(|| panic!("nothing is called {name:?}"));
            text.repeat(count.parse().unwrap()).into()
        }
    }
}
