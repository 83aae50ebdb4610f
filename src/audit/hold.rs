//! The lock under which a trail's file is read at its end and written.

use std::{
    fs::{File, TryLockError},
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How often a lock that another process has is asked for at once: it is held for microseconds.
const SPINS: u32 = 64;
/// How long it is asked for after that. A process that was stopped while it had the lock must not stop this
/// one too.
const LOCK_WITHIN: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_micros(100);

/// How long to ask for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as a process that is well can have it.
    Full,
    /// A moment: the time before it was in vain, and calls are waiting.
    Short,
}

/// An exclusive lock between processes, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold(Arc<File>);

impl Hold {
    /// Takes the file's lock.
    ///
    /// # Errors
    /// `TimedOut` when another process does not give it back, and those of locking.
    pub(super) fn take(file: &Arc<File>, patience: Patience) -> io::Result<Self> {
        let begun = Instant::now();
        for attempt in 0_u32.. {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file.clone())),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if attempt < SPINS => thread::yield_now(),
                Err(TryLockError::WouldBlock) => {
                    if patience == Patience::Short || begun.elapsed() > LOCK_WITHIN {
                        break;
                    }
                    thread::sleep(NAP);
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps the audit trail locked"))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::error!(%error, "the audit trail's lock cannot be given back");
        }
    }
}
