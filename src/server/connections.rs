//! How many connections are open, and how many may be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::gateway::Gateway;

/// How many connections are open, over all workers.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    count: AtomicUsize,
    /// Loops that may yet accept another.
    accepting: AtomicUsize,
    ended: Notify,
}

impl OpenConnections {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there are none and will be none.
    pub(super) async fn none(&self) {
        loop {
            let ended = self.ended.notified();
            // In this order: a loop that ends has counted what it accepted.
            if self.accepting.load(Ordering::Acquire) == 0 && self.count() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// A loop that accepts connections, for as long as it does.
pub(super) struct Accepting(pub(super) Arc<OpenConnections>);

impl Accepting {
    pub(super) fn begin(open: &Arc<OpenConnections>) -> Self {
        open.accepting.fetch_add(1, Ordering::AcqRel);
        Self(open.clone())
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

/// One connection's place among those allowed, given back when dropped.
pub(super) struct Place {
    open: Arc<OpenConnections>,
    gateway: Arc<Gateway>,
}

impl Place {
    pub(super) fn take(open: &Arc<OpenConnections>, gateway: &Arc<Gateway>) -> Option<Self> {
        let before = open.count.fetch_add(1, Ordering::AcqRel);
        gateway.metrics.connections.inc();
        let place = Self { open: open.clone(), gateway: gateway.clone() };
        (before < gateway.live().shares.connections).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.metrics.connections.dec();
        if self.open.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.open.ended.notify_waiters();
        }
    }
}
