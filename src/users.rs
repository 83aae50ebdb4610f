//! The listed users: what each must show, has left of its quota, and is counted by.

use std::{collections::HashMap, sync::Arc, time::Instant};

use crate::{
    config::User,
    enumeration::{Limit, Watch, Watched},
    outcome::UserCounters,
    policy::{ApiUsername, Listed, UserRules},
    quota::{Account, Balance, ListedAccount, Quota},
    telemetry::metrics::Metrics,
};

/// Every listed user, by its name in lower case.
#[derive(Debug)]
pub struct Users(HashMap<Arc<str>, Arc<ListedUser>>);

/// A listed user.
#[derive(Debug)]
pub struct ListedUser {
    /// The api-username, as it is listed.
    pub name: ApiUsername,
    /// What the user must show.
    pub rules: UserRules,
    /// The user's requests.
    pub counters: UserCounters,
    account: Option<Arc<ListedAccount>>,
    watch: Option<Watch>,
}

impl Users {
    /// The users that are listed; those without a quota of their own have the one for all, if there is one.
    ///
    /// A user of `previous` who has not changed is kept, and the account of one whose numbers have not.
    pub fn open(
        listed: &[User],
        quota_for_all: Option<Quota>,
        metrics: &Metrics,
        previous: Option<&Self>,
        now: Instant,
    ) -> Self {
        let open = |user: &User| {
            let quota = user.quota.or(quota_for_all);
            let name = ApiUsername::from(&*user.name);
            let known = previous.and_then(|previous| previous.find(name.folded()));
            let is_unchanged = |known: &ListedUser| {
                known.name.as_str() == user.name
                    && (&known.rules, known.quota(), known.limit()) == (&user.rules, quota, user.enumeration)
            };
            let user = match known.filter(|known| is_unchanged(known)) {
                Some(unchanged) => unchanged.clone(),
                None => Arc::new(ListedUser::open(user, quota, known.map(|known| &**known), metrics, now)),
            };
            (name.folded().into(), user)
        };
        Self(listed.iter().map(open).collect())
    }

    /// The listed user of this name in lower case.
    pub fn find(&self, folded: &str) -> Option<&Arc<ListedUser>> {
        self.0.get(folded)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &ListedUser> {
        self.0.values().map(|user| &**user)
    }
}

impl ListedUser {
    fn open(
        user: &User,
        quota: Option<Quota>,
        previous: Option<&Self>,
        metrics: &Metrics,
        now: Instant,
    ) -> Self {
        let kept = previous.filter(|previous| previous.quota() == quota);
        Self {
            name: ApiUsername::from(&*user.name),
            rules: user.rules.clone(),
            counters: metrics.user_counters(&user.name),
            account: match kept {
                Some(kept) => kept.account.clone(),
                None => quota.map(|quota| Arc::new(ListedAccount::open(quota, now))),
            },
            watch: user
                .enumeration
                .map(|limit| Watch::open(limit, previous.and_then(|previous| previous.watch.as_ref()), now)),
        }
    }

    /// What the rules have to know of the user.
    pub const fn as_listed(&self) -> Listed<'_> {
        Listed { name: &self.name, rules: &self.rules }
    }

    /// The quota that applies to the user, if any does.
    pub fn quota(&self) -> Option<Quota> {
        self.account.as_ref().map(|account| account.quota())
    }

