//! A part of a table of accounts: who is remembered, and who is forgotten for whom.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    time::Duration,
};

use super::limiter::nanos;
use crate::{as_it_is::AsItIs, client_network::ClientNetwork};

/// The part of all places that newcomers from one network may take.
const SHARE: usize = 16;

/// How long a user is remembered whom n4n has let in, once the account is whole again.
const KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What stands for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) [u64; 2]);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Whose an account is, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// A name that n4n has never let in. Its place is one of those of the network that it first came from, if it came from one.
    New(Option<ClientNetwork>),
    /// A user whom n4n has let in.
    Known,
}

/// One account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// When it is whole again.
    pub(super) whole_at: u64,
    pub(super) standing: Standing,
}

impl Entry {
    fn is_new(&self) -> bool {
        self.standing != Standing::Known
    }

    fn is_idle(&self, now: u64) -> bool {
        self.whole_at <= now
    }
}

/// Accounts, of which at most so many are remembered.
///
/// One that is whole again says nothing that a new one would not but whose it is, so that it can be forgotten: first those
/// that n4n has never let in.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<Fingerprint, Entry, BuildHasherDefault<AsItIs>>,
    /// How many places newcomers from each network have.
    places: HashMap<ClientNetwork, usize>,
    known: usize,
    capacity: usize,
    /// Before this, looking for accounts to forget would find too few to pay for the search.
    next_search: u64,
    /// The same of users whom n4n has let in.
    next_search_of_known: u64,
}

impl Shard {
    pub(super) fn of(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Changes how many are remembered at most.
    pub(super) fn bound(&mut self, capacity: usize) {
        self.capacity = capacity;
        (self.next_search, self.next_search_of_known) = (0, 0);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Fingerprint, Entry)> {
        self.entries.iter().map(|(&account, &entry)| (account, entry))
    }

    /// When an account is whole, if it is remembered.
    pub(super) fn whole_at(&mut self, account: Fingerprint) -> Option<&mut u64> {
        self.entries.get_mut(&account).map(|entry| &mut entry.whole_at)
    }

    /// Remembers an account that was not.
    pub(super) fn add(&mut self, account: Fingerprint, entry: Entry) {
        match entry.standing {
            Standing::New(Some(network)) => *self.places.entry(network).or_default() += 1,
            Standing::New(None) => {}
            Standing::Known => self.known += 1,
        }
        self.entries.insert(account, entry);
    }

    /// Takes note that n4n has let an account's user in; tells whether it is remembered.
    pub(super) fn know(&mut self, account: Fingerprint) -> bool {
        let Some(entry) = self.entries.get_mut(&account) else { return false };
        if let Standing::New(network) = std::mem::replace(&mut entry.standing, Standing::Known) {
            self.known += 1;
            network.into_iter().for_each(|network| give_back(&mut self.places, network));
        }
        true
    }

    /// Whether there is room for one more, if need be once others are forgotten; adds how many were to `forgotten`.
    pub(super) fn has_room(&mut self, standing: Standing, now: u64, forgotten: &mut usize) -> bool {
        if self.is_full_for(standing) && now >= self.next_search {
            let found = self.forget(|entry| entry.is_new() && entry.is_idle(now));
            self.next_search = self.search_again(found, now);
            *forgotten += found;
        }
        // Those who keep coming leave half of the places to users whom n4n has let in.
        let may_take = standing == Standing::Known || self.len() - self.known <= self.capacity / 2;
        if self.len() >= self.capacity && may_take && now >= self.next_search_of_known {
            let found = self.forget_longest_idle(now);
            self.next_search_of_known = self.search_again(found, now);
            *forgotten += found;
        }
        !self.is_full_for(standing)
    }

    /// When to search again. A search that finds next to nothing is not repeated until a sixteenth of the time has gone
    /// by in which the fullest account becomes whole, so that a flood of names does not turn into a flood of searches.
    fn search_again(&self, found: usize, now: u64) -> u64 {
        if found * 64 >= self.capacity {
            return now;
        }
        let last = self.entries.values().map(|entry| entry.whole_at).max().unwrap_or(now);
        now + last.saturating_sub(now) / 16
    }

    fn is_full_for(&self, standing: Standing) -> bool {
        let has_its_share = match standing {
            Standing::New(Some(network)) => {
                self.places.get(&network).is_some_and(|&places| places >= (self.capacity / SHARE).max(1))
            }
            Standing::New(None) | Standing::Known => false,
        };
        has_its_share || self.len() >= self.capacity
    }

    /// Forgets whoever says nothing any more; gives the memory back, and tells how many they were.
    pub(super) fn forget_idle(&mut self, now: u64) -> usize {
        let long_ago = now.saturating_sub(nanos(KNOWN_FOR));
        let forgotten = self.forget(|entry| entry.is_idle(if entry.is_new() { now } else { long_ago }));
        self.entries.shrink_to_fit();
        self.places.shrink_to_fit();
        forgotten
    }

    /// Forgets some of the known users whose accounts are whole, those that have been so for longest.
    fn forget_longest_idle(&mut self, now: u64) -> usize {
        let idle = self.entries.values().filter(|entry| !entry.is_new() && entry.is_idle(now));
        let mut times: Vec<u64> = idle.map(|entry| entry.whole_at).collect();
        if times.is_empty() {
            return 0;
        }
        let last = times.len() / 8;
        let until = *times.select_nth_unstable(last).1;
        self.forget(|entry| !entry.is_new() && entry.whole_at <= until)
    }

    fn forget(&mut self, is_forgotten: impl Fn(&Entry) -> bool) -> usize {
        let Self { entries, places, known, .. } = self;
        let before = entries.len();
        entries.retain(|_, entry| {
            if !is_forgotten(entry) {
                return true;
            }
            match entry.standing {
                Standing::New(Some(network)) => give_back(places, network),
                Standing::New(None) => {}
                Standing::Known => *known -= 1,
            }
            false
        });
        before - entries.len()
    }
}

/// Gives a network's place back.
fn give_back(places: &mut HashMap<ClientNetwork, usize>, network: ClientNetwork) {
    if let Some(taken) = places.get_mut(&network) {
        *taken -= 1;
        if *taken == 0 {
            places.remove(&network);
        }
    }
}
