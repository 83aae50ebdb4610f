//! The lock under which a trail's file is read at its end and written.

use std::{
    fs::{File, TryLockError},
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Attempts without a pause between them: the lock is usually held for microseconds.
const SPINS: u32 = 64;
/// How long to go on trying: a process that was stopped while it had the lock must not stop this one too.
const LOCK_WITHIN: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_micros(100);

/// How long to wait for the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockWait {
    /// Up to a second.
    Full,
    /// A few attempts: the last wait was in vain, and calls are waiting.
    Short,
}

/// An exclusive lock between processes, until it is dropped.
#[derive(Debug)]
pub(super) struct FileLock(Arc<File>);

impl FileLock {
    /// Takes the file's lock.
    ///
    /// # Errors
    /// `TimedOut` when another process does not give it back, and those of locking.
    pub(super) fn take(file: &Arc<File>, wait: LockWait) -> io::Result<Self> {
        let begun = Instant::now();
        for attempt in 0_u32.. {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file.clone())),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if attempt < SPINS => thread::yield_now(),
                Err(TryLockError::WouldBlock) => {
                    if wait == LockWait::Short || begun.elapsed() > LOCK_WITHIN {
                        break;
                    }
                    thread::sleep(NAP);
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps the audit trail locked"))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::error!(%error, "the audit trail's lock cannot be given back");
        }
    }
}
