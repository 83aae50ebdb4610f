//! A real MariaDB, as n4n keeps its customers in.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::geteuid;
use tempfile::TempDir;

use super::lines::Lines;
use super::servers::{Process, server};

/// A mariadbd with nothing in it, reached by its socket alone; it ends with this value.
pub(crate) struct MariaDb {
    _process: Process,
    _folder: TempDir,
    socket: PathBuf,
}

impl MariaDb {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = format!("--datadir={}", folder.path().join("data").display());
        // What two of them keep for a while has the same names.
        let temporary = format!("--tmpdir={}", folder.path().display());
        let socket = folder.path().join("socket");
        // It runs as root only where it is told to.
        let user = geteuid().is_root().then_some("--user=root");
        let made = server("mariadb-install-db")
            .args([
                "--no-defaults",
                &data,
                &temporary,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .args(user)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = server("mariadbd");
        command.args([
            "--no-defaults",
            &data,
            &temporary,
            "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        command.arg(format!("--socket={}", socket.display())).args(user);
        let mut process = Process::start(&mut command);
        let log: Lines = process.stderr();
        log.wait_for("word of MariaDB", |lines| {
            lines.iter().any(|line| line.contains("ready for connections")).then_some(())
        });
        Self { _process: process, _folder: folder, socket }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}
