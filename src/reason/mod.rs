//! Every way a call can end other than well, with the one face each shows to clients and operators.

mod face;

pub use face::Face;

/// Why a call was refused, failed or came to nothing: one row of the contract's table.
///
/// The order of the variants is the order of judgement; the first broken rule names the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The bytes are not HTTP.
    RequestMalformed,
    /// The head did not arrive in time.
    HeaderTimeout,
    /// Two readers could disagree on where the request ends or whom it addresses.
    FramingAmbiguous,
    /// More fields, or more bytes of head, than are read.
    HeaderTooLarge,
    /// The client's address is not one of those that may call.
    ClientNotAllowed,
    /// The client's address is one of those that are kept out.
    ClientDenied,
    /// The client's network is shut out, for the wrong keys that came from it.
    ClientBlocked,
    /// The client's address is over its quota.
    ClientQuotaExceeded,
    /// Not the unlock path, however near, or a field that names another target.
    PathUnknown,
    /// Not the method of the operation.
    MethodNotAllowed,
    /// A field asks the application for another method.
    MethodOverride,
    /// The target has a query string.
    QueryNotAllowed,
    /// An `Expect` that is not `100-continue`.
    ExpectationFailed,
    /// A credential is absent or empty.
    CredentialMissing,
    /// A credential is there twice, or in two spellings.
    CredentialAmbiguous,
    /// A credential is too long or has bytes outside visible ASCII.
    CredentialMalformed,
    /// The user is not known by this key.
    CredentialUnknown,
    /// The user is kept out.
    UserDisabled,
    /// The user calls from outside its networks.
    UserNetwork,
    /// The body is not declared as a plain form.
    MediaTypeUnsupported,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// Bad percent-encoding, invalid UTF-8 or broken chunking.
    BodyMalformed,
    /// A name that PHP folds onto a lookup key but that is not spelt so.
    ParameterDisguised,
    /// A name that is no lookup key.
    ParameterUnknown,
    /// No lookup key.
    LookupMissing,
    /// More than one lookup key.
    LookupAmbiguous,
    /// A value that is not what a lookup value must be.
    LookupInvalid,
    /// As many calls are in flight as are allowed.
    Overloaded,
    /// The audit trail cannot be written.
    AuditUnavailable,
    /// No peer is healthy.
    UpstreamUnavailable,
    /// The api-username asks for more different customers than it may.
    EnumerationSuspected,
    /// The api-username is over its quota.
    QuotaExceeded,
    /// No connection to the upstream could be made.
    UpstreamUnreachable,
    /// The upstream's connection broke, or its answer was not HTTP.
    UpstreamBroken,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The client left before its call was forwarded.
    ClientGone,
    /// A defect of the gateway's own.
    Internal,
}

impl Reason {
    /// Every reason, in the order of judgement.
    pub const ALL: [Self; 38] = [
        Self::RequestMalformed,
        Self::HeaderTimeout,
        Self::FramingAmbiguous,
        Self::HeaderTooLarge,
        Self::ClientNotAllowed,
        Self::ClientDenied,
        Self::ClientBlocked,
        Self::ClientQuotaExceeded,
        Self::PathUnknown,
        Self::MethodNotAllowed,
        Self::MethodOverride,
        Self::QueryNotAllowed,
        Self::ExpectationFailed,
        Self::CredentialMissing,
        Self::CredentialAmbiguous,
        Self::CredentialMalformed,
        Self::CredentialUnknown,
        Self::UserDisabled,
        Self::UserNetwork,
        Self::MediaTypeUnsupported,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::BodyMalformed,
        Self::ParameterDisguised,
        Self::ParameterUnknown,
        Self::LookupMissing,
        Self::LookupAmbiguous,
        Self::LookupInvalid,
        Self::Overloaded,
        Self::AuditUnavailable,
        Self::UpstreamUnavailable,
        Self::EnumerationSuspected,
        Self::QuotaExceeded,
        Self::UpstreamUnreachable,
        Self::UpstreamBroken,
        Self::UpstreamTimeout,
        Self::ClientGone,
        Self::Internal,
    ];

    /// Whether observe mode lets a call pass that breaks this rule: what concerns the call's meaning and its user's
    /// quota, not where it ends or whether the gateway can forward it at all.
    pub fn is_observable(self) -> bool {
        (Self::MethodNotAllowed..=Self::QuotaExceeded).contains(&self)
            && !matches!(
                self,
                Self::BodyTooLarge
                    | Self::BodyTimeout
                    | Self::Overloaded
                    | Self::AuditUnavailable
                    | Self::UpstreamUnavailable
            )
    }

    /// The stable name: problem `code`, metric label, log field.
    pub const fn code(self) -> &'static str {
        self.face().code
    }
}

#[cfg(test)]
mod tests;
