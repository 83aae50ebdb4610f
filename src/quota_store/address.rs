//! Where Redis is and how to log in there.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

/// What a URL of Redis names. It may hold a password, and tells it to nobody.
#[derive(Clone)]
pub struct Address {
    url: Zeroizing<String>,
    info: ConnectionInfo,
}

/// Why a URL is of no use; nothing of the URL is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no URL, or one of something else.
    #[error("is no URL of a Redis server")]
    Unread,
    /// It asks for a server that need not prove who it is.
    #[error("asks not to verify the server")]
    Unverified,
    /// It has a user and no password.
    #[error("names a user and no password")]
    NoPassword,
    /// It says something behind `?` that nobody would read.
    #[error("has a part behind `?` that means nothing here")]
    Unknown,
    /// It asks for TLS with a host that no certificate can name.
    #[error("names a host that no certificate can be for")]
    NoName,
}

impl BadAddress {
    /// What to write instead.
    pub const fn mend(self) -> &'static str {
        match self {
            Self::Unread => {
                "write \"redis://[[user]:password@]host[:port][/database]\", or rediss:// for TLS, what is special in it percent-encoded"
            }
            Self::Unverified => "leave out what stands behind #; a private CA is named by SSL_CERT_FILE",
            Self::NoPassword => "write both, user:password@, or :password@ for the default user",
            Self::Unknown => {
                "write the database as \"redis://host/1\", or \"unix:///path?db=1\" for a socket, which takes user and pass too"
            }
            Self::NoName => "name the host that the server's certificate is for",
        }
    }
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// Why it is of no use.
    pub fn parse(url: &str) -> Result<Self, BadAddress> {
        let info = url.into_connection_info().map_err(|_| BadAddress::Unread)?;
        let is_socket = matches!(info.addr(), ConnectionAddr::Unix(_));
        let known: &[&str] = if is_socket { &["db", "user", "pass", "protocol"] } else { &["protocol"] };
        if let Some((_, query)) = url.split_once('?') {
            let query = query.split('#').next().unwrap_or_default();
            let is_known = |part: &str| known.contains(&part.split('=').next().unwrap_or_default());
            if !query.split('&').all(is_known) {
                return Err(BadAddress::Unknown);
            }
        }
        if let ConnectionAddr::TcpTls { host, insecure, .. } = info.addr() {
            if *insecure {
                return Err(BadAddress::Unverified);
            }
            ServerName::try_from(host.as_str()).map_err(|_| BadAddress::NoName)?;
        }
        if info.redis_settings().username().is_some() && info.redis_settings().password().is_none() {
            return Err(BadAddress::NoPassword);
        }
        Ok(Self { url: Zeroizing::new(url.into()), info })
    }

    /// What the client library makes of it.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Host and port; none where it is a socket in the file system.
    pub fn host(&self) -> Option<(&str, u16)> {
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } = self.info.addr()
        {
            Some((host, *port))
        } else {
            None
        }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for Address {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.addr().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_database_and_login_and_tells_no_password() {
        for (url, host) in [
            ("redis://redis.internal", ("redis.internal", 6379)),
            ("redis://192.0.2.1:7000/3", ("192.0.2.1", 7000)),
            ("rediss://user:pa%3Ass@[2001:db8::1]:6380/1", ("2001:db8::1", 6380)),
            ("valkey://:secret@valkey.internal", ("valkey.internal", 6379)),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.host(), Some(host), "{url}");
            for shown in [format!("{address}"), format!("{address:?}")] {
                assert!(!shown.contains("ss@") && !shown.contains("secret"), "{shown}");
            }
        }
        let address = Address::parse("redis://user:pa%3Ass@localhost/3").unwrap();
        let settings = address.info().redis_settings();
        assert_eq!(
            (settings.username(), settings.password(), settings.db()),
            (Some("user"), Some("pa:ss"), 3)
        );
        let socket = Address::parse("unix:///run/redis.sock").unwrap();
        assert_eq!((socket.host(), socket.to_string()), (None, "/run/redis.sock".into()));
    }

    #[test]
    fn what_is_no_url_of_redis_is_told() {
        for (url, why) in [
            ("", BadAddress::Unread),
            ("redis.internal:6379", BadAddress::Unread),
            ("http://redis.internal", BadAddress::Unread),
            ("redis://", BadAddress::Unread),
            ("redis://redis.internal/users", BadAddress::Unread),
            ("redis://:pa#ss@redis.internal", BadAddress::Unread),
            ("redis://redis.internal:99999", BadAddress::Unread),
            ("rediss://redis.internal/#insecure", BadAddress::Unverified),
            ("rediss://redis.internal/#nothing", BadAddress::Unread),
            ("redis://secret@redis.internal", BadAddress::NoPassword),
            ("rediss://-redis_1-", BadAddress::NoName),
            ("redis://redis.internal/0?db=1", BadAddress::Unknown),
            ("redis://redis.internal?timeout=1s&protocol=resp3", BadAddress::Unknown),
            ("unix:///run/redis.sock?database=1", BadAddress::Unknown),
        ] {
            assert_eq!(Address::parse(url).unwrap_err(), why, "{url}");
        }
    }
}
