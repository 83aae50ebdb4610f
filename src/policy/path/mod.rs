//! Whether a target is the unlock path, could be read as it, or is something else.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::{operation::UNLOCK, wire::target::origin_form};

/// What a target names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The unlock path, spelt exactly.
    Unlock {
        /// Whether a query string follows, if only an empty one.
        query: bool,
    },
    /// Something that an upstream could read as the unlock path.
    Disguised,
    /// Anything else.
    Other,
}

/// Tells what a target names; of an absolute-form target, its path and query.
pub fn classify(target: &str) -> Class {
    let target = origin_form(target);
    let (path, query) = match target.split_once('?') {
        Some((path, _)) => (path, true),
        None => (target, false),
    };
    if path == UNLOCK.path {
        Class::Unlock { query }
    } else if could_be_unlock(target.as_bytes()) {
        Class::Disguised
    } else {
        Class::Other
    }
}

/// Whether some upstream could arrive at the unlock path, taking the target whole or in part.
///
/// Upstreams differ in what they decode, cut off and resolve, so the segments are looked for at every
/// stage: before and after resolving dot segments, with and without what follows a NUL, and in the
/// query too, where front controllers look for a route.
fn could_be_unlock(target: &[u8]) -> bool {
    let decoded = decode_to_fixed_point(target);
    let cut = memchr::memchr(0, &decoded).map_or(&decoded[..], |nul| &decoded[..nul]);
    [&decoded[..], cut].into_iter().any(|text| {
        let parts = text.split(|byte| matches!(byte, b'?' | b'#'));
        let pairs = text.split(|byte| matches!(byte, b'?' | b'#' | b'&' | b'='));
        parts.chain(pairs).any(|part| {
            let segments = segments(part);
            holds_unlock(&segments) || holds_unlock(&resolve(&segments))
        })
    })
}

fn decode_to_fixed_point(target: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(target);
    // It borrows where there was nothing to decode.
    while let Cow::Owned(decoded) = Cow::from(percent_decode(&text)) {
        text = Cow::Owned(decoded);
    }
    text
}

/// The segments without their parameters, empty ones left out.
fn segments(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| matches!(byte, b'/' | b'\\'))
        .map(|segment| segment.split(|&byte| byte == b';').next().unwrap_or_default())
        .map(without_margin)
        .filter(|segment| !segment.is_empty())
        .collect()
}

/// A segment without what pattern matchers and file systems pass over at its ends: white space, control
/// bytes and, behind a name, dots.
fn without_margin(mut segment: &[u8]) -> &[u8] {
    while let [0..=b' ' | 0x7f, rest @ ..] | [rest @ .., 0..=b' ' | 0x7f] = segment {
        segment = rest;
    }
    let name = segment.iter().rposition(|&byte| byte != b'.').map_or(segment.len(), |last| last + 1);
    &segment[..name]
}

fn resolve<'a>(segments: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut resolved = Vec::with_capacity(segments.len());
    for &segment in segments {
        match segment {
            b"." => {}
            b".." => {
                resolved.pop();
            }
            segment => resolved.push(segment),
        }
    }
    resolved
}

fn holds_unlock(segments: &[&[u8]]) -> bool {
    segments
        .windows(UNLOCK.segments.len())
        .any(|window| window.iter().zip(UNLOCK.segments).all(|(a, b)| a.eq_ignore_ascii_case(b.as_bytes())))
}

#[cfg(test)]
mod tests;
