//! A real PHP that reads requests as n4n's application does, and tells what it saw; and PHP as web servers run it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::lines::Lines;
use super::servers::{Process, server};
use super::{package_root, tool};

/// `php -S` with a script of `tests/upstream`.
pub(crate) struct Php {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Php {
    pub(crate) fn start() -> Self {
        Self::serving("router.php", &[])
    }

    /// Starts it with another script, and with these variables in its environment.
    pub(crate) fn serving(script: &str, environment: &[(&str, &Path)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = package_root().join("tests/upstream").join(script);
        // PHP takes a free port for 0 and names it in its first line.
        let mut child = tool("php", "install php-cli")
            .args(["-S", "127.0.0.1:0"])
            .arg(script)
            .envs(environment.iter().copied())
            .env_remove("PHP_CLI_SERVER_WORKERS")
            .env("N4N_SEEN", folder.path().join("seen.jsonl"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = regex::Regex::new(r"\(http://([0-9.:]+)\) started").unwrap();
        let lines = Lines::of(child.stderr.take().unwrap());
        let address = lines.wait_for("address of PHP", |lines| {
            lines.iter().find_map(|line| started.captures(line)?[1].parse().ok())
        });
        Self { child, address, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What PHP read, request by request: `method`, `effective_method`, `uri`, `query`, `headers`, `server`,
    /// `body_base64` and `pairs`.
    pub(crate) fn seen(&self) -> Vec<Value> {
        // PHP writes the line before it answers, so a test that has its answer finds it here.
        let lines = std::fs::read_to_string(self.folder.path().join("seen.jsonl")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A php-fpm that web servers of any user reach by its socket.
pub(crate) struct PhpFpm {
    folder: TempDir,
    _process: Process,
}

impl PhpFpm {
    pub(crate) fn start(workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        let (config, socket) = (folder.path().join("fpm.conf"), Self::socket_in(&folder));
        std::fs::write(
            &config,
            format!(
                "[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\n\
                 [www]\nuser = {user}\nlisten = {}\nlisten.mode = 0666\npm = static\npm.max_children = {workers}\n",
                socket.display()
            ),
        )
        .unwrap();
        let mut process = Process::start(
            server("php-fpm")
                .args(["-n", "--allow-to-run-as-root", "--nodaemonize", "--fpm-config"])
                .arg(config),
        );
        process.stderr().wait_for("word of php-fpm", |lines| {
            lines.iter().any(|line| line.contains("ready to handle connections")).then_some(())
        });
        Self { folder, _process: process }
    }

    /// Where web servers reach it.
    pub(crate) fn socket(&self) -> PathBuf {
        Self::socket_in(&self.folder)
    }

    fn socket_in(folder: &TempDir) -> PathBuf {
        folder.path().join("fpm.sock")
    }
}
