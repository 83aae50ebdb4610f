//! Real PHP behind three kinds of server, asked which credentials it is given by a field.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{DEADLINE, MessageReader, PhpFpm, Process, package_root, server, tool};

/// The value that a field is given, to be found again in a variable.
pub(super) const VALUE: &str = "found-again";

/// A server of PHP's that runs `tests/upstream/credentials.php` for every request.
pub(super) struct Server {
    place: Place,
    _process: Process,
    _behind: Option<(PhpFpm, TempDir)>,
}

enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Server {
    /// PHP's own server.
    pub(super) fn php() -> Self {
        let mut php =
            Process::start(tool("php", "install php-cli").args(["-n", "-S", "127.0.0.1:0"]).arg(script()));
        let started = regex::Regex::new(r"\(http://([0-9.:]+)\) started").unwrap();
        let address = php.stderr().wait_for("address of PHP", |lines| {
            lines.iter().find_map(|line| started.captures(line)?[1].parse().ok())
        });
        Self { place: Place::Tcp(address), _process: php, _behind: None }
    }

    /// php-fpm behind nginx, which is told to let underscores pass, and more by `directives`.
    pub(super) fn fpm_behind_nginx(directives: &str) -> Self {
        let fpm = PhpFpm::start(1);
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(
            at.join("nginx.conf"),
            format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr notice; events {{}}\n\
                 http {{ access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;\n\
                 uwsgi_temp_path tmp; scgi_temp_path tmp; underscores_in_headers on; {directives}\n\
                 server {{ listen unix:{at}/nginx.sock; location / {{ fastcgi_pass unix:{fpm};\n\
                 fastcgi_param REQUEST_METHOD $request_method; fastcgi_param SCRIPT_FILENAME {script}; }} }} }}\n",
                at = at.display(),
                fpm = fpm.socket().display(),
                script = script().display()
            ),
        )
        .unwrap();
        let mut nginx =
            Process::start(server("nginx").args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(at));
        // It tells its version once it listens.
        nginx.stderr().wait_for("word of nginx", |lines| {
            lines.iter().any(|line| line.contains(": nginx/")).then_some(())
        });
        let place = Place::Unix(at.join("nginx.sock"));
        Self { place, _process: nginx, _behind: Some((fpm, folder)) }
    }

    /// What PHP is given when a request has this field: the variables, or nothing where it is refused.
    pub(super) fn ask(&self, name: &[u8]) -> Option<Value> {
        let request = [
            b"GET / HTTP/1.1\r\nHost: n4n.test\r\nConnection: close\r\n",
            name,
            b": ",
            VALUE.as_bytes(),
            b"\r\n\r\n",
        ]
        .concat();
        match &self.place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                converse(stream, &request)
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                converse(stream, &request)
            }
        }
    }
}

/// What php-cgi finds in an environment that has this variable.
pub(super) fn ask_cgi(variable: &str) -> Value {
    let run = tool("php-cgi", "install php-cgi")
        .args(["-n", "-q"])
        .env_clear()
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("REDIRECT_STATUS", "200")
        .env("REQUEST_METHOD", "GET")
        .env("SCRIPT_FILENAME", script())
        .env(variable, VALUE)
        .output()
        .unwrap();
    let answer = String::from_utf8(run.stdout).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("php-cgi: {answer:?}"));
    serde_json::from_str(body).unwrap()
}

fn converse(mut stream: impl Read + Write, request: &[u8]) -> Option<Value> {
    stream.write_all(request).unwrap();
    let answer = MessageReader::new(stream).answer().ok()?;
    (answer.status() == 200).then(|| answer.json())
}

fn script() -> PathBuf {
    package_root().join("tests/upstream/credentials.php")
}
