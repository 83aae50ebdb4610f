//! What `check` calls sound starts, and what cannot start it calls a fault.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::geteuid;

use crate::harness::{Call, Gateway, Signal, Upstream, Wire, binary, tool};

/// The gateway's program, run without any right that a service's user has not.
fn unprivileged() -> Command {
    if !geteuid().is_root() {
        return binary();
    }
    let mut command = tool("setpriv", "install util-linux");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary().get_program());
    command
}

/// A folder with all that the cases name, and a configuration in it.
struct Ground {
    folder: tempfile::TempDir,
    _socket: UnixListener,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str, mode| {
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("", 0o700);
        for (name, permissions) in
            [("folder", 0o700), ("locked", 0o500), ("open", 0o777), ("group", 0o770), ("entered", 0o711)]
        {
            std::fs::create_dir(at(name)).unwrap();
            mode(name, permissions);
        }
        for (name, permissions) in [("file", 0o600), ("readonly", 0o400), ("writeonly", 0o200)] {
            std::fs::write(at(name), "").unwrap();
            mode(name, permissions);
        }
        std::fs::hard_link(at("file"), at("other-name")).unwrap();
        let links =
            [("none/file", "dangling"), ("yet-to-be", "link"), ("loop", "loop"), ("folder", "to-folder")];
        links.into_iter().for_each(|(to, name)| symlink(to, at(name)).unwrap());
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        Self { folder, _socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration with these lines more.
    fn configure(&self, more: &str) {
        let text = format!(
            "listen.http = [\"127.0.0.1:0\"]\nlisten.admin = \"127.0.0.1:0\"\nupstream.peers = [\"127.0.0.1:1\"]\n{more}\n"
        );
        std::fs::write(self.path("gateway.toml"), text).unwrap();
    }

    /// Runs a command on the configuration: its exit code and all that it wrote.
    fn run(&self, mut program: Command, command: &str) -> (Option<i32>, String) {
        let output = program.arg(command).arg("--config").arg(self.path("gateway.toml")).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    /// All that is in the folder.
    fn content(&self) -> BTreeSet<PathBuf> {
        let list = |folder: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let top = list(self.folder.path());
        let below = top.iter().filter(|path| path.is_dir()).flat_map(|path| list(path)).collect::<Vec<_>>();
        top.into_iter().chain(below).collect()
    }
}

#[test]
fn what_run_could_not_open_is_a_fault_and_nothing_is_made_of_it() {
    let ground = Ground::new();
    let before = ground.content();
    for (more, said) in [
        ("log.access = \"none/access.log\"", "log.access: is in a folder that is not there; name"),
        ("log.access = \"./dangling\"", "log.access: is in a folder that is not there; name"),
        ("log.access = \"./folder\"", "log.access: is a folder; name"),
        ("log.access = \"new/\"", "log.access: names a folder; name"),
        ("log.access = \"file/access.log\"", "log.access: cannot be reached: "),
        ("log.access = \"./loop\"", "log.access: cannot be reached: "),
        ("log.access = \"./socket\"", "log.access: is a socket; name"),
        ("log.access = \"locked/access.log\"", "log.access: cannot be made in its folder: "),
        ("log.access = \"./readonly\"", "log.access: cannot be written: "),
        ("log.audit = \"none/audit.jsonl\"", "log.audit: is in a folder that is not there; name"),
        ("log.audit = \"folder\"", "log.audit: is a folder; name a regular file"),
        ("log.audit = \"fifo\"", "log.audit: is a FIFO; name a regular file"),
        ("log.audit = \"/dev/null\"", "log.audit: is a device; name a regular file"),
        ("log.audit = \"link\"", "log.audit: is a symbolic link; name the file that it leads to"),
        ("log.audit = \"locked/audit.jsonl\"", "log.audit: cannot be made in its folder: "),
        ("log.audit = \"readonly\"", "log.audit: cannot be read and written: "),
        ("log.audit = \"writeonly\"", "log.audit: cannot be read and written: "),
        (
            "log = { audit = \"file\", access = \"other-name\" }",
            "log.audit: is the access log's file too, by another name; give",
        ),
        (
            "log = { audit = \"new\", access = \"folder/../new\" }",
            "log.audit: is the access log's file too, by another name; give",
        ),
        (
            "listen.upgrade_socket = \"none/upgrade.sock\"",
            "listen.upgrade_socket: is in a folder that is not there; name",
        ),
        (
            "listen.upgrade_socket = \"open/upgrade.sock\"",
            "listen.upgrade_socket: is in a folder that others can write to; name",
        ),
        (
            "listen.upgrade_socket = \"group/upgrade.sock\"",
            "listen.upgrade_socket: is in a folder that others can write to; name",
        ),
        (
            "listen.upgrade_socket = \"locked/upgrade.sock\"",
            "listen.upgrade_socket: is in a folder that the gateway's user cannot write to: ",
        ),
        ("listen.upgrade_socket = \"file\"", "listen.upgrade_socket: is something else already; name"),
    ] {
        ground.configure(more);
        for command in ["check", "run"] {
            let (code, written) = ground.run(unprivileged(), command);
            assert_eq!(code, Some(2), "{command}, {more}: {written}");
            assert!(written.contains(&format!("line 4: {said}")), "{command}, {more}: {written}");
        }
        let after = ground.content();
        assert!(after.is_subset(&before) || after.len() == before.len() + 1, "{more}: {after:?}");
        assert_eq!(after.difference(&before).count(), 1, "the configuration alone: {more}");
    }
}

#[test]
fn all_of_it_is_told_at_once_with_what_else_is_wrong() {
    let ground = Ground::new();
    ground.configure("log = { access = \"./folder\", audit = \"fifo\" }\nmode = \"audit\"");
    let (code, written) = ground.run(binary(), "check");
    assert_eq!(code, Some(2), "{written}");
    for said in
        ["line 4: log.access: is a folder", "line 4: log.audit: is a FIFO", "line 5: mode: is neither"]
    {
        assert!(written.contains(said), "{written}");
    }
    // What is never opened is no concern of what judges one request.
    ground.configure("log.access = \"none/access.log\"");
    let (code, written) = ground.run(binary(), "explain");
    assert!(code != Some(2), "{written}");
}

#[test]
fn what_run_can_open_is_sound_and_some_of_it_worth_a_warning() {
    let ground = Ground::new();
    let before = ground.content();
    for (more, said) in [
        ("log.access = \"folder/access.log\"", ""),
        ("log.access = \"./link\"", ""),
        ("log.access = \"/dev/null\"", ""),
        ("log.access = \"/dev/stdout\"", ""),
        ("log = { access = \"./file\", audit = \"to-folder/audit.jsonl\" }", ""),
        ("listen.upgrade_socket = \"folder/upgrade.sock\"", ""),
        // Left behind by a process that was killed.
        ("listen.upgrade_socket = \"socket\"", ""),
        ("log.access = \"./fifo\"", "warning: log.access: is a FIFO"),
        (
            "listen.upgrade_socket = \"entered/upgrade.sock\"",
            "warning: listen.upgrade_socket: others can enter its folder",
        ),
    ] {
        ground.configure(more);
        let (code, written) = ground.run(unprivileged(), "check");
        assert_eq!(code, Some(0), "{more}: {written}");
        assert!(
            written.contains(said) && (!said.is_empty() || !written.contains("warning")),
            "{more}: {written}"
        );
        assert_eq!(ground.content().difference(&before).count(), 1, "the configuration alone: {more}");
    }
}

#[test]
fn roots_that_cannot_be_loaded_are_a_fault() {
    let ground = Ground::new();
    ground.configure("");
    std::fs::write(
        ground.path("broken.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (roots, said) in [
        ("/none/roots.pem", "SSL_CERT_FILE: the system's root certificates cannot be read: "),
        ("broken.pem", "SSL_CERT_FILE: one of the system's root certificates cannot be read; "),
    ] {
        for command in ["check", "run"] {
            let mut program = binary();
            program.env("SSL_CERT_FILE", ground.path(roots)).env_remove("SSL_CERT_DIR");
            let (code, written) = ground.run(program, command);
            assert_eq!(code, Some(2), "{command}, {roots}: {written}");
            assert!(written.contains(said), "{command}, {roots}: {written}");
        }
    }
}

#[test]
fn a_reload_that_finds_such_a_fault_fails_and_changes_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    std::fs::create_dir(gateway.file("open")).unwrap();
    std::fs::set_permissions(gateway.file("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    gateway.reload(|text| text.replace("[listen]", "[listen]\nupgrade_socket = \"open/upgrade.sock\""));
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"failure\"}", 1.0);
    let said = "listen.upgrade_socket: is in a folder that others can write to";
    assert!(gateway.output().contains(said), "{}", gateway.output());
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    gateway.reload(|text| text.replace("open/upgrade.sock", "upgrade.sock"));
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);
}

#[test]
fn a_port_that_the_user_may_not_listen_on_is_a_fault() {
    let written = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = written.trim().parse().unwrap();
    let ground = Ground::new();
    let listen = |key: &str, port: u16| {
        let value = format!("\"127.0.0.1:{port}\"");
        let more = format!("listen.{key} = {}", if key == "http" { format!("[{value}]") } else { value });
        let text = format!("upstream.peers = [\"127.0.0.1:1\"]\n{more}\n");
        let http =
            if key == "http" { "listen.admin = \"127.0.0.1:0\"" } else { "listen.http = [\"127.0.0.1:0\"]" };
        std::fs::write(ground.path("gateway.toml"), text + http).unwrap();
    };
    for key in ["http", "admin"] {
        if first > 1 {
            let port = first - 1;
            listen(key, port);
            for command in ["check", "run"] {
                let (code, written) = ground.run(unprivileged(), command);
                let said = format!(
                    "line 2: listen.{key}: names 127.0.0.1:{port}, a port that the gateway's user may not"
                );
                assert_eq!(code, Some(2), "{command}: {written}");
                assert!(written.contains(&said), "{command}: {written}");
            }
            if geteuid().is_root() {
                let (code, written) = ground.run(binary(), "check");
                assert_eq!(code, Some(0), "root may: {written}");
            }
        } else {
            eprintln!("every port is everybody's here, so that no right is missing");
        }
        listen(key, first.max(1024));
        let (code, written) = ground.run(unprivileged(), "check");
        assert_eq!(code, Some(0), "{written}");
    }
}

#[test]
fn a_port_that_another_process_has_does_not_count() {
    let ground = Ground::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    ground.configure("");
    let file = ground.path("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&file, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    let (code, written) = ground.run(binary(), "check");
    assert_eq!(code, Some(0), "{written}");
    // It may be free again soon: this is for whoever starts the service to try again.
    let (code, written) = ground.run(binary(), "run");
    assert_eq!(code, Some(1), "{written}");
}

#[test]
fn a_demo_with_one_port_for_both_of_its_listeners_says_so() {
    let ended = binary().args(["demo", "--port", "9464"]).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(
        (ended.status.code(), told.trim_end()),
        (Some(2), "--port and --admin-port are both 9464; name two ports")
    );
}

#[test]
fn an_address_of_another_machine_is_a_fault_to_check_and_worth_another_try_to_run() {
    let ground = Ground::new();
    for address in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        ground.configure("");
        let file = ground.path("gateway.toml");
        let text = std::fs::read_to_string(&file).unwrap().replacen("127.0.0.1:0", address, 1);
        std::fs::write(&file, text).unwrap();
        let (code, written) = ground.run(binary(), "check");
        assert_eq!(code, Some(2), "{written}");
        let said = format!("line 1: listen.http: names {address}, ");
        assert!(written.contains(&said), "{written}");
        // An address may come to a machine late; a service manager then tries again.
        let (code, written) = ground.run(binary(), "run");
        assert_eq!(code, Some(1), "{written}");
    }
}

/// A port that nobody has, from below those that the system gives away by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + u16::try_from(std::process::id() % 16_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 4_000;
        // Each alone: the second of them would not be given beside the first.
        let is_free = |ip: &str| TcpListener::bind(format!("{ip}:{port}")).is_ok();
        if is_free("0.0.0.0") && is_free("[::]") {
            return port;
        }
    }
}

