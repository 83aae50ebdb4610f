//! What is wrong with a configuration: where, why, and the mend.

use std::{collections::HashMap, fmt, ops::Range};

use serde::Serialize;

/// One thing wrong with the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The line, counted from one; none where the file as a whole is at fault.
    pub line: Option<usize>,
    /// The key, dotted; empty where the file as a whole is at fault.
    #[serde(rename = "key")]
    pub place: String,
    /// What is wrong. Values are never echoed: they may be secret.
    pub reason: String,
    /// What to write instead.
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}; {}", self.reason, self.mend)
    }
}

/// The faults found so far, with the text they are found in.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    text: &'a str,
    found: Vec<Fault>,
    /// What is sound, and worth a word.
    notes: Vec<String>,
    /// Where the values that were read stand.
    spans: HashMap<String, Range<usize>>,
}

impl<'a> Faults<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, found: Vec::new(), notes: Vec::new(), spans: HashMap::new() }
    }

    /// Takes note of a fault at a span of the text.
    pub(super) fn add(
        &mut self,
        span: Option<Range<usize>>,
        place: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let line = span.map(|span| self.text[..span.start.min(self.text.len())].matches('\n').count() + 1);
        self.found.push(Fault { line, place: place.into(), reason: reason.into(), mend: mend.into() });
    }

    /// Remembers where the value of a key stands.
    pub(super) fn stands(&mut self, place: String, span: Range<usize>) {
        self.spans.insert(place, span);
    }

    /// Takes note of a fault in the value of a key, once that has been read.
    pub(super) fn add_at(&mut self, place: &str, reason: impl Into<String>, mend: impl Into<String>) {
        self.add(self.spans.get(place).cloned(), place, reason, mend);
    }

    /// Takes note of what is no fault, and perhaps not what was meant.
    pub(super) fn note(&mut self, place: &str, reason: impl fmt::Display, mend: impl fmt::Display) {
        self.notes.push(format!("{place}: {reason}; {mend}"));
    }

    /// What was noted beside the faults.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub(super) const fn count(&self) -> usize {
        self.found.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All faults, in the order of the file.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|fault| fault.line);
        self.found
    }
}
