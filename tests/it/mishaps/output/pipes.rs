//! A named pipe in the place of a file holds up neither the start nor a reload.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, pipe};
use std::path::Path;

use serde_json::Value;

use super::{named_pipe, read_pipe, run};
use crate::harness::{Authority, Call, Gateway, Upstream, VALID};

const DROPPED: &str = "n4n_gateway_access_log_dropped_total";

#[test]
fn an_access_log_that_nobody_reads_is_written_once_somebody_does() {
    let folder = tempfile::tempdir().unwrap();
    let (at_start, at_reload) = (folder.path().join("start"), folder.path().join("reload"));
    named_pipe(&at_start);
    named_pipe(&at_reload);
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", &format!("access = {at_start:?}")).start();
    gateway.wait_for_line("nobody reads the pipe that log.access names");
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    gateway.wait_for_metric(DROPPED, 1.0);
    assert_read(&gateway, &at_start);

    gateway.reload(|text| text.replace("/start\"", "/reload\""));
    assert_eq!(gateway.metrics().sum("n4n_gateway_config_last_reload_successful"), 1.0);
    assert_read(&gateway, &at_reload);
}

/// Somebody comes to read, and reads a call.
fn assert_read(gateway: &Gateway, path: &Path) {
    let mut reader = BufReader::new(read_pipe(path));
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    let mut line = String::new();
    while line.is_empty() {
        reader.read_line(&mut line).unwrap();
    }
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["status"], 200, "{line}");
}

#[test]
fn the_standard_output_may_be_named_by_its_path() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", "access = \"/dev/stdout\"").start();
    gateway.call(&Call::unlock());
    assert_eq!(gateway.wait_for_log(1)[0]["status"], 200);
}

#[test]
fn a_pipe_that_nobody_writes_to_is_told_wherever_a_file_is_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe_at = folder.path().join("pipe");
    named_pipe(&pipe_at);
    let authority = Authority::new();
    authority.issue(&["localhost"], VALID).write(folder.path(), "server");
    authority.write(folder.path(), "ca.pem");
    let https = |certificate: &str, key: &str, ca: &str| {
        format!(
            "listen.https = [{{ address = \"127.0.0.1:0\", certificate = \"{certificate}\", key = \"{key}\", \
             client_ca = \"{ca}\" }}]"
        )
    };
    for lines in [
        https("pipe", "server.key", "ca.pem"),
        https("server.pem", "pipe", "ca.pem"),
        https("server.pem", "server.key", "pipe"),
        "upstream.tls = { ca = \"pipe\" }".to_owned(),
        "quota.redis = \"file:pipe\"".to_owned(),
    ] {
        let text = format!(
            "listen.http = [\"127.0.0.1:0\"]\nlisten.admin = \"127.0.0.1:0\"\nupstream.peers = [\"127.0.0.1:80\"]\n\
             {lines}\n"
        );
        std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
        assert_told(folder.path(), "gateway.toml", &lines);
    }
    assert_told(folder.path(), "pipe", "the configuration itself");
}

fn assert_told(folder: &Path, config: &str, what: &str) {
    for command in ["check", "run"] {
        let (mut told, stderr) = pipe().unwrap();
        let status = run(&[command, "--config", config], |command| {
            command.current_dir(folder).stderr(stderr);
        });
        let mut text = String::new();
        told.read_to_string(&mut text).unwrap();
        assert_eq!(status.code(), Some(2), "{command}: {what}: {text}");
        assert!(text.contains("cannot be read: it is a pipe that nobody writes to"), "{what}: {text}");
    }
}

#[test]
fn a_reload_finds_a_pipe_at_fault_and_the_gateway_goes_on() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let path = gateway.file("silent");
    named_pipe(&path);
    // Somebody has it open and writes nothing.
    let silent = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    gateway.reload(|text| text + "[quota]\nredis = \"file:silent\"\n");
    gateway.wait_for_line("its writer keeps silent");
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"failure\"}", 1.0);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    drop(silent);
}
