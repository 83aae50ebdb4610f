//! The client's address: the peer's, or what trusted proxies say of it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::access::is_in;
use crate::{
    reason::Reason,
    wire::{Fields, fields::list},
};

/// Which networks may call, and which proxies are trusted.
#[derive(Debug, Clone)]
pub struct Clients {
    /// From where calls are accepted.
    pub networks: Vec<IpNet>,
    /// From where they are not, although it is within the networks.
    pub denied: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Clients {
    /// Judges a client's [address](Self::address).
    ///
    /// # Errors
    /// `client_not_allowed` for one outside the networks, `client_denied` for one that is kept out.
    pub fn judge(&self, client: IpAddr) -> Result<(), Reason> {
        if !is_in(&self.networks, client) {
            Err(Reason::ClientNotAllowed)
        } else if is_in(&self.denied, client) {
            Err(Reason::ClientDenied)
        } else {
            Ok(())
        }
    }

    /// The peer; or, where that is a trusted proxy, the right-most entry of `X-Forwarded-For` that is none.
    ///
    /// Entries further left are whatever the client cared to write. Where every entry is a trusted proxy,
    /// the left-most is the client. `None` for an entry that cannot be read.
    pub fn address(&self, peer: IpAddr, fields: Fields<'_>) -> Option<IpAddr> {
        let mut client = peer.to_canonical();
        if self.trusted_proxies.is_empty() {
            return Some(client);
        }
        let mut entries = fields.all("x-forwarded-for").rev().flat_map(|line| list(line).rev());
        while is_in(&self.trusted_proxies, client) {
            let Some(entry) = entries.next() else { break };
            client = entry_address(entry)?;
        }
        Some(client)
    }
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn entry_address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    let literal =
        || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(literal)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::{FieldSpan, Span};

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|network| network.parse().unwrap()).collect()
    }

    #[test]
    fn the_client_is_who_the_last_trusted_proxy_saw() {
        let clients = Clients {
            networks: networks(&["0.0.0.0/0", "::/0"]),
            denied: Vec::new(),
            trusted_proxies: networks(&["10.0.0.0/8", "fd00::/8"]),
        };
        for (peer, lines, client) in [
            ("192.0.2.1", &[][..], Some("192.0.2.1")),
            ("192.0.2.1", &["203.0.113.9"], Some("192.0.2.1")),
            ("::ffff:192.0.2.1", &["203.0.113.9"], Some("192.0.2.1")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["203.0.113.9"], Some("203.0.113.9")),
            ("::ffff:10.0.0.1", &["203.0.113.9"], Some("203.0.113.9")),
            ("10.0.0.1", &["203.0.113.9:4711"], Some("203.0.113.9")),
            ("10.0.0.1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["[2001:db8::1]"], Some("2001:db8::1")),
            ("10.0.0.1", &["[2001:db8::1]:80"], Some("2001:db8::1")),
            ("10.0.0.1", &["::ffff:203.0.113.9"], Some("203.0.113.9")),
            ("fd00::1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"], Some("203.0.113.9")),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9", "10.0.0.2"], Some("203.0.113.9")),
            ("10.0.0.1", &["1.1.1.1, , 203.0.113.9,"], Some("203.0.113.9")),
            ("10.0.0.1", &["unknown, 203.0.113.9"], Some("203.0.113.9")),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.1", &[""], Some("10.0.0.1")),
            ("10.0.0.1", &["203.0.113.9, unknown"], None),
            ("10.0.0.1", &["203.0.113.9, 10.0.0.2 x"], None),
            ("10.0.0.1", &["_hidden"], None),
            ("10.0.0.1", &["1.2.3.4:99999"], None),
            ("10.0.0.1", &["203.0.113.9;10.0.0.2"], None),
            ("10.0.0.1", &["\u{e9}"], None),
        ] {
            let name = "X-Forwarded-For";
            let mut bytes = Vec::from(name);
            let name = Span::between(0, bytes.len()).unwrap();
            let mut spans = Vec::new();
            for line in lines {
                let start = bytes.len();
                bytes.extend_from_slice(line.as_bytes());
                spans.push(FieldSpan { name, value: Span::between(start, bytes.len()).unwrap() });
            }
            let fields = Fields::new(&bytes, &spans);
            let want = client.map(|client| client.parse::<IpAddr>().unwrap());
            assert_eq!(clients.address(peer.parse().unwrap(), fields), want, "{peer} {lines:?}");
        }
    }

    #[test]
    fn only_the_networks_may_call_and_of_them_those_that_are_not_denied() {
        let clients = Clients {
            networks: networks(&["192.0.2.0/24", "2001:db8::/32"]),
            denied: networks(&["192.0.2.64/26", "198.51.100.0/24", "2001:db8:0:bad::/64"]),
            trusted_proxies: Vec::new(),
        };
        for (client, verdict) in [
            ("192.0.2.1", Ok(())),
            ("::ffff:192.0.2.1", Ok(())),
            ("2001:db8::1", Ok(())),
            ("192.0.3.1", Err("client_not_allowed")),
            ("198.51.100.1", Err("client_not_allowed")),
            ("2001:db9::1", Err("client_not_allowed")),
            ("::1", Err("client_not_allowed")),
            ("192.0.2.64", Err("client_denied")),
            ("::ffff:192.0.2.127", Err("client_denied")),
            ("2001:db8:0:bad::1", Err("client_denied")),
            ("192.0.2.128", Ok(())),
        ] {
            assert_eq!(clients.judge(client.parse().unwrap()).map_err(Reason::code), verdict, "{client}");
        }
    }
}
