//! How many connections are open, and how many may be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::gateway::Gateway;

/// The open connections of all workers.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    count: AtomicUsize,
    /// Holds a token for each connection and for each loop that accepts them.
    tracker: TaskTracker,
}

impl OpenConnections {
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
    pub(super) fn take(open: &Arc<OpenConnections>, gateway: &Arc<Gateway>) -> Option<Self> {
        let before = open.count.fetch_add(1, Ordering::AcqRel);
        gateway.metrics.connections.inc();
        let place = Self { open: open.clone(), gateway: gateway.clone(), _token: open.tracker.token() };
        (before < gateway.live().shares.connections).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.metrics.connections.dec();
        self.open.count.fetch_sub(1, Ordering::AcqRel);
    }
}
