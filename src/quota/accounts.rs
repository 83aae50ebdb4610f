//! A bounded table of accounts, and where those are counted for whom it has no room.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use governor::{nanos::Nanos, state::StateStore};

use super::{
    cell::Cell,
    limiter::{Inquiry, Store},
    shard::{Entry, Fingerprint, Shard, Standing},
};
use crate::client_network::ClientNetwork;

/// Accounts, of which at most so many are remembered.
///
/// Names are kept as fingerprints under a random key: their length costs nothing and none can be made to collide.
#[derive(Debug)]
pub(super) struct Accounts {
    shards: Box<[Mutex<Shard>]>,
    overflow: Overflow,
    fingerprint_keys: [RandomState; 2],
    forgotten: AtomicU64,
}

/// Where newcomers are counted for whom there is no room.
#[derive(Debug)]
enum Overflow {
    /// All of them share one account.
    Together(Cell),
    /// Those from one network share one, as long as there is room for that.
    ByNetwork(Box<Accounts>),
}

/// An account that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sought {
    /// Whose it is.
    pub(super) account: Fingerprint,
    /// Where its user calls from, if that matters.
    pub(super) from: Option<ClientNetwork>,
}

/// Below this many users a table is not worth splitting.
const SPLIT_FROM: usize = 4096;

/// Enough for threads not to wait for each other.
const SHARDS: usize = 16;

/// How many shards a table of so many users has.
const fn shards_for(max_users: usize) -> usize {
    if max_users < SPLIT_FROM { 1 } else { SHARDS }
}

/// How many of so many users one shard has room for; over all shards it is exactly so many.
const fn share(max_users: usize, shards: usize, index: usize) -> usize {
    max_users / shards + (index < max_users % shards) as usize
}

impl Accounts {
    /// A table whose newcomers share one account once it is full.
    pub(super) fn up_to(capacity: usize) -> Self {
        Self::with(capacity, Overflow::Together(Cell::default()))
    }

    /// A table of users, of which those from one network may take but a part; they share an account beyond that.
    pub(super) fn of_users(max_users: usize) -> Self {
        Self::with(max_users, Overflow::ByNetwork(Box::new(Self::up_to(max_users))))
    }

    fn with(capacity: usize, overflow: Overflow) -> Self {
        let shards = shards_for(capacity);
        Self {
            shards: (0..shards).map(|index| Mutex::new(Shard::of(share(capacity, shards, index)))).collect(),
            overflow,
            fingerprint_keys: [RandomState::new(), RandomState::new()],
            forgotten: AtomicU64::new(0),
        }
    }

    /// Changes how many accounts are remembered at most; those beyond it are forgotten as they become whole. Gives
    /// the table that takes over with these accounts, where so many need one of other shards.
    pub(super) fn bound(&self, capacity: usize) -> Option<Self> {
        if self.shards.len() != shards_for(capacity) {
            return Some(self.split_for(capacity));
        }
        for (index, shard) in self.shards.iter().enumerate() {
            lock(shard).bound(share(capacity, self.shards.len(), index));
        }
        if let Overflow::ByNetwork(networks) = &self.overflow {
            // It has as many shards as this table has.
            networks.bound(capacity);
        }
        None
    }

    fn split_for(&self, capacity: usize) -> Self {
        let overflow = match &self.overflow {
            Overflow::Together(shared) => {
                let cell = Cell::default();
                cell.set(shared.whole_at());
                Overflow::Together(cell)
            }
            Overflow::ByNetwork(networks) => Overflow::ByNetwork(Box::new(networks.split_for(capacity))),
        };
        let table =
            Self { fingerprint_keys: self.fingerprint_keys.clone(), ..Self::with(capacity, overflow) };
        table.count_forgotten(usize::try_from(self.take_forgotten()).unwrap_or(usize::MAX));
        for shard in &self.shards {
            for (account, entry) in lock(shard).entries() {
                table.shard(account).add(account, entry);
            }
        }
        table
    }

