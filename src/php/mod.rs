//! A form body as a PHP application reads it with `parse_str`.
//!
//! PHP's reading differs from the WHATWG one in how it folds names, and a judge that reads a name
//! otherwise than the upstream does judges another request. The rules are those of PHP 8.2
//! (`php_default_treat_data` and `php_register_variable_ex`), held to the real one by the tests.

use std::borrow::Cow;

/// Variables that PHP reads before it drops the rest (`max_input_vars`).
pub const MAX_INPUT_VARS: usize = 1000;

/// One variable as PHP registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'a> {
    /// The name after folding, up to the first matched `[`.
    pub name: Cow<'a, [u8]>,
    /// Whether a matched `[…]` followed the name, so that PHP makes it an array.
    pub is_array: bool,
    /// The value, decoded.
    pub value: Cow<'a, [u8]>,
}

/// The pieces of a form body between `&`, empty ones left out, split at the first `=`.
///
/// A piece without `=` has an empty value, as in PHP.
pub fn pieces(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    body.split(|&byte| byte == b'&').filter(|piece| !piece.is_empty()).map(|piece| {
        match memchr::memchr(b'=', piece) {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &b""[..]),
        }
    })
}

/// What `parse_str` registers, in order; of equal names PHP keeps the last.
pub fn parse_str(body: &[u8]) -> impl Iterator<Item = Variable<'_>> {
    // To PHP the body is a C string.
    let end = memchr::memchr(0, body).unwrap_or(body.len());
    pieces(&body[..end]).take(MAX_INPUT_VARS).filter_map(|(name, value)| {
        let (name, is_array) = fold_name(decode(name))?;
        Some(Variable { name, is_array, value: decode(value) })
    })
}

/// Percent-decoding as `urldecode` does it: `+` is a space, a bad escape stays as it is.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match escape(tail) {
                Some(byte) => {
                    decoded.push(byte);
                    rest = &tail[2..];
                }
                None => decoded.push(b'%'),
            },
            byte => decoded.push(byte),
        }
    }
    Cow::Owned(decoded)
}

/// The byte that two hexadecimal digits at the start of `tail` stand for.
pub fn escape(tail: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    match tail {
        [high, low, ..] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    }
}

/// The name PHP registers for a decoded one, and whether it makes an array; `None` when it registers
/// nothing.
///
/// Leading spaces go, the name ends at NUL, space and `.` become `_`, a `[` that is never closed
/// becomes `_` too, and a closed one starts an array's index.
pub fn fold_name(decoded: Cow<'_, [u8]>) -> Option<(Cow<'_, [u8]>, bool)> {
    let end = memchr::memchr(0, &decoded).unwrap_or(decoded.len());
    let start = decoded[..end].iter().take_while(|&&byte| byte == b' ').count();
    let name = &decoded[start..end];
    let open = memchr::memchr(b'[', name);
    let plain = open.unwrap_or(name.len());
    if plain == 0 {
        return None;
    }
    if open.is_none() && name.len() == decoded.len() && !name.iter().any(|b| matches!(b, b' ' | b'.')) {
        return Some((decoded, false));
    }
    let closed = open.is_some_and(|open| memchr::memchr(b']', &name[open..]).is_some());
    // With a `[` that is never closed, what follows it is folded as well, further `[` included.
    let folding = if closed { &name[..plain] } else { name };
    let folded =
        folding.iter().map(|&byte| if matches!(byte, b' ' | b'.' | b'[') { b'_' } else { byte }).collect();
    Some((Cow::Owned(folded), closed))
}

#[cfg(test)]
mod tests;
