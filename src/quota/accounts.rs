//! Where accounts are kept: a cell for a listed user, a bounded table for the rest.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use governor::{nanos::Nanos, state::StateStore};

use super::limiter::{Inquiry, Store};

/// The account of one listed user: when it is whole again, zero while it was never used.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// When it is whole again; zero while it was never used.
    pub(super) fn whole_at(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Makes it whole at another time.
    pub(super) fn set(&self, whole_at: u64) {
        self.0.store(whole_at, Ordering::Release);
    }

    fn decide<T, F, E>(&self, observed: &std::cell::Cell<u64>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut whole_at = self.0.load(Ordering::Acquire);
        loop {
            observed.set(whole_at);
            let (outcome, next) = decide((whole_at != 0).then(|| Nanos::new(whole_at)))?;
            let next = next.as_u64();
            match self.0.compare_exchange_weak(whole_at, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    observed.set(next);
                    return Ok(outcome);
                }
                Err(current) => whole_at = current,
            }
        }
    }
}

impl StateStore for Cell {
    type Key = Inquiry<()>;

    fn measure_and_replace<T, F, E>(&self, inquiry: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.decide(&inquiry.whole_at, decide)
    }
}

impl Store for Cell {
    type Account = ();
}

/// The accounts of unlisted users, of which at most so many are remembered.
///
/// An account that is whole again says nothing that a new one would not, so it can be forgotten. Names
/// are kept as fingerprints under a random key: their length costs nothing and none can be made to collide.
#[derive(Debug)]
pub(super) struct Accounts {
    shards: Box<[Mutex<Shard>]>,
    /// When the account is whole that newcomers share for whom there is no room.
    shared: Cell,
    fingerprint_keys: [RandomState; 2],
    forgotten: AtomicU64,
}

/// What stands for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u64; 2]);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// A fingerprint is random already and need not be hashed again.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, &byte| sum.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[derive(Debug)]
struct Shard {
    /// When each account is whole again.
    accounts: HashMap<Fingerprint, u64, BuildHasherDefault<AsItIs>>,
    capacity: usize,
    /// Before this, looking for accounts to forget would find too few to pay for the search.
    next_search: u64,
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
    pub(super) fn up_to(max_users: usize) -> Self {
        let shards = shards_for(max_users);
        let shard = |index| Shard {
            accounts: HashMap::default(),
            capacity: share(max_users, shards, index),
            next_search: 0,
        };
        Self {
            shards: (0..shards).map(|index| Mutex::new(shard(index))).collect(),
            shared: Cell::default(),
            fingerprint_keys: [RandomState::new(), RandomState::new()],
            forgotten: AtomicU64::new(0),
        }
    }

    /// Changes how many accounts are remembered at most; those beyond it are forgotten as they become whole. Gives
    /// the table that takes over with these accounts, where so many need one of other shards.
    pub(super) fn bound(&self, max_users: usize) -> Option<Self> {
        if self.shards.len() != shards_for(max_users) {
            return Some(self.split_for(max_users));
        }
        for (index, shard) in self.shards.iter().enumerate() {
            lock(shard).capacity = share(max_users, self.shards.len(), index);
        }
        None
    }

    fn split_for(&self, max_users: usize) -> Self {
        let table = Self { fingerprint_keys: self.fingerprint_keys.clone(), ..Self::up_to(max_users) };
        table.shared.set(self.shared.whole_at());
        table.count_forgotten(usize::try_from(self.take_forgotten()).unwrap_or(usize::MAX));
        for shard in &self.shards {
            for (&account, &whole_at) in &lock(shard).accounts {
                table.shard(account).accounts.insert(account, whole_at);
            }
        }
        table
    }

    pub(super) fn fingerprint(&self, name: impl Hash) -> Fingerprint {
        Fingerprint([self.fingerprint_keys[0].hash_one(&name), self.fingerprint_keys[1].hash_one(&name)])
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).accounts.len()).sum()
    }

    pub(super) fn take_forgotten(&self) -> u64 {
        self.forgotten.swap(0, Ordering::Relaxed)
    }

    pub(super) fn forget_idle(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.count_forgotten(shard.forget_idle(now));
            shard.accounts.shrink_to_fit();
        }
    }

    /// Makes an account whole at another time, if it is remembered or there is room to.
    pub(super) fn set(&self, account: Fingerprint, whole_at: u64, now: u64) {
        let mut shard = self.shard(account);
        if !shard.accounts.contains_key(&account) {
            self.count_forgotten(shard.make_room(now));
        }
        if shard.accounts.len() < shard.capacity || shard.accounts.contains_key(&account) {
            shard.accounts.insert(account, whole_at);
        }
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

impl Shard {
    fn forget_idle(&mut self, now: u64) -> usize {
        let before = self.accounts.len();
        self.accounts.retain(|_, whole_at| *whole_at > now);
        before - self.accounts.len()
    }

    /// Makes room for a newcomer if accounts can be forgotten; tells how many were.
    ///
    /// A search that finds nothing is not repeated until a sixteenth of the time has gone by in which the
    /// fullest account becomes whole, so that a flood of names does not turn into a flood of searches.
    fn make_room(&mut self, now: u64) -> usize {
        if self.accounts.len() < self.capacity || now < self.next_search {
            return 0;
        }
        let forgotten = self.forget_idle(now);
        let last = self.accounts.values().max().copied().unwrap_or(now);
        self.next_search = now + last.saturating_sub(now) / 16;
        forgotten
    }
}

impl StateStore for Accounts {
    type Key = Inquiry<Fingerprint>;

    fn measure_and_replace<T, F, E>(&self, inquiry: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(inquiry.key);
        let known = shard.accounts.get(&inquiry.key).copied();
        if known.is_none() {
            self.count_forgotten(shard.make_room(inquiry.now));
            if shard.accounts.len() >= shard.capacity {
                drop(shard);
                return self.shared.decide(&inquiry.whole_at, decide);
            }
        }
        inquiry.whole_at.set(known.unwrap_or(inquiry.now));
        let (outcome, next) = decide(known.map(Nanos::new))?;
        inquiry.whole_at.set(next.as_u64());
        shard.accounts.insert(inquiry.key, next.as_u64());
        Ok(outcome)
    }
}

impl Store for Accounts {
    type Account = Fingerprint;
}
