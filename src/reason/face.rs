//! The one face that each reason shows: status, code and words.

use http::StatusCode;

use super::Reason;
use crate::operation::unlock;

/// How one [`Reason`] looks from outside.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    /// The answer's status; none where nobody is left to answer.
    pub status: Option<StatusCode>,
    /// The stable name: problem `code`, metric label, log field.
    pub code: &'static str,
    /// What happened, in a few words.
    pub title: &'static str,
    /// What to change.
    pub detail: &'static str,
}

impl Reason {
    /// Its status, code and words.
    pub const fn face(self) -> Face {
        let (status, code, title, detail) = match self {
            Self::RequestMalformed => (
                Some(StatusCode::BAD_REQUEST),
                "request_malformed",
                "The request is not HTTP",
                concat!(
                    "Send an HTTP/1.1 request: `",
                    unlock!(method),
                    " ",
                    unlock!(path),
                    " HTTP/1.1`, header fields, an empty line, the body."
                ),
            ),
            Self::HeaderTimeout => (
                Some(StatusCode::REQUEST_TIMEOUT),
                "header_timeout",
                "The request's header took too long",
                "Send the whole header at once; the time allowed runs from its first byte to its last.",
            ),
            Self::FramingAmbiguous => (
                Some(StatusCode::BAD_REQUEST),
                "framing_ambiguous",
                "The request can be read in more than one way",
                "Send one Host, and either one Content-Length or `Transfer-Encoding: chunked`; an origin-form target without spaces or fragment; lines ended by CR LF; no Connection option that names an end-to-end field; no other spelling of Content-Length, Content-Type or Transfer-Encoding.",
            ),
            Self::HeaderTooLarge => (
                Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
                "header_too_large",
                "The request's header is too large",
                "Send at most 64 header fields and 16 KiB of header.",
            ),
            Self::ClientNotAllowed => (
                Some(StatusCode::FORBIDDEN),
                "client_not_allowed",
                "This address may not call",
                "Call from an address that the gateway's operator has allowed.",
            ),
            Self::ClientDenied => (
                Some(StatusCode::FORBIDDEN),
                "client_denied",
                "This address is kept out",
                "Ask the gateway's operator, who has denied calls from this address.",
            ),
            Self::ClientBlocked => (
                Some(StatusCode::FORBIDDEN),
                "client_blocked",
                "This network is shut out for a while",
                "Too many wrong keys came from it. Correct `api-username` and `api-key` and call again later, or ask the gateway's operator.",
            ),
            Self::ClientQuotaExceeded => (
                Some(StatusCode::TOO_MANY_REQUESTS),
                "client_quota_exceeded",
                "This address is over its quota",
                "Send the call again after the seconds in Retry-After.",
            ),
            Self::PathUnknown => (
                Some(StatusCode::NOT_FOUND),
                "path_unknown",
                "There is nothing at this path",
                concat!(
                    "Call `",
                    unlock!(path),
                    "`, spelt exactly so, without a field that names another target, such as `X-Original-URL`."
                ),
            ),
            Self::MethodNotAllowed => (
                Some(StatusCode::METHOD_NOT_ALLOWED),
                "method_not_allowed",
                concat!("Only ", unlock!(method), " unlocks a customer"),
                concat!("Send the request with the method ", unlock!(method), "."),
            ),
            Self::MethodOverride => (
                Some(StatusCode::BAD_REQUEST),
                "method_override",
                "The request asks for two methods",
                concat!(
                    "Send ",
                    unlock!(method),
                    " as the method itself and leave out X-HTTP-Method, X-HTTP-Method-Override and X-Method-Override."
                ),
            ),
            Self::QueryNotAllowed => (
                Some(StatusCode::BAD_REQUEST),
                "query_not_allowed",
                "A query string is not allowed",
                concat!(
                    "Send the lookup parameter in the body and end the target after `",
                    unlock!(path),
                    "`, without `?`."
                ),
            ),
            Self::ExpectationFailed => (
                Some(StatusCode::EXPECTATION_FAILED),
                "expectation_failed",
                "The expectation cannot be met",
                "Leave the Expect field out, or send `Expect: 100-continue`.",
            ),
            Self::CredentialMissing => (
                Some(StatusCode::UNAUTHORIZED),
                "credential_missing",
                "A credential is missing",
                "Send both header fields `api-key` and `api-username`, spelt with hyphens, neither of them empty.",
            ),
            Self::CredentialAmbiguous => (
                Some(StatusCode::BAD_REQUEST),
                "credential_ambiguous",
                "A credential is given more than once",
                "Send `api-key` and `api-username` once each, and in no other spelling such as `api_key`.",
            ),
            Self::CredentialMalformed => (
                Some(StatusCode::BAD_REQUEST),
                "credential_malformed",
                "A credential is malformed",
                "Send `api-key` and `api-username` as at most 256 visible ASCII characters each, without spaces.",
            ),
            Self::CredentialUnknown => (
                Some(StatusCode::UNAUTHORIZED),
                "credential_unknown",
                "These credentials are not known",
                "Check `api-username` and `api-key`; ask the gateway's operator if both are right.",
            ),
            Self::UserDisabled => (
                Some(StatusCode::FORBIDDEN),
                "user_disabled",
                "This api-username is kept out",
                "Ask the gateway's operator, who has disabled this api-username.",
            ),
            Self::UserNetwork => (
                Some(StatusCode::FORBIDDEN),
                "user_network",
                "This user may not call from this address",
                "Call from an address that the gateway's operator has allowed for this api-username.",
            ),
            Self::MediaTypeUnsupported => (
                Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
                "media_type_unsupported",
                "The body is not a plain form",
                concat!("Send `Content-Type: ", unlock!(media_type), "` once, and no Content-Encoding."),
            ),
            Self::BodyTooLarge => (
                Some(StatusCode::PAYLOAD_TOO_LARGE),
                "body_too_large",
                "The body is too large",
                concat!("Send just the one lookup parameter, such as `", unlock!(customer_id), "=191`."),
            ),
            Self::BodyTimeout => (
                Some(StatusCode::REQUEST_TIMEOUT),
                "body_timeout",
                "The body took too long",
                "Send the body right after the header; the time allowed runs to its last byte.",
            ),
            Self::BodyMalformed => (
                Some(StatusCode::BAD_REQUEST),
                "body_malformed",
                "The body cannot be read",
                "Percent-encode the body as UTF-8, every `%` followed by two hexadecimal digits, and end chunked bodies properly.",
            ),
            Self::ParameterDisguised => (
                Some(StatusCode::BAD_REQUEST),
                "parameter_disguised",
                "A parameter is spelt so that PHP would read it as another",
                concat!("Spell the name exactly ", unlock!(keys or), ": no dot, space, bracket or NUL."),
            ),
            Self::ParameterUnknown => (
                Some(StatusCode::BAD_REQUEST),
                "parameter_unknown",
                "A parameter is not known",
                concat!("Send one of ", unlock!(keys and), ", and nothing else."),
            ),
            Self::LookupMissing => (
                Some(StatusCode::BAD_REQUEST),
                "lookup_missing",
                "No customer is named",
                concat!("Send one of ", unlock!(keys and), " in the body."),
            ),
            Self::LookupAmbiguous => (
                Some(StatusCode::BAD_REQUEST),
                "lookup_ambiguous",
                "More than one lookup parameter is given",
                concat!("Send exactly one of ", unlock!(keys and), ", once."),
            ),
            Self::LookupInvalid => (
                Some(StatusCode::BAD_REQUEST),
                "lookup_invalid",
                "The lookup value is not acceptable",
                concat!(
                    "Send the id as a whole number that does not begin with 0, of at most 18 digits, and nothing around it; `",
                    unlock!(subscription_id),
                    "` and `",
                    unlock!(orderid),
                    "` may also begin with a letter and go on in letters, digits and `_.:-`, 64 in all. The gateway's operator may have set other forms."
                ),
            ),
            Self::Overloaded => (
                Some(StatusCode::SERVICE_UNAVAILABLE),
                "overloaded",
                "Too many calls are in flight",
                "Send the call again after the seconds in Retry-After.",
            ),
            Self::AuditUnavailable => (
                Some(StatusCode::SERVICE_UNAVAILABLE),
                "audit_unavailable",
                "The call cannot be recorded",
                "Nothing was forwarded. Send the call again after the seconds in Retry-After; tell the gateway's operator if it lasts.",
            ),
            Self::UpstreamUnavailable => (
                Some(StatusCode::SERVICE_UNAVAILABLE),
                "upstream_unavailable",
                "No n4n host is available",
                "Nothing was forwarded. Send the call again after the seconds in Retry-After.",
            ),
            Self::EnumerationSuspected => (
                Some(StatusCode::TOO_MANY_REQUESTS),
                "enumeration_suspected",
                "This api-username asks for too many different customers",
                "Ask for another customer after the seconds in Retry-After; those asked for before may be asked for again.",
            ),
            Self::QuotaExceeded => (
                Some(StatusCode::TOO_MANY_REQUESTS),
                "quota_exceeded",
                "This api-username is over its quota",
                "Send the call again after the seconds in Retry-After.",
            ),
            Self::UpstreamUnreachable => (
                Some(StatusCode::BAD_GATEWAY),
                "upstream_unreachable",
                "No connection to n4n could be made",
                "Nothing was forwarded. Send the call again later.",
            ),
            Self::UpstreamBroken => (
                Some(StatusCode::BAD_GATEWAY),
                "upstream_broken",
                "n4n broke off, or did not answer in HTTP",
                "The call may have been carried out: look at the customer before sending it again.",
            ),
            Self::UpstreamTimeout => (
                Some(StatusCode::GATEWAY_TIMEOUT),
                "upstream_timeout",
                "n4n did not answer in time",
                "The call may have been carried out: look at the customer before sending it again.",
            ),
            Self::ClientGone => (
                None,
                "client_gone",
                "The client left before its call was forwarded",
                "Keep the connection open until the answer is in.",
            ),
            Self::Internal => (
                Some(StatusCode::INTERNAL_SERVER_ERROR),
                "internal",
                "The gateway failed",
                "This is a defect of the gateway. Report it with the request_id.",
            ),
        };
        Face { status, code, title, detail }
    }
}
