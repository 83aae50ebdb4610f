//! How many connections are open, and how many may be.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::yield_now, time::sleep};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{descriptors::LEAVING, gateway::Gateway, serve::IdleConnections};

/// How long a newcomer waits for others to leave, in milliseconds.
const LEFT_WITHIN_MS: usize = 20;

/// The open connections of all workers.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    count: AtomicUsize,
    /// Those that are idle, for each worker.
    idle: Vec<Arc<IdleConnections>>,
    /// Holds a token for each connection and for each loop that accepts them.
    tracker: TaskTracker,
}

impl OpenConnections {
    /// None yet, on so many workers.
    pub(super) fn on(workers: usize) -> Self {
        Self { idle: (0..workers).map(|_| Arc::default()).collect(), ..Self::default() }
    }

    /// The idle ones of each worker.
    pub(super) fn idle(&self) -> &[Arc<IdleConnections>] {
        &self.idle
    }

    /// Asks the connection that is idle for longest to give way; tells whether there is one.
    fn evict(&self) -> bool {
        let longest = self.idle.iter().filter_map(|idle| Some((idle.longest()?, idle)));
        // Another may have been quicker; the next in that list will do.
        longest.min_by_key(|(since, _)| *since).is_some_and(|(_, idle)| idle.ask_longest())
    }

    fn has_idle(&self) -> bool {
        self.idle.iter().any(|idle| idle.longest().is_some())
    }

    /// Has idle connections give way for as long as it is polled, where a reload has lowered how many may be open.
    pub(super) async fn follow(&self, gateway: &Gateway) -> Infallible {
        loop {
            gateway.reloaded.notified().await;
            let surplus = self.count().saturating_sub(gateway.live().shares.connections);
            let _ = (0..surplus).take_while(|_| self.evict()).count();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there are none and will be none.
    pub(super) async fn none(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A loop that accepts connections. Each has its place before the loop ends, so that none is overlooked.
pub(super) struct Accepting {
    pub(super) open: Arc<OpenConnections>,
    _token: TaskTrackerToken,
}

impl Accepting {
    pub(super) fn begin(open: &Arc<OpenConnections>) -> Self {
        Self { open: open.clone(), _token: open.tracker.token() }
    }
}

/// One connection's place among those allowed, given back when dropped.
pub(super) struct Place {
    open: Arc<OpenConnections>,
    gateway: Arc<Gateway>,
    _token: TaskTrackerToken,
}

impl Place {
    /// A place for a newcomer; where all are taken, that of the connection that is idle for longest. None: none is idle.
    pub(super) async fn take(open: &Arc<OpenConnections>, gateway: &Arc<Gateway>) -> Option<Self> {
        for waited in 0..LEFT_WITHIN_MS {
            let before = open.count.fetch_add(1, Ordering::AcqRel);
            gateway.metrics.connections.inc();
            let place = Self { open: open.clone(), gateway: gateway.clone(), _token: open.tracker.token() };
            let most = gateway.live().shares.connections;
            if before < most {
                return Some(place);
            }
            if before < most + LEAVING {
                let gives_way = open.evict();
                if gives_way {
                    // Where it is this worker's, it leaves before there is another newcomer.
                    yield_now().await;
                }
                return gives_way.then_some(place);
            }
            drop(place);
            // Others are on their way out. One may have stayed, for a request that came in that moment.
            let may_leave = if waited == 0 { open.has_idle() } else { open.evict() };
            if !may_leave {
                return None;
            }
            sleep(Duration::from_millis(1)).await;
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.metrics.connections.dec();
        self.open.count.fetch_sub(1, Ordering::AcqRel);
    }
}
