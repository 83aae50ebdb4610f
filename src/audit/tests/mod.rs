//! What a trail promises, by theme.

mod continuing;
mod failing;
mod processes;
mod records;
mod torn;
mod verifying;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use prometheus::IntCounter;
use tempfile::TempDir;

use tokio::runtime::{self, Runtime};

use super::*;

/// A trail, for tests that wait for it.
struct Opened {
    trail: Trail,
    runtime: Runtime,
}

impl Opened {
    fn at(path: &Path) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Ok(Self { trail: Trail::open(path, errors())?, runtime })
    }

    fn intent(&self, intent: &Intent<'_>) -> Result<(), Unwritable> {
        self.runtime.block_on(self.trail.intent(intent))
    }

    fn outcome(&self, outcome: &Conclusion) -> Result<(), Unwritable> {
        self.runtime.block_on(self.trail.outcome(outcome))
    }

    fn reopen(&self) -> io::Result<()> {
        self.runtime.block_on(self.trail.reopen())
    }
}

fn errors() -> IntCounter {
    IntCounter::new("errors", "Records that could not be written.").unwrap()
}

/// A folder with room for a trail.
struct Scratch {
    folder: TempDir,
    trail: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trail = folder.path().join("audit.jsonl");
        Self { folder, trail }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> Opened {
        Opened::at(&self.trail).unwrap()
    }

    /// Moves the trail's file away, as logrotate does.
    fn rotate(&self, name: &str) -> PathBuf {
        let rotated = self.path(name);
        fs::rename(&self.trail, &rotated).unwrap();
        rotated
    }

    fn torn(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains(".torn-")).collect()
    }
}

fn some_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_514_401_125)
}

fn an_intent() -> Intent<'static> {
    Intent {
        time: SystemTime::now(),
        request_id: RequestId::next(),
        client: Some(IpAddr::from([192, 0, 2, 7])),
        client_certificate: Some("CN=billing"),
        user: Some("n4n_admin"),
        lookup: Some(LookupKey::CustomerId),
        value: Some("191"),
    }
}

fn its_outcome(intent: &Intent<'_>) -> Conclusion {
    Conclusion {
        time: SystemTime::now(),
        request_id: intent.request_id,
        seen: Seen::Answer { status: 200, result: UnlockResult::Unlocked },
        reason: None,
    }
}

/// Appends the two records of a call.
fn record_a_call(trail: &Opened) {
    let intent = an_intent();
    trail.intent(&intent).unwrap();
    trail.outcome(&its_outcome(&intent)).unwrap();
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// The number of records in files that must be one whole chain from the first record on.
fn whole(files: &[&Path]) -> u64 {
    let files: Vec<PathBuf> = files.iter().map(|file| file.to_path_buf()).collect();
    let verified = verify(&files).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(verified.continues, None);
    verified.records
}
