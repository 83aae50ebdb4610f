//! What `check` says of a configuration: its faults, its warnings, and what a gateway would do by it.

mod summary;

use std::{fmt, net::ToSocketAddrs, path::Path};

use serde::Serialize;

use crate::{
    audit,
    config::{Fault, Inspection, Settings},
    descriptors::{self, Shares},
    telemetry::log,
};
use summary::{Summary, Target};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Checked {
    file: String,
    sound: bool,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    summary: Option<Summary>,
}

impl Checked {
    /// Reads a configuration and looks at all that it names, without changing anything.
    pub fn of(config: &Path) -> Self {
        let settings = Settings::load(config, Inspection::ToCheck).and_then(|settings| {
            match settings.log.audit.as_deref().map(audit::inspect) {
                Some(Err(error)) => Err(vec![Fault {
                    line: None,
                    place: "log.audit".into(),
                    reason: error.to_string(),
                    mend: "move that file away, or name another".into(),
                }]),
                None | Some(Ok(())) => Ok(settings),
            }
        });
        let file = config.display().to_string();
        match settings {
            Err(faults) => Self { file, sound: false, faults, warnings: Vec::new(), summary: None },
            Ok(settings) => {
                let (peers, mut warnings) = look_up(&settings);
                let shortage = Shares::of(&settings, descriptors::hard_limit());
                warnings.extend(shortage.warning().map(|warning| warning.to_string()));
                warnings.extend(settings.warnings());
                let summary = Some(Summary::of(&settings, peers));
                Self { file, sound: true, faults: Vec::new(), warnings, summary }
            }
        }
    }

    /// Whether a gateway would start by it.
    pub const fn is_sound(&self) -> bool {
        self.sound
    }

    /// Says on standard error what is wrong and what may be.
    pub fn say(&self) {
        for fault in &self.faults {
            log::say(format_args!("{}: {fault}", self.file));
        }
        for warning in &self.warnings {
            log::say_warning(format_args!("{}: warning: {warning}", self.file));
        }
    }
}

/// What is sound, and what will be.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(summary) = &self.summary {
            write!(f, "{}: sound\n{summary}", self.file)?;
        }
        Ok(())
    }
}

/// Where the peers are. A name that does not resolve here and now may do so where and when the gateway runs.
fn look_up(settings: &Settings) -> (Vec<Target>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut addresses = |key: &str, host: &str, port: u16| match (host, port).to_socket_addrs() {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(error) => {
            warnings.push(format!("{key}: `{host}:{port}` does not resolve: {error}"));
            Vec::new()
        }
    };
    let peers = settings.upstream.peers.iter().map(|peer| Target {
        peer: peer.address.to_string(),
        name: peer.name.as_ref().map(|name| name.to_string()),
        addresses: addresses("upstream.peers", &peer.address.host, peer.address.port),
    });
    let peers = peers.collect();
    if let Some((host, port)) = settings.quota_store.as_ref().and_then(|store| store.redis.host()) {
        addresses("quota.redis", host, port);
    }
    (peers, warnings)
}
