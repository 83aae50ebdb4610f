//! n4n's answers: what is read of one does not depend on how it arrives, and a plainer reader finds the same in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n4n_gateway_fuzz::{
    divisions, expand,
    wire::answer::{AnswerReader, BadAnswer, MAX_ANSWER_FIELDS, MAX_ANSWER_HEAD, MAX_INTERIM},
};

/// The most bytes of body that are taken.
const MAX_BODY: usize = 300;

/// In how many pieces an answer comes at the most, since its head is read anew with each.
const MAX_PIECES: usize = 256;

fuzz_target!(|input: &[u8]| {
    // The first byte says what was asked and whether the connection ends.
    let Some((&kind, input @ [_, ..])) = input.split_first() else { return };
    let (is_to_head, is_closed) = (kind & 1 != 0, kind & 2 != 0);
    let bytes = expand(input);
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| read(pieces, is_to_head, is_closed);
    let found = read(&mut [&bytes[..]].into_iter());
    for at in divisions(bytes.len()) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read(&mut [first, second].into_iter()), found, "divided at {at}");
    }
    let size = bytes.len() / MAX_PIECES + 1;
    assert_eq!(read(&mut bytes.chunks(size)), found, "in pieces of {size}");
    // Why it is bad can be told in more than one way, that it is cannot.
    if let Ok(found) = found {
        assert_eq!(found, model(&bytes, is_to_head, is_closed), "another reader finds another answer");
    }
});

/// What is passed on of an answer.
#[derive(Debug, PartialEq)]
struct Passed {
    status: u16,
    phrase: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

/// What of an answer is passed on once it is whole, however it comes.
fn read(
    pieces: &mut dyn Iterator<Item = &[u8]>,
    is_to_head: bool,
    is_closed: bool,
) -> Result<Option<Passed>, ()> {
    let mut reader = AnswerReader::new(is_to_head, MAX_BODY);
    let (mut bytes, mut pieces) = (Vec::new(), pieces.peekable());
    while let Some(piece) = pieces.next() {
        bytes.extend_from_slice(piece);
        let is_last = pieces.peek().is_none();
        match reader.advance(&mut bytes, is_closed && is_last) {
            Ok(Some(answer)) => {
                let (head, persists) = (&answer.head, answer.persists);
                assert!((200..1000).contains(&head.status) && head.length <= MAX_ANSWER_HEAD);
                assert!(answer.fields().len() <= MAX_ANSWER_FIELDS && answer.body().len() <= MAX_BODY);
                assert!(!(persists && is_closed && is_last), "it came by a connection that has ended");
                let fields = answer.fields().iter();
                return Ok(Some(Passed {
                    status: head.status,
                    phrase: answer.phrase().to_vec(),
                    fields: fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
                    body: answer.body().to_vec(),
                }));
            }
            Ok(None) => {
                assert!(!(is_closed && is_last), "nothing more can come");
                assert!(bytes.len() < MAX_ANSWER_HEAD + MAX_BODY, "more is kept than can be of use");
            }
            Err(bad) => {
                assert!(bad != BadAnswer::Cut || is_closed && is_last);
                return Err(());
            }
        }
    }
    Ok(None)
}

/// The answer in bytes that are all there, found line by line; none where it is not whole.
fn model(mut bytes: &[u8], is_to_head: bool, is_closed: bool) -> Option<Passed> {
    for _ in 0..=MAX_INTERIM {
        let (is_old, status, phrase, fields, rest) = head(bytes)?;
        bytes = rest;
        if status < 200 {
            assert_ne!(status, 101, "an upgrade that nobody asked for");
            continue;
        }
        let named = |name: &str| -> Vec<&[u8]> {
            let named = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
            named.map(|(_, value)| &value[..]).collect()
        };
        let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "its end is told in two ways");
        let body = if is_to_head || status == 204 || status == 304 {
            Vec::new()
        } else if let [length] = lengths[..] {
            let length = str::from_utf8(length).unwrap().parse().unwrap();
            bytes.get(..length)?.to_vec()
        } else if let [coding] = codings[..] {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && !is_old);
            chunks(bytes)?
        } else if is_closed {
            bytes.to_vec()
        } else {
            return None;
        };
        return Some(Passed { status, phrase, fields, body });
    }
    panic!("only interim answers")
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A head: whether it is HTTP/1.0, its status, the words beside it, its fields, and what follows.
fn head(mut bytes: &[u8]) -> Option<(bool, u16, Vec<u8>, Fields, &[u8])> {
    let mut first = line(&mut bytes)?;
    while first.is_empty() {
        first = line(&mut bytes)?;
    }
    let is_old = first.starts_with(b"HTTP/1.0 ");
    let told = first.strip_prefix(b"HTTP/1.1 ").or(first.strip_prefix(b"HTTP/1.0 "))?;
    let (status, phrase) = told.split_at_checked(3)?;
    let status = str::from_utf8(status).ok()?.parse().ok()?;
    let phrase = phrase.strip_prefix(b" ").unwrap_or(phrase);
    // Words that are not ASCII are left out.
    let phrase = if phrase.is_ascii() { phrase.to_vec() } else { Vec::new() };
    let mut fields = Vec::new();
    loop {
        let line = line(&mut bytes)?;
        if line.is_empty() {
            return Some((is_old, status, phrase, fields, bytes));
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        assert!(http::HeaderName::from_bytes(name).is_ok(), "{name:?} is no name");
        assert!(
            value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)),
            "{value:?} is no value"
        );
        fields.push((name.to_vec(), value.to_vec()));
    }
}

/// The next line, without its end.
fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = &bytes[..end];
    *bytes = &bytes[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// What chunks hold that are all there.
fn chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(&mut bytes)?;
        let digits = size.split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            while !line(&mut bytes)?.is_empty() {}
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
