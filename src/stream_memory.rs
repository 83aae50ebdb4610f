//! The memory that streams of HTTP/2 hold, bounded for each connection and for the process.
//!
//! A head that unpacks to 16 KiB costs its sender a few bytes, and a body may stall for as long as its time lasts. What a
//! stream holds is counted from its head to its end. Who sends much is bounded by its connection, so that ordinary calls
//! which share it with them still find room; all together are bounded by the process, beyond a share that is each
//! connection's own.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::wire::MAX_HEAD;

/// What a stream holds beside its request's head and body, in bytes: its task, and its place in the protocol's layer.
const PER_STREAM: usize = 5 * 1024;

/// How much of its head and body is no stream's excess, in bytes: ordinary calls have no more.
const ORDINARY: usize = 2 * 1024;

/// The most that the streams of one connection hold together in excess of what is ordinary, in bytes.
const MAX_EXCESS: usize = 48 * 1024;

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
    /// By one connection's streams in excess of what is ordinary.
    excess: usize,
    /// By all connections beyond their own shares.
    shared: usize,
}

/// What the streams of one connection hold, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    in_all: usize,
    excess: usize,
}

/// What the streams of one connection hold, and what they may.
#[derive(Debug)]
pub struct ConnectionMemory {
    held: Mutex<Held>,
    limits: Limits,
    shared: Arc<SharedMemory>,
}

impl ConnectionMemory {
    /// That of a connection without a stream. Its own share is one of the longest calls, `max_body` bytes of body with it;
    /// all connections share as many of these as there may be calls in flight.
    pub fn new(shared: Arc<SharedMemory>, max_body: usize, in_flight: usize) -> Arc<Self> {
        let longest = MAX_HEAD + max_body;
        let own = PER_STREAM + longest;
        let limits = Limits { own, excess: MAX_EXCESS.max(longest), shared: own.saturating_mul(in_flight) };
        Arc::new(Self { held: Mutex::default(), limits, shared })
    }

    /// Takes room for a stream whose head has so many bytes.
    ///
    /// # Errors
    /// [`NoMemory`] where it is not ordinary and its connection's streams hold all that they may in excess, or where all
    /// that is shared is taken.
    pub fn open(self: &Arc<Self>, head: usize) -> Result<StreamMemory, NoMemory> {
        self.take(PER_STREAM + head, excess(head))?;
        Ok(StreamMemory { bytes: head, connection: self.clone() })
    }

    fn take(&self, bytes: usize, excess: usize) -> Result<(), NoMemory> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let after = Held { in_all: held.in_all + bytes, excess: held.excess + excess };
        if excess > 0 && after.excess > self.limits.excess {
            return Err(NoMemory);
        }
        let borrowed = self.borrowed(after) - self.borrowed(*held);
        if borrowed > 0 {
            self.shared.take(borrowed, self.limits.shared)?;
        }
        *held = after;
        Ok(())
    }

    fn give_back(&self, bytes: usize, excess: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let after = Held { in_all: held.in_all - bytes, excess: held.excess - excess };
        let borrowed = self.borrowed(*held) - self.borrowed(after);
        if borrowed > 0 {
            self.shared.give_back(borrowed);
        }
        *held = after;
    }

    const fn borrowed(&self, held: Held) -> usize {
        held.in_all.saturating_sub(self.limits.own)
    }
}

/// How much of so many bytes of head and body is more than ordinary.
const fn excess(bytes: usize) -> usize {
    bytes.saturating_sub(ORDINARY)
}

/// What one stream holds, given back when dropped.
#[derive(Debug)]
pub struct StreamMemory {
    /// Of head and body.
    bytes: usize,
    connection: Arc<ConnectionMemory>,
}

impl StreamMemory {
    /// Takes room for so many bytes more.
    ///
    /// # Errors
    /// As of [`ConnectionMemory::open`].
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoMemory> {
        let after = self.bytes + bytes;
        self.connection.take(bytes, excess(after) - excess(self.bytes))?;
        self.bytes = after;
        Ok(())
    }
}

impl Drop for StreamMemory {
    fn drop(&mut self) {
        self.connection.give_back(PER_STREAM + self.bytes, excess(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn shared_of(shared: &SharedMemory) -> usize {
        shared.0.load(Ordering::Relaxed)
    }

    fn held_by(connection: &ConnectionMemory) -> (usize, usize) {
        let Held { in_all, excess } = *connection.held.lock().unwrap();
        (in_all, excess)
    }

    #[test]
    fn few_of_the_longest_fit_and_ordinary_calls_beside_them_whatever_they_hold() {
        let connection = ConnectionMemory::new(Arc::default(), 8 * KIB, 1000);
        let longest: Vec<_> = (0..16).map_while(|_| connection.open(MAX_HEAD).ok()).collect();
        assert_eq!(longest.len(), 3);
        let mut ordinary: Vec<_> = (0..13).map(|_| connection.open(ORDINARY - KIB).unwrap()).collect();
        assert!(ordinary.iter_mut().all(|stream| stream.grow(KIB).is_ok()));
        assert!(longest.len() * (PER_STREAM + MAX_HEAD) + 13 * (PER_STREAM + ORDINARY) < 160 * KIB);
        drop((longest, ordinary));
        // As many as may be open at once may be longer than ordinary.
        let all: Vec<_> = (0..16).map(|_| connection.open(5 * KIB).unwrap()).collect();
        assert_eq!(connection.open(5 * KIB).unwrap_err(), NoMemory);
        drop(all);
        assert_eq!(held_by(&connection), (0, 0));
    }

    #[test]
    fn a_connection_has_a_longest_call_of_its_own_and_takes_the_rest_from_what_is_shared() {
        let shared = Arc::new(SharedMemory::default());
        let connect = || ConnectionMemory::new(shared.clone(), 64 * KIB, 1);
        let (first, second) = (connect(), connect());
        let mut own = first.open(MAX_HEAD).unwrap();
        own.grow(64 * KIB).unwrap();
        assert_eq!(shared_of(&shared), 0);
        let borrowed: Vec<_> = (0..12).map(|_| first.open(KIB).unwrap()).collect();
        assert_eq!(shared_of(&shared), 12 * (PER_STREAM + KIB));
        let mut others = second.open(MAX_HEAD).unwrap();
        others.grow(64 * KIB - 2 * KIB).unwrap();
        // 13 KiB are shared, and 2 its own.
        assert_eq!(second.open(11 * KIB).unwrap_err(), NoMemory);
        let mut more = second.open(KIB).unwrap();
        assert_eq!(more.grow(10 * KIB), Err(NoMemory));
        more.grow(KIB).unwrap();
        assert_eq!(shared_of(&shared), 12 * (PER_STREAM + KIB) + PER_STREAM);
        drop((own, borrowed));
        assert_eq!(shared_of(&shared), PER_STREAM);
        drop((more, others));
        assert_eq!((shared_of(&shared), held_by(&first), held_by(&second)), (0, (0, 0), (0, 0)));
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
            let (in_all, over) = held_by(&connection);
            assert_eq!(in_all, held.iter().map(|stream| PER_STREAM + stream.bytes).sum::<usize>());
            assert_eq!(over, held.iter().map(|stream| excess(stream.bytes)).sum::<usize>());
            assert_eq!(shared_of(&shared), in_all.saturating_sub(connection.limits.own));
        }
        drop(held);
        assert_eq!(shared_of(&shared), 0);
    }
}
