//! A worker's idle connections in the order in which they became idle, so that the one idle for longest can give way.
//!
//! Connections come and go in this list once a request, so it is one worker's own, and its lock is nearly always free:
//! others take it only where a newcomer finds no room.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

/// No place in the list.
const NONE: u32 = u32::MAX;

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub struct IdleConnections(Mutex<List>);

/// A list whose entries stay where they are.
#[derive(Debug)]
struct List {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    /// The one idle for longest.
    first: u32,
    last: u32,
}

/// One connection.
#[derive(Debug)]
struct Entry {
    standing: Standing,
    before: u32,
    behind: u32,
    since: Instant,
    task: Waker,
}

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has a request, or is no connection any more.
    Busy,
    /// It waits for a request, in the list.
    Idle,
    /// It is to give way.
    Asked,
}

impl Default for List {
    fn default() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new(), first: NONE, last: NONE }
    }
}

impl List {
    fn entry(&mut self, at: u32) -> &mut Entry {
        &mut self.entries[at as usize]
    }

    fn enlist(&mut self) -> u32 {
        self.vacant.pop().unwrap_or_else(|| {
            let at =
                u32::try_from(self.entries.len()).expect("there are fewer connections than file descriptors");
            let (before, behind, since) = (NONE, NONE, Instant::now());
            self.entries.push(Entry {
                standing: Standing::Busy,
                before,
                behind,
                since,
                task: Waker::noop().clone(),
            });
            at
        })
    }

    /// Puts an entry behind all others.
    fn append(&mut self, at: u32, since: Instant) {
        let last = std::mem::replace(&mut self.last, at);
        let entry = self.entry(at);
        (entry.standing, entry.since, entry.before, entry.behind) = (Standing::Idle, since, last, NONE);
        match last {
            NONE => self.first = at,
            last => self.entry(last).behind = at,
        }
    }

    /// Takes an entry out.
    fn remove(&mut self, at: u32) {
        let Entry { before, behind, .. } = *self.entry(at);
        match before {
            NONE => self.first = behind,
            before => self.entry(before).behind = behind,
        }
        match behind {
            NONE => self.last = before,
            behind => self.entry(behind).before = before,
        }
    }
}

impl IdleConnections {
    /// Since when the connection is idle that is so for longest; none: there is none.
    pub fn longest(&self) -> Option<Instant> {
        let list = self.lock();
        list.entries.get(list.first as usize).map(|entry| entry.since)
    }

    /// Asks the connection that is idle for longest to give way; tells whether there is one.
    pub fn ask_longest(&self) -> bool {
        let mut list = self.lock();
        let at = list.first;
        if at == NONE {
            return false;
        }
        list.remove(at);
        let entry = list.entry(at);
        entry.standing = Standing::Asked;
        let task = entry.task.clone();
        drop(list);
        task.wake();
        true
    }

    /// A connection's entry; it is not idle yet.
    pub(super) fn enlist(self: &Arc<Self>) -> Membership {
        Membership { at: self.lock().enlist(), list: self.clone(), is_asked: false }
    }

    /// No step can leave the list half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's entry among the idle ones, for as long as it is open.
#[derive(Debug)]
pub(super) struct Membership {
    list: Arc<IdleConnections>,
    at: u32,
    is_asked: bool,
}

impl Membership {
    /// Is idle, since a time, for as long as what it returns is polled and kept; that ends when the connection is to give
    /// way to another.
    pub(super) const fn idle(&mut self, since: Instant) -> Idle<'_> {
        Idle { membership: self, since, is_listed: false }
    }

    /// Whether it was to give way while it was idle, be it that a request came in that moment.
    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut list = self.list.lock();
        let entry = list.entry(self.at);
        (entry.standing, entry.task) = (Standing::Busy, Waker::noop().clone());
        list.vacant.push(self.at);
    }
}

/// A connection's wait to be asked to give way.
#[derive(Debug)]
pub(super) struct Idle<'a> {
    membership: &'a mut Membership,
    since: Instant,
    is_listed: bool,
}

impl Future for Idle<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { membership: Membership { list, at, .. }, since, is_listed } = self.get_mut();
        let mut list = list.lock();
        if !*is_listed {
            list.append(*at, *since);
            *is_listed = true;
        }
        let entry = list.entry(*at);
        if entry.standing == Standing::Asked {
            return Poll::Ready(());
        }
        // Nearly always the task that it was the last time.
        if !entry.task.will_wake(cx.waker()) {
            entry.task.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        if !self.is_listed {
            return;
        }
        let Membership { list, at, is_asked } = &mut *self.membership;
        let mut list = list.lock();
        if list.entry(*at).standing == Standing::Idle {
            list.remove(*at);
        } else {
            *is_asked = true;
        }
        list.entry(*at).standing = Standing::Busy;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    /// Polls a wait once; whether it is over.
    fn is_over(idle: &mut Idle<'_>) -> bool {
        idle.now_or_never().is_some()
    }

    #[test]
    fn the_one_idle_for_longest_is_asked_and_nobody_who_is_busy() {
        let (idle, start) = (Arc::new(IdleConnections::default()), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let mut members: Vec<_> = (0..4).map(|_| idle.enlist()).collect();
        assert!(idle.longest().is_none() && !idle.ask_longest());
        let mut waits: Vec<_> =
            members.iter_mut().zip(0..).map(|(member, second)| member.idle(at(second))).collect();
        assert!(!waits.iter_mut().any(is_over));
        assert_eq!(idle.longest(), Some(at(0)));
        // The first and the third have requests.
        drop(waits.remove(2));
        drop(waits.remove(0));
        assert_eq!(idle.longest(), Some(at(1)));
        assert!(idle.ask_longest());
        assert!(is_over(&mut waits[0]) && !is_over(&mut waits[1]));
        assert_eq!(idle.longest(), Some(at(3)));
        assert!(idle.ask_longest() && !idle.ask_longest());
        drop(waits);
        let asked: Vec<_> = members.iter().map(Membership::is_asked).collect();
        assert_eq!(asked, [false, true, false, true]);
    }

    #[test]
    fn whoever_is_idle_again_comes_last_and_places_are_used_again() {
        let (idle, start) = (Arc::new(IdleConnections::default()), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let (mut one, mut other) = (idle.enlist(), idle.enlist());
        for second in 0..100 {
            let (mut first, mut second) = (one.idle(at(2 * second)), other.idle(at(2 * second + 1)));
            assert!(!is_over(&mut first) && !is_over(&mut second));
            drop(first);
            assert_eq!(idle.longest(), Some(second.since));
        }
        assert!(idle.longest().is_none());
        drop((one, other));
        let _again = (0..2).map(|_| idle.enlist()).collect::<Vec<_>>();
        assert_eq!(idle.lock().entries.len(), 2);
    }

    #[tokio::test]
    async fn the_task_that_waits_is_woken() {
        let idle = Arc::new(IdleConnections::default());
        let mut member = idle.enlist();
        let waiting = tokio::spawn(async move {
            member.idle(Instant::now()).await;
            member.is_asked()
        });
        while !idle.ask_longest() {
            tokio::task::yield_now().await;
        }
        assert!(waiting.await.unwrap());
    }
}
