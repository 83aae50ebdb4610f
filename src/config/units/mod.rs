//! Values of the configuration that have a unit or a form of their own.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use http::{Method, StatusCode};
use ipnet::IpNet;
use toml::de::DeValue;

use super::table::Value;
use crate::policy::access::KeyDigest;

/// A span of time above zero, written `"250ms"`, `"2s"`, `"5m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// The longest period that is taken: nothing here waits for longer than a year.
const LONGEST: u64 = 366 * 24 * 60 * 60 * 1000;

impl Value for Period {
    const EXPECTED: &'static str =
        "a duration such as \"250ms\", \"2s\", \"5m\" or \"1h\", above zero and at most a year";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let (count, unit) = split_unit(text).ok_or_else(|| Some("is no duration".into()))?;
        let millis = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60 * 1000),
            "h" => Some(60 * 60 * 1000),
            _ => None,
        }
        .ok_or_else(|| Some("has no unit that is known".to_owned()))?;
        match count.checked_mul(millis) {
            Some(0) => Err(Some("is zero".into())),
            Some(millis) if millis <= LONGEST => Ok(Self(Duration::from_millis(millis))),
            _ => Err(Some("is too long".into())),
        }
    }
}

/// A number of bytes above zero, written `"512B"`, `"8KiB"`, `"1MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) usize);

impl Value for ByteSize {
    const EXPECTED: &'static str = "a size such as \"512B\", \"8KiB\" or \"1MiB\", above zero";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let (count, unit) = split_unit(text).ok_or_else(|| Some("is no size".into()))?;
        let bytes = match unit {
            "B" => Some(1),
            "KiB" => Some(1024),
            "MiB" => Some(1024 * 1024),
            _ => None,
        }
        .ok_or_else(|| Some("has no unit that is known".to_owned()))?;
        match count.checked_mul(bytes).and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(0) => Err(Some("is zero".into())),
            Some(bytes) => Ok(Self(bytes)),
            None => Err(Some("is too large".into())),
        }
    }
}

/// Splits digits from the unit behind them.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

impl Value for NonZeroU32 {
    const EXPECTED: &'static str = "a whole number from 1 to 4294967295";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let integer = value.as_integer().ok_or(None)?;
        let digits = integer.as_str();
        match i128::from_str_radix(digits, integer.radix()) {
            Ok(0) => Err(Some("is zero".into())),
            Ok(number) if number < 0 => Err(Some("is negative".into())),
            number => number
                .ok()
                .and_then(|number| u32::try_from(number).ok())
                .and_then(Self::new)
                .ok_or_else(|| Some("is too large".into())),
        }
    }
}

impl Value for StatusCode {
    const EXPECTED: &'static str = "statuses such as 200 or 302, without quotes, from 200 to 599";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let integer = value.as_integer().ok_or(None)?;
        let status = u16::from_str_radix(integer.as_str(), integer.radix()).ok();
        let status = status.filter(|status| (200..=599).contains(status));
        let status = status.and_then(|status| Self::from_u16(status).ok());
        status.ok_or_else(|| Some("is no status of a final answer".into()))
    }
}

impl Value for Method {
    const EXPECTED: &'static str = "\"GET\", \"HEAD\" or \"OPTIONS\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        match value.as_str().ok_or(None)? {
            "GET" => Ok(Self::GET),
            "HEAD" => Ok(Self::HEAD),
            "OPTIONS" => Ok(Self::OPTIONS),
            _ => Err(Some("is no method that changes nothing".into())),
        }
    }
}

impl Value for IpNet {
    const EXPECTED: &'static str = "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let network: Self = text.parse().map_err(|_| match text.parse::<IpAddr>() {
            Ok(address) => Some(format!("is a bare address: as a network it is \"{}\"", Self::from(address))),
            Err(_) => Some("is no network".to_owned()),
        })?;
        match network {
            Self::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() => {
                Err(Some("is IPv4 written as IPv6, which no address ever is here".into()))
            }
            Self::V4(_) | Self::V6(_) if network.trunc() == network => Ok(network),
            Self::V4(_) | Self::V6(_) => {
                Err(Some(format!("has bits set behind its prefix: the network is \"{}\"", network.trunc())))
            }
        }
    }
}

impl Value for KeyDigest {
    const EXPECTED: &'static str = "the 64 hexadecimal digits that `n4n-gateway hash-key` prints";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        Self::parse(value.as_str().ok_or(None)?).ok_or_else(|| Some("is no SHA-256 digest".into()))
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = "an address with a port, such as \"0.0.0.0:8080\" or \"[::]:8080\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        value.as_str().ok_or(None)?.parse().map_err(|_| Some("is no address with a port".into()))
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The name, or the address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port`, an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(literal) => {
                let literal = literal.strip_suffix(']')?;
                literal.parse::<std::net::Ipv6Addr>().ok()?;
                return Some(Self { host: literal.into(), port });
            }
            None => host,
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_name)).then(|| Self { host: host.into(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Value for HostPort {
    const EXPECTED: &'static str =
        "a host and a port, such as \"n4n-1.internal:443\" or \"[2001:db8::1]:80\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        Self::parse(value.as_str().ok_or(None)?).ok_or_else(|| Some("is no host with a port".into()))
    }
}

#[cfg(test)]
mod tests;
