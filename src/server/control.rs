//! The thread that starts and ends everything else, and the signals it is told by.

use std::{fmt, io};

use tokio::{
    runtime::{self, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

/// The control thread's runtime, and the signals that the process handles.
///
/// A signal that comes before it is waited for is not lost.
pub struct Control {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) hangup: Signal,
    pub(super) quit: Signal,
    /// A file that has grown to its limit is an error of that write, not the end of the process.
    pub(super) _file_too_large: Signal,
}

impl Control {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// Those of the system.
    pub fn begin() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let signals = Signals {
            // The one that most easily comes early is first.
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        };
        drop(entered);
        Ok(Self { runtime, signals })
    }
}

impl Signals {
    /// Does something that takes its time; `None`: the process was told to end meanwhile.
    pub(super) async fn unless_ended<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => None,
            _ = self.terminate.recv() => None,
            done = something => Some(done),
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}
