//! The rules on a request's method, target and fields.

use http::Uri;

use super::path;
use crate::{
    operation::UNLOCK,
    reason::Reason,
    wire::{
        Fields, RequestHead, claims,
        fields::{is_same, list},
        target::uri,
    },
};

/// A rule on a head: what breaking it is, and whether a head keeps it.
pub(super) type Rule = (Reason, fn(&Head<'_>) -> bool);

/// The rules on what an unlock call asks for.
pub(super) const UNLOCK_RULES: [Rule; 4] = [
    (Reason::MethodNotAllowed, |head| head.is_of_the_method()),
    (Reason::MethodOverride, |head| head.is_without_method_override()),
    (Reason::QueryNotAllowed, |head| head.is_without_query()),
    (Reason::ExpectationFailed, |head| head.expects_at_most_100_continue()),
];

/// The rules that hold on the unlock path even in observe mode: what was judged must be what is asked for, and CONNECT
/// asks for a tunnel, not for an answer.
pub(super) const EVER_RULES: [Rule; 2] = [
    (Reason::PathUnknown, |head| head.is_without_other_target()),
    (Reason::MethodNotAllowed, |head| head.is_no_connect()),
];

/// The rules on another path that is passed on.
pub(super) const OTHER_PATH_RULES: [Rule; 4] = [
    (Reason::PathUnknown, |head| head.is_without_other_target()),
    (Reason::MethodNotAllowed, |head| head.is_no_connect()),
    (Reason::MethodOverride, |head| head.is_without_method_override()),
    (Reason::ExpectationFailed, |head| head.expects_at_most_100_continue()),
];

/// The reasons that rules can be broken for.
const fn reasons<const N: usize>(rules: [Rule; N]) -> [Reason; N] {
    let mut reasons = [Reason::Internal; N];
    let mut at = 0;
    while at < N {
        reasons[at] = rules[at].0;
        at += 1;
    }
    reasons
}

pub(super) const UNLOCK_REASONS: &[Reason] = &reasons(UNLOCK_RULES);
pub(super) const EVER_REASONS: &[Reason] = &reasons(EVER_RULES);
pub(super) const OTHER_PATH_REASONS: &[Reason] = &reasons(OTHER_PATH_RULES);

/// What policy knows of a request before its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The request target, as sent.
    pub target: &'a str,
    /// The header fields.
    pub fields: Fields<'a>,
}

impl<'a> From<&'a RequestHead> for Head<'a> {
    fn from(head: &'a RequestHead) -> Self {
        Self { method: head.method(), target: head.target(), fields: head.fields() }
    }
}

impl Head<'_> {
    /// Judges it by rules, in their order.
    pub(super) fn keeps(&self, rules: &[Rule]) -> Result<(), Reason> {
        rules.iter().try_for_each(|&(reason, is_kept)| require(is_kept(self), reason))
    }

    /// The target in origin form, as it is passed on where it is not the unlock call's.
    ///
    /// # Errors
    /// `request_malformed` for bytes that no URI has.
    pub fn uri(&self) -> Result<Uri, Reason> {
        uri(self.target)
    }

    fn is_of_the_method(&self) -> bool {
        self.method == UNLOCK.method.as_str()
    }

    fn is_without_method_override(&self) -> bool {
        !self.has_any_of(&claims::METHOD)
    }

    /// A tunnel through the gateway would carry what nobody judges.
    fn is_no_connect(&self) -> bool {
        self.method != "CONNECT"
    }

    /// A field that names another target can turn any path into the unlock path, and that into any other.
    fn is_without_other_target(&self) -> bool {
        !self.has_any_of(&claims::TARGET)
    }

    fn is_without_query(&self) -> bool {
        path::classify(self.target) == path::Class::Unlock { query: false }
    }

    fn expects_at_most_100_continue(&self) -> bool {
        self.fields.all("expect").flat_map(list).all(|expectation| is_same(expectation, "100-continue"))
    }

    pub(super) fn declaring_a_plain_form(&self) -> Result<(), Reason> {
        let mut types = self.fields.all("content-type");
        let declared = match (types.next(), types.next()) {
            (Some(media_type), None) => is_form(media_type),
            (None | Some(_), _) => false,
        };
        require(declared && !self.fields.has("content-encoding"), Reason::MediaTypeUnsupported)
    }

    /// Whether the body is declared as a form in whichever character set, and as it is.
    pub(super) fn declares_a_form(&self) -> bool {
        let mut types = self.fields.all("content-type");
        let media_type = types.next().filter(|_| types.next().is_none()).unwrap_or_default();
        let media_type = media_type.split(|&byte| byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(UNLOCK.media_type.as_bytes())
            && !self.fields.has("content-encoding")
    }

    /// Judges the declared length; a chunked body declares none and is measured as it arrives.
    pub(super) fn with_length_up_to(&self, max_body: usize) -> Result<(), Reason> {
        let within = match self.fields.first("content-length") {
            Some(length) => str::from_utf8(length)
                .ok()
                .and_then(|digits| digits.parse::<u64>().ok())
                .is_some_and(|length| length <= max_body as u64),
            None => true,
        };
        require(within, Reason::BodyTooLarge)
    }

    fn has_any_of(&self, names: &claims::Names) -> bool {
        self.fields.iter().any(|(name, _)| names.have(name))
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
