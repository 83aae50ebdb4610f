//! A trail's file: appending under its lock, and following rotation.

use std::{
    fs::{self, File, FileType, Metadata},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    Digest, earlier,
    lock::{FileLock, LockWait},
    record,
    tail::{self, TrailEnd},
};
use crate::files;

/// A trail's file, open for appending. Other processes may append to it too.
#[derive(Debug)]
pub(super) struct TrailFile {
    path: PathBuf,
    file: Arc<File>,
    id: FileId,
    /// Where the file's last record known here ends.
    end: u64,
    /// That record; one in an earlier file, where this one is empty.
    last: Digest,
    /// The lines that are being written, kept for their memory.
    lines: Vec<u8>,
    /// Whether the file was moved away and no other could be created in its place.
    is_stranded: bool,
}

/// What tells a file from all others, whatever it is called: its device and its number there.
type FileId = (u64, u64);

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

impl TrailFile {
    /// Opens the file, creating it where there is none, and learns the last record.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::settled(path).map_err(|error| told(path, &error))
    }

    fn settled(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let mut file = Self {
            path: path.to_owned(),
            id: id(&file.metadata()?),
            file,
            end: 0,
            last: Digest::START,
            lines: Vec::new(),
            is_stranded: false,
        };
        drop(file.settle(Absence::Begin, LockWait::Full)?);
        if file.end == 0 {
            // Whoever begins the file meanwhile is noticed with the first record.
            file.last = earlier::last(path)?.unwrap_or(Digest::START);
        }
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Goes over to the file that is at the path now, beginning it where there is none.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.settle(Absence::Begin, LockWait::Full).map(drop).map_err(|error| told(&self.path, &error))
    }

    /// Forces to the disk what was appended.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Appends records in one write: all of them, or none.
    pub(super) fn append<'a>(
        &mut self,
        texts: impl Iterator<Item = &'a [u8]>,
        wait: LockWait,
    ) -> io::Result<()> {
        let _lock = self.settle(Absence::Wait, wait)?;
        let mut last = self.last;
        self.lines.clear();
        for text in texts {
            let start = self.lines.len();
            self.lines.extend_from_slice(text);
            self.lines.extend_from_slice(last.encode(&mut [0; 64]).as_bytes());
            self.lines.extend_from_slice(record::END);
            last = Digest::of(&self.lines[start..]);
            self.lines.push(b'\n');
        }
        if let Err(error) = (&*self.file).write_all(&self.lines) {
            // Part of it may be there. Should cutting it off fail too, it is found torn next time.
            if let Err(error) = self.file.set_len(self.end) {
                tracing::error!(%error, "part of a record cannot be taken out of the audit trail");
            }
            return Err(error);
        }
        self.end += self.lines.len() as u64;
        self.last = last;
        Ok(())
    }

    /// Takes the lock of the file at the trail's path, knowing the last record.
    ///
    /// Every process looks at the path under the lock of the file that it is in. So once the next file is
    /// there, nothing more is appended to the ones before, and whoever then reads their ends under their
    /// locks knows the last record. Nobody waits for one file's lock while having another's.
    fn settle(&mut self, absence: Absence, wait: LockWait) -> io::Result<FileLock> {
        loop {
            let lock = FileLock::take(&self.file, wait)?;
            let mut there = find(&self.path)?;
            // A file without a name was deleted, not rotated.
            let is_kept = there.is_none()
                && absence == Absence::Wait
                && self.file.metadata().is_ok_and(|here| here.nlink() > 0);
            if is_kept && !self.is_stranded {
                thread::sleep(ROTATION);
                there = find(&self.path)?;
            }
            if let Some(there) = there.as_ref().filter(|there| id(there) == self.id) {
                self.catch_up(there.len())?;
                self.is_stranded = false;
                return Ok(lock);
            }
            let caught_up = match self.catch_up(self.file.metadata()?.len()) {
                Ok(()) => Ok(()),
                // What was another's for a while is left as it is; nothing is appended to it any more.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
                Err(error) => return Err(error),
            };
            let file = match open(&self.path) {
                Ok(file) => file,
                // The file was moved away, and there is none to go over to, for anybody. Where not even its folder is
                // there, nobody would look for the records where they go.
                Err(error) if is_kept && there.is_none() && error.kind() != io::ErrorKind::NotFound => {
                    caught_up?;
                    if !std::mem::replace(&mut self.is_stranded, true) {
                        let trail = self.path.display();
                        tracing::error!(%trail, %error, "the audit trail goes on in the file that was moved away");
                    }
                    return Ok(lock);
                }
                Err(error) => return Err(error),
            };
            drop(lock);
            // There may have been others in between, if this process had nothing to write meanwhile.
            self.last = earlier::last_since(self.last, &self.path)?;
            self.id = id(&file.metadata()?);
            self.file = file;
            self.end = 0;
            self.is_stranded = false;
        }
    }

    /// Learns the last record of the file, which is so long now, where others have written to it.
    fn catch_up(&mut self, length: u64) -> io::Result<()> {
        if length == self.end {
            return Ok(());
        }
        let found = tail::read(&self.file, length)?;
        if found.at < length {
            may_be_cut(&self.file, &found)?;
            tail::set_aside(&self.file, found.at, &self.path)?;
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

/// Opens the file at a path, which nothing that stands there can hold up.
fn open(path: &Path) -> io::Result<Arc<File>> {
    // Before it is opened, which alone has effects on some devices.
    if let Some(found) = find(path)? {
        regular(found.file_type())?;
    }
    // A FIFO that is put there meanwhile must not be waited for, nor a link be followed: what it leads to may be anything.
    let file = files::options_unfollowed().read(true).append(true).create(true).mode(0o600).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(Arc::new(file))
}

/// Looks, without changing anything, whether the file at a path could be gone on with as far as what it holds is concerned.
///
/// # Errors
/// Those of reading it, and `InvalidData` where it ends in a piece of a line that is no trail's.
pub fn inspect(path: &Path) -> io::Result<()> {
    if find(path)?.is_none() {
        return Ok(());
    }
    let file = files::options_unfollowed().read(true).open(path)?;
    let length = file.metadata()?.len();
    let end = tail::read(&file, length)?;
    if end.at < length { may_be_cut(&file, &end) } else { Ok(()) }
}

/// Refuses to cut what is no trail.
fn may_be_cut(file: &File, end: &TrailEnd) -> io::Result<()> {
    if end.is_a_trails(file)? {
        return Ok(());
    }
    let why = "it ends in a piece of a line that is no audit record's, and is not cut: move it away, or name another file in log.audit";
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Refuses what is no regular file.
fn regular(found: FileType) -> io::Result<()> {
    let Some(what) = files::what_else(found) else { return Ok(()) };
    let kind = if found.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    let mend = if found.is_symlink() {
        "an audit trail must be a file itself; name the one that the link leads to in log.audit"
    } else {
        "an audit trail must be a regular file; name one in log.audit, or one that can be created"
    };
    Err(io::Error::new(kind, format!("it is {what}: {mend}")))
}

/// An error of opening the file at a path, as it is told.
fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What is at the path itself, a symbolic link included.
fn find(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn id(file: &Metadata) -> FileId {
    (file.dev(), file.ino())
}
