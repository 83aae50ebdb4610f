//! A file, pipe or terminal that lines go to, whole lines only, even where a write is cut short.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::event::PollFlags;

use crate::files;

/// How long to wait for a slow reader before asking again whether to give up.
const WAIT: Duration = Duration::from_millis(50);

/// A file, pipe or terminal that takes lines.
#[derive(Debug)]
pub(super) struct Sink {
    /// None: a named pipe that nobody reads.
    file: Option<File>,
    /// Where it is; none: a descriptor the process was started with.
    path: Option<PathBuf>,
    /// What is missing of a line of which the first part is written; it goes out first.
    missing: Vec<u8>,
}

/// Lines that were not written, and why.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Sink {
    /// A descriptor the process was started with, by another handle. Its flags stay as they are: it may be
    /// shared with other processes, which a change would break.
    pub(super) fn inherited(descriptor: impl AsFd) -> io::Result<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        Ok(Self { file: Some(file), path: None, missing: Vec::new() })
    }

    /// A file to append to; a line that was cut short in it, by a crash perhaps, is ended first.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let file = files::append(path)?;
        let missing = if is_cut_short(path).unwrap_or(false) { b"\n".to_vec() } else { Vec::new() };
        Ok(Self { file, path: Some(path.to_owned()), missing })
    }

    /// Whether it is a named pipe that nobody has read so far.
    pub(super) fn is_unread(&self) -> bool {
        self.file.is_none()
    }

    /// Whether a part of the last line in it is missing.
    pub(super) fn is_torn(&self) -> bool {
        !matches!(self.missing.as_slice(), [] | [b'\n'])
    }

    /// Writes lines, each with its line break; waits for a slow reader until `give_up` says otherwise.
    ///
    /// # Errors
    /// What was lost of them. A line that was written in part is not: it is completed by the next write.
    pub(super) fn write(&mut self, lines: &[u8], give_up: impl Fn() -> bool) -> Result<(), Lost> {
        let lost = |left: &[u8], error| Lost { lines: count(left), error };
        let file = open(&mut self.file, self.path.as_deref()).map_err(|error| lost(lines, error))?;
        let mut missing = self.missing.as_slice();
        let completed = push(file, &mut missing, &give_up);
        let written = self.missing.len() - missing.len();
        self.missing.drain(..written);
        completed.map_err(|error| lost(lines, error))?;
        let mut left = lines;
        push(file, &mut left, &give_up).map_err(|error| {
            let written = &lines[..lines.len() - left.len()];
            if written.last().is_some_and(|last| *last != b'\n') {
                let end = memchr::memchr(b'\n', left).map_or(left.len(), |at| at + 1);
                self.missing.extend_from_slice(&left[..end]);
                left = &left[end..];
            }
            lost(left, error)
        })
    }
}

/// The open file; a named pipe that nobody has read so far is tried again.
fn open<'a>(file: &'a mut Option<File>, path: Option<&Path>) -> io::Result<&'a File> {
    if let (None, Some(path)) = (&file, path) {
        *file = files::append(path)?;
    }
    file.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the pipe"))
}

/// Whether a file ends within a line.
fn is_cut_short(path: &Path) -> io::Result<bool> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    files::options().read(true).open(path)?.read_exact_at(&mut last, metadata.len() - 1)?;
    Ok(last != *b"\n")
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// Writes what is left, and leaves what could not be written.
fn push(mut file: &File, left: &mut &[u8], give_up: impl Fn() -> bool) -> io::Result<()> {
    while !left.is_empty() {
        match file.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *left = &left[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !give_up() => {
                files::wait(file, PollFlags::OUT, WAIT)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
