//! How much the operational log tells is the operator's choice.

use crate::harness::{Call, Gateway, GatewayBuilder, Upstream, binary};

/// What only `debug` and below tell.
const DETAIL: &str = "a connection begins";

fn gateway(upstream: &Upstream, level: &str) -> GatewayBuilder {
    let lines = if level.is_empty() { String::new() } else { format!("level = \"{level}\"") };
    Gateway::before(upstream.address()).set("log", &lines)
}

#[test]
fn the_level_is_read_from_the_configuration_and_again_by_a_reload() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "info").start();
    let detail = || gateway.output().matches(DETAIL).count();
    gateway.call(&Call::unlock());
    gateway.reload(|text| text.replace("\"info\"", "\"debug\""));
    // Connections go on being told of from here on, so that the one before would have been by now.
    assert_eq!(detail(), 0, "{}", gateway.output());
    gateway.call(&Call::unlock());
    gateway.wait_for_line(DETAIL);

    gateway.reload(|text| text.replace("\"debug\"", "\"warn\""));
    let before = detail();
    gateway.call(&Call::unlock());
    // A warning after the call: what the call had to tell would stand before it.
    gateway.reload(|text| text.replace("[listen]\n", "[listen]\nthreads = 7\n"));
    gateway.wait_for_line("listen.threads");
    assert_eq!(detail(), before);
    assert!(!gateway.output().contains("threads = 7"));
}

#[test]
fn the_environment_has_the_last_word() {
    let upstream = Upstream::start();
    for (variable, level) in [("debug", "error"), ("debug", ""), ("warn,n4n_gateway=debug", "info")] {
        let mut builder = gateway(&upstream, level);
        builder = builder.env("RUST_LOG", variable);
        let gateway = builder.start();
        gateway.call(&Call::unlock());
        gateway.wait_for_line(DETAIL);
    }
}

#[test]
fn a_variable_that_is_no_level_is_told_and_the_configuration_holds() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "debug").env("RUST_LOG", "loud").start();
    gateway.wait_for_line("RUST_LOG names no level");
    gateway.call(&Call::unlock());
    gateway.wait_for_line(DETAIL);
}

#[test]
fn a_level_that_there_is_not_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let text = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:80\"]\nlog.level = \"loud\"\n";
    std::fs::write(&config, text).unwrap();
    let output = binary().args(["check", "--config"]).arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("log.level: is none of these; write \"info\" or"), "{told}");
}
