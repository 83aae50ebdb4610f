//! A trail: records are handed to its writer, and waited for no longer than two seconds.

use std::{
    io,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{sync::oneshot, time::timeout};

use super::{
    Act, Conclusion, Intent,
    file::TrailFile,
    queue::{APPEND_WITHIN, Entry, EntryKind, Order, Queue, Unwritable},
    record::RecordLine,
    writer::TrailWriter,
};
use crate::{outcome::RequestId, threads};

/// The longest that opening a file, or opening it again, may take while the gateway serves.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long the last records may take when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// An audit trail, open for appending; processes may share its file.
///
/// One thread writes it. Whoever records something waits for that thread's word, never for the file, and never
/// longer than two seconds. The thread takes all that waits, and appends it in one write under the file's lock.
///
/// An intent that cannot be written leaves no trace in the file, and one that nobody waits for any more is
/// followed by an outcome that says so. Outcomes that cannot be written are kept and written once they can be.
/// Each record is tried anew, so that the trail works again once what was wrong with it is mended.
#[derive(Debug)]
pub struct Trail {
    queue: Arc<Queue>,
    errors: IntCounter,
}

impl Trail {
    /// Opens the trail, creating its file where there is none, and starts its writer. Records that cannot be
    /// written when they are due are counted in `errors`.
    ///
    /// # Errors
    /// Those of opening, locking and reading it, and of putting a torn record aside; what is no regular file.
    pub fn open(path: &Path, errors: IntCounter) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let file = TrailFile::open(path)?;
        let writer = TrailWriter::new(file, queue.clone(), errors.clone());
        threads::spawn("audit-trail", move || writer.run())?;
        Ok(Self { queue, errors })
    }

    /// Opens the trail while others go on: on a thread of its own, and within so long.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and `TimedOut`.
    pub async fn open_aside(path: &Path, errors: IntCounter) -> io::Result<Self> {
        let (reply, opened) = oneshot::channel();
        let path = path.to_owned();
        let open = move || drop(reply.send(Self::open(&path, errors)));
        threads::spawn("audit-open", open)?;
        answered(opened).await
    }

    /// Records what is about to be forwarded.
    ///
    /// # Errors
    /// It is not recorded, and must not be forwarded.
    pub async fn intent(&self, intent: &Intent<'_>) -> Result<(), Unwritable> {
        let recorded = async {
            let text = RecordLine::intent(intent, &mut [0; 36]).text()?;
            let (reply, answer) = oneshot::channel();
            let request_id = intent.request_id;
            self.queue.push_intent(Entry { request_id, text, kind: EntryKind::Intent(reply) })?;
            Awaited { answer, request_id, queue: &self.queue }.answer().await
        };
        recorded.await.inspect_err(|_| self.errors.inc())
    }

    /// Records what is about to be done to the gateway.
    ///
    /// # Errors
    /// It is not recorded, and must not be done.
    pub async fn act(&self, act: &Act<'_>) -> Result<(), Unwritable> {
        let recorded = async {
            let text = RecordLine::act(act, &mut [0; 36]).text()?;
            let (reply, mut answer) = oneshot::channel();
            let request_id = act.request_id;
            self.queue.push_intent(Entry { request_id, text, kind: EntryKind::Act(reply) })?;
            wait(&mut answer).await
        };
        recorded.await.inspect_err(|_| self.errors.inc())
    }

    /// Records what became of it.
    ///
    /// # Errors
    /// It is not recorded yet; it will be as soon as it can be.
    pub async fn outcome(&self, outcome: &Conclusion) -> Result<(), Unwritable> {
        self.begin_outcome(outcome).written().await
    }

    /// Begins to record what became of it, which is done whether that is waited for or not.
    pub fn begin_outcome(&self, outcome: &Conclusion) -> Recording {
        let (reply, answer) = oneshot::channel();
        push_outcome(&self.queue, outcome, Some(reply));
        Recording(answer)
    }

    /// Records what became of it, for those that cannot wait.
    pub fn outcome_later(&self, outcome: &Conclusion) {
        push_outcome(&self.queue, outcome, None);
    }

    /// Whether the trail is known not to be writable, or takes so long that it may not be.
    ///
    /// It stays so until a record has been written.
    pub fn is_doubtful(&self) -> bool {
        self.queue.is_doubtful()
    }

    /// Goes over to the file that is at the path now, beginning it where there is none; the chain goes on.
    ///
    /// The next record would do so too. This is for whoever rotates the file and has to know when the old
    /// one is done with.
    ///
    /// # Errors
    /// Those of opening it, and of reading the files before it, and `TimedOut`.
    pub async fn reopen(&self) -> io::Result<()> {
        let (reply, reopened) = oneshot::channel();
        self.queue.push(Order::Reopen(reply));
        answered(reopened).await
    }

    /// Writes what waits, and forces all that was recorded to the disk where that is asked for, within two seconds.
    ///
    /// # Errors
    /// Those of the disk, `TimedOut`, and outcomes that still cannot be written.
    pub fn flush(&self, to_disk: bool) -> io::Result<()> {
        let (reply, flushed) = mpsc::sync_channel(1);
        self.queue.push(Order::Flush { to_disk, reply });
        flushed.recv_timeout(FLUSH_WITHIN).unwrap_or_else(|_| Err(stuck()))
    }
}

/// The writer ends once it has written what waits.
impl Drop for Trail {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// An outcome on its way to the file.
#[derive(Debug)]
pub struct Recording(oneshot::Receiver<Result<(), Unwritable>>);

impl Recording {
    /// Waits until it is in the trail.
    ///
    /// # Errors
    /// It is not recorded yet; it will be as soon as it can be.
    pub async fn written(mut self) -> Result<(), Unwritable> {
        wait(&mut self.0).await
    }
}

/// An intent on its way to the file.
struct Awaited<'a> {
    answer: oneshot::Receiver<Result<(), Unwritable>>,
    request_id: RequestId,
    queue: &'a Queue,
}

impl Awaited<'_> {
    async fn answer(mut self) -> Result<(), Unwritable> {
        wait(&mut self.answer).await
    }
}

/// An intent that was written after its request was given up belongs to a call that is not forwarded.
impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(())) = self.answer.try_recv() {
            push_outcome(self.queue, &Conclusion::never_forwarded(self.request_id), None);
        }
    }
}

fn push_outcome(queue: &Queue, outcome: &Conclusion, reply: Option<oneshot::Sender<Result<(), Unwritable>>>) {
    match RecordLine::outcome(outcome, &mut [0; 36]).text() {
        Ok(text) => {
            let entry = Entry { request_id: outcome.request_id, text, kind: EntryKind::Outcome(reply) };
            queue.push(Order::Append(entry));
        }
        Err(error) => tracing::error!(%error, "an outcome cannot be put into words"),
    }
}

/// Waits for the writer to answer, for as long as an append may take.
async fn wait(answer: &mut oneshot::Receiver<Result<(), Unwritable>>) -> Result<(), Unwritable> {
    match timeout(APPEND_WITHIN, &mut *answer).await {
        Ok(Ok(written)) => written,
        Ok(Err(_)) => Err(Unwritable::ended()),
        Err(_) => {
            // From here on the writer finds nobody waiting. It may have written in this very moment.
            answer.close();
            answer.try_recv().unwrap_or_else(|_| Err(Unwritable::late()))
        }
    }
}

async fn answered<T>(answer: oneshot::Receiver<io::Result<T>>) -> io::Result<T> {
    match timeout(OPEN_WITHIN, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(stuck()),
    }
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its writer is stuck")
}
