//! What operators read on standard error and in the log files: for people, for the journal and for machines.

use std::fs::{File, Permissions, metadata};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Authority, Call, DEADLINE, Gateway, NAME, Secured, Signal, TlsClient, Upstream, VALID, binary,
    refusing_address,
};

/// `run` with its standard error in a file.
struct Run {
    child: Child,
    folder: TempDir,
}

impl Run {
    /// Says that the journal is at the other end of a file: its own standard error, or another one.
    fn start(text: &str, is_journal: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("gateway.toml");
        std::fs::write(&config, text).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let named = if is_journal { log.metadata() } else { metadata(&config) }.unwrap();
        let child = binary()
            .arg("run")
            .arg("--config")
            .arg(config)
            .env("JOURNAL_STREAM", format!("{}:{}", named.dev(), named.ino()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// The log once these words are in it.
    fn wait_for(&self, words: &str) -> String {
        let start = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            if log.contains(words) && log.ends_with('\n') {
                return log;
            }
            assert!(start.elapsed() < DEADLINE, "no {words} in:\n{log}");
        }
    }

    fn reload(&self, change: impl Fn(String) -> String) {
        let config = self.folder.path().join("gateway.toml");
        std::fs::write(&config, change(std::fs::read_to_string(&config).unwrap())).unwrap();
        let kill = format!("kill -HUP {}", self.child.id());
        assert!(std::process::Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_journal_is_told_the_priority_of_each_line_and_nobody_else_is() {
    let text = Gateway::before_all(&["n4n.invalid:80"]).text();
    let run = Run::start(&text, true);
    run.wait_for(" ready");
    let log = run.wait_for("cannot be looked up");
    let priority = |words: &str| {
        let line = log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{log}"));
        line[..3].to_owned()
    };
    assert_eq!(
        (priority("cannot be looked up"), priority("listening")),
        ("<4>".into(), "<6>".into()),
        "{log}"
    );
    run.reload(|text| text.replace("[listen]", "[listen]\nmistaken = 1"));
    let log = run.wait_for("mistaken");
    assert!(log.lines().any(|line| line.starts_with("<3>") && line.contains("mistaken")), "{log}");

    // A start that fails, with a line for each fault.
    let run = Run::start(&text.replace("[listen]", "[listen]\nmistaken = 1\nalso = 2"), true);
    let log = run.wait_for("also");
    assert!(log.lines().count() == 2 && log.lines().all(|line| line.starts_with("<3>")), "{log}");

    let run = Run::start(&text, false);
    run.wait_for(" ready");
    let log = run.wait_for("cannot be looked up");
    assert!(log.contains("WARN") && !log.contains('<'), "{log}");
}

#[test]
fn the_log_is_json_where_that_is_asked_for_and_a_reload_changes_it() {
    let text = Gateway::before_all(&["n4n.invalid:80"]).set("log", "format = \"json\"").text();
    let run = Run::start(&text, false);
    run.wait_for("\"ready\"");
    let log = run.wait_for("cannot be looked up");
    let parsed = |line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let lines: Vec<Value> = log.lines().map(parsed).collect();
    for line in &lines {
        let (time, level) = (line["time"].as_str().unwrap(), line["level"].as_str().unwrap());
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "{line}");
        assert!(["info", "warn"].contains(&level) && line["message"].is_string(), "{line}");
    }
    let warning = lines.iter().find(|line| line["level"] == "warn").unwrap();
    assert_eq!(warning["peer"], "n4n.invalid:80", "{warning}");
    assert!(lines.iter().any(|line| line["message"] == "listening" && line["http"].is_string()), "{log}");
    run.reload(|text| text.replace("format = \"json\"", "format = \"text\""));
    run.wait_for(" INFO the configuration is in force");
}

#[test]
fn no_line_is_written_for_programmers() {
    let (clients, strangers) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = clients.write(folder.path(), "ca.pem");
    let (refusing, _held) = refusing_address();
    let upstream = Upstream::answering("nonsense\r\n\r\n");
    let peers =
        [upstream.address().to_string(), refusing.to_string(), "n4n.invalid:80".into(), "localhost:1".into()];
    let check = "health_check = { every = \"100ms\", timeout = \"50ms\", fall = 1 }";
    let secured = Secured::of(Gateway::before_all(&peers).set("upstream", check));
    let gateway = &secured.gateway;
    gateway.call(&Call::unlock());
    let shows = [None, Some(strangers.issue(&["a"], VALID)), Some(clients.issue(&["a"], (2000, 2001)))];
    gateway.reload(|text| text.replace("a.key\" }", &format!("a.key\", client_ca = {ca:?} }}")));
    for shown in &shows {
        let client = TlsClient::trusting(&secured.authority, shown.as_ref());
        assert!(client.connect(gateway.https(), NAME).try_call(&Call::unlock()).is_err());
    }
    let _ = TcpStream::connect(gateway.https()).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n");
    // One that does not believe the gateway's certificate.
    let _ = TlsClient::trusting(&strangers, None).connect(gateway.https(), NAME).try_call(&Call::unlock());
    gateway.wait_for_line("peers addresses=");
    gateway.wait_for_line("plain_http");
    gateway.wait_for_line("refused_by_client");
    gateway.wait_for_line("certificate_expired");
    gateway.wait_for_line("the peer is unhealthy");
    gateway.reload(|text| text.replace("[listen]", "[listen]\nmax_in_flight = \"many\""));
    gateway.wait_for_line("max_in_flight");
    let debug = regex::Regex::new(r#"Some\(|None\b|Ok\(|Err\(|Error\(|Os \{| \{ |\(\(|\["|=\["#).unwrap();
    let lines = gateway.output();
    assert!(!debug.is_match(&lines), "{lines}");
}

fn mode(file: &Path) -> u32 {
    metadata(file).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_log_file_has_one_mode_whatever_the_umask_over_rotation_and_restart() {
    let upstream = Upstream::start();
    for umask in ["umask 077", "umask 000"] {
        let gateway = Gateway::before(upstream.address())
            .set("log", "access = \"access.log\"\naudit = \"audit.jsonl\"")
            .start_limited(umask);
        let (log, trail) = (gateway.file("access.log"), gateway.file("audit.jsonl"));
        assert_eq!((mode(&log), mode(&trail)), (0o640, 0o600), "{umask}");
        for file in [&log, &trail] {
            std::fs::rename(file, file.with_extension("1")).unwrap();
        }
        gateway.send(Signal::Hangup);
        gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);
        assert_eq!((mode(&log), mode(&trail)), (0o640, 0o600), "{umask}, rotated");
        // What an operator has set stays.
        std::fs::set_permissions(&log, Permissions::from_mode(0o600)).unwrap();
        gateway.send(Signal::Hangup);
        gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 2.0);
        assert_eq!(mode(&log), 0o600, "{umask}, set");
    }
}

#[test]
fn access_log_lines_go_to_standard_error_where_that_is_wanted() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", "access = \"stderr\"").start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    gateway.wait_for_line("\"request_id\":\"");
}
