//! The rules on a request's method, target and fields.

use http::header::{self, HeaderMap};

use super::{
    fields::{fold_alike, list},
    path,
};
use crate::{operation::UNLOCK, reason::Reason};

/// Fields by which an application may be asked for another method.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// Fields by which an application may be asked for another target.
const TARGET_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// All that policy may know of a request before its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The request target, as sent.
    pub target: &'a str,
    /// The header fields.
    pub fields: &'a HeaderMap,
}

impl Head<'_> {
    pub(super) fn patching(&self) -> Result<(), Reason> {
        require(self.method == UNLOCK.method.as_str(), Reason::MethodNotAllowed)
    }

    pub(super) fn without_method_override(&self) -> Result<(), Reason> {
        require(!self.has_any_of(&METHOD_OVERRIDES), Reason::MethodOverride)
    }

    /// A tunnel through the gateway would carry what nobody judges.
    pub(super) fn without_connect(&self) -> Result<(), Reason> {
        require(self.method != "CONNECT", Reason::MethodNotAllowed)
    }

    /// A field that renames the target makes of any path the unlock path.
    pub(super) fn without_rewritten_target(&self) -> Result<(), Reason> {
        require(!self.has_any_of(&TARGET_OVERRIDES), Reason::PathUnknown)
    }

    pub(super) fn without_query(&self) -> Result<(), Reason> {
        require(path::classify(self.target) == path::Class::Unlock { query: false }, Reason::QueryNotAllowed)
    }

    pub(super) fn expecting_at_most_100_continue(&self) -> Result<(), Reason> {
        let met = self
            .fields
            .get_all(header::EXPECT)
            .iter()
            .flat_map(|value| list(value.as_bytes()))
            .all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue"));
        require(met, Reason::ExpectationFailed)
    }

    pub(super) fn declaring_a_plain_form(&self) -> Result<(), Reason> {
        let mut types = self.fields.get_all(header::CONTENT_TYPE).iter();
        let declared = match (types.next(), types.next()) {
            (Some(media_type), None) => is_form(media_type.as_bytes()),
            (None | Some(_), _) => false,
        };
        require(declared && !self.fields.contains_key(header::CONTENT_ENCODING), Reason::MediaTypeUnsupported)
    }

    /// Judges the declared length; a chunked body declares none and is measured as it arrives.
    pub(super) fn with_length_up_to(&self, max_body: usize) -> Result<(), Reason> {
        let within = match self.fields.get(header::CONTENT_LENGTH) {
            Some(length) => length
                .to_str()
                .ok()
                .and_then(|digits| digits.parse::<u64>().ok())
                .is_some_and(|length| length <= max_body as u64),
            None => true,
        };
        require(within, Reason::BodyTooLarge)
    }

    fn has_any_of(&self, names: &[&str]) -> bool {
        self.fields.keys().any(|name| names.iter().any(|wanted| fold_alike(name.as_str(), wanted)))
    }
}

/// Whether the media type is that of a form, with no parameter but `charset=utf-8`; parameters may be empty
/// (RFC 9110 sections 5.6.6 and 8.3.1).
fn is_form(value: &[u8]) -> bool {
    let mut parts = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case(UNLOCK.media_type.as_bytes()))
        && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
            [&b"charset=utf-8"[..], b"charset=\"utf-8\""]
                .iter()
                .any(|utf8| parameter.eq_ignore_ascii_case(utf8))
        })
}

fn require(kept: bool, broken: Reason) -> Result<(), Reason> {
    if kept { Ok(()) } else { Err(broken) }
}
