//! The gateway as operators run it: a process with a configuration file.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::builder::GatewayBuilder;
use super::lines::Lines;
use super::metrics::Metrics;
use super::secrets::assert_unseen_with;
use super::{Call, DEADLINE, Message, Wire, binary, tool};

/// How long after its answer a call may still be uncounted.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

/// A running gateway; it ends with this value.
pub(crate) struct Gateway {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    http: SocketAddr,
    admin: SocketAddr,
    folder: Arc<TempDir>,
}

/// What an operator may send to the process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Terminate,
    Interrupt,
    Hangup,
    Quit,
    Kill,
}

impl Gateway {
    /// A gateway on ports of the system's choice in front of one upstream.
    pub(crate) fn before(upstream: SocketAddr) -> GatewayBuilder {
        Self::before_all(&[upstream])
    }

    /// A gateway in front of several peers.
    pub(crate) fn before_all(peers: &[impl ToString]) -> GatewayBuilder {
        GatewayBuilder::before_all(peers)
    }

    pub(super) fn spawn(command: &mut Command, folder: Arc<TempDir>) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on a panic ends the child too.
        Self { child, stdout, stderr, http: nowhere, admin: nowhere, folder }
    }

    /// Starts a process that waits to take over from this one, with the configuration file as it is now.
    pub(crate) fn successor(&self) -> Self {
        let mut command = binary();
        command.arg("run").arg("--upgrade").arg("--config").arg(self.config());
        let successor = Self::spawn(&mut command, Arc::clone(&self.folder));
        successor.wait_for_line("waiting for the running process");
        successor
    }

    /// Waits until the process serves.
    pub(crate) fn wait_ready(&mut self) {
        self.stderr.wait_for("line saying ready", |lines| {
            lines.iter().any(|line| line.split_whitespace().any(|word| word == "ready")).then_some(())
        });
        self.http = self.listener("http");
        self.admin = self.listener("admin");
    }

    /// Waits for a line on standard error that holds these words.
    pub(crate) fn wait_for_line(&self, words: &str) {
        self.stderr.wait_for(words, |lines| lines.iter().any(|line| line.contains(words)).then_some(()));
    }

    fn listener(&self, kind: &str) -> SocketAddr {
        let named = regex::Regex::new(&format!(r"listening {kind}=([0-9.:\[\]]+)")).unwrap();
        self.stderr.wait_for(&format!("{kind} listener"), |lines| {
            lines.iter().find_map(|line| named.captures(line)?[1].parse().ok())
        })
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where the admin listener is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.listener("https")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/customer/unlock", self.http)
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.http)
    }

    /// Sends one call on a connection of its own.
    pub(crate) fn call(&self, call: &Call) -> Message {
        self.connect().call(call)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// A file beside the configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks for another configuration and waits until it is in force, or is found faulty.
    pub(crate) fn reload(&self, change: impl Fn(String) -> String) {
        let before = self.metrics().sum("n4n_gateway_config_reloads_total");
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), change(text)).unwrap();
        self.send(Signal::Hangup);
        self.wait_for_metric("n4n_gateway_config_reloads_total", before + 1.0);
    }

    /// A page of the admin listener: status and body.
    pub(crate) fn admin(&self, path: &str) -> Result<(u16, String), ureq::Error> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(DEADLINE))
            .build();
        let mut answer =
            ureq::Agent::new_with_config(config).get(format!("http://{}{path}", self.admin)).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (status, page) = self.admin("/metrics").unwrap();
        assert_eq!(status, 200, "{page}");
        Metrics::parse(&page)
    }

    /// Waits until the selected series sum up to `want`: a call is counted a moment after its answer.
    pub(crate) fn wait_for_metric(&self, selector: &str, want: f64) {
        let start = Instant::now();
        loop {
            let metrics = self.metrics();
            let is = metrics.sum(selector);
            if (is - want).abs() < f64::EPSILON {
                return;
            }
            let name = selector.split('{').next().unwrap();
            assert!(
                start.elapsed() < COUNTED_WITHIN,
                "{selector} is {is}, not {want}: {:#?}",
                metrics.named(name)
            );
        }
    }

    /// The access log's line about one request, waited for.
    pub(crate) fn log_of(&self, request_id: &str) -> Value {
        self.stdout.wait_for("access log line", |lines| {
            let about = lines.iter().find(|line| line.contains(request_id))?;
            Some(serde_json::from_str(about).unwrap_or_else(|error| panic!("{error}: {about}")))
        })
    }

    /// The access log once it has at least so many lines.
    pub(crate) fn wait_for_log(&self, count: usize) -> Vec<Value> {
        self.stdout.wait_for("access log", |lines| {
            let parse =
                |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            (lines.len() >= count).then(|| lines.iter().map(parse).collect())
        })
    }

    /// Everything written to standard output and standard error so far.
    pub(crate) fn output(&self) -> String {
        [self.stdout.all(), self.stderr.all()].concat().join("\n")
    }

    pub(crate) fn send(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Hangup => "HUP",
            Signal::Quit => "QUIT",
            Signal::Kill => "KILL",
        };
        let sent =
            Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        assert!(self.stderr.wait_end() && self.stdout.wait_end(), "still running:\n{}", self.output());
        self.child.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The number that the system knows it by.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// How many file descriptors it has.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The soft and the hard limit on its open files, as the system tells them.
    pub(crate) fn open_files_limits(&self) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut numbers = line.split_whitespace().skip(3).map(str::to_owned);
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Sets its soft limit on open files while it runs.
    pub(crate) fn limit_open_files(&self, soft: usize) {
        let process = self.child.id().to_string();
        let soft = format!("--nofile={soft}:");
        let limited =
            tool("prlimit", "install util-linux").args(["--pid", &process, &soft]).status().unwrap();
        assert!(limited.success());
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let is_failed = std::thread::panicking();
        let shown = if is_failed || !self.is_running() { Vec::new() } else { self.shown() };
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_failed {
            eprintln!("the gateway's standard error:\n{}", self.stderr.all().join("\n"));
        } else if self.stdout.wait_end() && self.stderr.wait_end() {
            self.assert_kept_secrets(shown);
        }
    }
}

