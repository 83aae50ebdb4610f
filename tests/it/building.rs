//! What the build and the tests fetch for themselves, on machines that lack more or less of it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::geteuid;

use crate::harness::tool;

/// A folder of commands, and nothing else, for a path of its own.
struct Commands(tempfile::TempDir);

impl Commands {
    fn new() -> Self {
        let commands = Self(tempfile::tempdir().unwrap());
        for name in ["bash", "cat", "chmod", "cmp", "comm", "cut", "find", "mount", "mv", "rm", "sed", "sort"]
        {
            let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
            let found = found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("install {name}"));
            symlink(found, commands.0.path().join(name)).unwrap();
        }
        commands
    }

    /// A command that is this script.
    fn with(self, name: &str, script: &str) -> Self {
        let path = self.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Runs a script, from the root of the tree, with these commands alone.
    fn run(&self, script: &str) -> Output {
        self.run_by(&mut tool("env", "install coreutils"), script)
    }

    /// As [`run`](Self::run), by an `env` that is reached like this.
    fn run_by(&self, env: &mut Command, script: &str) -> Output {
        env.args([
            "-i",
            &format!("PATH={}", self.0.path().display()),
            "bash",
            "-euo",
            "pipefail",
            "-c",
            script,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Somebody who is not root, with a Python that has no module but its own.
fn guest() -> Commands {
    Commands::new().with("id", "echo 1000").with("python3", "exit 1")
}

#[test]
fn what_the_build_lacks_and_cannot_fetch_is_named() {
    let output = guest().run(". deploy/prerequisites.sh; ensure_cmake; echo on");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    for words in ["cmake and make", "python3-venv"] {
        assert!(told(&output).contains(words), "{}", told(&output));
    }
    assert!(!told(&output).contains("Traceback"), "{}", told(&output));
}

#[test]
fn a_rust_that_is_too_old_is_told() {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    for (rustc, told_as) in [
        ("echo 'rustc 1.63.0 (4b91a6ea7 2022-08-08)'", Some("1.63.0")),
        ("exit 127", Some("none")),
        (&*format!("echo 'rustc {needed}.0 (x)'"), None),
        ("echo 'rustc 1.100.2-nightly (x)'", None),
        ("echo 'rustc 2.0.0 (x)'", None),
    ] {
        let output = guest().with("rustc", rustc).run(". deploy/prerequisites.sh; ensure_rust; echo on");
        assert_eq!(output.stdout == b"on\n", told_as.is_none(), "{rustc}: {output:?}");
        let words = told_as
            .map_or(String::new(), |found| format!("Rust {needed} or newer is needed, and here is {found}."));
        assert!(told(&output).starts_with(&words), "{}", told(&output));
    }
}

/// In a mount namespace with an `/etc` of its own, so that the machine's services are left alone.
#[test]
fn what_is_installed_starts_neither_now_nor_when_the_machine_does() {
    let may_mount =
        || tool("unshare", "install util-linux").args(["--mount", "true"]).status().unwrap().success();
    if !geteuid().is_root() || !may_mount() {
        eprintln!("NOTICE: what is installed as root was NOT tested, for that takes root and mounting");
        return;
    }
    let etc = tempfile::tempdir().unwrap();
    let [services, timers, levels] =
        ["systemd/system/multi-user.target.wants", "systemd/system/timers.target.wants", "rc2.d"];
    for folder in [services, timers, levels] {
        std::fs::create_dir_all(etc.path().join(folder)).unwrap();
    }
    let link = |folder: &str, name: &str| symlink("/lib", etc.path().join(folder).join(name)).unwrap();
    link(services, "before.service");
    link(levels, "S01before");
    let installing = format!(
        "case $* in *broken*) exit 100; esac
         case $* in *install*) cd /etc && for link in {services}/new.service {timers}/new.timer {levels}/S02new; do
             /bin/ln -s /lib $link
         done; esac"
    );
    let commands = Commands::new().with("id", "echo 0").with("apt-get", &installing);
    let install = |package: &str| {
        let script = format!(
            "mount --bind {} /etc; . deploy/prerequisites.sh; install_debian {package}",
            etc.path().display()
        );
        commands.run_by(tool("unshare", "install util-linux").args(["--mount", "env"]), &script)
    };
    assert!(!install("broken").status.success());
    let output = install("new");
    assert!(output.status.success(), "{}", told(&output));
    let names = |folder: &str| {
        let entries = std::fs::read_dir(etc.path().join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(services), ["before.service"]);
    assert_eq!(names(timers), [""; 0]);
    assert_eq!(names(levels), ["K01new", "S01before"]);
}
