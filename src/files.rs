//! Files that the configuration names, opened and read without waiting for whoever is at their other end.
//!
//! A path may lead to a pipe, a terminal or a device. Opening one of these, or reading it, can take for ever
//! by itself, and with it the start of the process or a reload.

use std::{
    fs::{File, FileType, OpenOptions, Permissions},
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
};

/// The longest that a pipe's writer is waited for in all.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The most that is read of a file: more than any configuration or bundle of certificates has.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// Options to open a file with, by which `open` returns at once whatever is there.
///
/// The flags are those of the new handle alone: a descriptor that the process was started with keeps its own,
/// even where the path (`/dev/stdout`) leads to it.
pub fn options() -> OpenOptions {
    with_flags(AT_ONCE)
}

/// As [`options`], for what must be at the path itself: a symbolic link there is an error. Folders on the way may be links.
pub fn options_unfollowed() -> OpenOptions {
    with_flags(AT_ONCE.union(OFlags::NOFOLLOW))
}

/// Neither a pipe's other end nor a terminal's carrier is waited for.
const AT_ONCE: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

fn with_flags(flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(flags.bits().cast_signed());
    options
}

/// The mode of a log file: its group may read it, whatever the umask, as after a rotation that creates it so.
const LOG_MODE: u32 = 0o640;

/// Opens a log file to append to, creating it where there is none, with a mode that its group may read; `None`: it is
/// a named pipe that nobody reads yet.
///
/// # Errors
/// Those of the system.
pub fn append(path: &Path) -> io::Result<Option<File>> {
    let mut options = options();
    options.append(true);
    let opened = options.open(path).or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound { create(path, &mut options) } else { Err(error) }
    });
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) && is_pipe(path) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a log file, unless another process is first, or a link leads to where there is none.
fn create(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match options.mode(LOG_MODE).create_new(true).open(path) {
        Ok(file) => {
            // What the umask took off, where the file system has modes at all.
            let _ = file.set_permissions(Permissions::from_mode(LOG_MODE));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false).create(true).open(path)
        }
        Err(error) => Err(error),
    }
}

/// The whole content of a file.
///
/// # Errors
/// Those of the system; `TimedOut` where a pipe's writer keeps silent for longer than a second, `BrokenPipe`
/// where it has none, and `FileTooLarge` over 16 MiB.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = options().read(true).open(path)?;
    let metadata = file.metadata()?;
    // One byte more, so that the end is found without another allocation, which would leave a copy of a key.
    let size = usize::try_from(metadata.len().min(MAX_SIZE)).unwrap_or_default() + 1;
    let mut content = Vec::with_capacity(size);
    let deadline = Instant::now() + READ_WITHIN;
    let mut rest = (&file).take(MAX_SIZE + 1);
    // What was read before an error stays in `content`.
    while let Err(error) = rest.read_to_end(&mut content) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        if !wait(&file, PollFlags::IN, deadline.saturating_duration_since(Instant::now()))? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its writer keeps silent"));
        }
    }
    if content.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 16 MiB"));
    }
    if content.is_empty() && metadata.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "it is a pipe that nobody writes to"));
    }
    Ok(content)
}

/// The whole content of a file, in UTF-8.
///
/// # Errors
/// Those of [`read`], and `InvalidData`, without the content, where it is not in UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        // The bytes may be a secret; who wipes what was read cannot reach this copy.
        drop(zeroize::Zeroizing::new(error.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "it is not in UTF-8")
    })
}

/// Waits until a file is ready, or was hung up; false when it was not within `within`.
///
/// # Errors
/// Those of the system.
pub fn wait(file: impl AsFd, flags: PollFlags, within: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(within).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&file, flags)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        // A signal came; nothing is lost by looking again.
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn is_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.file_type().is_fifo())
}

/// What stands at a path that is no regular file; `None` where it is one.
pub fn what_else(found: FileType) -> Option<&'static str> {
    if found.is_file() {
        None
    } else if found.is_symlink() {
        Some("a symbolic link")
    } else if found.is_dir() {
        Some("a folder")
    } else if found.is_fifo() {
        Some("a FIFO")
    } else if found.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, process::Command};

    use super::*;

    fn pipe(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn a_pipe_is_read_while_it_has_a_writer_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        // Open for both, so that opening it needs no other end.
        let mut silent = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        silent.write_all(b"part").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Held open meanwhile, for a pipe that nobody has open forgets what was written.
        let reader = options().read(true).open(&path).unwrap();
        silent.write_all(b"whole").unwrap();
        drop(silent);
        assert_eq!(read(&path).unwrap(), b"whole");
        drop(reader);
    }

    #[test]
    fn appending_waits_for_no_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        assert!(append(&path).unwrap().is_none());
        let reader = options().read(true).open(&path).unwrap();
        assert!(append(&path).unwrap().is_some());
        drop(reader);
        assert!(append(folder.path()).is_err(), "a folder");
        append(&folder.path().join("new")).unwrap().unwrap().write_all(b"line\n").unwrap();
        assert_eq!(read(&folder.path().join("new")).unwrap(), b"line\n");
    }

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin");
        fs::write(&path, b"\xe9").unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
