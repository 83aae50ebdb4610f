//! Who may call: the credentials' own rules, by user.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::credential::{ApiKey, Credentials};
use crate::reason::Reason;

/// The rules of [`Access::judge`].
pub(super) const RULES: &[Reason] = &[Reason::CredentialUnknown, Reason::UserNetwork];

/// The SHA-256 of an api-key: what the configuration knows of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self(digest))
    }

    fn is(&self, other: &Self) -> subtle::Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::LowerHex for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

/// A digest of a weak key gives the key away to whoever guesses.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(***)")
    }
}

/// What a listed user must show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRules {
    /// One key, or two during a rotation; none: any key passes on to n4n.
    pub keys: Option<[KeyDigest; 2]>,
    /// From where the user may call; none: from anywhere.
    pub networks: Option<Vec<IpNet>>,
}

/// How users are told apart from those who only name themselves so.
#[derive(Debug, Clone)]
pub struct Access {
    refuses_unlisted: bool,
    /// Compared with the keys of users who are not listed, so that they take as long to refuse.
    decoy: [KeyDigest; 2],
    /// Whether any key has to be digested at all.
    digests: bool,
}

impl Access {
    /// With these rules for the users that are listed.
    pub fn new<'a>(listed: impl IntoIterator<Item = &'a UserRules>, refuses_unlisted: bool) -> Self {
        let digests = refuses_unlisted || listed.into_iter().any(|rules| rules.keys.is_some());
        Self { refuses_unlisted, decoy: [KeyDigest([0; 32]); 2], digests }
    }

    /// Whether only listed users may call.
    pub const fn refuses_unlisted(&self) -> bool {
        self.refuses_unlisted
    }

    /// Judges a call's credentials; `listed` has the rules of the user that they name, if it is listed.
    ///
    /// # Errors
    /// `credential_unknown` or `user_network`.
    pub fn judge(
        &self,
        credentials: &Credentials,
        listed: Option<&UserRules>,
        client: IpAddr,
    ) -> Result<(), Reason> {
        let expected = listed.and_then(|rules| rules.keys.as_ref());
        let matches = self.digests && matches(&credentials.key, expected.unwrap_or(&self.decoy));
        let known = match (listed, expected) {
            (Some(_), Some(_)) => matches,
            (Some(_), None) => true,
            (None, _) => !self.refuses_unlisted,
        };
        if !known {
            return Err(Reason::CredentialUnknown);
        }
        match listed.and_then(|rules| rules.networks.as_ref()) {
            Some(networks) if !is_in(networks, client) => Err(Reason::UserNetwork),
            Some(_) | None => Ok(()),
        }
    }
}

fn matches(key: &ApiKey, expected: &[KeyDigest; 2]) -> bool {
    let digest = KeyDigest::of(key.as_bytes());
    (digest.is(&expected[0]) | digest.is(&expected[1])).into()
}

/// Whether an address, IPv4-mapped ones as IPv4, is in one of the networks.
pub fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::wire::RequestHead;

    fn credentials(name: &str, key: &str) -> Credentials {
        let fields = [("host", "h"), ("api-username", name), ("api-key", key)];
        let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let head = RequestHead::of_parts("PATCH", "/", &fields, false).unwrap();
        Credentials::of(head.fields(), false).unwrap()
    }

    fn keys(old: &str, new: &str) -> Option<[KeyDigest; 2]> {
        Some([old, new].map(|key| KeyDigest::of(key.as_bytes())))
    }

    #[test]
    fn users_are_known_by_key_and_network() {
        let networks = Some(vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let users = HashMap::from([
            ("keyed", UserRules { keys: keys("old", "new"), networks: None }),
            ("placed", UserRules { keys: None, networks: networks.clone() }),
            ("both", UserRules { keys: keys("k", "k"), networks }),
        ]);
        let [open, closed] =
            [false, true].map(|refuses_unlisted| Access::new(users.values(), refuses_unlisted));
        for (name, key, client, in_open, in_closed) in [
            ("keyed", "old", "203.0.113.1", Ok(()), Ok(())),
            ("keyed", "new", "203.0.113.1", Ok(()), Ok(())),
            ("keyed", "other", "203.0.113.1", Err("credential_unknown"), Err("credential_unknown")),
            ("placed", "any", "192.0.2.9", Ok(()), Ok(())),
            ("placed", "any", "::ffff:192.0.2.9", Ok(()), Ok(())),
            ("placed", "any", "2001:db8::9", Ok(()), Ok(())),
            ("placed", "any", "203.0.113.1", Err("user_network"), Err("user_network")),
            ("both", "x", "203.0.113.1", Err("credential_unknown"), Err("credential_unknown")),
            ("both", "k", "203.0.113.1", Err("user_network"), Err("user_network")),
            ("nobody", "k", "192.0.2.9", Ok(()), Err("credential_unknown")),
            ("Keyed", "old", "192.0.2.9", Ok(()), Err("credential_unknown")),
        ] {
            for (access, want) in [(&open, in_open), (&closed, in_closed)] {
                let verdict = access.judge(&credentials(name, key), users.get(name), client.parse().unwrap());
                assert_eq!(verdict.map_err(Reason::code), want, "{name} {key} {client}");
            }
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_writes_and_is_not_shown() {
        let digest = KeyDigest::of(b"44b5498dbcb481a0d00b404c0169af62");
        let text = format!("{digest:x}");
        assert_eq!(KeyDigest::parse(&text), Some(digest));
        assert_eq!(KeyDigest::parse(&text.to_uppercase()), Some(digest));
        assert!(!format!("{digest:?}").contains(&text[..8]));
        for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(KeyDigest::parse(text), None, "{text}");
        }
    }
}
