//! Unix sockets of the gateway's own: bound at a path, for its user alone.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// A socket that is listened on; its file is removed with it, unless another has taken its place.
#[derive(Debug)]
pub struct OwnSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of its file.
    file: Option<(u64, u64)>,
}

impl OwnSocket {
    /// Listens at a path, where a socket may have been left behind.
    ///
    /// # Errors
    /// Those of the system, another process that answers there, and what is no socket.
    pub async fn take(path: &Path) -> io::Result<Self> {
        if is_socket(path)? && UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process waits there already"));
        }
        Self::replace(path)
    }

    /// Listens at a path in the place of whatever process does so at present.
    ///
    /// # Errors
    /// Those of the system, and what is no socket.
    pub fn replace(path: &Path) -> io::Result<Self> {
        if is_socket(path)? {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), file: identity(path) })
    }

    /// Waits until somebody connects.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        if identity(&self.path) == self.file {
            // What stays behind is found and removed next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether there is a socket at a path, or else nothing.
fn is_socket(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else at its path")),
        Err(_) => Ok(false),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_that_nobody_answers_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let own = OwnSocket::take(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(OwnSocket::take(&path).await.is_err(), "one waits already");
        drop(own);
        assert!(!path.exists());
        fs::write(&path, "a file of somebody's").unwrap();
        assert!(OwnSocket::take(&path).await.is_err() && OwnSocket::replace(&path).is_err());
        assert!(path.exists());
    }

    #[tokio::test]
    async fn one_that_was_replaced_leaves_the_other_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.sock");
        let old = OwnSocket::take(&path).await.unwrap();
        let new = OwnSocket::replace(&path).unwrap();
        drop(old);
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), new.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        drop(new);
        assert!(!path.exists());
    }
}
