//! Signals that come early are not lost, and end nothing that they are not to end.

use std::fs;
use std::io::{BufRead, BufReader, pipe};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Process, named_pipe, wait_exit, wait_until};
use crate::harness::{Gateway, Upstream, binary};

/// Whether a process ignores or catches a signal by now.
fn is_prepared(child: &Child, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let has = |set: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
    };
    has("SigIgn:") || has("SigCgt:")
}

/// Sends a signal as soon as the process has done something about it.
fn send_early(child: &Child, signal: Signal) {
    wait_until("handler", || is_prepared(child, signal));
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_hangup_that_comes_early_is_a_reload_once_the_gateway_serves() {
    let upstream = Upstream::start();
    let (reader, stderr) = pipe().unwrap();
    let starting = Process::start(&Gateway::before(upstream.address()), Stdio::null(), stderr);
    send_early(&starting.0.child, Signal::HUP);
    let (process, _) = starting.read_ready(reader.try_clone().unwrap());
    process.wait_for("n4n_gateway_config_reloads_total{result=\"success\"}", |count| count == 1.0);
    assert_eq!(process.call().status(), 200);
    for signal in [Signal::PIPE, Signal::XFSZ, Signal::HUP, Signal::QUIT] {
        assert!(is_prepared(&process.child, signal), "{signal:?}");
        process.send(signal);
        assert_eq!(process.call().status(), 200, "after {signal:?}");
    }
}

#[test]
fn signals_are_caught_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    named_pipe(&config);
    // Somebody has it open and writes nothing.
    let silent = fs::OpenOptions::new().read(true).write(true).open(&config).unwrap();
    let mut command = binary();
    command.args(["run", "--config"]).arg(&config).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    for signal in [Signal::PIPE, Signal::XFSZ, Signal::HUP, Signal::QUIT] {
        send_early(&child, signal);
    }
    // What ends it is its configuration.
    assert_eq!(wait_exit(&mut child).code(), Some(2));
    drop(silent);
}

#[test]
fn a_signal_to_end_that_comes_early_ends_the_process() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Upstream::start();
        let mut starting = Process::start(&Gateway::before(upstream.address()), Stdio::null(), Stdio::null());
        send_early(&starting.0.child, signal);
        assert_eq!(starting.0.wait_exit().code(), Some(0), "{signal:?}");
    }
}

/// A process that waits to take over, and does not serve.
fn waiting(config: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let (reader, stderr) = pipe().unwrap();
    let mut command = binary();
    command.args(["run", "--upgrade", "--config"]).arg(config);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("waiting for the running process")));
    (child, lines)
}

#[test]
fn a_process_that_waits_to_take_over_is_not_ended_by_a_hangup() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    fs::write(
        &config,
        "listen = { http = [\"127.0.0.1:0\"], admin = \"127.0.0.1:0\", upgrade_socket = \"upgrade.sock\" }\n\
         upstream.peers = [\"127.0.0.1:80\"]\n",
    )
    .unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let (mut child, _lines) = waiting(&config);
        let id = Pid::from_child(&child);
        for early in [Signal::HUP, Signal::QUIT, signal] {
            assert!(is_prepared(&child, early), "{early:?}");
            kill_process(id, early).unwrap();
        }
        assert_eq!(wait_exit(&mut child).code(), Some(0), "{signal:?}");
        assert!(!folder.path().join("upgrade.sock").exists());
    }
}
