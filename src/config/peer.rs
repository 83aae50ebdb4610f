//! One entry of `upstream.peers`.

use std::sync::Arc;

use toml::de::DeValue;

use super::{table::Value, units::HostPort};
use crate::tls::Name;

/// An n4n host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHost {
    /// Where it is.
    pub address: HostPort,
    /// The name that its certificate must be for; none: that of all peers.
    pub name: Option<Arc<Name>>,
}

impl PeerHost {
    /// What it is called where `upstream.host` says nothing.
    pub(super) fn host(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.host.clone(), |name| name.to_string())
    }
}

impl Value for PeerHost {
    const EXPECTED: &'static str = "a host and a port, such as \"n4n-1.internal:443\" or \"[2001:db8::1]:80\", or, for a certificate \
         of its own name, { address = \"10.0.0.2:443\", name = \"n4n-2.internal\" }";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let Some(table) = value.as_table() else {
            return address(value).map(|address| Self { address, name: None });
        };
        let known = ["address", "name"];
        if let Some((key, _)) = table.iter().find(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            return Err(Some(format!("has the unknown key `{}`, beside address and name", key.get_ref())));
        }
        let part = |key: &str| table.get(key).map(|value| value.get_ref());
        let written = part("address").ok_or_else(|| Some("has no `address`".to_owned()))?;
        let name = part("name").map(|name| {
            let name = name.as_str().and_then(Name::of_host).map(Arc::new);
            name.ok_or_else(|| Some("has a `name` that no certificate can be checked for".to_owned()))
        });
        Ok(Self { address: address(written)?, name: name.transpose()? })
    }
}

/// A peer's host and port; a URL in their place is told by its scheme.
fn address(value: &DeValue<'_>) -> Result<HostPort, Option<String>> {
    let text = value.as_str().ok_or(None)?;
    let begins =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if begins("https://") {
        return Err(Some("is a URL: for TLS, set upstream.tls = {} instead of https://".into()));
    }
    if begins("http://") {
        return Err(Some(
            "is a URL: leave out http://, which is spoken where there is no upstream.tls".into(),
        ));
    }
    HostPort::read(value).map_err(|reason| {
        let is_bare = HostPort::parse(&format!("{text}:1")).is_some();
        if is_bare { Some("has no port".into()) } else { reason }
    })
}
