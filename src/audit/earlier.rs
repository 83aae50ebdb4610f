//! Where a trail that begins in an empty file goes on from: the file that was rotated away last.

use std::{
    fs::{self, DirEntry, File, OpenOptions},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Digest,
    hold::{Hold, Patience},
    record::Link,
    tail,
};

/// The last record of a rotated file.
struct Last {
    time: Option<Timestamp>,
    digest: Digest,
}

/// The digest of the last record in the newest file beside `trail` whose name begins with its own
/// (`audit.jsonl.1`, `audit.jsonl-20261124`). One that was compressed, or put
/// aside as torn, has no record to go on from.
pub(super) fn last(trail: &Path) -> io::Result<Option<Digest>> {
    let (Some(name), Some(folder)) = (trail.file_name(), trail.parent()) else { return Ok(None) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut newest: Option<Last> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_rotated(entry.file_name().as_bytes(), name.as_bytes()) || !entry.file_type()?.is_file() {
            continue;
        }
        match read(&entry, trail) {
            // By the record's own time: a file's is changed by whoever copies it.
            Ok(Some(last)) if newest.as_ref().is_none_or(|newest| newest.time <= last.time) => {
                newest = Some(last);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                file = %entry.path().display(), %error,
                "a rotated audit trail cannot be read; the chain cannot go on from it"
            ),
        }
    }
    Ok(newest.map(|last| last.digest))
}

fn is_rotated(name: &[u8], trail: &[u8]) -> bool {
    name.strip_prefix(trail).is_some_and(|suffix| matches!(suffix, [b'.' | b'-', _, ..]))
}

fn read(entry: &DirEntry, trail: &Path) -> io::Result<Option<Last>> {
    let path = entry.path();
    // Rotation may have left the file to another owner: then it can be read, but not mended.
    let mended = OpenOptions::new().read(true).append(true).open(&path);
    let file = Arc::new(mended.or_else(|_| File::open(&path))?);
    // Another process may still write here. It looks at the trail's path under this lock, where the new
    // file already is, so that what is read now stays the last.
    let _hold = Hold::take(&file, Patience::Full)?;
    let length = file.metadata()?.len();
    let end = tail::read(&file, length)?;
    let Some(line) = end.line else { return Ok(None) };
    let Ok(link) = serde_json::from_slice::<Link>(&line) else { return Ok(None) };
    if link.prev().is_none() {
        return Ok(None);
    }
    if end.at < length
        && let Err(error) = tail::set_aside(&file, end.at, trail)
    {
        tracing::warn!(file = %path.display(), %error, "a rotated audit trail ends in a torn record");
    }
    Ok(Some(Last { time: link.time, digest: Digest::of(&line) }))
}
