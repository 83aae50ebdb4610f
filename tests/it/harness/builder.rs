//! A gateway before it runs: its configuration in the making, and its start.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use super::binary;
use super::gateway::Gateway;

/// Where it listens unless a test wants it elsewhere.
const DEFAULT_HTTP: &str = "http = [\"127.0.0.1:0\"]";

/// A configuration in the making.
pub(crate) struct GatewayBuilder {
    sections: BTreeMap<&'static str, String>,
    tail: String,
    environment: Vec<(&'static str, String)>,
}

impl GatewayBuilder {
    /// A gateway on ports of the system's choice in front of these peers.
    pub(super) fn before_all(peers: &[impl ToString]) -> Self {
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        Self { sections: BTreeMap::new(), tail: String::new(), environment: Vec::new() }
            .set("listen", &format!("{DEFAULT_HTTP}\nadmin = \"127.0.0.1:0\""))
            .set("upstream", &format!("peers = {peers:?}"))
    }

    /// Adds lines to a section; the section "" is the top of the file.
    pub(crate) fn set(mut self, section: &'static str, lines: &str) -> Self {
        let text = self.sections.entry(section).or_default();
        text.push_str(lines);
        text.push('\n');
        self
    }

    /// Adds text to the end of the file.
    pub(crate) fn append(mut self, text: &str) -> Self {
        self.tail.push_str(text);
        self.tail.push('\n');
        self
    }

    /// Sets a variable of the gateway's environment.
    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// The file as it is so far.
    pub(crate) fn text(&self) -> String {
        let mut file = String::new();
        for (section, lines) in &self.sections {
            if !section.is_empty() {
                file.push_str(&format!("[{section}]\n"));
            }
            file.push_str(lines);
            file.push('\n');
        }
        file + &self.tail
    }

    /// Has it listen for plain HTTP on these addresses instead.
    pub(crate) fn listening(mut self, http: &[impl ToString]) -> Self {
        let http: Vec<String> = http.iter().map(ToString::to_string).collect();
        let listen = self.sections.entry("listen").or_default();
        *listen = listen.replace(DEFAULT_HTTP, &format!("http = {http:?}"));
        self
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start(self) -> Gateway {
        self.start_as(binary())
    }

    /// Starts it from a shell that has set itself a limit.
    pub(crate) fn start_limited(self, limit: &str) -> Gateway {
        let mut shell = Command::new("sh");
        let program = binary().get_program().to_str().unwrap().to_owned();
        shell.arg("-c").arg(format!("{limit} && exec \"$0\" \"$@\"")).arg(program);
        self.start_as(shell)
    }

    fn start_as(self, mut command: Command) -> Gateway {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        // As an operator makes it, whatever the umask here: the socket of an upgrade may be in it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let config = folder.path().join("gateway.toml");
        std::fs::write(&config, self.text()).unwrap();
        command.arg("run").arg("--config").arg(&config).envs(self.environment);
        let mut gateway = Gateway::spawn(&mut command, folder);
        gateway.wait_ready();
        gateway
    }
}
