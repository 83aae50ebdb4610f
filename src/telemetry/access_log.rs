//! One JSON object per request, written by a thread of its own.
//!
//! Requests write their line into a bounded buffer and go on; the writer takes the buffer whole. When it
//! cannot keep up, lines are dropped and counted, and no request ever waits.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use prometheus::IntCounter;

use super::line::{self, Second};
use crate::{config::AccessSink, outcome::Record};

/// How many bytes of lines may wait for the writer.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// How long the writer gathers lines, so that a busy gateway does not wake it for every one.
const GATHER: Duration = Duration::from_millis(5);

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    sink: AccessSink,
    shared: Arc<Shared>,
    dropped: IntCounter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    second: Second,
    /// What the writer writes to from now on.
    replacement: Option<File>,
    is_closed: bool,
}

impl AccessLog {
    /// Opens the log and starts its writer; `None` where it is off.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(sink: &AccessSink, dropped: IntCounter) -> io::Result<Option<Self>> {
        let output: Box<dyn Write + Send> = match sink {
            AccessSink::Off => return Ok(None),
            AccessSink::Stdout => Box::new(io::stdout()),
            AccessSink::File(path) => Box::new(append(path)?),
        };
        let shared = Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new() });
        let writers = shared.clone();
        let writer =
            thread::Builder::new().name("access-log".into()).spawn(move || write_all(&writers, output))?;
        Ok(Some(Self { sink: sink.clone(), shared, dropped, writer: Mutex::new(Some(writer)) }))
    }

    /// Hands a request's line to the writer, or drops it when too many are waiting.
    pub fn write(&self, record: &Record<'_>) {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.is_closed || waiting.lines.len() >= MAX_WAITING {
            self.dropped.inc();
            return;
        }
        let was_empty = waiting.lines.is_empty();
        let Waiting { lines, second, .. } = &mut *waiting;
        line::write(lines, second, record);
        drop(waiting);
        if was_empty {
            self.shared.changed.notify_one();
        }
    }

    /// Opens the log's file again, after it was moved away.
    ///
    /// # Errors
    /// Those of opening the file; then the old one goes on being written.
    pub fn reopen(&self) -> io::Result<()> {
        if let AccessSink::File(path) = &self.sink {
            lock(&self.shared.waiting).replacement = Some(append(path)?);
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    /// Writes what is waiting and stops the writer; what comes later is dropped.
    pub fn close(&self) {
        lock(&self.shared.waiting).is_closed = true;
        self.shared.changed.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the access log's writer had failed");
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_all(shared: &Shared, mut output: Box<dyn Write + Send>) {
    let mut lines = Vec::new();
    let mut is_failing = false;
    loop {
        let mut waiting = lock(&shared.waiting);
        while waiting.lines.is_empty() && waiting.replacement.is_none() && !waiting.is_closed {
            waiting = shared.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if !waiting.is_closed {
            waiting = shared.changed.wait_timeout(waiting, GATHER).unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_closed = waiting.is_closed;
        let replacement = waiting.replacement.take();
        std::mem::swap(&mut waiting.lines, &mut lines);
        drop(waiting);
        let written = output.write_all(&lines).and_then(|()| output.flush());
        lines.clear();
        if let Some(file) = replacement {
            output = Box::new(file);
        }
        if let Err(error) = &written
            && !is_failing
        {
            tracing::error!(%error, "the access log cannot be written; lines are lost");
        }
        is_failing = written.is_err();
        if is_closed {
            return;
        }
    }
}
