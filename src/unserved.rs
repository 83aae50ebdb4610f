//! Why connections, and streams of HTTP/2, are refused before there is a request to answer.
//!
//! TLS handshakes have their own reasons in [`tls`](crate::tls).

/// Why a connection was closed without serving what came on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefused {
    /// As many were open as `listen.max_connections`, or the limit on open files, allows.
    MaxConnections,
    /// As many of the admin listener's were open as it has room for.
    AdminConnections,
    /// A TLS handshake began where plain HTTP is spoken.
    TlsOnPlainPort,
    /// HTTP/2 began where nobody had agreed upon it.
    Http2PriorKnowledge,
    /// HTTP/2 was agreed upon, and its preface did not come in time.
    Http2Preface,
    /// What came broke the rules of HTTP/2.
    Http2Protocol,
    /// What came was more than HTTP/2's own limits allow.
    Http2Flood,
}

impl ConnectionRefused {
    /// Every variant, at the index of its discriminant.
    pub const ALL: [Self; 7] = [
        Self::MaxConnections,
        Self::AdminConnections,
        Self::TlsOnPlainPort,
        Self::Http2PriorKnowledge,
        Self::Http2Preface,
        Self::Http2Protocol,
        Self::Http2Flood,
    ];

    /// What metric and log call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::AdminConnections => "admin_connections",
            Self::TlsOnPlainPort => "tls_on_plain_port",
            Self::Http2PriorKnowledge => "http2_prior_knowledge",
            Self::Http2Preface => "http2_preface",
            Self::Http2Protocol => "http2_protocol_error",
            Self::Http2Flood => "http2_enhance_your_calm",
        }
    }

    /// What that means, in words.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::MaxConnections => "as many connections are open as may be",
            Self::AdminConnections => "as many connections of the admin listener are open as may be",
            Self::TlsOnPlainPort => {
                "TLS on the plain port; the client should use http://, or a port of listen.https"
            }
            Self::Http2PriorKnowledge => {
                "HTTP/2 by prior knowledge; it is spoken where it is agreed upon in TLS, on a port of listen.https"
            }
            Self::Http2Preface => "HTTP/2 was agreed upon, and its preface did not come in time",
            Self::Http2Protocol => "what came broke the rules of HTTP/2",
            Self::Http2Flood => "what came was more than HTTP/2's limits allow",
        }
    }

    /// What closing a connection of HTTP/2 with this error code means; `None` where nothing is refused.
    pub fn of_goaway(code: h2::Reason) -> Option<Self> {
        match code {
            h2::Reason::NO_ERROR => None,
            h2::Reason::ENHANCE_YOUR_CALM => Some(Self::Http2Flood),
            _ => Some(Self::Http2Protocol),
        }
    }
}

/// Why a stream of HTTP/2 was reset without an answer to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRefused {
    /// As many were open on its connection as may be.
    NoRoom,
    /// There was no memory for it.
    NoMemory,
    /// What came on it broke the rules of HTTP/2.
    Protocol,
    /// What came on it was more than HTTP/2's own limits allow.
    Flood,
}

impl StreamRefused {
    /// Every variant, at the index of its discriminant.
    pub const ALL: [Self; 4] = [Self::NoRoom, Self::NoMemory, Self::Protocol, Self::Flood];

    /// What metric and log call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoRoom => "refused_stream",
            Self::NoMemory => "memory",
            Self::Protocol => "protocol_error",
            Self::Flood => "enhance_your_calm",
        }
    }

    /// What that means, in words.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NoRoom => "as many streams are open on its connection as may be",
            Self::NoMemory => "the streams of its connection, or of all, hold as much memory as they may",
            Self::Protocol => "what came on it broke the rules of HTTP/2",
            Self::Flood => "what came on it was more than HTTP/2's limits allow",
        }
    }

    /// What resetting a stream with this error code means; `None` where nothing is refused, or what failed has been
    /// recorded as a request.
    pub fn of_reset(code: h2::Reason) -> Option<Self> {
        match code {
            h2::Reason::NO_ERROR | h2::Reason::CANCEL | h2::Reason::INTERNAL_ERROR => None,
            h2::Reason::REFUSED_STREAM => Some(Self::NoRoom),
            h2::Reason::ENHANCE_YOUR_CALM => Some(Self::Flood),
            _ => Some(Self::Protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_at_its_number() {
        assert!(ConnectionRefused::ALL.iter().enumerate().all(|(place, why)| *why as usize == place));
        assert!(StreamRefused::ALL.iter().enumerate().all(|(place, why)| *why as usize == place));
    }
}
