//! Printing to standard output.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use crate::telemetry::log;

/// How long to wait for standard error, whose lines come first.
const FIRST: Duration = Duration::from_secs(1);

/// How far something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    /// All of it.
    Whole,
    /// Until the reader left, who has read what it wanted.
    ReaderLeft,
}

/// Prints a text, after what was said on standard error before it.
///
/// # Errors
/// Those of writing, but for a reader that has left.
pub fn print(text: impl fmt::Display) -> io::Result<Printed> {
    log::flush(FIRST);
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Printed::Whole),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::ReaderLeft),
        Err(error) => Err(error),
    }
}
