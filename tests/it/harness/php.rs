//! A real PHP that reads requests as n4n's application does, and tells what it saw.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::lines::Lines;
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
