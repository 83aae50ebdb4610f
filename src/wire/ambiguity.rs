//! What is ambiguous about a head's framing, told apart for whoever looks for the cause.

/// Why two readers could disagree on where a request ends or whom it addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguity {
    /// A line ends in a bare LF.
    BareLf,
    /// The target has a space, a fragment or bytes outside visible ASCII, or is of no known form.
    Target,
    /// There is no Host.
    NoHost,
    /// There are several Hosts.
    RepeatedHost,
    /// The Host is none.
    Host,
    /// An absolute-form target names another host.
    OtherHost,
    /// A Connection option names an end-to-end field.
    NominatedField,
    /// CGI folds a field onto one of framing's.
    DisguisedField,
    /// The length is no plain number.
    Length,
    /// There are several lengths.
    RepeatedLength,
    /// There is a length beside a transfer coding.
    LengthAndCoding,
    /// The transfer coding is not one `chunked`, or one in HTTP/1.0.
    Coding,
}

impl Ambiguity {
    /// It in words, to complete a sentence about the request.
    pub const fn words(self) -> &'static str {
        match self {
            Self::BareLf => "a line ends in a bare LF; end each in CR LF",
            Self::Target => {
                "the target has a space, a fragment or another byte that no target has, or is of no known form"
            }
            Self::NoHost => "there is no Host",
            Self::RepeatedHost => "there is more than one Host",
            Self::Host => "the Host is not one host, with a port or without",
            Self::OtherHost => "the target names another host than the Host field",
            Self::NominatedField => "a Connection option names a field that is not the connection's",
            Self::DisguisedField => {
                "a field's name is read as Content-Length, Content-Type or Transfer-Encoding behind CGI"
            }
            Self::Length => "the Content-Length is not one number in digits",
            Self::RepeatedLength => "there is more than one Content-Length",
            Self::LengthAndCoding => "there is a Content-Length beside a Transfer-Encoding",
            Self::Coding => "the Transfer-Encoding is not one `chunked`, or the request is HTTP/1.0",
        }
    }
}
