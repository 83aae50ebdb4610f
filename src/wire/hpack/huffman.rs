//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! It is canonical: codes of one length follow each other in the order of their symbols, and the codes of the next length
//! go on from there. So the lengths say it all.

use super::BrokenBlock;

/// How many bits each symbol's code has. The last symbol says that the string ends, and is never sent.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

/// The symbol that ends a string.
const END: usize = 256;

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The symbols in the order of their codes.
const SYMBOLS: [u16; LENGTHS.len()] = {
    let mut symbols = [0; LENGTHS.len()];
    let (mut length, mut at) = (SHORTEST, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// The codes of one length: the first that is none of them, and what turns one into a place among the symbols.
#[derive(Clone, Copy)]
struct Codes {
    end: u32,
    to_place: i64,
}

const CODES: [Codes; LONGEST + 1] = {
    let mut codes = [Codes { end: 0, to_place: 0 }; LONGEST + 1];
    let (mut length, mut code, mut place) = (SHORTEST, 0_u32, 0_i64);
    while length <= LONGEST {
        let to_place = place - code as i64;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        codes[length] = Codes { end: code, to_place };
        code <<= 1;
        length += 1;
    }
    codes
};

/// Decodes a string.
///
/// # Errors
/// [`BrokenBlock`] for what no encoder makes.
pub(super) fn decode(bytes: &[u8], mut each: impl FnMut(u8)) -> Result<(), BrokenBlock> {
    // Bits that are not decoded yet are the lowest ones of the window.
    let (mut window, mut bits) = (0_u64, 0);
    for &byte in bytes {
        window = window << 8 | u64::from(byte);
        bits += 8;
        while let Some((symbol, length)) = first_symbol(window, bits) {
            bits -= length;
            each(u8::try_from(symbol).map_err(|_| BrokenBlock)?);
        }
    }
    // Less than a byte of padding, which is the beginning of the code that ends a string (section 5.2).
    let padding = (1 << bits.min(8)) - 1;
    if bits < 8 && window & padding == padding { Ok(()) } else { Err(BrokenBlock) }
}

/// The symbol at the beginning of so many bits, and how many of them it takes.
fn first_symbol(window: u64, bits: usize) -> Option<(usize, usize)> {
    (SHORTEST..=bits.min(LONGEST)).find_map(|length| {
        let code = (window >> (bits - length)) as u32 & ((1 << length) - 1);
        let Codes { end, to_place } = CODES[length];
        let place = usize::try_from(i64::from(code) + to_place).ok()?;
        (code < end).then(|| (usize::from(SYMBOLS[place.min(END)]), length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Option<String> {
        let mut text = Vec::new();
        decode(bytes, |byte| text.push(byte)).ok()?;
        String::from_utf8(text).ok()
    }

    /// The examples of RFC 7541 appendix C.4 and C.6.
    #[test]
    fn what_the_standard_encodes_is_decoded() {
        for (bytes, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
                "https://www.example.com",
            ),
            (b"", ""),
        ] {
            assert_eq!(decoded(bytes).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_no_encoder_makes_is_broken() {
        // A whole byte of padding, padding of zeros, the end of a string, and the beginning of a long code.
        for bytes in [&b"\x64\x02\xff"[..], b"\x64\x00\x00", b"\x18", b"\xff\xff\xff\xff", b"\xff\xff\xff"] {
            assert_eq!(decoded(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
