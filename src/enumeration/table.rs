//! The windows of users who are not listed, of which at most so many are remembered.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{Steps, lock, unsettled::Unsettled, window::Window};
use crate::as_it_is::AsItIs;

/// Enough for threads not to wait for each other.
const SHARDS: usize = 16;

/// Which part of a full shard is forgotten at once, so that a flood of names does not turn into a flood of searches.
const FORGOTTEN_AT_ONCE: usize = 16;

/// The windows, by what stands for their users.
#[derive(Debug)]
pub(super) struct Table {
    steps: Steps,
    shards: [Mutex<Shard>; SHARDS],
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    windows: HashMap<u64, Window, BuildHasherDefault<AsItIs>>,
    unsettled: Unsettled,
    capacity: usize,
}

impl Table {
    pub(super) fn new(steps: Steps) -> Self {
        Self { steps, shards: Default::default(), evicted: AtomicU64::new(0) }
    }

    pub(super) const fn steps(&self) -> Steps {
        self.steps
    }

    /// Changes how many users are remembered at most; those beyond it are forgotten when others come.
    pub(super) fn bound(&self, max_users: usize) {
        for shard in &self.shards {
            lock(shard).capacity = max_users.div_ceil(SHARDS);
        }
    }

    /// Does something with a user's window, a new one where the user is not remembered.
    pub(super) fn with<T>(
        &self,
        user: u64,
        step: u32,
        act: impl FnOnce(&mut Window, &mut Unsettled) -> T,
    ) -> T {
        let mut shard = self.shard(user);
        if !shard.windows.contains_key(&user) {
            let evicted = shard.make_room(step);
            self.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
        let Shard { windows, unsettled, .. } = &mut *shard;
        act(windows.entry(user).or_insert_with(|| Window::at(step)), unsettled)
    }

    /// Does something with a user's window, if the user is remembered, and with the calls under way.
    pub(super) fn amend(&self, user: u64, act: impl FnOnce(Option<&mut Window>, &mut Unsettled)) {
        let Shard { windows, unsettled, .. } = &mut *self.shard(user);
        act(windows.get_mut(&user), unsettled);
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).windows.len()).sum()
    }

    pub(super) fn take_evicted(&self) -> u64 {
        self.evicted.swap(0, Ordering::Relaxed)
    }

    pub(super) fn forget_idle(&self, now: Instant) {
        let step = self.steps.at(now);
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.forget_idle(step);
            shard.windows.shrink_to_fit();
        }
    }

    fn shard(&self, user: u64) -> MutexGuard<'_, Shard> {
        // Bits by which the table in it does not tell users apart.
        lock(&self.shards[(user >> 40) as usize % SHARDS])
    }
}

impl Shard {
    fn forget_idle(&mut self, step: u32) {
        self.windows.retain(|_, window| !window.is_over(step));
    }

    /// Makes room for a newcomer; tells how many were forgotten whose values still counted.
    ///
    /// Those with the fewest values go first, of these who was idle for longest. Whoever walks through ids thus cannot have
    /// that forgotten by inventing names, unless each of them asks for more.
    fn make_room(&mut self, step: u32) -> u64 {
        if self.windows.len() < self.capacity {
            return 0;
        }
        self.forget_idle(step);
        if self.windows.len() < self.capacity {
            return 0;
        }
        let too_many = self.windows.len() + 1 - self.capacity;
        let evicted = too_many.max(self.capacity / FORGOTTEN_AT_ONCE).min(self.windows.len());
        let order =
            |(user, window): (&u64, &Window)| (window.last_count(), Reverse(window.steps_since(step)), *user);
        let mut users: Vec<_> = self.windows.iter().map(order).collect();
        if evicted < users.len() {
            users.select_nth_unstable(evicted);
        }
        for (_, _, user) in &users[..evicted] {
            self.windows.remove(user);
        }
        evicted as u64
    }
}
