//! A network of a test's own, whose packets can be lost.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tool;

/// A network namespace that the test's thread, and all that it starts, is in.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Moves this thread into a new one; none where the user or the machine may not, which is said aloud.
    pub(crate) fn enter() -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        if !geteuid().is_root() {
            return not_tested("they take root");
        }
        let name = format!("n4n-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let added = tool("ip", "install iproute2").args(["netns", "add", &name]).output().unwrap();
        if !added.status.success() {
            return not_tested(&String::from_utf8_lossy(&added.stderr));
        }
        let namespace = Self { name };
        let file = File::open(format!("/var/run/netns/{}", namespace.name)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        let listed = tool("iptables", "install iptables").args(["-L", "-n"]).output().unwrap();
        if !listed.status.success() {
            return not_tested(&String::from_utf8_lossy(&listed.stderr));
        }
        Some(namespace)
    }

    /// Adds a rule for packets that come in, written as iptables takes it, for as long as the guard lives.
    pub(crate) fn rule(&self, rule: &str) -> Rule {
        let rule: Vec<String> = rule.split(' ').map(str::to_owned).collect();
        run(tool("iptables", "install iptables").args(["-A", "INPUT"]).args(&rule));
        Rule(rule)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A rule in force.
pub(crate) struct Rule(Vec<String>);

impl Drop for Rule {
    fn drop(&mut self) {
        let _ = Command::new("iptables").args(["-D", "INPUT"]).args(&self.0).status();
    }
}

/// Past the test runner, which keeps what a passing test prints to itself.
fn not_tested(why: &str) -> Option<Namespace> {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: faults of the network: {}", why.trim());
    None
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
}
