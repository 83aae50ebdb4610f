//! What the system has too little of: file descriptors, local ports, threads.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use rustix::process::geteuid;

use crate::harness::{Call, DEADLINE, Gate, Gateway, Metrics, Namespace, Upstream, Wire, binary, tool};

/// Connections that say nothing.
fn idle(gateway: &Gateway, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(gateway.http()).unwrap()).collect()
}

/// The metrics, asked for on a connection that is there already.
fn metrics(admin: &mut Wire) -> Metrics {
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    Metrics::parse(admin.answer().text())
}

#[test]
fn the_soft_limit_on_open_files_is_raised_so_that_idle_clients_starve_nobody() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("listen", "threads = 1")
        .start_limited("ulimit -Sn 64 && ulimit -Hn 4096");
    assert_eq!(gateway.open_files_limits(), ("4096".into(), "4096".into()));
    let _idle = idle(&gateway, 200);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
    // The default of max_connections is more than there is room for, which is said.
    assert!(gateway.output().contains("the limit of 4096 open files has room for"), "{}", gateway.output());
}

#[test]
fn under_a_hard_limit_that_is_too_low_calls_and_the_admin_listener_keep_their_share() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::before(upstream.address()).set("listen", "threads = 1").start_limited("ulimit -n 256");
    let flood = idle(&gateway, 400);
    let evicted = "n4n_gateway_connections_evicted_total";
    let start = Instant::now();
    while gateway.metrics().sum(evicted) < 200.0 {
        assert!(start.elapsed() < DEADLINE, "{}", gateway.metrics().sum(evicted));
    }
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
    assert_eq!(gateway.metrics().sum("n4n_gateway_accept_errors_total"), 0.0);
    assert!(gateway.open_files() < 200, "{} of 256", gateway.open_files());
    let told = gateway.output().lines().filter(|line| line.contains("an idle connection was closed")).count();
    assert!((1..=start.elapsed().as_secs() as usize + 2).contains(&told), "{told} lines");
    drop(flood);
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}

#[test]
fn the_admin_listener_takes_no_more_connections_than_its_share() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let mut admin = Wire::connect(gateway.admin_address());
    // Whoever has asked for something is kept before who has not.
    metrics(&mut admin);
    let flood: Vec<_> = (0..300).map(|_| TcpStream::connect(gateway.admin_address()).unwrap()).collect();
    let start = Instant::now();
    let refused = "n4n_gateway_connections_refused_total{reason=\"admin_connections\"}";
    while metrics(&mut admin).sum(refused) < 150.0 {
        assert!(start.elapsed() < DEADLINE, "{}", metrics(&mut admin).sum(refused));
    }
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    drop(flood);
}

#[test]
fn accepting_that_fails_is_told_once_and_once_when_it_is_over() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("listen", "threads = 1").start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    let mut admin = Wire::connect(gateway.admin_address());
    assert_eq!(metrics(&mut admin).sum("n4n_gateway_accept_errors_total"), 0.0);
    // Whatever number is free next, it is over the limit.
    gateway.limit_open_files(3);
    let mut waiting = gateway.connect();
    waiting.send(Call::unlock().bytes());
    let start = Instant::now();
    while metrics(&mut admin).sum("n4n_gateway_accept_errors_total") < 10.0 {
        assert!(start.elapsed() < DEADLINE);
    }
    gateway.limit_open_files(1000);
    assert_eq!(waiting.answer().status(), 200);
    gateway.wait_for_line("connections can be accepted again");
    let told = gateway.output().lines().filter(|line| line.contains("cannot be accepted")).count();
    assert_eq!(told, 1, "{}", gateway.output());
}

/// Runs a command of the gateway on this configuration, from a shell that does this first.
fn run(first: &str, command: &str, config: &str) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    let mut shell = Command::new("sh");
    let program = Path::new(binary().get_program()).to_owned();
    shell.arg("-c").arg(format!("{first} \"$0\" {command} --config \"$1\"")).arg(program).arg(&file);
    (shell.output().unwrap(), folder)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_tells_of_a_hard_limit_that_is_too_low() {
    let config = |connections| {
        format!(
            "[listen]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nthreads = 1\nmax_connections = {connections}\n\
             max_in_flight = 20\n[upstream]\npeers = [\"127.0.0.1:1\"]\n"
        )
    };
    let (output, _) = run("ulimit -Sn 64 && ulimit -Hn 256 && exec", "check", &config(1000));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let told = errors(&output);
    assert!(told.contains("warning: the limit of 256 open files has room for 132 connections"), "{told}");
    let (output, _) = run("ulimit -Sn 64 && ulimit -Hn 256 && exec", "check", &config(30));
    assert_eq!((output.status.code(), errors(&output)), (Some(0), String::new()));
}

#[test]
fn where_no_thread_can_be_had_the_start_ends_and_says_so() {
    // The limit counts the threads of a user; one that nobody else is has none yet.
    let as_somebody = if geteuid().is_root() {
        let _ = tool("setpriv", "install util-linux");
        // Nobody knows that user, and the folders on the way to the program may be root's alone.
        "setpriv --reuid=54321 --regid=54321 --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override"
    } else {
        ""
    };
    // The log's thread, a worker's, and that of a look-up each fail in turn.
    for (peer, threads) in [("127.0.0.1:1", 1), ("127.0.0.1:1", 2), ("localhost:1", 2), ("localhost:1", 3)] {
        let limited = format!("exec prlimit --nproc={threads} {as_somebody}");
        let config = format!(
            "[listen]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nthreads = 4\n[upstream]\n\
             peers = [\"{peer}\"]\n[log]\naccess = \"off\"\n"
        );
        let (output, _) = run(&limited, "run", &config);
        let told = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("the thread `") && told.contains("cannot be had"), "{told}");
        assert!(told.contains("raise the limit on threads"), "{told}");
        assert!(!told.contains("defect") && !told.contains("panicked"), "{told}");
    }
}

#[test]
fn without_a_local_port_a_call_is_unreachable_with_the_cause_and_the_peer_is_not_blamed() {
    let Some(_namespace) = Namespace::enter() else { return };
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let gateway = Gateway::before(upstream.address()).set("listen", "threads = 1").start();
    let mut clients: Vec<Wire> = (0..3).map(|_| gateway.connect()).collect();
    let mut admin = Wire::connect(gateway.admin_address());
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let before = std::fs::read_to_string(range).unwrap();
    // One port, which the first call takes.
    std::fs::write(range, "40000 40000").unwrap();
    clients[0].send(Call::unlock().bytes());
    upstream.wait_for(1);
    for _ in 0..3 {
        let answer = clients[1].call(&Call::unlock());
        assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"), "{answer:?}");
    }
    gateway.wait_for_line("no_local_port");
    assert_eq!(metrics(&mut admin).sum("n4n_gateway_upstream_healthy"), 1.0);
    gate.open();
    assert_eq!(clients[0].answer().status(), 200);
    // The connection that was made is still good for the next call.
    assert_eq!(clients[2].call(&Call::unlock()).status(), 200);
    std::fs::write(range, before).unwrap();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
}
