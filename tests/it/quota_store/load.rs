//! Callers that call on and on, and what became of each call.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Call, DEADLINE, Wire};

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Which of the gateways it went to.
    pub(super) gateway: usize,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) status: u16,
    /// Whether the answer told a balance.
    pub(super) has_balance: bool,
}

impl Sample {
    pub(super) fn took(&self) -> Duration {
        self.answered - self.sent
    }
}

/// Callers at work.
pub(super) struct Load {
    samples: Arc<(Mutex<Vec<Sample>>, Condvar)>,
    is_over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many callers, each with a connection to each gateway, calling them in turn at this pace.
    pub(super) fn start(gateways: &[SocketAddr], callers: usize, pace: Duration) -> Self {
        let samples: Arc<(Mutex<Vec<Sample>>, Condvar)> = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let mut wires: Vec<Wire> = gateways.iter().map(|&gateway| Wire::connect(gateway)).collect();
            let (samples, is_over) = (Arc::clone(&samples), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut next = Instant::now();
                while !is_over.load(Ordering::Relaxed) {
                    for (gateway, wire) in wires.iter_mut().enumerate() {
                        let sent = Instant::now();
                        let answer = wire.call(&Call::unlock());
                        let answered = Instant::now();
                        let has_balance = answer.field("RateLimit").is_some();
                        let status = answer.status();
                        samples.0.lock().unwrap().push(Sample {
                            gateway,
                            sent,
                            answered,
                            status,
                            has_balance,
                        });
                        samples.1.notify_all();
                        next += pace;
                        thread::sleep(next.saturating_duration_since(Instant::now()));
                    }
                }
            })
        };
        let callers = (0..callers).map(caller).collect();
        Self { samples, is_over, callers }
    }

    /// Waits until the samples so far are as they should be; panics at the deadline.
    pub(super) fn wait_until(&self, what: &str, is_so: impl Fn(&[Sample]) -> bool) {
        let samples = self.samples.0.lock().unwrap();
        let waited = self.samples.1.wait_timeout_while(samples, DEADLINE, |samples| !is_so(samples));
        let (samples, result) = waited.unwrap();
        assert!(!result.timed_out(), "not {what}: {:#?}", samples.iter().rev().take(20).collect::<Vec<_>>());
    }

    /// Waits until each gateway has answered so many calls more.
    pub(super) fn go_on_for(&self, calls: usize) {
        let begin = self.samples.0.lock().unwrap().len();
        self.wait_until("more calls", |samples| samples.len() >= begin + calls);
    }

    /// Ends it; gives every call in the order of the answers.
    pub(super) fn end(self) -> Vec<Sample> {
        self.is_over.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        std::mem::take(&mut *self.samples.0.lock().unwrap())
    }
}
