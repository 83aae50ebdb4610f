//! The end of a trail's file: the last whole record, and a torn one after it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::record::{self, Link, MAX_LINE};

/// What marks the file of a torn record, between the trail's name and the time.
const TORN: &str = ".torn-";

/// How much is read at once when looking for a line break: more than most records have.
const CHUNK: usize = 4096;

/// Where the whole records of a file end.
#[derive(Debug)]
pub(super) struct TrailEnd {
    /// The first byte behind the last whole record.
    pub(super) at: u64,
    /// That record's line, without its line break; none where it is longer than any record, which takes no memory then.
    pub(super) line: Option<Vec<u8>>,
}

impl TrailEnd {
    /// Whether what stands behind it can be the rest of a record: what is no trail must not be cut.
    ///
    /// The last whole line is a record then or, where somebody spoilt that, the first; where there is none, what there is
    /// can be the beginning of one.
    pub(super) fn is_a_trails(&self, file: &File) -> io::Result<bool> {
        let is_record = |line: &[u8]| Link::read(line).is_some();
        Ok(match &self.line {
            Some(line) => is_record(line) || is_record(&first_line(file)?),
            None => record::is_torn(&first_line(file)?),
        })
    }
}

/// The first line of a file, without its line break; what there is of it, where that is missing or too far away.
pub(super) fn first_line(file: &File) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; CHUNK];
    while line.len() as u64 <= MAX_LINE {
        let count = file.read_at(&mut chunk, line.len() as u64)?;
        let part = &chunk[..count];
        let end = memchr::memchr(b'\n', part);
        line.extend_from_slice(&part[..end.unwrap_or(count)]);
        if end.is_some() || count == 0 {
            break;
        }
    }
    Ok(line)
}

/// Reads the end of a file of `length` bytes.
pub(super) fn read(file: &File, length: u64) -> io::Result<TrailEnd> {
    let Some(line_break) = last_break(file, length)? else { return Ok(TrailEnd { at: 0, line: None }) };
    let start = last_break(file, line_break)?.map_or(0, |before| before + 1);
    let length = Some(line_break - start).filter(|length| *length <= MAX_LINE);
    let line = length.and_then(|length| usize::try_from(length).ok()).map(|length| {
        let mut line = vec![0; length];
        file.read_exact_at(&mut line, start).map(|()| line)
    });
    Ok(TrailEnd { at: line_break + 1, line: line.transpose()? })
}

/// The last line break before `end`.
fn last_break(file: &File, mut end: u64) -> io::Result<Option<u64>> {
    let mut chunk = [0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}

/// Moves what stands behind the last whole record to a file of its own beside `trail`.
///
/// It is kept, because it may be all that tells of a call; it leaves the trail, because the next record
/// would otherwise join its line.
pub(super) fn set_aside(mut file: &File, end: u64, trail: &Path) -> io::Result<PathBuf> {
    let aside = beside(trail, &format!("{TORN}{}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ")));
    let mut torn = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.seek(SeekFrom::Start(end))?;
    let copied = io::copy(&mut file.by_ref(), &mut torn).and_then(|_| torn.sync_all());
    if let Err(error) = copied {
        // What stays in the trail needs no half of a copy.
        drop(fs::remove_file(&aside));
        return Err(error);
    }
    file.set_len(end)?;
    tracing::warn!(
        trail = %trail.display(),
        kept = %aside.display(),
        "the audit trail ended in a torn record; it goes on after the last whole one"
    );
    Ok(aside)
}

/// The trail's path with something behind its name.
fn beside(trail: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(trail);
    path.push(suffix);
    path.into()
}
