//! Standard error is best effort: what cannot be written is counted and told later.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, pipe};
use std::process::Stdio;

use rustix::process::Signal;

use super::{Process, named_pipe, read_pipe, small_pipe, wait_until};
use crate::harness::{Gateway, GatewayBuilder, Upstream};

const DROPPED: &str = "n4n_gateway_log_dropped_total";

/// A gateway that logs each call, all of which fail.
fn failing() -> (Upstream, GatewayBuilder) {
    let upstream = Upstream::answering("nonsense\r\n\r\n");
    let builder = Gateway::before(upstream.address()).set("log", "access = \"off\"");
    (upstream, builder)
}

#[test]
fn a_reader_that_leaves_ends_nothing() {
    let (_upstream, builder) = failing();
    let (reader, writer) = pipe().unwrap();
    let (mut process, _) = Process::start(&builder, Stdio::null(), writer).read_ready(reader);
    // The reader is gone by now.
    assert_eq!(process.call().status(), 502);
    process.wait_for(DROPPED, |dropped| dropped > 0.0);
    process.reload();
    assert_eq!(process.call().status(), 502);
    process.send(Signal::TERM);
    assert_eq!(process.wait_exit().code(), Some(0));
}

#[test]
fn what_was_lost_is_told_to_the_next_reader() {
    let (_upstream, builder) = failing();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stderr");
    named_pipe(&path);
    let first = read_pipe(&path);
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let (process, _) = Process::start(&builder, Stdio::null(), writer).read_ready(first);
    assert_eq!(process.call().status(), 502);
    process.wait_for(DROPPED, |dropped| dropped > 0.0);
    let second = read_pipe(&path);
    assert_eq!(process.call().status(), 502);
    let told = BufReader::new(second).lines().map(Result::unwrap);
    assert!(told.into_iter().any(|line| line.contains("lines of this log were lost lost=")));
}

#[test]
fn a_pipe_that_nobody_reads_holds_nothing_up() {
    let (_upstream, builder) = failing();
    let (reader, writer) = small_pipe();
    let reading = reader.try_clone().unwrap();
    let (mut process, _) = Process::start(&builder, Stdio::null(), writer).read_ready(reading);
    // Far more than the pipe takes.
    for _ in 0..100 {
        assert_eq!(process.call().status(), 502);
    }
    process.reload();
    assert!(!process.is_nonblocking(2), "the pipe is shared with others");
    process.send(Signal::TERM);
    assert_eq!(process.wait_exit().code(), Some(0));
    drop(reader);
}

#[test]
fn a_full_disk_costs_lines_and_breaks_none() {
    let (_upstream, builder) = failing();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stderr");
    let process = Process::start(&builder, Stdio::null(), File::create(&path).unwrap()).wait_ready(&path);
    // Room for a part of the next line.
    process.limit_files(Some(path.metadata().unwrap().len() + 10));
    for _ in 0..5 {
        assert_eq!(process.call().status(), 502);
    }
    process.wait_for(DROPPED, |dropped| dropped > 0.0);
    process.limit_files(None);
    assert_eq!(process.call().status(), 502);
    let read = || std::fs::read_to_string(&path).unwrap();
    wait_until("line telling of it", || read().contains("lines of this log were lost lost="));
    for line in read().lines() {
        let starts = line.matches("T").filter(|_| line.starts_with("20")).count() > 0;
        let times = line.matches("Z  INFO").count()
            + line.matches("Z  WARN").count()
            + line.matches("Z ERROR").count()
            + line.matches("Z DEBUG").count();
        assert!(starts && times == 1, "not one line: {line}");
    }
}
