//! Appending to a trail.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    Digest, Intent, Outcome, earlier,
    hold::{Hold, Patience},
    record::Line,
    tail,
};

/// An audit trail, open for appending; processes may share its file.
///
/// An error means that the record was not written and has left no trace in the file. Each record is tried
/// anew, so that the trail works again once its cause is gone.
#[derive(Debug)]
pub struct Trail(Mutex<Writer>);

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: Arc<File>,
    /// Where the file's last record known here ends.
    end: u64,
    /// That record; one in an earlier file, where this one is empty.
    last: Digest,
    /// The line that is being written, kept for its memory.
    line: Vec<u8>,
    torn: u64,
    is_failing: bool,
}

/// How long rotation may take from moving the file away to creating the next one.
const ROTATION: Duration = Duration::from_millis(20);

/// Whether to wait when there is no file at the trail's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Rotation may be about to create it, and would move away one that it did not expect.
    Wait,
    /// Begin it at once.
    Begin,
}

impl Trail {
    /// Opens the trail, creating its file where there is none.
    ///
    /// # Errors
    /// Those of opening, locking and reading it, and of putting a torn record aside.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut writer = Writer {
            path: path.to_owned(),
            file: open(path)?,
            end: 0,
            last: Digest::START,
            line: Vec::new(),
            torn: 0,
            is_failing: false,
        };
        drop(writer.settle(Absence::Begin)?);
        if writer.end == 0 {
            // Whoever begins the file meanwhile is noticed with the first record.
            writer.last = earlier::last(path)?.unwrap_or(Digest::START);
        }
        Ok(Self(Mutex::new(writer)))
    }

    /// Records what is about to be forwarded.
    ///
    /// # Errors
    /// It is not recorded, and must not be forwarded.
    pub fn intent(&self, intent: &Intent<'_>) -> io::Result<()> {
        self.append(Line::intent(intent, &mut [0; 36]))
    }

    /// Records what became of it.
    ///
    /// # Errors
    /// It is not recorded.
    pub fn outcome(&self, outcome: &Outcome) -> io::Result<()> {
        self.append(Line::outcome(outcome, &mut [0; 36]))
    }

    /// Goes over to the file that is at the path now, beginning it where there is none; the chain goes on.
    ///
    /// The next record would do so too. This is for whoever rotates the file and has to know when the old
    /// one is done with.
    ///
    /// # Errors
    /// Those of opening it, and of reading the files before it.
    pub fn reopen(&self) -> io::Result<()> {
        self.lock().settle(Absence::Begin).map(drop)
    }

    /// How many torn records were found and put aside since it was opened.
    pub fn torn(&self) -> u64 {
        self.lock().torn
    }

    /// Forces what was recorded to the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn flush(&self) -> io::Result<()> {
        let file = self.lock().file.clone();
        file.sync_data()
    }

    fn append(&self, line: Line<'_>) -> io::Result<()> {
        let mut writer = self.lock();
        let written = writer.append(line);
        match &written {
            Err(error) if !writer.is_failing => {
                tracing::error!(trail = %writer.path.display(), %error, "the audit trail cannot be written");
            }
            Ok(()) if writer.is_failing => {
                tracing::info!(trail = %writer.path.display(), "the audit trail is written again");
            }
            Ok(()) | Err(_) => {}
        }
        writer.is_failing = written.is_err();
        written
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn append(&mut self, mut line: Line<'_>) -> io::Result<()> {
        let _hold = self.settle(Absence::Wait)?;
        line.prev = self.last;
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line)?;
        let digest = Digest::of(&self.line);
        self.line.push(b'\n');
        if let Err(error) = (&*self.file).write_all(&self.line) {
            // Part of it may be there. Should cutting it off fail too, it is found torn next time.
            if let Err(error) = self.file.set_len(self.end) {
                tracing::error!(%error, "part of a record cannot be taken out of the audit trail");
            }
            return Err(error);
        }
        self.end += self.line.len() as u64;
        self.last = digest;
        Ok(())
    }

    /// Takes the lock of the file at the trail's path, knowing the last record.
    ///
    /// Every process looks at the path under the lock of the file that it is in. So once the next file is
    /// there, nothing more is appended to the ones before, and whoever then reads their ends under their
    /// locks knows the last record. Nobody waits for one file's lock while having another's.
    fn settle(&mut self, absence: Absence) -> io::Result<Hold> {
        let patience = if self.is_failing { Patience::Short } else { Patience::Full };
        loop {
            let hold = Hold::take(&self.file, patience)?;
            let here = self.file.metadata()?;
            if here.len() != self.end {
                self.catch_up(here.len())?;
            }
            let mut there = find(&self.path)?;
            // A file without a name was deleted, not rotated.
            if there.is_none() && absence == Absence::Wait && here.nlink() > 0 {
                thread::sleep(ROTATION);
                there = find(&self.path)?;
            }
            if there.is_some_and(|there| is_same(&here, &there)) {
                return Ok(hold);
            }
            let file = open(&self.path)?;
            drop(hold);
            // There may have been others in between, if this process had nothing to write meanwhile.
            self.last = earlier::last_since(self.last, &self.path)?;
            self.file = file;
            self.end = 0;
        }
    }

    /// Learns the last record of a file that has changed.
    fn catch_up(&mut self, length: u64) -> io::Result<()> {
        let found = tail::read(&self.file, length)?;
        if found.at < length {
            tail::set_aside(&self.file, found.at, &self.path)?;
            self.torn += 1;
        }
        if found.at < self.end {
            // Nobody who keeps to the lock does this. The chain goes on from what was last known, so that
            // verification shows what is missing.
            tracing::error!(trail = %self.path.display(), "records were taken out of the audit trail");
        } else if let Some(line) = found.line {
            self.last = Digest::of(&line);
        }
        self.end = found.at;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Arc<File>> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an audit trail must be a regular file"));
    }
    Ok(Arc::new(file))
}

fn find(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
