//! A real Prometheus reads the metrics, its own tool finds nothing to object to, and every dashboard query has an answer.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use regex::Regex;
use serde_json::Value;

use crate::harness::{Call, DEADLINE, Gateway, Lines, Upstream, package_root, tool};

/// A series that only some configurations have.
const CONDITIONAL: &str = "n4n_gateway_certificate_expiry_timestamp_seconds";

fn deployed(file: &str) -> PathBuf {
    package_root().join("deploy").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(deployed(file)).unwrap()
}

/// Runs promtool on the deployed rules; gives what it says.
fn promtool(arguments: &[&str], input: &[u8]) -> String {
    let mut child = tool("promtool", "install prometheus")
        .args(arguments)
        .current_dir(deployed("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {told}");
    told
}

/// Calls of every sort.
fn mix(gateway: &Gateway) {
    let mut wire = gateway.connect();
    for call in [
        Call::unlock(),
        Call::unlock().user("eve"),
        Call::unlock().path("/elsewhere"),
        Call::unlock().body("customer.id=191"),
        Call::unlock().without("api-key"),
    ] {
        wire.call(&call);
    }
}

fn busy_gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("quota", "requests = 1\nper = \"1s\"\nburst = 5")
        .append("[[users]]\nname = \"n4n_admin\"")
        .start();
    mix(&gateway);
    (upstream, gateway)
}

#[test]
fn promtool_finds_the_metrics_well_formed() {
    let (_upstream, gateway) = busy_gateway();
    let (status, page) = gateway.admin("/metrics").unwrap();
    assert_eq!(status, 200);
    assert_eq!(promtool(&["check", "metrics"], page.as_bytes()), "");
}

#[test]
fn promtool_finds_the_configuration_and_the_rules_sound() {
    promtool(&["check", "config", "prometheus.yml"], b"");
    promtool(&["check", "rules", "alerts.yml"], b"");
    promtool(&["test", "rules", "alerts.test.yml"], b"");
}

#[test]
fn each_alert_has_a_runbook_line_and_a_test() {
    let (rules, tests) = (text("prometheus/alerts.yml"), text("prometheus/alerts.test.yml"));
    let mut alerts = rules.split("- alert: ").skip(1).peekable();
    assert!(alerts.peek().is_some());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for annotation in ["summary: \"", "runbook: \""] {
            assert_eq!(alert.matches(annotation).count(), 1, "{annotation} of {name}");
        }
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let (_upstream, gateway) = busy_gateway();
    let metrics = gateway.metrics();
    let name = Regex::new("(?:n4n_gateway|process)_[a-z0-9_]+").unwrap();
    let asked = [text("prometheus/alerts.yml"), text("grafana/dashboard.json")].concat();
    let asked: BTreeSet<&str> = name.find_iter(&asked).map(|found| found.as_str()).collect();
    assert!(asked.len() > 15, "{asked:?}");
    for name in asked {
        assert!(metrics.has(name) || name == CONDITIONAL, "{name} is asked for and there is none");
    }
}

/// A Prometheus in a folder of its own that scrapes one gateway; it ends with this value.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _log: Lines,
}

impl Prometheus {
    /// Follows the deployed configuration, but every second and on that gateway.
    fn watching(gateway: &Gateway, folder: &Path) -> Self {
        let config = text("prometheus/prometheus.yml");
        assert_eq!((config.matches(": 15s").count(), config.matches("127.0.0.1:9464").count()), (2, 1));
        let config =
            config.replace(": 15s", ": 1s").replace("127.0.0.1:9464", &gateway.admin_address().to_string());
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        std::fs::copy(deployed("prometheus/alerts.yml"), folder.join("alerts.yml")).unwrap();
        let mut child = tool("prometheus", "install prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let listening = Regex::new(r#"msg="Listening on" address=(127\.0\.0\.1:\d+)"#).unwrap();
        let address = log.wait_for("Prometheus' address", |lines| {
            lines.iter().find_map(|line| listening.captures(line)?[1].parse().ok())
        });
        Self { child, address, _log: log }
    }

    fn ask(&self, path: &str, query: &str) -> Value {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(DEADLINE));
        let answer = ureq::Agent::new_with_config(config.build())
            .get(format!("http://{}/api/v1/{path}", self.address))
            .query("query", query)
            .call();
        // It listens a moment before it answers.
        let text =
            answer.map_or_else(|_| String::new(), |mut answer| answer.body_mut().read_to_string().unwrap());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Whether the query has data.
    fn has(&self, query: &str) -> bool {
        let answer = self.ask("query", query);
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_has_data_for_each_dashboard_query() {
    let (_upstream, gateway) = busy_gateway();
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::watching(&gateway, folder.path());

    let dashboard: Value = serde_json::from_str(&text("grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut waiting: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .map(|query| {
            query.replace("$__rate_interval", "20s").replace("$job", "n4n-gateway").replace("$instance", ".*")
        })
        .filter(|query| !query.contains(CONDITIONAL))
        .collect();
    assert!(waiting.len() > 25 && !waiting.iter().any(|query| query.contains('$')), "{waiting:#?}");
    let start = Instant::now();
    while !waiting.is_empty() {
        mix(&gateway);
        waiting.retain(|query| !prometheus.has(query));
        assert!(start.elapsed() < DEADLINE, "no data for {waiting:#?}");
    }

    let rules = prometheus.ask("rules", "");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
    assert_eq!(rules.len(), text("prometheus/alerts.yml").matches("- alert: ").count());
}
