//! SIGHUP: another configuration, without another process.

use std::{convert::Infallible, path::Path};

use tokio::signal::unix::Signal;

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
    loop {
        hangup.recv().await;
        let Some(config) = config else {
            tracing::info!("there is no configuration to read again");
            continue;
        };
        let is_successful = reload(gateway, config).await;
        gateway.metrics.reloaded(is_successful);
        if is_successful {
            gateway.live().peers.look_up().await;
        }
    }
}

/// Follows the configuration file as it is now, or, where that is faulty, tells why and changes nothing.
async fn reload(gateway: &Gateway, config: &Path) -> bool {
    let settings = match Settings::load(config, Inspection::ToStart) {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in faults {
                tracing::error!(%fault, "the configuration is not sound; the one in force stays");
            }
            return false;
        }
    };
    let addresses = |listen: &Listen| -> Vec<_> { listen.https.iter().map(|https| https.address).collect() };
    let level = settings.log.level;
    let (new, old) = (settings.listen.clone(), gateway.live().settings.listen.clone());
    if let Err(error) = gateway.reload(settings).await {
        tracing::error!(%error, "the configuration cannot be followed; the one in force stays");
        return false;
    }
    log::set_level(level);
    gateway.live().warn_of_shares();
    for (key, is_changed) in [
        ("listen.http", new.http != old.http),
        ("listen.https", addresses(&new) != addresses(&old)),
        ("listen.admin", new.admin != old.admin),
        ("listen.threads", new.threads != old.threads),
    ] {
        if is_changed {
            tracing::warn!(key, "cannot change while running; restart or upgrade to follow it");
        }
    }
    tracing::info!("the configuration is in force");
    true
}
