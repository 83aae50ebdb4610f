//! The last record of the files that were rotated away, which the first of an empty file follows.

use std::{
    fs::{self, DirEntry},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Digest,
    lock::{FileLock, LockWait},
    record::Link,
    tail,
};
use crate::files;

/// A file that was rotated away.
struct Rotated {
    /// The record that its first one follows.
    follows: Option<Digest>,
    /// Its last record.
    last: Digest,
    /// When that was made.
    time: Option<Timestamp>,
}

/// The last record in the files beside `trail`.
pub(super) fn last(trail: &Path) -> io::Result<Option<Digest>> {
    let rotated = rotated(trail)?;
    // By the record's own time: a file's is changed by whoever copies it.
    let newest = rotated.iter().max_by_key(|file| file.time);
    Ok(newest.map(|file| follow(file.last, &rotated)))
}

/// The last record in the files beside `trail` on the chain from a `known` one.
pub(super) fn last_since(known: Digest, trail: &Path) -> io::Result<Digest> {
    Ok(follow(known, &rotated(trail)?))
}

/// Goes from file to file along the chain.
fn follow(known: Digest, rotated: &[Rotated]) -> Digest {
    let mut last = known;
    // Of two that follow the same record one is a copy, made before the other was complete.
    while let Some(next) =
        rotated.iter().filter(|file| file.follows == Some(last)).max_by_key(|file| file.time)
    {
        last = next.last;
    }
    last
}

/// The files beside `trail` whose names begin with its own (`audit.jsonl.1`, `audit.jsonl-20261124`). One
/// that was compressed, or put aside as torn, has no record to go on from.
fn rotated(trail: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(name), Some(folder)) = (trail.file_name(), trail.parent()) else { return Ok(Vec::new()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut rotated = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_rotated(entry.file_name().as_bytes(), name.as_bytes()) || !entry.file_type()?.is_file() {
            continue;
        }
        match read(&entry, trail) {
            Ok(file) => rotated.extend(file),
            Err(error) => tracing::warn!(
                file = %entry.path().display(), %error,
                "a rotated audit trail cannot be read; the chain cannot go on from it"
            ),
        }
    }
    Ok(rotated)
}

fn is_rotated(name: &[u8], trail: &[u8]) -> bool {
    name.strip_prefix(trail).is_some_and(|suffix| matches!(suffix, [b'.' | b'-', _, ..]))
}

fn read(entry: &DirEntry, trail: &Path) -> io::Result<Option<Rotated>> {
    let path = entry.path();
    let mut options = files::options_unfollowed();
    options.read(true);
    // Rotation may have left the file to another owner: then it can be read, but not mended.
    let mended = options.clone().append(true).open(&path);
    let file = Arc::new(mended.or_else(|_| options.open(&path))?);
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    // Another process may still write here. It looks at the trail's path under this lock, where the new
    // file already is, so that what is read now stays the last.
    let _lock = FileLock::take(&file, LockWait::Full)?;
    let length = file.metadata()?.len();
    let end = tail::read(&file, length)?;
    let Some((line, link)) = end.line.and_then(|line| Link::read(&line).map(|link| (line, link))) else {
        return Ok(None);
    };
    if end.at < length
        && let Err(error) = tail::set_aside(&file, end.at, trail)
    {
        tracing::warn!(file = %path.display(), %error, "a rotated audit trail ends in a torn record");
    }
    let follows = Link::read(&tail::first_line(&file)?).and_then(|link| link.prev());
    Ok(Some(Rotated { follows, last: Digest::of(&line), time: link.time }))
}
