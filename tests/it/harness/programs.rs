//! Where the programs that the tests run are found; a missing one fails the test and says the mend.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package's folder.
pub(crate) fn package_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test.
pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_n4n-gateway"))
}

/// The configuration line that `hash-key` prints for a key.
pub(crate) fn key_line(key: &str) -> String {
    let mut child = binary().arg("hash-key").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{key}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(!line.contains(key));
    line
}

/// The folder of Python's and Node's packages: `target/test-tools`, or N4N_TEST_TOOLS.
pub(crate) fn test_tools() -> PathBuf {
    std::env::var_os("N4N_TEST_TOOLS").map_or_else(|| package_root().join("target/test-tools"), PathBuf::from)
}

/// A program of the system, or of `test_tools()` if given with a folder.
pub(crate) fn tool(program: &str, mend: &str) -> Command {
    let program = if program.contains('/') { test_tools().join(program) } else { PathBuf::from(program) };
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "{} does not run: {mend} (tests/prepare does it)", program.display());
    let mut command = Command::new(program);
    // A proxy of the machine's own must not come between the tests and loopback.
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}
