//! What counts as one client: an IPv4 address, or the /64 of an IPv6 address.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// The network of one client. A subscriber of IPv6 has a /64, and all of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientNetwork {
    /// One address.
    V4(u32),
    /// The first 64 bits of its addresses.
    V6(u64),
}

impl ClientNetwork {
    /// The network that an address is in; an IPv4-mapped one counts as IPv4.
    pub const fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl ClientNetwork {
    /// Whether it is within a network, or has that within it.
    pub fn meets(self, network: IpNet) -> bool {
        let first = match self {
            Self::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address)),
            Self::V6(prefix) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(prefix) << 64)),
        };
        network.contains(&first) || (network.addr().is_ipv6() && Self::of(network.addr()) == self)
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4(address) => Ipv4Addr::from_bits(address).fmt(f),
            Self::V6(prefix) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(prefix) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_network_meets_those_around_it_and_those_within() {
        let [v4, v6] = ["192.0.2.9", "2001:db8::9"].map(|client| ClientNetwork::of(client.parse().unwrap()));
        for (network, meets) in [
            ("192.0.2.9/32", [true, false]),
            ("192.0.2.0/24", [true, false]),
            ("192.0.2.8/32", [false, false]),
            ("0.0.0.0/0", [true, false]),
            ("::/0", [false, true]),
            ("2001:db8::/64", [false, true]),
            ("2001:db8::1/128", [false, true]),
            ("2001:db8:0:1::/64", [false, false]),
            ("::ffff:192.0.2.9/128", [true, false]),
        ] {
            let network: IpNet = network.parse().unwrap();
            assert_eq!([v4.meets(network), v6.meets(network)], meets, "{network}");
        }
    }

    #[test]
    fn an_address_belongs_to_itself_or_to_its_64() {
        for (client, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::2:1", "2001:db8::/64"),
            ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
            ("::192.0.2.1", "::/64"),
        ] {
            assert_eq!(ClientNetwork::of(client.parse().unwrap()).to_string(), network, "{client}");
        }
    }
}