/// Calls from both families' loopback addresses.
fn call_by_both(gateway: &Gateway, port: u16) {
    for loopback in
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
    {
        let answer = Wire::connect(loopback).call(&Call::unlock());
        assert_eq!(answer.status(), 200, "{loopback}\n{}", gateway.output());
    }
}

#[test]
fn ipv4_and_ipv6_share_a_port_in_either_order_and_over_an_upgrade() {
    let upstream = Upstream::start();
    for is_ipv6_first in [false, true] {
        let port = free_port();
        let mut listen = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        if is_ipv6_first {
            listen.reverse();
        }
        let mut old = Gateway::before(upstream.address())
            .listening(&listen)
            .set("listen", "upgrade_socket = \"upgrade.sock\"")
            .start();
        call_by_both(&old, port);
        let mut new = old.successor();
        old.send(Signal::Quit);
        new.wait_ready();
        assert_eq!(old.wait_exit().code(), Some(0));
        call_by_both(&new, port);

        // A socket cannot give IPv4 up, or take it, once it is open.
        let text = std::fs::read_to_string(new.config()).unwrap();
        std::fs::write(new.config(), text.replace(&format!("\"0.0.0.0:{port}\""), "\"127.0.0.1:0\""))
            .unwrap();
        let mut late = new.successor();
        new.send(Signal::Quit);
        assert_eq!(late.wait_exit().code(), Some(1));
        late.wait_for_line("cannot change with an upgrade");
        call_by_both(&new, port);
    }
}

#[test]
fn all_of_ipv6_alone_takes_ipv4_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).listening(&["[::]:0"]).start();
    call_by_both(&gateway, gateway.http().port());
}

#[test]
fn the_admin_listener_shares_a_port_as_well() {
    let upstream = Upstream::start();
    let port = free_port();
    let ground = Ground::new();
    let config = |http: &str, admin: &str| {
        let text = format!(
            "listen = {{ http = [\"{http}\"], admin = \"{admin}\" }}\nupstream.peers = [\"{}\"]\n",
            upstream.address()
        );
        std::fs::write(ground.path("gateway.toml"), text).unwrap();
    };
    for (http, admin, code) in [
        (format!("0.0.0.0:{port}"), format!("[::]:{port}"), 0),
        (format!("[::]:{port}"), format!("0.0.0.0:{port}"), 0),
        (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"), 2),
        (format!("[::]:{port}"), format!("127.0.0.1:{port}"), 2),
        (format!("[::1]:{port}"), format!("127.0.0.1:{port}"), 0),
    ] {
        config(&http, &admin);
        let (is, written) = ground.run(binary(), "check");
        assert_eq!(is, Some(code), "{http} and {admin}: {written}");
    }
}