/// Whatever a test is about, at its end no key has come out of the gateway.
impl Gateway {
    /// What the admin listener shows, where there is one that answers.
    pub(super) fn shown(&self) -> Vec<(&'static str, String)> {
        let metrics = self.admin("/metrics").map(|(_, page)| ("/metrics", page)).ok();
        let events = self.first_event().map(|event| ("/events", event)).ok();
        metrics.into_iter().chain(events).collect()
    }

    /// Waits until the live page shows these words.
    pub(crate) fn wait_for_event(&self, words: &str) {
        let start = Instant::now();
        let mut seen = String::new();
        let mut lines = self.events().unwrap();
        while lines.read_line(&mut seen).is_ok_and(|read| read > 0) && start.elapsed() < DEADLINE {
            if seen.contains(words) {
                return;
            }
        }
        panic!("the live page never shows {words}: {seen}");
    }

    fn events(&self) -> std::io::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect_timeout(&self.admin, COUNTED_WITHIN)?;
        stream.set_read_timeout(Some(COUNTED_WITHIN))?;
        write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin)?;
        Ok(BufReader::new(stream))
    }

    fn first_event(&self) -> std::io::Result<String> {
        let (mut event, mut lines) = (String::new(), self.events()?);
        while !event.ends_with("\n\n") && lines.read_line(&mut event)? > 0 {}
        Ok(event)
    }

    /// The files it writes: those beside the configuration, and the logs that this names elsewhere.
    pub(super) fn written(&self) -> Vec<PathBuf> {
        let named = regex::Regex::new(r#"(?m)^(?:audit|access) *= *"(/[^"]+)""#).unwrap();
        let config = std::fs::read_to_string(self.config()).unwrap();
        let elsewhere = named.captures_iter(&config).map(|log| PathBuf::from(&log[1])).collect::<Vec<_>>();
        let beside = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        let files = beside.filter(|file| *file != self.config()).chain(elsewhere);
        files.filter(|file| file.is_file()).collect()
    }

    fn assert_kept_secrets(&self, shown: Vec<(&str, String)>) {
        let config = std::fs::read_to_string(self.config()).unwrap();
        for (page, text) in shown {
            assert_unseen_with(page, text, &config);
        }
        assert_unseen_with("standard output", self.stdout.all().join("\n"), &config);
        assert_unseen_with("standard error", self.stderr.all().join("\n"), &config);
        for file in self.written() {
            assert_unseen_with(&file.display().to_string(), std::fs::read(&file).unwrap(), &config);
        }
    }
}
