//! Verifies that the chain of a trail is whole.

use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::{
    Digest,
    lock::{FileLock, LockWait},
    record::{INTENT, Link, MAX_LINE, OUTCOME, VERSION},
};

/// A trail that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records it has.
    pub records: u64,
    /// The hash of the last one, which an outside copy proves the end against.
    pub last_hash: Option<Digest>,
    /// The record that its first one follows, when that is in an earlier file.
    pub continues: Option<Digest>,
    /// How many calls have an intent but no outcome: cut off, under way, or answered in a later file.
    pub orphaned_intents: u64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "records: {}", self.records)?;
        if let Some(hash) = self.last_hash {
            writeln!(f, "last: {hash}")?;
        }
        if let Some(hash) = self.continues {
            writeln!(f, "continues: {hash}, the last of an earlier file that was not given")?;
        }
        writeln!(f, "intents without outcome: {}", self.orphaned_intents)
    }
}

/// The first place where a trail is not whole.
#[derive(Debug, Error)]
#[error("{}{}: {what}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct BrokenTrail {
    /// In which file.
    pub file: PathBuf,
    /// In which of its lines, counted from 1; none where not one could be read.
    pub line: Option<u64>,
    /// What is wrong there.
    pub what: TrailFault,
}

/// What is wrong with a line of a trail.
#[derive(Debug, Error)]
pub enum TrailFault {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Its line break is missing.
    #[error("the last record is incomplete: torn by a crash, or cut off")]
    Incomplete,
    /// It is longer than a record can be.
    #[error("longer than any record")]
    TooLong,
    /// It is not a JSON object with what a record has.
    #[error("not a record; reading it fails at column {column}")]
    NotARecord {
        /// How far it could be read.
        column: usize,
    },
    /// It was written by a later release, and may mean something else.
    #[error(
        "a record of version {0}, and this release knows none after {VERSION}: verify it with a later release"
    )]
    LaterVersion(u64),
    /// It does not say which record it follows.
    #[error("a record without `prev`, the hash of the one before it")]
    Unlinked,
    /// It follows another record than the one before it.
    #[error(
        "does not follow the record before it, whose hash is {found}, but {said}: one of the two was changed, or records between them were taken out or moved"
    )]
    Unchained {
        /// The hash of the record before it.
        found: Digest,
        /// What it says that hash is.
        said: Digest,
    },
}

/// Reads files, oldest first, as one trail.
///
/// # Errors
/// The first record that is broken.
pub fn verify(files: &[PathBuf]) -> Result<Verified, BrokenTrail> {
    let mut chain = Chain::default();
    for file in files {
        let mut read = 0;
        chain.read(file, &mut read).map_err(|what| {
            let is_unread = read == 0 && matches!(what, TrailFault::Unreadable(_));
            BrokenTrail { file: file.clone(), line: (!is_unread).then_some(read + 1), what }
        })?;
    }
    Ok(Verified {
        records: chain.records,
        last_hash: chain.last,
        continues: chain.first_prev.filter(|prev| *prev != Digest::START),
        orphaned_intents: chain.open.len() as u64,
    })
}

#[derive(Default)]
struct Chain {
    records: u64,
    first_prev: Option<Digest>,
    last: Option<Digest>,
    /// The requests whose intent was read, but not their outcome.
    open: HashSet<String>,
}

impl Chain {
    /// Reads a file, and counts its lines in `read`.
    fn read(&mut self, path: &Path, read: &mut u64) -> Result<(), TrailFault> {
        let mut reader = BufReader::new(between_records(path)?);
        let mut line = Vec::new();
        while reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
            if line.pop_if(|last| *last == b'\n').is_some() {
                self.add(&line)?;
            } else if line.len() as u64 == MAX_LINE {
                return Err(TrailFault::TooLong);
            } else {
                return Err(TrailFault::Incomplete);
            }
            line.clear();
            *read += 1;
        }
        Ok(())
    }

    fn add(&mut self, line: &[u8]) -> Result<(), TrailFault> {
        let link = Link::parse(line).map_err(|column| TrailFault::NotARecord { column })?;
        if let Some(version) = link.later_version() {
            return Err(TrailFault::LaterVersion(version));
        }
        let said = link.prev().ok_or(TrailFault::Unlinked)?;
        match self.last {
            Some(found) if found != said => return Err(TrailFault::Unchained { found, said }),
            Some(_) => {}
            None => self.first_prev = Some(said),
        }
        match (link.event.as_deref(), link.request_id) {
            (Some(INTENT), Some(id)) => drop(self.open.insert(id)),
            (Some(OUTCOME), Some(id)) => drop(self.open.remove(&id)),
            (Some(_) | None, _) => {}
        }
        self.records += 1;
        self.last = Some(Digest::of(line));
        Ok(())
    }
}

/// The file, up to where it ended at a moment when nobody was writing a record.
fn between_records(path: &Path) -> io::Result<impl Read> {
    let file = Arc::new(File::open(path)?);
    // A file that cannot be locked, on read-only media perhaps, is read as it is.
    let lock = FileLock::take(&file, LockWait::Full);
    let metadata = file.metadata()?;
    drop(lock);
    // Of a pipe there is no length to know.
    let length = if metadata.is_file() { metadata.len() } else { u64::MAX };
    Ok(file.take(length))
}