    pub(super) fn fingerprint(&self, name: impl Hash) -> Fingerprint {
        Fingerprint([self.fingerprint_keys[0].hash_one(&name), self.fingerprint_keys[1].hash_one(&name)])
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub(super) fn take_forgotten(&self) -> u64 {
        self.forgotten.swap(0, Ordering::Relaxed)
    }

    pub(super) fn forget_idle(&self, now: u64) {
        for shard in &self.shards {
            self.count_forgotten(lock(shard).forget_idle(now));
        }
        if let Overflow::ByNetwork(networks) = &self.overflow {
            networks.forget_idle(now);
        }
    }

    /// Makes an account whole at another time, if it is remembered or there is room to.
    pub(super) fn set(&self, sought: Sought, whole_at: u64, now: u64) {
        let mut shard = self.shard(sought.account);
        if let Some(known) = shard.whole_at(sought.account) {
            *known = whole_at;
        } else if self.has_room(&mut shard, Standing::New(sought.from), now) {
            shard.add(sought.account, Entry { whole_at, standing: Standing::New(sought.from) });
        }
    }

    /// When an account is whole, if it is remembered.
    pub(super) fn whole_at(&self, account: Fingerprint) -> Option<u64> {
        self.shard(account).whole_at(account).copied()
    }

    /// Makes an account whole, if it is remembered, and tells whether it is.
    pub(super) fn reset(&self, account: Fingerprint, now: u64) -> bool {
        self.shard(account).whole_at(account).map(|known| *known = now.min(*known)).is_some()
    }

    /// Takes note that n4n has let a user in, who gets a place now, where there is one and the user has none.
    pub(super) fn know(&self, account: Fingerprint, now: u64) {
        let mut shard = self.shard(account);
        if !shard.know(account) && self.has_room(&mut shard, Standing::Known, now) {
            shard.add(account, Entry { whole_at: now, standing: Standing::Known });
        }
    }

    /// Decides by when an account is whole, or the one that is shared by those for whom there is no room; leaves that in
    /// `observed`.
    fn decide<T, F, E>(
        &self,
        sought: Sought,
        now: u64,
        observed: &std::cell::Cell<u64>,
        decide: F,
    ) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(sought.account);
        if let Some(whole_at) = shard.whole_at(sought.account) {
            observed.set(*whole_at);
            let (outcome, next) = decide(Some(Nanos::new(*whole_at)))?;
            *whole_at = next.as_u64();
            observed.set(next.as_u64());
            return Ok(outcome);
        }
        let standing = Standing::New(sought.from);
        if self.has_room(&mut shard, standing, now) {
            observed.set(now);
            let (outcome, next) = decide(None)?;
            observed.set(next.as_u64());
            shard.add(sought.account, Entry { whole_at: next.as_u64(), standing });
            return Ok(outcome);
        }
        drop(shard);
        match &self.overflow {
            Overflow::Together(shared) => shared.decide(observed, decide),
            Overflow::ByNetwork(networks) => {
                let account = networks.fingerprint(sought.from);
                networks.decide(Sought { account, from: None }, now, observed, decide)
            }
        }
    }

    fn has_room(&self, shard: &mut Shard, standing: Standing, now: u64) -> bool {
        let mut forgotten = 0;
        let has_room = shard.has_room(standing, now, &mut forgotten);
        self.count_forgotten(forgotten);
        has_room
    }

    fn shard(&self, account: Fingerprint) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(account.0[1] % self.shards.len() as u64) as usize])
    }

    fn count_forgotten(&self, accounts: usize) {
        self.forgotten.fetch_add(accounts as u64, Ordering::Relaxed);
    }
}

/// A panic elsewhere cannot leave a shard half-changed, so a poisoned lock is as good as any.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateStore for Accounts {
    type Key = Inquiry<Sought>;

    fn measure_and_replace<T, F, E>(&self, inquiry: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.decide(inquiry.key, inquiry.now, &inquiry.whole_at, decide)
    }
}

impl Store for Accounts {
    type Account = Sought;
}
