//! Header blocks of HTTP/2 (HPACK, RFC 7541), read for what the `h2` crate repairs without telling.
//!
//! That cuts a fragment off `:path`, drops a `:scheme` that comes without `:authority`, and takes pseudo-fields out of
//! trailers. Of each field nothing is kept but what these come to.

mod huffman;

use std::collections::VecDeque;

/// What was found in one header block.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Whether a pseudo-field is in it.
    pub has_pseudo_field: bool,
    /// Whether its `:path` has a fragment, or its `:scheme` is none of HTTP's.
    pub is_to_be_repaired: bool,
}

/// The bytes are no header block that follows those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenBlock;

/// Reads the header blocks of one direction of one connection, all of them and in their order.
#[derive(Debug)]
pub struct Decoder {
    /// The dynamic table, its newest entry first.
    entries: VecDeque<Field>,
    size: usize,
    max_size: usize,
}

/// The most that the dynamic table may take: what an endpoint that says nothing of it allows (RFC 9113 section 6.5.2).
const MAX_TABLE: usize = 4096;

/// What an entry takes beside its name and its value (RFC 7541 section 4.1).
const ENTRY: usize = 32;

/// A field, as far as it matters.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: Name,
    name_length: u32,
    value_length: u32,
    is_to_be_repaired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Path,
    Scheme,
    OtherPseudo,
    Regular,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size: MAX_TABLE }
    }
}

impl Decoder {
    /// Reads one header block.
    ///
    /// # Errors
    /// [`BrokenBlock`]; the blocks after it cannot be read either.
    pub fn read(&mut self, mut block: &[u8]) -> Result<Block, BrokenBlock> {
        let mut found = Block::default();
        while let Some(&first) = block.first() {
            let field = match first {
                0x80.. => self.entry(integer(&mut block, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.keep(field);
                    field
                }
                0x20.. => {
                    self.resize(integer(&mut block, 5)?)?;
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            found.has_pseudo_field |= field.name != Name::Regular;
            found.is_to_be_repaired |= field.is_to_be_repaired;
        }
        Ok(found)
    }

    /// The field at an index of both tables (RFC 7541 section 2.3.3).
    fn entry(&self, index: usize) -> Result<Field, BrokenBlock> {
        let index = index.checked_sub(1).ok_or(BrokenBlock)?;
        match STATIC_NAMES.get(index) {
            Some(name) => Ok(Field {
                name: Name::of(name.as_bytes()),
                name_length: name.len() as u32,
                value_length: 0,
                is_to_be_repaired: false,
            }),
            None => self.entries.get(index - STATIC_NAMES.len()).copied().ok_or(BrokenBlock),
        }
    }

    /// A field that is spelt out, or at least its value (RFC 7541 section 6.2).
    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Field, BrokenBlock> {
        let (name, name_length) = match integer(block, prefix)? {
            0 => {
                let name = Text::read(block)?;
                (Name::of(name.opening()), name.length)
            }
            index => {
                let entry = self.entry(index)?;
                (entry.name, entry.name_length)
            }
        };
        let value = Text::read(block)?;
        let is_to_be_repaired = match name {
            Name::Path => value.has_hash,
            Name::Scheme => {
                ![&b"http"[..], b"https"].iter().any(|scheme| value.opening().eq_ignore_ascii_case(scheme))
            }
            Name::OtherPseudo | Name::Regular => false,
        };
        Ok(Field { name, name_length, value_length: value.length, is_to_be_repaired })
    }

    fn keep(&mut self, field: Field) {
        let size = field.size();
        self.evict(self.max_size.saturating_sub(size));
        // One larger than the table empties it, and is not kept.
        if size <= self.max_size {
            self.size += size;
            self.entries.push_front(field);
        }
    }

    fn resize(&mut self, max_size: usize) -> Result<(), BrokenBlock> {
        if max_size > MAX_TABLE {
            return Err(BrokenBlock);
        }
        self.max_size = max_size;
        self.evict(max_size);
        Ok(())
    }

    /// Lets go of the oldest entries until the others take no more than this.
    fn evict(&mut self, most: usize) {
        while self.size > most {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

impl Field {
    const fn size(&self) -> usize {
        self.name_length as usize + self.value_length as usize + ENTRY
    }
}

impl Name {
    /// Which it is of the name that begins so; eight bytes are enough to tell.
    fn of(opening: &[u8]) -> Self {
        match opening {
            b":path" => Self::Path,
            b":scheme" => Self::Scheme,
            [b':', ..] => Self::OtherPseudo,
            _ => Self::Regular,
        }
    }
}

/// What there is to know of a string.
#[derive(Debug, Default)]
struct Text {
    length: u32,
    first: [u8; 8],
    has_hash: bool,
}

impl Text {
    /// Reads a string literal (RFC 7541 section 5.2).
    fn read(block: &mut &[u8]) -> Result<Self, BrokenBlock> {
        let is_encoded = block.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or(BrokenBlock)?;
        *block = rest;
        let mut text = Self::default();
        if is_encoded {
            huffman::decode(bytes, |byte| text.push(byte))?;
        } else {
            bytes.iter().for_each(|&byte| text.push(byte));
        }
        Ok(text)
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.first.get_mut(self.length as usize) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1);
        self.has_hash |= byte == b'#';
    }

    /// Its first eight bytes, or all of it.
    fn opening(&self) -> &[u8] {
        &self.first[..self.first.len().min(self.length as usize)]
    }
}

/// An integer whose first byte has so many bits of it (RFC 7541 section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, BrokenBlock> {
    let mut next = || {
        let (&first, rest) = block.split_first()?;
        *block = rest;
        Some(usize::from(first))
    };
    let mask = (1 << prefix) - 1;
    let mut number = next().ok_or(BrokenBlock)? & mask;
    if number < mask {
        return Ok(number);
    }
    // Five bytes are more than any number takes that could be right.
    for shift in [0, 7, 14, 21, 28] {
        let byte = next().ok_or(BrokenBlock)?;
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BrokenBlock)
}

/// The names of the static table (RFC 7541 appendix A). Of its values none is to be repaired.
const STATIC_NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

#[cfg(test)]
mod tests;
