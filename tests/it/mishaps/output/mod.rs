//! What the gateway writes, opens and is told by signals: whatever is at the other end, it goes on, and ends in time.

mod commands;
mod level;
mod pipes;
mod signals;
mod standard_error;
mod standard_output;
mod terminals;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, pidfd_open, prlimit,
};
use tempfile::TempDir;

use crate::harness::{Call, DEADLINE, GatewayBuilder, Message, Metrics, Wire, binary, tool};

/// A gateway whose outputs are the test's own; it ends with this value.
struct Process {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Process {
    /// Starts a gateway; `ready` reads its standard error until it is ready.
    fn start(builder: &GatewayBuilder, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Starting {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("gateway.toml");
        std::fs::write(&config, builder.text()).unwrap();
        let mut command = binary();
        command.arg("run").arg("--config").arg(&config);
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Starting(Self { child, http: nowhere, admin: nowhere, folder })
    }

    fn call(&self) -> Message {
        Wire::connect(self.http).call(&Call::unlock())
    }

    fn metric(&self, name: &str) -> f64 {
        let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(DEADLINE)).build();
        let page = ureq::Agent::new_with_config(config).get(format!("http://{}/metrics", self.admin)).call();
        Metrics::parse(&page.unwrap().body_mut().read_to_string().unwrap()).sum(name)
    }

    /// Waits until a metric is as wanted.
    fn wait_for(&self, name: &str, is_wanted: impl Fn(f64) -> bool) {
        wait_until(name, || is_wanted(self.metric(name)));
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks for a reload and waits until it is done.
    fn reload(&self) {
        let before = self.metric("n4n_gateway_config_reloads_total");
        self.send(Signal::HUP);
        self.wait_for("n4n_gateway_config_reloads_total", |now| now > before);
    }

    /// Waits until the process has ended.
    fn wait_exit(&mut self) -> ExitStatus {
        wait_exit(&mut self.child)
    }

    /// Sets how large a file may get that the process writes to: a disk that is full, and has room again.
    fn limit_files(&self, size: Option<u64>) {
        let limit = Rlimit { current: size, maximum: getrlimit(Resource::Fsize).maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).unwrap();
    }

    /// Whether reads and writes of a descriptor, and of all that share it, return at once.
    fn is_nonblocking(&self, descriptor: u8) -> bool {
        let path = format!("/proc/{}/fdinfo/{descriptor}", self.child.id());
        let info = std::fs::read_to_string(path).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        u32::from_str_radix(flags, 8).unwrap() & rustix::fs::OFlags::NONBLOCK.bits() != 0
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that is not known to serve yet.
struct Starting(Process);

impl Starting {
    /// Reads its standard error until it serves; gives what it has read.
    fn read_ready(mut self, stderr: impl Read) -> (Process, Vec<String>) {
        let mut lines: Vec<String> = Vec::new();
        let mut stderr = BufReader::with_capacity(1, stderr);
        while !lines.last().is_some_and(|line| line.trim_end().ends_with(" ready")) {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it has ended: {lines:?}");
            lines.push(line);
        }
        let address = |kind: &str| {
            let named = lines.iter().find_map(|line| line.split_once(&format!("listening {kind}=")));
            named.unwrap_or_else(|| panic!("{lines:?}")).1.trim().parse().unwrap()
        };
        (self.0.http, self.0.admin) = (address("http"), address("admin"));
        (self.0, lines)
    }

    /// The same for a file that standard error goes to.
    fn wait_ready(self, stderr: &Path) -> Process {
        wait_until("line saying ready", || std::fs::read_to_string(stderr).unwrap().contains(" ready\n"));
        self.read_ready(File::open(stderr).unwrap()).0
    }
}

/// Waits until something is the case.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "no {what} in time");
        std::thread::yield_now();
    }
}

/// Waits until a child has ended.
fn wait_exit(child: &mut Child) -> ExitStatus {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let deadline = Timespec::try_from(DEADLINE).unwrap();
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&deadline)).unwrap();
    if ended == 0 {
        let _ = child.kill();
        panic!("the process has not ended");
    }
    child.wait().unwrap()
}

/// A named pipe.
fn named_pipe(path: &Path) {
    assert!(tool("mkfifo", "install coreutils").arg(path).status().unwrap().success());
}

/// Reads from a named pipe from now on, whether anybody writes to it or not.
fn read_pipe(path: &Path) -> File {
    let reader = n4n_gateway::files::options().read(true).open(path).unwrap();
    rustix::io::ioctl_fionbio(&reader, false).unwrap();
    reader
}

/// A pipe that takes a few lines, and nobody reads.
fn small_pipe() -> (PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    (reader, writer)
}

/// Runs a command of the binary's to its end.
fn run(arguments: &[&str], configure: impl FnOnce(&mut Command)) -> ExitStatus {
    let mut command = binary();
    command.args(arguments).stdin(Stdio::null());
    configure(&mut command);
    wait_exit(&mut command.spawn().unwrap())
}
