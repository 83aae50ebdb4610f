//! One event of the operational log as a line, for people or as JSON.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::line::Second;
use crate::config::LogFormat;

/// The field that an event's message is in.
const MESSAGE: &str = "message";

/// What opens a line for the journal: its priority (sd-daemon(3)).
pub(super) fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Adds an event's line.
pub(super) fn write(lines: &mut Vec<u8>, event: &Event<'_>, time: SystemTime, format: LogFormat) {
    let level = *event.metadata().level();
    let mut parts = Parts { format, message: String::new(), fields: String::new() };
    event.record(&mut parts);
    let Parts { message, fields, .. } = parts;
    match format {
        LogFormat::Text => {
            Second::default().write(lines, time);
            lines.extend_from_slice(format!(" {level:>5} {message}{fields}\n").as_bytes());
        }
        LogFormat::Json => {
            lines.extend_from_slice(b"{\"time\":\"");
            Second::default().write(lines, time);
            let level = level.as_str().to_ascii_lowercase();
            let message = json(&message);
            let rest = format!("\",\"level\":\"{level}\",\"message\":{message}{fields}}}\n");
            lines.extend_from_slice(rest.as_bytes());
        }
    }
}

/// What an event is made of, as its line has it.
struct Parts {
    format: LogFormat,
    message: String,
    /// Each with what stands before it.
    fields: String,
}

impl Parts {
    fn text(&mut self, field: &Field, text: &str, quoted: bool) {
        match (field.name(), self.format) {
            (MESSAGE, LogFormat::Text) => put(&mut self.message, text),
            (MESSAGE, LogFormat::Json) => self.message.push_str(text),
            (_, LogFormat::Json) => self.value(field, json(text)),
            (_, LogFormat::Text) if quoted => self.value(field, format_args!("{text:?}")),
            (_, LogFormat::Text) => {
                self.value(field, "");
                put(&mut self.fields, text);
            }
        }
    }

    fn value(&mut self, field: &Field, value: impl fmt::Display) {
        let name = field.name().trim_start_matches("r#");
        let written = match self.format {
            LogFormat::Text => write!(self.fields, " {name}={value}"),
            LogFormat::Json => write!(self.fields, ",\"{name}\":{value}"),
        };
        written.expect("memory takes all that is written");
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value, true);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, value);
    }
}

/// Adds text so that it stays on its line, and moves no cursor.
fn put(line: &mut String, text: &str) {
    for letter in text.chars() {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Subscriber, subscriber::with_default};
    use tracing_subscriber::{
        Layer,
        layer::{Context, SubscriberExt},
    };

    use super::*;

    struct Written(LogFormat, Arc<Mutex<Vec<u8>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            write(&mut self.1.lock().unwrap(), event, SystemTime::UNIX_EPOCH, self.0);
        }
    }

    fn line(format: LogFormat) -> String {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Written(format, Arc::clone(&lines)));
        with_default(subscriber, || {
            let (error, none) = ("a\n\u{1b}[31m\"b\"", None::<&str>);
            tracing::warn!(%error, reason = "x y", count = 3_u64, is_tls = true, none, "one\nline");
        });
        String::from_utf8(Arc::try_unwrap(lines).unwrap().into_inner().unwrap()).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        assert_eq!(
            line(LogFormat::Text),
            "1970-01-01T00:00:00.000000Z  WARN one\\nline error=a\\n\\u{1b}[31m\"b\" reason=\"x y\" count=3 is_tls=true\n"
        );
    }

    #[test]
    fn json_has_time_level_message_and_each_field_by_its_name() {
        let line = line(LogFormat::Json);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&line).unwrap(),
            serde_json::json!({
                "time": "1970-01-01T00:00:00.000000Z", "level": "warn", "message": "one\nline",
                "error": "a\n\u{1b}[31m\"b\"", "reason": "x y", "count": 3, "is_tls": true,
            })
        );
    }
}
