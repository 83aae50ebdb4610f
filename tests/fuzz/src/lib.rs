//! The gateway's pure core, compiled without Pingora and whatever else is not fuzzed, and what the
//! targets share.

#[path = "../../../src/as_it_is.rs"]
pub mod as_it_is;
#[path = "../../../src/client_network.rs"]
pub mod client_network;
#[path = "../../../src/config/mod.rs"]
pub mod config;
#[path = "../../../src/enumeration/mod.rs"]
pub mod enumeration;
#[path = "../../../src/files.rs"]
pub mod files;
#[path = "../../../src/guessing.rs"]
pub mod guessing;
#[path = "../../../src/downstream/header_blocks.rs"]
pub mod header_blocks;
#[path = "../../../src/operation.rs"]
pub mod operation;
#[path = "../../../src/php/mod.rs"]
pub mod php;
#[path = "../../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../../src/quota/mod.rs"]
pub mod quota;
pub mod quota_store;
#[path = "../../../src/reason/mod.rs"]
pub mod reason;
pub mod tls;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;

use std::{borrow::Cow, path::Path};

/// The rules of a configuration that says no more than it must, and `more`.
pub fn policy_of(more: &str) -> policy::Policy {
    let least = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"n4n.internal:80\"]\n";
    config::Settings::parse(&format!("{least}{more}"), Path::new(""))
        .expect("the configuration is sound")
        .policy
}

/// Writes long runs out, so that short inputs reach the limits: 0xFE stands for 1024 letters, 0xFD for 64.
///
/// It stops some way past the largest limit.
pub fn expand(input: &[u8]) -> Cow<'_, [u8]> {
    const MOST: usize = wire::MAX_HEAD + 2048;
    let runs = [(0xFE, 1024), (0xFD, 64)];
    if !input.iter().any(|&byte| runs.iter().any(|&(run, _)| byte == run)) {
        return Cow::Borrowed(input);
    }
    let mut expanded = Vec::with_capacity(MOST);
    for &byte in input {
        match runs.iter().find(|&&(run, _)| byte == run) {
            Some(&(_, length)) => expanded.resize(expanded.len() + length, b'a'),
            None => expanded.push(byte),
        }
        if expanded.len() > MOST {
            break;
        }
    }
    Cow::Owned(expanded)
}

/// Places to divide that many bytes at: all of them where they are few, fewer the more they are, and
/// others for another length.
pub fn divisions(length: usize) -> impl Iterator<Item = usize> {
    let step = length * length / 4096 + 1;
    (length % step..=length).step_by(step)
}
