//! The queue of records before the trail's writer, and whether the writer keeps up.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::outcome::RequestId;

/// Orders that may wait before intents are refused: many seconds' worth at any rate a gateway reaches.
const MAX_WAITING: usize = 16_384;

/// The most records that are written at once, so that the file's lock is given back soon.
const MAX_GROUP: usize = 256;

/// The longest that anyone waits for an append.
pub(super) const APPEND_WITHIN: Duration = Duration::from_secs(2);

/// How long the writer may be busy with a group before the trail counts as doubtful.
const DOUBT_AFTER: Duration = Duration::from_millis(200);

/// Why a record is not in the trail. All records of a group share one error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit trail cannot be written: {0}")]
pub struct Unwritable(Arc<io::Error>);

impl Unwritable {
    pub(super) fn late() -> Self {
        io::Error::new(io::ErrorKind::TimedOut, "its writer is stuck").into()
    }

    pub(super) fn ended() -> Self {
        io::Error::new(io::ErrorKind::BrokenPipe, "its writer has ended").into()
    }

    /// What kind of error the system reported.
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Where the writer sends what became of a record.
pub(super) type Reply = oneshot::Sender<Result<(), Unwritable>>;

/// A record on its way to the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) request_id: RequestId,
    /// Its line, but for the digest of the line before and what follows that.
    pub(super) text: Vec<u8>,
    pub(super) kind: EntryKind,
}

/// Which record it is, and who waits for it.
#[derive(Debug)]
pub(super) enum EntryKind {
    /// Not written once nobody waits for it any more: then the call is not forwarded.
    Intent(Reply),
    /// The same, and nothing follows it: an act that nobody waits for is not done.
    Act(Reply),
    /// Written in any case: the call has been forwarded.
    Outcome(Option<Reply>),
}

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Append a record.
    Append(Entry),
    /// Go over to the file that is at the path now.
    Reopen(oneshot::Sender<io::Result<()>>),
    /// Append what waits, and force it to the disk where that is asked for.
    Flush {
        /// Whether the disk must have it too.
        to_disk: bool,
        /// Told once it is done.
        reply: mpsc::SyncSender<io::Result<()>>,
    },
}

/// Orders for the writer, first in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the last record could not be written.
    is_failing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    orders: VecDeque<Order>,
    /// Since when the writer works on what it took last; none while it waits.
    busy_since: Option<Instant>,
    is_waiting: bool,
    is_closed: bool,
}

impl State {
    fn is_busy_for(&self, long: Duration) -> bool {
        self.busy_since.is_some_and(|since| since.elapsed() > long)
    }
}

impl Queue {
    /// Adds an intent or an act, unless the writer is stuck or has fallen far behind.
    pub(super) fn push_intent(&self, entry: Entry) -> Result<(), Unwritable> {
        let state = self.state();
        // Nobody waits for a writer that others have waited for in vain.
        if state.is_busy_for(APPEND_WITHIN) || state.orders.len() >= MAX_WAITING {
            return Err(Unwritable::late());
        }
        self.push_to(state, Order::Append(entry));
        Ok(())
    }

    /// Adds an order. Outcomes are as many as the intents that were written before, at most.
    pub(super) fn push(&self, order: Order) {
        self.push_to(self.state(), order);
    }

    fn push_to(&self, mut state: MutexGuard<'_, State>, order: Order) {
        state.orders.push_back(order);
        let is_waiting = std::mem::take(&mut state.is_waiting);
        drop(state);
        // Waking it costs a system call; while it is busy it looks by itself.
        if is_waiting {
            self.changed.notify_one();
        }
    }

    /// Lets the writer end once it has done what it was told.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// What the writer is to do next, waited for; nothing when `within` has run out. None once all is done
    /// and the queue is closed.
    pub(super) fn next(&self, within: Option<Duration>) -> Option<Vec<Order>> {
        let mut state = self.state();
        state.busy_since = None;
        let until = within.map(|within| Instant::now() + within);
        loop {
            if !state.orders.is_empty() {
                state.busy_since = Some(Instant::now());
                let count = state.orders.len().min(MAX_GROUP);
                return Some(state.orders.drain(..count).collect());
            }
            if state.is_closed {
                return None;
            }
            state.is_waiting = true;
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    state.is_waiting = false;
                    state.busy_since = Some(Instant::now());
                    return Some(Vec::new());
                }
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Whether the last record could not be written, or the present one takes conspicuously long.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_failing() || self.state().is_busy_for(DOUBT_AFTER)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Takes note of whether records can be written, and tells whether that has changed.
    pub(super) fn set_failing(&self, is_failing: bool) -> bool {
        self.is_failing.swap(is_failing, Ordering::Relaxed) != is_failing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
