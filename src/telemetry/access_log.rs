//! One JSON object per request, written by a thread of its own.
//!
//! Requests write their line into a bounded buffer and go on; the writer takes the buffer whole. When it
//! cannot keep up, lines are dropped and counted, and no request ever waits.

use std::{io, time::Duration};

use prometheus::IntCounter;

use super::{
    line::{self, Second},
    sink::Sink,
    writer::{News, Options, Writer},
};
use crate::{config::AccessSink, outcome::Record};

/// How many bytes of lines may wait for the writer.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// How long the writer gathers lines, so that a busy gateway does not wake it for every one.
const GATHER: Duration = Duration::from_millis(5);

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    sink: AccessSink,
    writer: Writer<Second>,
}

impl AccessLog {
    /// Opens the log and starts its writer; `None` where it is off.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(sink: &AccessSink, dropped: IntCounter) -> io::Result<Option<Self>> {
        let Some(output) = open(sink)? else { return Ok(None) };
        let options =
            Options { name: "access-log", capacity: MAX_WAITING, gather: GATHER, dropped, tell: tell_of };
        Ok(Some(Self { sink: sink.clone(), writer: Writer::start(output, options)? }))
    }

    /// Hands a request's line to the writer, or drops it when too many are waiting.
    pub fn write(&self, record: &Record<'_>) {
        if self.writer.add(|lines, second| line::write(lines, second, record)) {
            tracing::error!("the access log takes no lines, or not as fast as they come; they are lost");
        }
    }

    /// Opens the log's file again, after it was moved away.
    ///
    /// # Errors
    /// Those of opening the file; then the old one goes on being written.
    pub fn reopen(&self) -> io::Result<()> {
        if let AccessSink::File(_) = &self.sink
            && let Some(sink) = open(&self.sink)?
        {
            self.writer.replace(sink);
        }
        Ok(())
    }

    /// Writes what is waiting and stops the writer; what comes later is dropped.
    pub fn close(&self, within: Duration) {
        self.writer.close();
        if !self.writer.flush(within) {
            tracing::error!("the access log's last lines are lost: they were not taken in time");
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // Waits for nothing: the last request that used it ends on a worker.
        self.writer.close();
    }
}

fn open(sink: &AccessSink) -> io::Result<Option<Sink>> {
    let sink = match sink {
        AccessSink::Off => return Ok(None),
        AccessSink::Stdout => Sink::inherited(io::stdout())?,
        AccessSink::Stderr => Sink::inherited(io::stderr())?,
        AccessSink::File(path) => Sink::append(path)?,
    };
    if sink.is_unread() {
        tracing::warn!("nobody reads the pipe that log.access names; lines are lost until somebody does");
    }
    Ok(Some(sink))
}

fn tell_of(news: News<'_>) {
    match news {
        News::Fails(error) => tracing::error!(%error, "the access log cannot be written; lines are lost"),
        News::Recovers { lost } => tracing::warn!(lost, "the access log is written again"),
    }
}
