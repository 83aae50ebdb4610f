//! The memory that streams of HTTP/2 hold, bounded for each connection and for the process.
//!
//! A head that unpacks to 16 KiB costs its sender a few bytes, and a body may stall for as long as its time lasts. What a
//! stream holds is counted from its head to its end: each connection has a share of its own, which nobody takes from it,
//! and beyond that takes from what all share.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::wire::MAX_HEAD;

/// What a stream holds beside its request's head and body, in bytes: its task, and its place in the protocol's layer.
const PER_STREAM: usize = 5 * 1024;

/// The most that the streams of one connection hold together, in bytes: as many ordinary calls as may be open at once, or
/// some of the longest.
const PER_CONNECTION: usize = 128 * 1024;

/// What the streams of all connections hold beyond the connections' own shares, in bytes.
#[derive(Debug, Default)]
pub struct SharedMemory(AtomicUsize);

impl SharedMemory {
    fn take(&self, bytes: usize, most: usize) -> Result<(), NoMemory> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(bytes).filter(|taken| *taken <= most)
        });
        taken.map(drop).map_err(|_| NoMemory)
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// There is no memory for what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

/// How much may be held, in bytes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// By one connection, whatever others hold.
    own: usize,
    /// By one connection in all.
    connection: usize,
    /// By all connections beyond their own shares.
    shared: usize,
}

/// What the streams of one connection hold.
#[derive(Debug)]
pub struct ConnectionMemory {
    held: Mutex<usize>,
    limits: Limits,
    shared: Arc<SharedMemory>,
}

impl ConnectionMemory {
    /// That of a connection without a stream. Its own share is one of the longest calls, `max_body` bytes of body with it;
    /// all connections share as many of these as there may be calls in flight.
    pub fn new(shared: Arc<SharedMemory>, max_body: usize, in_flight: usize) -> Arc<Self> {
        let own = PER_STREAM + MAX_HEAD + max_body;
        let limits =
            Limits { own, connection: own.max(PER_CONNECTION), shared: own.saturating_mul(in_flight) };
        Arc::new(Self { held: Mutex::new(0), limits, shared })
    }

    /// Takes room for a stream whose head has so many bytes.
    ///
    /// # Errors
    /// [`NoMemory`] where the connection holds all that it may, or all that is shared is taken.
    pub fn open(self: &Arc<Self>, head: usize) -> Result<StreamMemory, NoMemory> {
        let bytes = PER_STREAM + head;
        self.take(bytes)?;
        Ok(StreamMemory { bytes, connection: self.clone() })
    }

    fn take(&self, bytes: usize) -> Result<(), NoMemory> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let after = *held + bytes;
        if after > self.limits.connection {
            return Err(NoMemory);
        }
        let borrowed = self.beyond_own(after) - self.beyond_own(*held);
        if borrowed > 0 {
            self.shared.take(borrowed, self.limits.shared)?;
        }
        *held = after;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let after = *held - bytes;
        let borrowed = self.beyond_own(*held) - self.beyond_own(after);
        if borrowed > 0 {
            self.shared.give_back(borrowed);
        }
        *held = after;
    }

    fn beyond_own(&self, held: usize) -> usize {
        held.saturating_sub(self.limits.own)
    }
}

/// What one stream holds, given back when dropped.
#[derive(Debug)]
pub struct StreamMemory {
    bytes: usize,
    connection: Arc<ConnectionMemory>,
}

impl StreamMemory {
    /// Takes room for so many bytes more.
    ///
    /// # Errors
    /// As of [`ConnectionMemory::open`].
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoMemory> {
        self.connection.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for StreamMemory {
    fn drop(&mut self) {
        self.connection.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn shared_of(shared: &SharedMemory) -> usize {
        shared.0.load(Ordering::Relaxed)
    }

    #[test]
    fn sixteen_ordinary_calls_fit_and_few_of_the_longest() {
        let connection = ConnectionMemory::new(Arc::default(), 8 * KIB, 1000);
        let ordinary: Vec<_> = (0..16).map(|_| connection.open(2 * KIB).unwrap()).collect();
        assert_eq!(ordinary.len(), 16);
        drop(ordinary);
        let longest: Vec<_> = (0..16).map_while(|_| connection.open(MAX_HEAD).ok()).collect();
        assert_eq!(longest.len(), 6);
    }

    #[test]
    fn a_connection_has_a_longest_call_of_its_own_and_takes_the_rest_from_what_is_shared() {
        let shared = Arc::new(SharedMemory::default());
        let connect = || ConnectionMemory::new(shared.clone(), 64 * KIB, 1);
        let (first, second) = (connect(), connect());
        let mut own = first.open(MAX_HEAD).unwrap();
        own.grow(64 * KIB).unwrap();
        assert_eq!(shared_of(&shared), 0);
        let borrowed = first.open(MAX_HEAD).unwrap();
        assert_eq!(shared_of(&shared), PER_STREAM + MAX_HEAD);
        let mut others = second.open(MAX_HEAD).unwrap();
        others.grow(64 * KIB).unwrap();
        // Another 64 KiB are shared.
        let mut more = second.open(MAX_HEAD).unwrap();
        assert_eq!(more.grow(50 * KIB), Err(NoMemory));
        more.grow(20 * KIB).unwrap();
        drop(own);
        drop(borrowed);
        assert_eq!(shared_of(&shared), PER_STREAM + MAX_HEAD + 20 * KIB);
        drop(more);
        drop(others);
        assert_eq!(
            (shared_of(&shared), *first.held.lock().unwrap(), *second.held.lock().unwrap()),
            (0, 0, 0)
        );
    }

    #[test]
    fn what_is_given_back_in_any_order_comes_to_nothing() {
        let shared = Arc::new(SharedMemory::default());
        let connection = ConnectionMemory::new(shared.clone(), 8 * KIB, 2);
        let mut held = Vec::new();
        for round in 0..1000_usize {
            match connection.open(round * 37 % MAX_HEAD) {
                Ok(memory) if round % 3 > 0 => held.push(memory),
                Ok(_) | Err(NoMemory) => drop(held.pop()),
            }
            let in_all = *connection.held.lock().unwrap();
            assert_eq!(in_all, held.iter().map(|memory| memory.bytes).sum::<usize>());
            assert_eq!(shared_of(&shared), in_all.saturating_sub(connection.limits.own));
        }
        drop(held);
        assert_eq!(shared_of(&shared), 0);
    }
}
