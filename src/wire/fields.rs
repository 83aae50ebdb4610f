//! Header fields where they stand in a head's bytes, and how their names are told apart.

use std::fmt;

/// Where a piece of a head begins and ends, in bytes from its start; a head is shorter than 64 KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The span of `part`, which is a piece of `whole`.
    ///
    /// `None` where it is not, or begins beyond what a span can say.
    pub fn of(part: &[u8], whole: &[u8]) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
        Self::between(start, start + part.len()).filter(|span| usize::from(span.end) <= whole.len())
    }

    /// The span from one position to another; `None` beyond 64 KiB.
    pub fn between(start: usize, end: usize) -> Option<Self> {
        Some(Self { start: start.try_into().ok()?, end: end.try_into().ok()? })
    }

    /// The bytes there.
    pub fn in_bytes(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// Where one field stands.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpan {
    /// Its name.
    pub name: Span,
    /// Its value, without white space around it.
    pub value: Span,
}

/// The fields of one head, in the order in which they came.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    spans: &'a [FieldSpan],
}

/// Their values may be secrets, which are not shown.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(name, _)| name.escape_ascii().to_string());
        f.debug_list().entries(names).finish()
    }
}

impl<'a> Fields<'a> {
    /// The fields that stand at these places in the bytes.
    pub const fn new(bytes: &'a [u8], spans: &'a [FieldSpan]) -> Self {
        Self { bytes, spans }
    }

    /// How many there are.
    pub const fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// Each field's name, in the sender's own case, and its value.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = (&'a [u8], &'a [u8])> + Clone {
        self.spans.iter().map(move |span| (span.name.in_bytes(self.bytes), span.value.in_bytes(self.bytes)))
    }

    /// The values of the fields of this name, in any case.
    pub fn all(self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone {
        self.iter().filter(move |(other, _)| is_same(other, name)).map(|(_, value)| value)
    }

    /// The value of the first field of this name.
    pub fn first(self, name: &'static str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether there is a field of this name.
    pub fn has(self, name: &'static str) -> bool {
        self.first(name).is_some()
    }
}

/// Whether two names are one, whatever their case.
pub fn is_same(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

/// Whether CGI, FastCGI or PHP's own server gives both names the same variable.
///
/// CGI (RFC 3875 section 4.1.18) turns `-` into `_` and folds case; PHP's own server does the same to
/// `.`, and no server is relied on to leave any other separator alone.
pub fn fold_alike(name: &[u8], canonical: &str) -> bool {
    name.len() == canonical.len() && name.iter().zip(canonical.bytes()).all(|(&a, b)| fold(a) == fold(b))
}

const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' }
}

/// Whether the name is one of `canonicals` in a spelling of its own.
pub fn is_disguise_of(name: &[u8], canonicals: &[&str]) -> bool {
    canonicals.iter().any(|canonical| fold_alike(name, canonical) && !is_same(name, canonical))
}

/// The members of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1).
pub fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Trims optional white space, which is SP and HTAB alone (RFC 9110 section 5.6.3).
pub fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether the bytes are a `token` (RFC 9110 section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether a byte may stand in a `token`.
pub const fn is_token_byte(byte: u8) -> bool {
    IS_TOKEN[byte as usize]
}

/// Whether the bytes may be a field's value (RFC 9110 section 5.5).
pub fn is_value(bytes: &[u8]) -> bool {
    // Without a way out early, so that many bytes are looked at in one step.
    bytes.iter().fold(true, |is_value, &byte| is_value & (byte == b'\t' || (byte >= b' ' && byte != 0x7f)))
}

/// Which bytes a token may have.
const IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};
