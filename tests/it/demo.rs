//! The demo answers at once, with nothing configured, and the stand-in serves on its own too.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::harness::{Call, DEADLINE, Gateway, Lines, Metrics, binary, secret_key, tool};

/// A command of the binary's that runs until it is dropped.
struct Running {
    child: Child,
    stdout: Lines,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = binary()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// What stands behind the first occurrence of `mark` in a line.
    fn printed_behind(&self, mark: &str) -> String {
        self.stdout.wait_for(mark, |lines| {
            lines.iter().find_map(|line| Some(line.split_once(mark)?.1.trim().to_owned()))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const DEMO: [&str; 5] = ["demo", "--port", "0", "--admin-port", "0"];

#[test]
fn the_demo_prints_a_curl_line_that_unlocks() {
    tool("curl", "install curl");
    let demo = Running::start(&DEMO);
    let line = format!("curl {}", demo.printed_behind("curl "));
    let output = tool("sh", "install a POSIX shell").arg("-c").arg(&line).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "true", "{line}");
}

#[test]
fn the_demo_is_reached_from_elsewhere_where_it_is_told_to_be() {
    for (address, reached_at) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")] {
        let demo = Running::start(&[&DEMO[..], &["--listen", address, "--admin-listen", address]].concat());
        let gateway = demo.printed_behind("gateway    http://");
        let admin = demo.printed_behind("metrics    http://");
        for printed in [&gateway, &admin] {
            assert!(printed.starts_with(&format!("{reached_at}:")), "{printed}");
        }
        // Any address of this machine's own is another machine's way in.
        let port = gateway.rsplit_once(':').unwrap().1;
        let is_open = std::net::TcpStream::connect(format!("127.0.0.3:{port}")).is_ok();
        assert_eq!(is_open, address == "0.0.0.0");
    }
}

#[test]
fn the_demos_traffic_is_a_mix() {
    let demo = Running::start(&[&DEMO[..], &["--traffic"]].concat());
    let url = format!("http://{}", demo.printed_behind("metrics    http://"));
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().proxy(None).build());
    let start = Instant::now();
    loop {
        let page = agent.get(&url).call().unwrap().body_mut().read_to_string().unwrap();
        let metrics = Metrics::parse(&page);
        let is_counted = |outcome: &&str| {
            metrics.sum(&format!("n4n_gateway_requests_total{{outcome=\"{outcome}\"}}")) > 0.0
        };
        if ["forwarded", "rejected", "failed"].iter().all(is_counted) {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{:?}", metrics.named("n4n_gateway_requests_total"));
    }
}

#[test]
fn the_stand_in_unlocks_the_documented_customer() {
    let stand_in = Running::start(&["stand-in", "--listen", "127.0.0.1:0"]);
    let address: SocketAddr = stand_in.printed_behind("http://").parse().unwrap();
    let gateway = Gateway::before(address).start();
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.text()), (200, "true"));
    let answer = gateway.call(&Call::unlock().set("api-key", &secret_key("another")));
    assert!((400..500).contains(&answer.status()), "{answer:?}");
    assert_ne!(answer.text(), "true");
}
