//! Whatever takes the access log may stand still, fill up or go away: lines are lost and counted, and nothing else is.

use std::io::pipe;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use super::{Process, small_pipe, wait_until};
use crate::harness::{Call, Gateway, Upstream};

const DROPPED: &str = "n4n_gateway_access_log_dropped_total";

#[test]
fn a_standard_output_that_nobody_reads_holds_up_neither_calls_nor_the_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Upstream::start();
        let builder = Gateway::before(upstream.address())
            .set("listen", "drain_timeout = \"1s\"")
            .set("log", "access = \"stdout\"\naudit = \"audit.jsonl\"");
        let (unread, stdout) = small_pipe();
        let (reader, stderr) = pipe().unwrap();
        let reading = reader.try_clone().unwrap();
        let (mut process, _) = Process::start(&builder, stdout, stderr).read_ready(reading);
        for _ in 0..50 {
            assert_eq!(process.call().status(), 200);
        }
        assert!(!process.is_nonblocking(1), "the pipe is shared with others");
        process.send(signal);
        assert_eq!(process.wait_exit().code(), Some(0), "{signal:?}");
        drop((unread, reader));
    }
}

#[test]
fn lines_that_nobody_can_read_any_more_are_counted() {
    let upstream = Upstream::start();
    let builder = Gateway::before(upstream.address());
    let (unread, stdout) = pipe().unwrap();
    let (reader, stderr) = pipe().unwrap();
    let (process, _) = Process::start(&builder, stdout, stderr).read_ready(reader.try_clone().unwrap());
    drop(unread);
    for _ in 0..3 {
        assert_eq!(process.call().status(), 200);
    }
    process.wait_for(DROPPED, |dropped| dropped == 3.0);
}

#[test]
fn a_line_that_was_cut_short_is_ended_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::fs::write(&path, "half a li").unwrap();
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", &format!("access = {path:?}")).start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    let written = || std::fs::read_to_string(&path).unwrap();
    wait_until("line", || written().ends_with("}\n"));
    let (half, line) =
        written().split_once('\n').map(|(half, line)| (half.to_owned(), line.to_owned())).unwrap();
    assert_eq!(half, "half a li");
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["status"], 200);
}

#[test]
fn a_full_disk_costs_whole_lines_and_they_are_counted() {
    const CALLS: usize = 20;
    let upstream = Upstream::start();
    let builder = Gateway::before(upstream.address()).set("log", "access = \"access.log\"");
    let (reader, stderr) = pipe().unwrap();
    let (process, _) =
        Process::start(&builder, Stdio::null(), stderr).read_ready(reader.try_clone().unwrap());
    let path = process.file("access.log");
    let written = || std::fs::read_to_string(&path).unwrap();
    process.call();
    wait_until("first line", || written().ends_with('\n'));
    // Room for a part of the next line.
    process.limit_files(Some(written().len() as u64 + 10));
    for _ in 1..CALLS {
        assert_eq!(process.call().status(), 200);
    }
    process.wait_for(DROPPED, |dropped| dropped > 0.0);
    wait_until("half a line", || !written().ends_with('\n'));
    process.limit_files(None);
    assert_eq!(process.call().status(), 200);
    // Each call is a whole line or counted.
    let lines = || written().matches('\n').count();
    wait_until("account of every line", || lines() + process.metric(DROPPED) as usize == CALLS + 1);
    for line in written().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert_eq!(line["status"], 200);
    }
}
