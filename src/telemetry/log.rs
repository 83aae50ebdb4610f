//! The operational log, on standard error: best effort, wherever that leads.
//!
//! A line is handed to a thread of its own. A reader that is gone or stalled, a full disk, a terminal that hung
//! up: each costs lines, which are counted, and holds up nobody.

use std::{
    fmt, io,
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use super::{
    event::{self, priority},
    metrics::LOG_DROPPED,
    sink::Sink,
    writer::{News, Options, Writer},
};
use crate::config::LogFormat;

/// How many bytes of lines may wait for the thread.
const MAX_WAITING: usize = 1024 * 1024;

/// How long a question waits to be shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// The environment variable that sets the level, whatever the configuration says.
const VARIABLE: &str = "RUST_LOG";

/// The environment variable in which systemd names the stream that leads to its journal, by device and inode.
const JOURNAL: &str = "JOURNAL_STREAM";

/// What events of the gateway's own have as their target.
const GATEWAY: &str = "n4n_gateway";

/// The process has one standard error, and so one log.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    writer: Writer<()>,
    filter: reload::Handle<Targets, Registry>,
    /// The level of the environment.
    level: Option<Level>,
    is_json: AtomicBool,
    /// Whether the journal is at the other end, which reads a line's priority off its beginning.
    is_journal: bool,
}

/// Starts the log, at the level of the environment, or else `info`.
///
/// # Errors
/// The system has no thread or descriptor to give.
pub fn start() -> io::Result<()> {
    let options = Options {
        name: "log",
        capacity: MAX_WAITING,
        gather: Duration::ZERO,
        dropped: LOG_DROPPED.clone(),
        tell: tell_of,
    };
    let writer = Writer::start(Sink::inherited(io::stderr())?, options)?;
    let written = std::env::var_os(VARIABLE).filter(|written| !written.is_empty());
    let level = written.as_ref().and_then(|written| level_in(written.to_str()?));
    let (filter, handle) = reload::Layer::new(targets(level.unwrap_or(Level::INFO)));
    let is_journal = std::env::var(JOURNAL).is_ok_and(|named| is_stream(&named, io::stderr()));
    let log = Log { writer, filter: handle, level, is_json: AtomicBool::new(false), is_journal };
    if LOG.set(log).is_err() {
        return Err(io::Error::other("the log has been started before"));
    }
    tracing_subscriber::registry().with(filter).with(Events).try_init().map_err(io::Error::other)?;
    if written.is_some() && level.is_none() {
        tracing::warn!("{VARIABLE} names no level of error, warn, info, debug and trace; it is ignored");
    }
    Ok(())
}

/// Follows the settings; the environment's level holds instead of theirs.
pub fn follow(level: Level, format: LogFormat) {
    if let Some(log) = LOG.get() {
        log.is_json.store(format == LogFormat::Json, Ordering::Relaxed);
        // It fails only where the subscriber is gone, with the process.
        let _ = log.filter.reload(targets(log.level.unwrap_or(level)));
    }
}

/// Says a line on standard error that is no event: what is wrong with what a command was given.
pub fn say(line: fmt::Arguments<'_>) {
    say_at(Level::ERROR, line);
}

/// Says such a line that warns of what is not wrong.
pub fn say_warning(line: fmt::Arguments<'_>) {
    say_at(Level::WARN, line);
}

fn say_at(level: Level, line: fmt::Arguments<'_>) {
    if let Some(log) = LOG.get() {
        let priority = if log.is_journal { priority(level) } else { "" };
        let lines = line.to_string();
        add(log, lines.lines().map(|line| format!("{priority}{line}\n")).collect::<String>().as_bytes());
    }
}

/// Says on standard error what a question ends with, without ending the line, and waits for that to be shown.
pub fn ask(text: &str) {
    if let Some(log) = LOG.get() {
        add(log, text.as_bytes());
    }
    flush(SHOWN_WITHIN);
}

/// Waits until all lines are written or lost, for as long as `within`.
pub fn flush(within: Duration) {
    if let Some(log) = LOG.get() {
        log.writer.flush(within);
    }
}

/// The level that a value of the variable gives to this gateway: a level, or a list such as `warn,n4n_gateway=debug`.
fn level_in(written: &str) -> Option<Level> {
    let targets: Targets = written.parse().ok()?;
    let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    levels.into_iter().find(|level| targets.would_enable(GATEWAY, level))
}

/// Events at a level; those of libraries at `info` at most, for below it they tell what they receive, keys too.
fn targets(level: Level) -> Targets {
    Targets::new().with_default(LevelFilter::from(level.min(Level::INFO))).with_target(GATEWAY, level)
}

fn tell_of(news: News<'_>) {
    match news {
        // There is nowhere to tell it but the metrics.
        News::Fails(_) => {}
        News::Recovers { lost } => tracing::error!(lost, "lines of this log were lost"),
    }
}

/// Hands events to the thread, a line each.
struct Events;

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(log) = LOG.get() else { return };
        let format = if log.is_json.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text };
        let priority = if log.is_journal { priority(*event.metadata().level()) } else { "" };
        let mut line = priority.as_bytes().to_vec();
        event::write(&mut line, event, SystemTime::now(), format);
        add(log, &line);
    }
}

fn add(log: &Log, lines: &[u8]) {
    // Lines that cannot be taken are counted.
    log.writer.add(|waiting, ()| waiting.extend_from_slice(lines));
}

/// Whether a descriptor is the stream of this device and inode.
fn is_stream(named: &str, descriptor: impl AsFd) -> bool {
    rustix::fs::fstat(descriptor).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_takes_a_level_or_the_usual_list() {
        for (written, level) in [
            ("debug", Some(Level::DEBUG)),
            ("WARN", Some(Level::WARN)),
            ("info,n4n_gateway=trace", Some(Level::TRACE)),
            ("n4n_gateway=error,h2=trace", Some(Level::ERROR)),
            ("h2=trace", None),
            ("off", None),
            ("loud", None),
        ] {
            assert_eq!(level_in(written), level, "{written}");
        }
    }

    #[test]
    fn libraries_never_tell_what_they_receive() {
        for level in [Level::INFO, Level::DEBUG, Level::TRACE] {
            let targets = targets(level);
            assert!(targets.would_enable("n4n_gateway::server", &level));
            assert!(targets.would_enable("h2", &Level::INFO) && !targets.would_enable("h2", &Level::DEBUG));
        }
        assert!(!targets(Level::ERROR).would_enable("h2", &Level::WARN));
    }
}
