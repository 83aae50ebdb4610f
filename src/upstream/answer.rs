//! Whether an answer can be passed on: where it ends must be said once, and so that nobody reads it otherwise.

use http::{HeaderMap, Version, header};

/// Interim answers before the one that counts; n4n sends none.
pub const MAX_INTERIM: u32 = 32;

/// Whether an answer's fields say in one way where its body ends (RFC 9112 section 6.3): by a plain length, by
/// chunks, which no other coding precedes and HTTP/1.0 does not have, or by the connection's end.
pub fn is_clearly_framed(version: Version, fields: &HeaderMap) -> bool {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next()) {
        (Some(length), None) => {
            lengths.next().is_none() && !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
        }
        (None, Some(coding)) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            codings.next().is_none() && is_chunked && version == Version::HTTP_11
        }
        (None, None) => true,
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn an_answer_ends_in_one_way() {
        let (length, coding) = ("content-length", "transfer-encoding");
        let clear: &[&[(&str, &str)]] =
            &[&[], &[(length, "4")], &[(coding, "chunked")], &[(coding, "Chunked")]];
        let unclear: &[&[(&str, &str)]] = &[
            &[(length, "4"), (length, "4")],
            &[(length, "4, 4")],
            &[(length, "")],
            &[(length, "+4")],
            &[(length, "4"), (coding, "chunked")],
            &[(coding, "gzip")],
            &[(coding, "gzip, chunked")],
            &[(coding, "chunked"), (coding, "chunked")],
        ];
        let framed = |version, fields: &[(&str, &str)]| {
            let pairs = fields.iter().map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
            });
            let mut map = HeaderMap::new();
            pairs.for_each(|(name, value)| {
                map.append(name, value);
            });
            is_clearly_framed(version, &map)
        };
        for fields in clear {
            assert!(framed(Version::HTTP_11, fields), "{fields:?}");
        }
        for fields in unclear {
            assert!(!framed(Version::HTTP_11, fields), "{fields:?}");
        }
        assert!(!framed(Version::HTTP_10, &[(coding, "chunked")]));
    }
}
