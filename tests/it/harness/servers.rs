//! Servers of others that the tests put beside the gateway: nginx and Apache, before it or behind it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::Lines;

/// A server's program. Debian keeps servers where not every user looks, and PHP's with its version in its name.
pub(crate) fn server(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.filter_map(|folder| folder.read_dir().ok()).flatten().flatten().find(|entry| {
        entry.file_name().to_str().and_then(|file| file.strip_prefix(name)).is_some_and(is_version)
    });
    let Some(found) = found else { panic!("there is no {name}: install it (tests/prepare does it)") };
    Command::new(found.path())
}

fn is_version(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A child process that ends, with its own children, when this value is dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it with nothing on its standard input.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// Starts it with its standard input.
    pub(crate) fn start_with(command: &mut Command, stdin: impl Into<Stdio>) -> Self {
        let child = command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child }
    }

    /// What it says on standard error; asked once.
    pub(crate) fn stderr(&mut self) -> Lines {
        Lines::of(self.child.stderr.take().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Told to end, a server ends its workers too; killed, it would leave them behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// An nginx that listens on a port of the system's choice.
pub(crate) struct Nginx {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it with directives of its `http` block and locations of its one server.
    pub(crate) fn start(directives: &str, locations: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(
            at.join("nginx.conf"),
            format!(
                "daemon off; worker_processes 1; pid nginx.pid; error_log stderr notice; events {{}}\n\
                 http {{ access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;\n\
                 uwsgi_temp_path tmp; scgi_temp_path tmp; {directives}\n\
                 server {{ listen {address}; {locations} }} }}\n"
            ),
        )
        .unwrap();
        let mut nginx = server("nginx");
        // It takes over a socket that it inherits, as from a process before it, so that nobody else can have the
        // port. A single process cannot: a worker beside its master can.
        nginx.env("NGINX", "0;").args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(at);
        let mut process = Process::start_with(&mut nginx, OwnedFd::from(listener));
        // It tells its version once it listens.
        process.stderr().wait_for("word of nginx", |lines| {
            lines.iter().any(|line| line.contains(": nginx/")).then_some(())
        });
        Self { address, _process: process, _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An Apache that listens on a port of the system's choice.
pub(crate) struct Apache {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Apache {
    /// Starts it with directives of its one server; what it serves must be readable by everyone.
    pub(crate) fn start(directives: &str) -> Self {
        // It takes over no socket: between the choice of a port and its use somebody else may have that.
        (0..5).find_map(|_| Self::try_start(directives)).expect("a port for Apache")
    }

    fn try_start(directives: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let modules = ["mpm_event", "authz_core", "dir", "proxy", "proxy_fcgi", "rewrite"]
            .map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"))
            .concat();
        std::fs::write(
            folder.path().join("apache.conf"),
            format!(
                "{modules}ServerRoot {at}\nServerName n4n.test\nListen {address}\nPidFile {at}/pid\n\
                 DefaultRuntimeDir {at}\nErrorLog /proc/self/fd/2\nLogLevel notice\n\
                 User #65534\nGroup #65534\nStartServers 1\nServerLimit 1\nThreadsPerChild 8\n\
                 MaxRequestWorkers 8\nMaxKeepAliveRequests 0\n{directives}\n"
            ),
        )
        .unwrap();
        let mut apache = server("apache2");
        apache.arg("-D").arg("FOREGROUND").arg("-f").arg(folder.path().join("apache.conf"));
        let mut process = Process::start(&mut apache);
        let is_listening = process.stderr().wait_for("word of Apache", |lines| {
            let says = |what: &str| lines.iter().any(|line| line.contains(what));
            (says("resuming normal operations") || says("could not bind")).then(|| !says("could not bind"))
        });
        is_listening.then_some(Self { address, _process: process, _folder: folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Where Debian keeps Apache's modules.
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";
