//! What came of a reload, told to the service manager and to the command that asked for it.
//!
//! A signal has no answer. So `deploy/systemd/reload`, which sends it, leaves a file in the folder that systemd
//! gives the service, and waits there for another one, which says what of the configuration is not in force.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use sd_notify::NotifyState;

/// The environment variable that names the folder (systemd: `RuntimeDirectory=`).
const FOLDER: &str = "RUNTIME_DIRECTORY";

/// The file that asks.
const REQUEST: &str = "reload";

/// The file that answers: what is not in force, a line each; empty where all is.
const ANSWER: &str = "reloaded";

/// What the service manager shows while all is well.
pub(super) const SERVING: &str = "serving";

/// The folder of whoever asked what would come of the reload that begins; none: nobody did.
pub(super) struct Asked(Option<PathBuf>);

impl Asked {
    /// Takes the request; what comes later is for the next reload.
    pub(super) fn take() -> Self {
        let folder = env::var_os(FOLDER).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Self(folder.filter(|folder| fs::remove_file(folder.join(REQUEST)).is_ok()))
    }

    /// Tells what of the configuration is not in force: some of it, or, as an error, all of it.
    pub(super) fn tell(self, result: &Result<Vec<String>, Vec<String>>) {
        let (Ok(reasons) | Err(reasons)) = result;
        let told = reasons.join("; ").replace('\n', " ");
        let status = match result {
            Ok(reasons) if reasons.is_empty() => SERVING.into(),
            Ok(_) => format!("{SERVING}; of the configuration, {told}"),
            Err(_) => format!("{SERVING} with the configuration from before; the new one: {told}"),
        };
        if let Err(error) = sd_notify::notify(&[NotifyState::Status(&status)]) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
        if let Some(folder) = self.0
            && let Err(error) = answer(&folder, reasons)
        {
            tracing::warn!(%error, "whoever asked for the reload cannot be told");
        }
    }
}

/// Whole at once, for it is waited for.
fn answer(folder: &Path, reasons: &[String]) -> io::Result<()> {
    let draft = folder.join("reloaded.new");
    let lines: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    fs::write(&draft, lines)?;
    fs::rename(draft, folder.join(ANSWER))
}
