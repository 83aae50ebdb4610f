//! The live page shows what the gateway does, to nobody but those who may look, and works in a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use crate::harness::{
    Call, DEADLINE, Gateway, Message, Signal, Upstream, Wire, binary, package_root, refusing_address, tool,
};

const FILES: [(&str, &str); 4] = [
    ("/", "text/html; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
];

/// Asks the admin listener under a name.
fn ask(gateway: &Gateway, method: &str, path: &str, host: &str) -> Message {
    let mut wire = Wire::connect(gateway.admin_address());
    wire.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    wire.answer()
}

/// The stream of events, as one viewer reads it.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    pub(crate) fn open(admin: SocketAddr) -> Self {
        let (events, head) = Self::open_at(admin, "/events HTTP/1.1");
        let has = |field: &str| head.iter().any(|line| line.trim_end().eq_ignore_ascii_case(field));
        assert!(has("X-Accel-Buffering: no"), "{head:?}");
        assert!(
            has("Content-Type: text/event-stream") && has("Cache-Control: no-store, no-transform"),
            "{head:?}"
        );
        events
    }

    /// Opens the stream at a server, by target and version; returns the lines of its head too.
    pub(crate) fn open_at(server: SocketAddr, at: &str) -> (Self, Vec<String>) {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {at}\r\nHost: {server}\r\n\r\n").unwrap();
        let mut events = Self(BufReader::new(stream));
        let head = events.lines_to("\r\n");
        assert!(head[0].starts_with("HTTP/1.1 200"), "{head:?}");
        (events, head)
    }

    fn lines_to(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream has ended");
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The next event's data.
    pub(crate) fn next(&mut self) -> Value {
        let lines = self.lines_to("\n");
        let data: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.len(), 1, "{lines:?}");
        serde_json::from_str(data[0]).unwrap_or_else(|error| panic!("{error}: {}", data[0]))
    }

    /// The first event that holds what is waited for.
    pub(crate) fn wait_for(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let event = self.next();
            if holds(&event) {
                return event;
            }
            assert!(start.elapsed() < DEADLINE, "no {what} in {event:#}");
        }
    }
}

/// The entry of a list in which `key` is `value`.
fn entry<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry[key] == value).unwrap_or(&Value::Null)
}

#[test]
fn the_page_is_whole_and_strict() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    for (path, content_type) in FILES {
        let answer = ask(&gateway, "GET", path, "localhost");
        assert_eq!((answer.status(), answer.one("Content-Type")), (200, content_type), "{path}");
        let policy = answer.one("Content-Security-Policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(
            policy.contains("connect-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.one("X-Content-Type-Options"), "nosniff");
        assert_eq!(answer.one("Referrer-Policy"), "no-referrer");
        for foreign in ["//", "http:", "https:", " style=", " onclick=", "<style", "innerHTML"] {
            let is_namespace =
                |line: &str| line.contains("http://www.w3.org/2000/svg") || line.starts_with("//");
            let found =
                answer.text().lines().find(|line| line.contains(foreign) && !is_namespace(line.trim()));
            assert_eq!(found, None, "{path} has {foreign}");
        }
    }
}

#[test]
fn only_own_names_see_the_page_and_any_name_the_rest() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::before(upstream.address()).set("listen", "admin_hosts = [\"gateway.internal\"]").start();
    let admin = gateway.admin_address().to_string();
    for path in ["/", "/page.js", "/page.css", "/icon.svg", "/events"] {
        for foreign in ["evil.example", "evil.example:9464", "gateway.internal.evil.example", ""] {
            let answer = ask(&gateway, "GET", path, foreign);
            assert_eq!(answer.status(), 421, "{foreign}{path}");
            assert!(answer.text().starts_with("This page answers to"), "{answer:?}");
        }
    }
    for own in [&*admin, "[::1]:9464", "localhost", "gateway.internal", "GATEWAY.internal:9464"] {
        assert_eq!(ask(&gateway, "GET", "/", own).status(), 200, "{own}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(&gateway, "GET", path, "evil.example").status(), 200, "{path}");
    }
}

#[test]
fn nothing_can_be_changed_through_the_admin_listener() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    for path in ["/", "/page.js", "/events", "/livez", "/readyz", "/metrics"] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(ask(&gateway, method, path, "localhost").status(), 405, "{method} {path}");
        }
    }
    assert_eq!(ask(&gateway, "GET", "/elsewhere", "localhost").status(), 404);
}

#[test]
fn a_name_that_is_none_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let text = "[listen]\nhttp = [\"127.0.0.1:0\"]\nadmin_hosts = [\"https://gateway.internal\"]\n\
                [upstream]\npeers = [\"127.0.0.1:1\"]\n";
    std::fs::write(&config, text).unwrap();
    let output = binary().arg("check").arg("--config").arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("listen.admin_hosts") && told.contains("no host name"), "{told}");
}

