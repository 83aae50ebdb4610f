//! Commands run on a terminal, and go on when it hangs up.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;

use super::{Process, run, wait_exit};
use crate::harness::{Gateway, Upstream, binary};

/// A terminal: the side of whoever sits before it, and the side of the programs.
fn terminal() -> (OwnedFd, File) {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let name = ptsname(&near, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let far = n4n_gateway::files::options().read(true).write(true).open(path).unwrap();
    rustix::io::ioctl_fionbio(&far, false).unwrap();
    (near, far)
}

#[test]
fn a_gateway_outlives_its_terminal() {
    let upstream = Upstream::answering("nonsense\r\n\r\n");
    let builder = Gateway::before(upstream.address());
    let (near, far) = terminal();
    let stdout = far.try_clone().unwrap();
    let (mut process, lines) = Process::start(&builder, stdout, far).read_ready(File::from(near));
    // No complaint, and no escape sequences.
    assert!(lines.iter().all(|line| line.starts_with("20") && !line.contains('\u{1b}')), "{lines:?}");
    // The terminal has hung up by now.
    assert_eq!(process.call().status(), 502);
    process.wait_for("n4n_gateway_log_dropped_total", |dropped| dropped > 0.0);
    process.wait_for("n4n_gateway_access_log_dropped_total", |dropped| dropped > 0.0);
    process.reload();
    assert_eq!(process.call().status(), 502);
    process.send(Signal::TERM);
    assert_eq!(process.wait_exit().code(), Some(0));
}

#[test]
fn check_tells_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    for (text, code, told) in [
        ("listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:80\"]", 0, "gateway.toml: sound"),
        ("listen.http = []\nupstream.peers = [\"127.0.0.1:80\"]", 2, "listen.http: is empty"),
    ] {
        std::fs::write(&config, text).unwrap();
        let (near, far) = terminal();
        let kept = far.try_clone().unwrap();
        let status = run(&["check", "--config", config.to_str().unwrap()], |command| {
            command.stdout(far.try_clone().unwrap()).stderr(far);
        });
        assert_eq!(status.code(), Some(code));
        let mut line = String::new();
        BufReader::new(File::from(near)).read_line(&mut line).unwrap();
        assert!(line.contains(told), "{line}");
        drop(kept);
    }
}

#[test]
fn a_key_that_is_typed_is_not_shown() {
    const DIGEST: &str =
        "key_sha256 = [\"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"]";
    for (typed, code, printed) in [
        ("secret\r", 0, DIGEST),
        ("not\u{15}secrex\u{7f}t\n", 0, DIGEST),
        ("secret\u{4}", 0, DIGEST),
        ("sec\u{3}", 1, ""),
        ("\n", 1, ""),
    ] {
        let (near, far) = terminal();
        let modes = |terminal: &File| tcgetattr(terminal).unwrap().local_modes;
        let before = modes(&far);
        let (mut result, stdout) = std::io::pipe().unwrap();
        let mut command = binary();
        command
            .arg("hash-key")
            .stdin(far.try_clone().unwrap())
            .stdout(stdout)
            .stderr(far.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut near = File::from(near);
        let mut shown = String::new();
        while !shown.ends_with(": ") {
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            shown.push(byte[0].into());
        }
        near.write_all(typed.as_bytes()).unwrap();
        let mut told = String::new();
        result.read_to_string(&mut told).unwrap();
        assert_eq!((wait_exit(&mut child).code(), told.trim_end()), (Some(code), printed), "{typed:?}");
        assert_eq!(modes(&far), before, "{typed:?}: the terminal is as it was");
        // Whatever else was shown since is there at once.
        rustix::io::ioctl_fionbio(&near, true).unwrap();
        let mut rest = Vec::new();
        let _ = near.read_to_end(&mut rest);
        shown.push_str(&String::from_utf8_lossy(&rest));
        assert!(shown.starts_with("api-key"), "{shown}");
        assert!(!shown.contains("sec"), "{typed:?}: {shown}");
    }
}

#[test]
fn the_demo_shows_itself_on_a_terminal() {
    let (near, far) = terminal();
    let mut command = binary();
    command.args(["demo", "--port", "0", "--admin-port", "0"]).stdin(Stdio::null());
    command.stdout(far.try_clone().unwrap()).stderr(far);
    let mut demo = command.spawn().unwrap();
    drop(command);
    let mut lines = BufReader::new(File::from(near)).lines().map_while(Result::ok);
    let found = lines.find(|line| line.contains("try it     curl ") || line.contains("panicked"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&demo), Signal::INT).unwrap();
    // Whoever sits before it goes on reading.
    let rest = std::thread::spawn(move || lines.count());
    let status = wait_exit(&mut demo);
    assert!(found.is_some_and(|line| line.contains("curl ")), "no curl line");
    assert_eq!(status.code(), Some(0));
    rest.join().unwrap();
}
