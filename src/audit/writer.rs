//! The one thread that writes a trail.

use std::{io, mem, sync::Arc, time::Duration};

use prometheus::IntCounter;

use super::{
    Conclusion,
    file::TrailFile,
    lock::LockWait,
    queue::{Entry, EntryKind, Order, Queue, Unwritable},
    record::RecordLine,
};

/// How often outcomes that could not be written are tried again when nothing else is to be written.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The most outcomes kept for another try: more than there are calls in flight.
const MAX_OWED: usize = 65_536;

/// Writes what the queue has, group by group.
#[derive(Debug)]
pub(super) struct TrailWriter {
    file: TrailFile,
    queue: Arc<Queue>,
    errors: IntCounter,
    /// Outcomes that could not be written yet. They come before whatever is written next.
    owed: Vec<Entry>,
}

impl TrailWriter {
    pub(super) fn new(file: TrailFile, queue: Arc<Queue>, errors: IntCounter) -> Self {
        Self { file, queue, errors, owed: Vec::new() }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(orders) = self.queue.next((!self.owed.is_empty()).then_some(RETRY_EVERY)) {
            let mut group = Vec::with_capacity(orders.len());
            for order in orders {
                match order {
                    Order::Append(entry) => group.push(entry),
                    Order::Reopen(reply) => {
                        self.append(mem::take(&mut group));
                        // Who asked may have given up.
                        let _ = reply.send(self.file.reopen());
                    }
                    Order::Flush { to_disk, reply } => {
                        self.append(mem::take(&mut group));
                        let _ = reply.send(self.flush(to_disk));
                    }
                }
            }
            self.append(group);
        }
        self.append(Vec::new());
        if let Err(error) = self.complete() {
            tracing::error!(trail = %self.file.path().display(), %error, "the audit trail ends without");
        }
    }

    /// Appends what is owed and a group in one write, and tells those who wait.
    fn append(&mut self, mut group: Vec<Entry>) {
        group.retain(|entry| !entry.is_abandoned());
        if group.is_empty() && self.owed.is_empty() {
            return;
        }
        let lock_wait = if self.queue.is_failing() { LockWait::Short } else { LockWait::Full };
        let texts = self.owed.iter().chain(&group).map(|entry| entry.text.as_slice());
        let written = self.file.append(texts, lock_wait).map_err(Unwritable::from);
        // Before anybody is told, so that whoever comes next knows.
        self.note(&written);
        if written.is_ok() {
            self.owed.clear();
        }
        for entry in group {
            self.tell(entry, &written);
        }
    }

    fn note(&self, written: &Result<(), Unwritable>) {
        if self.queue.set_failing(written.is_err()) {
            let trail = self.file.path().display();
            match written {
                Ok(()) => tracing::info!(%trail, "the audit trail is written again"),
                Err(error) => tracing::error!(%trail, %error, "calls are refused until it can be written"),
            }
        }
    }

    /// Tells whoever waits for a record what became of it, and sees to what follows from that.
    fn tell(&mut self, entry: Entry, written: &Result<(), Unwritable>) {
        let Entry { request_id, text, kind } = entry;
        match kind {
            EntryKind::Intent(reply) => {
                let is_alone = reply.send(written.clone()).is_err();
                if is_alone && written.is_ok() {
                    // Its request was given up while it was being written.
                    match RecordLine::outcome(&Conclusion::never_forwarded(request_id), &mut [0; 36]).text() {
                        Ok(text) => self.owe(Entry { request_id, text, kind: EntryKind::Outcome(None) }),
                        Err(error) => tracing::error!(%error, "an outcome cannot be put into words"),
                    }
                }
            }
            // Who gave it up in this very moment has left a record of what was not done.
            EntryKind::Act(reply) => drop(reply.send(written.clone())),
            EntryKind::Outcome(reply) => {
                if let Some(reply) = reply {
                    // Who waited may have gone on.
                    let _ = reply.send(written.clone());
                }
                if written.is_err() {
                    self.errors.inc();
                    self.owe(Entry { request_id, text, kind: EntryKind::Outcome(None) });
                }
            }
        }
    }

    fn owe(&mut self, outcome: Entry) {
        if self.owed.len() < MAX_OWED {
            self.owed.push(outcome);
        } else {
            tracing::error!(request_id = %outcome.request_id, "the outcome of a call is lost");
        }
    }

    /// Appends what is still owed, and forces all of it to the disk where that is asked for.
    fn flush(&mut self, to_disk: bool) -> io::Result<()> {
        // What was owed to those that gave up has not been tried yet.
        self.append(Vec::new());
        if to_disk {
            self.file.sync()?;
        }
        self.complete()
    }

    /// Whether all that is due has been written.
    fn complete(&self) -> io::Result<()> {
        match self.owed.len() {
            0 => Ok(()),
            owed => Err(io::Error::other(format!("calls whose outcome cannot be written: {owed}"))),
        }
    }
}

impl Entry {
    /// Whether nobody waits any more for an intent or an act.
    fn is_abandoned(&self) -> bool {
        match &self.kind {
            EntryKind::Intent(reply) | EntryKind::Act(reply) => reply.is_closed(),
            EntryKind::Outcome(_) => false,
        }
    }
}
