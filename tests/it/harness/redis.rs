//! A real Redis, to be stopped, broken and mended.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::lines::Lines;
use super::tool;

/// A redis-server that keeps nothing on disk; it ends with this value.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with more arguments, in which `PORT` stands for one that is free.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock").to_str().unwrap().to_owned();
        let of_folder = ["--dir", folder.path().to_str().unwrap(), "--unixsocket", &socket];
        let of_folder = [&of_folder[..], &["--save", "", "--appendonly", "no"]].concat();
        let arguments: Vec<String> = of_folder.iter().chain(arguments).map(ToString::to_string).collect();
        // Redis takes no port of the system's choice, so another may be quicker to take the one that was free.
        let found = (0..20).find_map(|_| {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            Some((run(&arguments, port)?, port))
        });
        let (child, port) = found.expect("a free port");
        Self { child, port, arguments, folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew where it was, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.arguments, self.port).expect("the port it had is free");
    }

    /// Stops it in its tracks.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }

    /// A connection to it, beside its port.
    pub(crate) fn connect(&self) -> redis::Connection {
        let socket = format!("unix://{}", self.folder.path().join("redis.sock").display());
        redis::Client::open(socket).unwrap().get_connection().unwrap()
    }

    /// What it answers to a command.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.connect()).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it and waits until it is ready; `None` where the port is taken.
fn run(arguments: &[String], port: u16) -> Option<Child> {
    let port = port.to_string();
    let plain = if arguments.iter().any(|argument| argument == "PORT") { "0" } else { &port };
    let mut child = tool("redis-server", "install redis-server")
        .args(["--bind", "127.0.0.1", "--port", plain])
        .args(arguments.iter().map(|argument| if argument == "PORT" { &port } else { argument }))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let log = Lines::of(child.stdout.take().unwrap());
    let is_ready = log.wait_for("word of Redis", |lines| {
        let says = |what: &str| lines.iter().any(|line| line.contains(what));
        if says("Ready to accept connections") {
            Some(true)
        } else if says("Address already in use") {
            Some(false)
        } else {
            None
        }
    });
    if !is_ready {
        child.wait().unwrap();
    }
    is_ready.then_some(child)
}