    /// The account that the user's calls are taken from; none where no quota applies.
    pub fn account(&self) -> Option<Account<'_>> {
        self.account.as_deref().map(Account::from)
    }

    /// How many different customers the user may ask for, if there is a limit.
    pub fn limit(&self) -> Option<Limit> {
        self.watch.as_ref().map(Watch::limit)
    }

    /// What the user asked for; none where no limit applies.
    pub fn watched(&self) -> Option<Watched<'_>> {
        self.watch.as_ref().map(Watch::watched)
    }

    /// Makes the user's quota whole; tells whether one applies.
    pub fn reset_quota(&self) -> bool {
        self.account.as_ref().map(|account| account.reset()).is_some()
    }

    /// What is left of the user's quota; none where no quota applies.
    pub fn balance(&self, now: Instant) -> Option<Balance> {
        self.account.as_ref().map(|account| account.balance(now))
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::policy::access::KeyDigest;

    fn burst_of(burst: u32) -> Quota {
        let burst = NonZeroU32::new(burst).unwrap();
        Quota { requests: NonZeroU32::MIN, per: Duration::from_secs(60), burst }
    }

    fn user(name: &str, key: Option<&str>, burst: Option<u32>) -> User {
        let keys = key.map(|key| [KeyDigest::of(key.as_bytes()); 2]);
        let rules = UserRules { keys, ..UserRules::default() };
        User { name: name.into(), rules, quota: burst.map(burst_of), enumeration: None }
    }

    /// How many calls pass at that moment; none where no quota says so.
    fn passed(users: &Users, name: &str, now: Instant) -> Option<usize> {
        let account = users.find(name).unwrap().account()?;
        Some((0..100).filter(|_| account.spend(now).is_ok()).count())
    }

    #[test]
    fn a_users_quota_is_its_own_or_the_one_for_all() {
        let (metrics, now) = (Metrics::new(), Instant::now());
        let listed = [user("own", None, Some(2)), user("default", None, None)];
        let users = Users::open(&listed, Some(burst_of(5)), &metrics, None, now);
        assert_eq!((passed(&users, "own", now), passed(&users, "default", now)), (Some(2), Some(5)));
        let users = Users::open(&listed, None, &metrics, None, now);
        assert_eq!((passed(&users, "own", now), passed(&users, "default", now)), (Some(2), None));
        assert!(users.find("unlisted").is_none());
    }

    #[test]
    fn who_has_not_changed_is_kept_across_a_reload() {
        let (metrics, start) = (Metrics::new(), Instant::now());
        let before = [
            user("same", Some("k"), Some(5)),
            user("default", None, None),
            user("rekeyed", Some("old"), Some(5)),
            user("raised", None, Some(5)),
            user("bound", None, Some(4)),
            user("gone", None, Some(5)),
        ];
        let before = Users::open(&before, Some(burst_of(4)), &metrics, None, start);
        for user in before.iter() {
            assert!(passed(&before, user.name.folded(), start) > Some(1), "{:?}", user.name);
            user.counters[0].inc();
        }
        let after = [
            user("same", Some("k"), Some(5)),
            user("default", None, None),
            user("rekeyed", Some("new"), Some(5)),
            user("raised", None, Some(6)),
            // What was the user's own is now the one for all, with the same numbers.
            user("bound", None, None),
            user("new", None, Some(2)),
        ];
        let now = start + Duration::from_secs(1);
        let after = Users::open(&after, Some(burst_of(4)), &metrics, Some(&before), now);
        for (name, is_kept, left, counted) in [
            ("same", true, 0, 1),
            ("default", true, 0, 1),
            ("rekeyed", false, 0, 1),
            ("raised", false, 6, 1),
            ("bound", true, 0, 1),
            ("new", false, 2, 0),
        ] {
            let user = after.find(name).unwrap();
            let is_same = before.find(name).is_some_and(|before| Arc::ptr_eq(before, user));
            assert_eq!(is_same, is_kept, "{name}");
            assert_eq!(passed(&after, name, now), Some(left), "{name}");
            assert_eq!(user.counters[0].get(), counted, "{name}");
        }
        assert!(after.find("gone").is_none());
        let rekeyed = &after.find("rekeyed").unwrap().rules;
        assert_eq!(rekeyed.keys, Some([KeyDigest::of(b"new"); 2]), "the new rules hold");
    }

    #[test]
    fn an_account_that_is_kept_goes_by_the_time_it_was_opened_at() {
        let (metrics, start) = (Metrics::new(), Instant::now());
        let listed = [user("ada", None, Some(1))];
        let mut users = Users::open(&listed, None, &metrics, None, start);
        assert_eq!(passed(&users, "ada", start + Duration::from_secs(90)), Some(1));
        let rekeyed = [user("ada", Some("k"), Some(1))];
        for (listed, after, passes) in [(&listed, 100, 0), (&rekeyed, 149, 0), (&listed, 150, 1)] {
            let now = start + Duration::from_secs(after);
            users = Users::open(listed, None, &metrics, Some(&users), now);
            assert_eq!(passed(&users, "ada", now), Some(passes), "after {after} s");
        }
    }
}
