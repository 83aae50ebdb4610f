//! The operational log, on standard error: best effort, wherever that leads.
//!
//! A line is handed to a thread of its own. A reader that is gone or stalled, a full disk, a terminal that hung
//! up: each costs lines, which are counted, and holds up nobody.

use std::{
    fmt,
    io::{self, Write},
    sync::OnceLock,
    time::Duration,
};

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry, filter::Targets, fmt::layer, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use super::{
    metrics::LOG_DROPPED,
    sink::Sink,
    writer::{News, Options, Writer},
};

/// How many bytes of lines may wait for the thread.
const MAX_WAITING: usize = 1024 * 1024;

/// How long a question waits to be shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// The environment variable that sets the level, whatever the configuration says.
const VARIABLE: &str = "RUST_LOG";

/// What events of the gateway's own have as their target.
const GATEWAY: &str = "n4n_gateway";

/// The process has one standard error, and so one log.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    writer: Writer<()>,
    filter: reload::Handle<Targets, Registry>,
    /// The level of the environment.
    level: Option<Level>,
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
    if LOG.set(Log { writer, filter: handle, level }).is_err() {
        return Err(io::Error::other("the log has been started before"));
    }
    // Whatever is wrong with an event, nothing is printed past the thread.
    let format = layer().with_target(false).log_internal_errors(false).with_writer(|| LogLine);
    tracing_subscriber::registry().with(filter).with(format).try_init().map_err(io::Error::other)?;
    if written.is_some() && level.is_none() {
        tracing::warn!("{VARIABLE} names no level of error, warn, info, debug and trace; it is ignored");
    }
    Ok(())
}

/// Sets the level, unless the environment does.
pub fn set_level(level: Level) {
    if let Some(log) = LOG.get() {
        // It fails only where the subscriber is gone, with the process.
        let _ = log.filter.reload(targets(log.level.unwrap_or(level)));
    }
}

/// Says a line on standard error that is no event: what a command tells about its input.
pub fn say(line: fmt::Arguments<'_>) {
    // A line that cannot be taken is counted.
    let _ = LogLine.write_all(format!("{line}\n").as_bytes());
}

/// Says on standard error what a question ends with, without ending the line, and waits for that to be shown.
pub fn ask(text: &str) {
    // As for a line.
    let _ = LogLine.write_all(text.as_bytes());
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

/// Takes one line at a time.
struct LogLine;

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get() {
            log.writer.add(|lines, ()| lines.extend_from_slice(line));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
