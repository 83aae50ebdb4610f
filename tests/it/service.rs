//! The files that make the gateway a service of systemd's do what they say, on a machine that has little else.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{DEADLINE, Gateway, Upstream, package_root};

/// What systemd gives the service: its folder and the socket that it hears from it by; and the few programs that a
/// bare machine has.
struct Manager {
    folder: TempDir,
    heard: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let heard = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        heard.set_read_timeout(Some(DEADLINE)).unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        for program in ["rm", "sleep"] {
            let found = Command::new("sh").arg("-c").arg(format!("command -v {program}")).output().unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            std::os::unix::fs::symlink(found.trim(), folder.path().join("bin").join(program)).unwrap();
        }
        Self { folder, heard }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// `systemctl reload`, once the file has been changed.
    fn reload(&self, gateway: &Gateway, change: impl Fn(String) -> String) -> Output {
        let text = std::fs::read_to_string(gateway.config()).unwrap();
        std::fs::write(gateway.config(), change(text)).unwrap();
        Command::new("/bin/sh")
            .arg(package_root().join("deploy/systemd/reload"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("RUNTIME_DIRECTORY", self.folder.path())
            .env("MAINPID", gateway.process_id().to_string())
            .output()
            .unwrap()
    }

    /// Waits until the gateway gives the manager a status that begins so.
    fn wait_for_status(&self, beginning: &str) -> String {
        let mut datagram = [0; 4096];
        loop {
            let length = self.heard.recv(&mut datagram).unwrap();
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
            if let Some(status) = status.filter(|status| status.starts_with(beginning)) {
                return status.to_owned();
            }
        }
    }
}

#[test]
fn a_reload_succeeds_where_all_of_the_configuration_is_in_force_and_says_why_where_it_is_not() {
    let (upstream, manager) = (Upstream::start(), Manager::new());
    let gateway = Gateway::before(upstream.address())
        .env("RUNTIME_DIRECTORY", &manager.path(""))
        .env("NOTIFY_SOCKET", &manager.path("notify"))
        .start();
    manager.wait_for_status("serving");
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let failed = |output: &Output, reason: &str| {
        assert_eq!(output.status.code(), Some(1), "{}", said(output));
        assert!(said(output).contains(reason), "{}", said(output));
    };

    let output =
        manager.reload(&gateway, |text| text.replace("[upstream]", "[upstream]\nidle_timeout = \"3s\""));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);

    // What is not sound.
    let output = manager.reload(&gateway, |text| text + "[policy]\nmistaken = true\n");
    failed(&output, "policy.mistaken: is an unknown key");
    let status = manager.wait_for_status("serving with the configuration from before");
    assert!(status.contains("policy.mistaken: is an unknown key"), "{status}");
    gateway.wait_for_metric("n4n_gateway_config_last_reload_successful", 0.0);

    // What is sound, and not for a process that runs.
    let output = manager.reload(&gateway, |text| {
        text.replace("[policy]\nmistaken = true\n", "").replace("[listen]", "[listen]\nthreads = 7")
    });
    failed(&output, "listen.threads cannot change while running");
    manager.wait_for_status("serving; of the configuration, listen.threads");

    let output = manager.reload(&gateway, |text| text.replace("threads = 7\n", ""));
    assert!(output.status.success(), "{}", said(&output));
    manager.wait_for_status("serving");
    assert!(!Path::new(&manager.path("reload")).exists(), "the request was taken");
}

#[test]
fn a_reload_of_what_does_not_run_fails() {
    let (upstream, manager) = (Upstream::start(), Manager::new());
    let mut gateway = Gateway::before(upstream.address()).start();
    gateway.send(crate::harness::Signal::Interrupt);
    gateway.wait_exit();
    assert!(!manager.reload(&gateway, |text| text).status.success());
}
