//! Who may call: the credentials' own rules, by user.

use std::net::IpAddr;

use ipnet::IpNet;

pub use super::key_digest::KeyDigest;
use super::{
    KnownKeys,
    credential::{ApiKey, ApiUsername, Credentials},
};
use crate::reason::Reason;

/// The rules of [`Access::judge`].
pub(super) const RULES: &[Reason] = &[Reason::CredentialUnknown, Reason::UserDisabled, Reason::UserNetwork];

/// What a listed user must show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRules {
    /// One key, or two during a rotation; none: any key passes on to n4n.
    pub keys: Option<[KeyDigest; 2]>,
    /// From where the user may call; none: from anywhere.
    pub networks: Option<Vec<IpNet>>,
    /// Whether the user may not call at all.
    pub is_disabled: bool,
}

/// A listed user, as far as it matters to the rules.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name in its listed spelling.
    pub name: &'a ApiUsername,
    /// What the user must show.
    pub rules: &'a UserRules,
}

/// How users are told apart from those who only name themselves so.
#[derive(Debug, Clone)]
pub struct Access {
    refuses_unlisted: bool,
    /// Compared with the keys of users who are not listed, so that they take as long to refuse.
    decoy: [KeyDigest; 2],
    /// Whether any key has to be digested at all.
    digests: bool,
    /// What is known of the listed users' keys.
    pub known: KnownKeys,
}

impl Access {
    /// With these rules for the users that are listed, by name.
    pub fn new<'a>(
        listed: impl IntoIterator<Item = (&'a str, &'a UserRules)> + Clone,
        refuses_unlisted: bool,
    ) -> Self {
        let digests = refuses_unlisted || listed.clone().into_iter().any(|(_, rules)| rules.keys.is_some());
        let keys = |rules: &'a UserRules| rules.keys.as_ref().map_or(&[][..], |keys| keys);
        let known = KnownKeys::of(listed.into_iter().map(|(name, rules)| (name, keys(rules))));
        Self { refuses_unlisted, decoy: [KeyDigest::OF_NOTHING; 2], digests, known }
    }

    /// Whether there are keys that can be wrong, or users that are refused.
    pub const fn judges_keys(&self) -> bool {
        self.digests
    }

    /// Whether only listed users may call.
    pub const fn refuses_unlisted(&self) -> bool {
        self.refuses_unlisted
    }

    /// Judges a call's credentials; `listed` has the rules of the user that they name, if it is listed.
    ///
    /// # Errors
    /// `credential_unknown`, `user_disabled` or `user_network`.
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
        if listed.is_some_and(|rules| rules.is_disabled) {
            return Err(Reason::UserDisabled);
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
            ("keyed", UserRules { keys: keys("old", "new"), ..UserRules::default() }),
            ("placed", UserRules { networks: networks.clone(), ..UserRules::default() }),
            ("both", UserRules { keys: keys("k", "k"), networks: networks.clone(), is_disabled: false }),
            ("out", UserRules { keys: keys("k", "k"), networks, is_disabled: true }),
            ("open-and-out", UserRules { is_disabled: true, ..UserRules::default() }),
        ]);
        let [open, closed] = [false, true].map(|refuses_unlisted| {
            Access::new(users.iter().map(|(name, rules)| (*name, rules)), refuses_unlisted)
        });
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
            ("out", "x", "203.0.113.1", Err("credential_unknown"), Err("credential_unknown")),
            ("out", "k", "203.0.113.1", Err("user_disabled"), Err("user_disabled")),
            ("out", "k", "192.0.2.9", Err("user_disabled"), Err("user_disabled")),
            ("open-and-out", "any", "192.0.2.9", Err("user_disabled"), Err("user_disabled")),
            ("nobody", "k", "192.0.2.9", Ok(()), Err("credential_unknown")),
            ("Keyed", "old", "192.0.2.9", Ok(()), Err("credential_unknown")),
        ] {
            for (access, want) in [(&open, in_open), (&closed, in_closed)] {
                let verdict = access.judge(&credentials(name, key), users.get(name), client.parse().unwrap());
                assert_eq!(verdict.map_err(Reason::code), want, "{name} {key} {client}");
            }
        }
    }
}
