//! SIGHUP: another configuration, without another process.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use tokio::signal::unix::Signal;

use super::report::Asked;
use crate::{
    config::{Inspection, Listen, Settings},
    gateway::Gateway,
    telemetry::log,
};

/// Reads the configuration again whenever SIGHUP asks for it.
pub(super) async fn reload_on_hangup(
    gateway: &Gateway,
    config: Option<&Path>,
    mut hangup: Signal,
) -> Infallible {
    let bound = Bound::of(&gateway.live().settings.listen);
    loop {
        hangup.recv().await;
        let Some(config) = config else {
            tracing::info!("there is no configuration to read again");
            continue;
        };
        // Before the file is read, so that what is told is of the file that whoever asks has written.
        let asked = Asked::take();
        let result = reload(gateway, config, &bound).await;
        gateway.metrics.reloaded(result.is_ok());
        asked.tell(&result);
        if result.is_ok() {
            gateway.live().peers.look_up().await;
        }
    }
}

/// Follows the configuration file as it is now, and returns what of it cannot be followed by this process.
///
/// # Errors
/// Why nothing of it can be followed; then nothing has changed. The log has been told.
async fn reload(gateway: &Gateway, config: &Path, bound: &Bound) -> Result<Vec<String>, Vec<String>> {
    let settings = Settings::load(config, Inspection::ToStart).map_err(|faults| {
        for fault in &faults {
            tracing::error!(%fault, "the configuration is not sound; the one in force stays");
        }
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    })?;
    let (level, format) = (settings.log.level, settings.log.format);
    let not_followed = bound.differences(&settings.listen);
    gateway.reload(settings).await.map_err(|error| {
        tracing::error!(%error, "the configuration cannot be followed; the one in force stays");
        vec![error.to_string()]
    })?;
    log::follow(level, format);
    gateway.live().warn_of_shares();
    for key in &not_followed {
        tracing::warn!(key, "{BOUND}");
    }
    tracing::info!("the configuration is in force");
    Ok(not_followed.iter().map(|key| format!("{key} {BOUND}")).collect())
}

/// What is said of a key that differs from what the process was started with.
const BOUND: &str = "cannot change while running; restart or upgrade to follow it";

/// What the process was started with and keeps for its life.
struct Bound {
    http: BTreeSet<SocketAddr>,
    https: BTreeSet<SocketAddr>,
    admin: SocketAddr,
    threads: NonZeroUsize,
    admin_socket: Option<PathBuf>,
}

impl Bound {
    fn of(listen: &Listen) -> Self {
        Self {
            http: listen.http.iter().copied().collect(),
            https: listen.https.iter().map(|https| https.address).collect(),
            admin: listen.admin,
            threads: listen.threads,
            admin_socket: listen.admin_socket.clone(),
        }
    }

    /// The keys that ask for something else.
    fn differences(&self, listen: &Listen) -> Vec<&'static str> {
        let asked = Self::of(listen);
        let all = [
            ("listen.http", self.http != asked.http),
            ("listen.https", self.https != asked.https),
            ("listen.admin", self.admin != asked.admin),
            ("listen.threads", self.threads != asked.threads),
            ("listen.admin_socket", self.admin_socket != asked.admin_socket),
        ];
        all.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}
