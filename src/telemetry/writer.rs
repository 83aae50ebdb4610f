//! A bounded buffer of lines and the thread that writes them, so that no request waits for an output.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::IntCounter;

use super::sink::{Lost, Sink};
use crate::threads;

/// How long a slow reader is waited for once the output is to be closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A bounded buffer of lines and the thread that empties it.
#[derive(Debug)]
pub(super) struct Writer<S> {
    shared: Arc<Shared<S>>,
    capacity: usize,
}

/// How a writer works.
#[derive(Debug)]
pub(super) struct Options {
    /// The thread's name.
    pub(super) name: &'static str,
    /// How many bytes of lines may wait.
    pub(super) capacity: usize,
    /// How long the thread gathers lines before it writes them.
    pub(super) gather: Duration,
    /// Counts the lines that are lost.
    pub(super) dropped: IntCounter,
    /// Is told, on the writer's thread, how writing goes.
    pub(super) tell: fn(News<'_>),
}

/// What a writer has to tell.
#[derive(Debug)]
pub(super) enum News<'a> {
    /// The output takes no lines any more.
    Fails(&'a io::Error),
    /// It does again; so many lines were lost.
    Recovers { lost: u64 },
}

#[derive(Debug)]
struct Shared<S> {
    waiting: Mutex<Waiting<S>>,
    /// There is something to do for the thread.
    changed: Condvar,
    /// The thread has done what there was.
    settled: Condvar,
    dropped: IntCounter,
}

#[derive(Debug)]
struct Waiting<S> {
    lines: Vec<u8>,
    /// What those who add lines share.
    state: S,
    /// What is written to from now on.
    replacement: Option<Sink>,
    /// Lines lost since that was last told.
    lost: u64,
    is_writing: bool,
    is_closed: bool,
    /// Since when the output is to be closed, for another one or for good.
    hurried_since: Option<Instant>,
}

impl<S: Default + Send + 'static> Writer<S> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(sink: Sink, options: Options) -> io::Result<Self> {
        let Options { name, capacity, gather, dropped, tell } = options;
        let waiting = Waiting {
            lines: Vec::new(),
            state: S::default(),
            replacement: None,
            lost: 0,
            is_writing: false,
            is_closed: false,
            hurried_since: None,
        };
        let shared = Arc::new(Shared {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
            settled: Condvar::new(),
            dropped,
        });
        let writers = Thread(shared.clone());
        threads::spawn(name, move || writers.run(sink, gather, tell))?;
        Ok(Self { shared, capacity })
    }

    /// Adds a line, or drops it when too many are waiting or no more is written; true when it is the first that is dropped.
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>, &mut S)) -> bool {
        let mut waiting = self.shared.lock();
        if waiting.is_closed || waiting.lines.len() >= self.capacity {
            waiting.lost += 1;
            let is_first = waiting.lost == 1;
            drop(waiting);
            self.shared.dropped.inc();
            return is_first;
        }
        let was_empty = waiting.lines.is_empty();
        let Waiting { lines, state, .. } = &mut *waiting;
        write(lines, state);
        drop(waiting);
        if was_empty {
            self.shared.changed.notify_one();
        }
        false
    }

    /// Writes to another output from now on.
    pub(super) fn replace(&self, sink: Sink) {
        let mut waiting = self.shared.lock();
        waiting.replacement = Some(sink);
        waiting.hurried_since.get_or_insert_with(Instant::now);
        drop(waiting);
        self.shared.changed.notify_one();
    }

    /// Has what is waiting written and the thread end; lines that come later are dropped.
    pub(super) fn close(&self) {
        self.shared.lock().close();
        self.shared.changed.notify_one();
    }

    /// Waits until all lines are written or lost; false when that took longer than `within`.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting<S>| !waiting.lines.is_empty() || waiting.is_writing;
        let flushed = self.shared.settled.wait_timeout_while(self.shared.lock(), within, is_busy);
        !flushed.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl<S> Waiting<S> {
    fn close(&mut self) {
        self.is_closed = true;
        self.hurried_since.get_or_insert_with(Instant::now);
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Waiting<S>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, lines: u64) {
        self.lock().lost += lines;
        self.dropped.inc_by(lines);
    }
}

struct Thread<S>(Arc<Shared<S>>);

impl<S> Thread<S> {
    fn run(self, mut sink: Sink, gather: Duration, tell: fn(News<'_>)) {
        let shared = &*self.0;
        let mut lines = Vec::new();
        let mut is_failing = false;
        loop {
            let mut waiting = shared.lock();
            waiting.is_writing = false;
            shared.settled.notify_all();
            while waiting.lines.is_empty() && waiting.replacement.is_none() && !waiting.is_closed {
                waiting = shared.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.hurried_since.is_none() && !gather.is_zero() {
                waiting =
                    shared.changed.wait_timeout(waiting, gather).unwrap_or_else(PoisonError::into_inner).0;
            }
            let is_closed = waiting.is_closed;
            let replacement = waiting.replacement.take();
            std::mem::swap(&mut waiting.lines, &mut lines);
            waiting.is_writing = true;
            drop(waiting);
            let written = sink.write(&lines, || {
                shared.lock().hurried_since.is_some_and(|since| since.elapsed() > CLOSE_WITHIN)
            });
            let is_idle = lines.is_empty();
            lines.clear();
            match written {
                Ok(()) if is_idle => {}
                Ok(()) => {
                    is_failing = false;
                    let lost = std::mem::take(&mut shared.lock().lost);
                    if lost > 0 {
                        tell(News::Recovers { lost });
                    }
                }
                Err(Lost { lines, error }) => {
                    shared.lose(lines);
                    if !is_failing {
                        tell(News::Fails(&error));
                    }
                    is_failing = true;
                }
            }
            if let Some(replacement) = replacement {
                if sink.is_torn() {
                    shared.lose(1);
                }
                sink = replacement;
                let mut waiting = shared.lock();
                if waiting.replacement.is_none() && !waiting.is_closed {
                    waiting.hurried_since = None;
                }
            }
            if is_closed {
                return;
            }
        }
    }
}

impl<S> Drop for Thread<S> {
    /// Nobody waits for a thread that has ended, and nothing waits to be written by it.
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.close();
        waiting.is_writing = false;
        waiting.lines = Vec::new();
        drop(waiting);
        self.0.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_told_once_there_is_room() {
        let (reader, output) = pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&output, 4096).unwrap();
        let options = Options {
            name: "test",
            capacity: 1000,
            gather: Duration::ZERO,
            dropped: IntCounter::new("dropped", "dropped").unwrap(),
            tell: |_| {},
        };
        let dropped = options.dropped.clone();
        let writer = Writer::<u64>::start(Sink::inherited(&output).unwrap(), options).unwrap();
        drop(output);
        let add = || {
            writer.add(|lines, number| {
                *number += 1;
                lines.extend_from_slice(format!("line {number}\n").as_bytes());
            })
        };
        let mut added = 1;
        while !add() {
            added += 1;
        }
        assert!(!add(), "told once");
        assert!(!writer.flush(Duration::ZERO), "nobody has read");
        let reading =
            std::thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).collect());
        assert!(writer.flush(Duration::from_secs(30)));
        writer.close();
        assert!(add(), "the first that is lost again");
        drop(writer);
        let lines: Vec<String> = reading.join().unwrap();
        assert_eq!(lines, (1..added).map(|number| format!("line {number}")).collect::<Vec<_>>());
        assert_eq!(dropped.get(), 3);
    }
}