#[test]
fn events_tell_what_happens() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .append("[[users]]\nname = \"ada\"\nquota = { requests = 1, per = \"1h\", burst = 4 }")
        .set("quota", "requests = 1\nper = \"1h\"\nburst = 1")
        .start();
    let mut events = Events::open(gateway.admin_address());
    let first = events.next();
    assert_eq!((&first["phase"], &first["observes"]), (&"serving".into(), &false.into()), "{first:#}");
    assert_eq!(first["codes"], Value::Array(Vec::new()));

    let mut wire = gateway.connect();
    for _ in 0..3 {
        assert_eq!(wire.call(&Call::unlock().user("ada")).status(), 200);
    }
    for status in [200, 429, 429] {
        assert_eq!(wire.call(&Call::unlock().user("eve")).status(), status);
    }
    for _ in 0..5 {
        assert_eq!(wire.call(&Call::unlock().user("ada").body("customer.id=191")).status(), 400);
    }
    let event = events.wait_for("count of all calls", |event| {
        entry(&event["codes"], "code", "parameter_disguised")["total"] == 5
            && entry(&event["codes"], "code", "quota_exceeded")["total"] == 2
            && entry(&event["unlocks"], "result", "unlocked")["total"] == 4
    });
    assert_eq!(entry(&event["codes"], "code", "parameter_disguised")["minute"], 5);
    assert_eq!(event["connections"], 1);
    let forwarded = &event["latency"][0];
    assert_eq!(forwarded["count"], 4, "{event:#}");
    let [median, _, slowest] =
        [0, 1, 2].map(|index| forwarded["quantiles"][index].as_f64().unwrap_or_else(|| panic!("{event:#}")));
    assert!(0.0 < median && median <= slowest, "{event:#}");
    let rates: f64 = event["rates"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|second| second.as_array().unwrap())
        .map(|rate| rate.as_f64().unwrap())
        .sum();
    assert!(rates > 0.0, "{event:#}");

    let ada = entry(&event["users"], "name", "ada");
    assert_eq!((&ada["remaining"], &ada["burst"], &ada["is_listed"]), (&1.into(), &4.into(), &true.into()));
    let eve = entry(&event["users"], "name", "eve");
    assert_eq!((&eve["refused"], &eve["is_listed"]), (&2.into(), &false.into()));

    let latest = &event["refusals"][0];
    assert_eq!(latest["code"], "parameter_disguised");
    assert_eq!((&latest["client"], &latest["user"]), (&"127.0.0.1".into(), &"ada".into()));
    assert_eq!(latest["times"], 5);
    let text = event.to_string();
    let customer = regex::Regex::new("(^|[^0-9.])191([^0-9.]|$)").unwrap();
    assert!(!customer.is_match(&text), "{text}");
}

#[test]
fn failures_name_the_peer() {
    let (address, _guard) = refusing_address();
    let gateway = Gateway::before(address).start();
    let mut events = Events::open(gateway.admin_address());
    assert_eq!(gateway.call(&Call::unlock()).status(), 502);
    let event = events.wait_for("failure", |event| event["refusals"][0]["code"] == "upstream_unreachable");
    assert_eq!(event["refusals"][0]["outcome"], "failed");
    assert_eq!(event["refusals"][0]["peer"], address.to_string());
}

#[test]
fn many_may_watch_and_not_too_many() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let mut watchers: Vec<Events> = (0..64).map(|_| Events::open(gateway.admin_address())).collect();
    assert_eq!(ask(&gateway, "GET", "/events", "localhost").status(), 503);
    let times: Vec<u64> = watchers.iter_mut().map(|events| events.next()["time"].as_u64().unwrap()).collect();
    assert!(times.iter().all(|time| *time > 0));
    // The same second is the same event, whoever watches.
    let mut both = [0, 1].map(|index| {
        let seen: Vec<u64> = (0..3).map(|_| watchers[index].next()["time"].as_u64().unwrap()).collect();
        seen.into_iter().collect::<std::collections::BTreeSet<_>>()
    });
    let [first, second] = &mut both;
    assert!(first.intersection(second).next().is_some(), "{first:?} and {second:?}");
    drop(watchers);
}

#[test]
fn watching_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::before(upstream.address()).start();
    let mut events = Events::open(gateway.admin_address());
    events.next();
    gateway.send(Signal::Terminate);
    assert!(gateway.wait_exit().success());
}

#[test]
fn the_page_works_in_a_browser() {
    tool("chromium", "install chromium");
    let mut check = tool("python3", "install python3")
        .arg(package_root().join("tests/browser/page.py"))
        .arg(binary().get_program())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    check.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(check.wait().unwrap().success(), "{told}");
}
