//! Threads, which the system may refuse.

use std::{
    io,
    thread::{Builder, JoinHandle},
};

/// Starts a thread of this name.
///
/// # Errors
/// The system's, with the mend.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
        let mend = "raise the limit on threads (TasksMax=, `ulimit -u`)";
        io::Error::new(error.kind(), format!("the thread `{name}` cannot be had: {error}; {mend}"))
    })
}
