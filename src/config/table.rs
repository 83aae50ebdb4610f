//! A TOML table read key by key, every fault noted and none fatal.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::fault::Faults;

/// One table of the file; keys that nothing takes are unknown.
pub(super) struct Table<'a> {
    path: String,
    span: Option<Range<usize>>,
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
}

struct Entry<'a> {
    key: String,
    key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
    taken: bool,
}

/// What is wrong at one place in a value.
pub(super) struct Flaw {
    span: Range<usize>,
    reason: String,
    /// None: to write what was expected.
    mend: Option<String>,
}

impl Flaw {
    pub(super) fn at(span: Range<usize>, reason: impl Into<String>) -> Self {
        Self { span, reason: reason.into(), mend: None }
    }
}

/// A value that a key can hold.
pub(super) trait Value: Sized {
    /// What is expected, with an example: completes "expected …".
    const EXPECTED: &'static str;

    /// Reads the value, or tells what is wrong with it if there is more to say than what was expected.
    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>>;

    /// Reads the value, or tells of each place in it what is wrong there.
    fn read_all(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Flaw>> {
        Self::read(value.get_ref()).map_err(|reason| {
            let reason = reason.unwrap_or_else(|| format!("{} cannot stand here", kind(value.get_ref())));
            vec![Flaw::at(value.span(), reason)]
        })
    }
}

impl<'a> Table<'a> {
    pub(super) fn of(path: impl Into<String>, span: Option<Range<usize>>, table: &'a DeTable<'a>) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: key.span(),
                value,
                taken: false,
            })
            .collect();
        Self { path: path.into(), span, entries, known: Vec::new() }
    }

    /// A table that is absent: every key has its default.
    pub(super) fn absent(path: impl Into<String>) -> Self {
        Self { path: path.into(), span: None, entries: Vec::new(), known: Vec::new() }
    }

    /// The dotted name of a key in this table.
    pub(super) fn place(&self, key: &str) -> String {
        let key = if key.is_empty() { "\"\"" } else { key };
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// Where the key's value stands, or else the table.
    pub(super) fn span(&self, key: &str) -> Option<Range<usize>> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| entry.value.span())
            .or_else(|| self.span.clone())
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.taken = true;
        Some(entry.value)
    }

    /// The key's value; `None` where it is absent or faulty.
    pub(super) fn optional<T: Value>(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<T> {
        let value = self.take(key)?;
        faults.stands(self.place(key), value.span());
        match T::read_all(value) {
            Ok(value) => Some(value),
            Err(flaws) => {
                for Flaw { span, reason, mend } in flaws {
                    let mend = mend.unwrap_or_else(|| format!("write {}", T::EXPECTED));
                    faults.add(Some(span), self.place(key), reason, mend);
                }
                None
            }
        }
    }

    /// The key's value, or `default`.
    pub(super) fn or<T: Value>(&mut self, key: &'static str, default: T, faults: &mut Faults<'_>) -> T {
        self.optional(key, faults).unwrap_or(default)
    }

    /// The key's value, whose absence is a fault.
    pub(super) fn required<T: Value>(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            let mend = format!("add it: {}", T::EXPECTED);
            faults.add(self.span.clone(), self.place(key), "is required and absent", mend);
            return None;
        }
        self.optional(key, faults)
    }

    /// The key's table; `None` where it is absent or no table.
    pub(super) fn table(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Self> {
        let place = self.place(key);
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::of(place, Some(value.span()), table)),
            other @ (DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)) => {
                let reason = format!("{} cannot stand here", kind(other));
                faults.add(Some(value.span()), place.clone(), reason, format!("write a table: [{place}]"));
                None
            }
        }
    }

    /// The key's tables, in order.
    pub(super) fn tables(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<Self> {
        let place = self.place(key);
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        faults.stands(place.clone(), value.span());
        let tables: Option<Vec<_>> = value.get_ref().as_array().and_then(|array| {
            array
                .iter()
                .map(|item| Some(Self::of(place.clone(), Some(item.span()), item.get_ref().as_table()?)))
                .collect()
        });
        tables.unwrap_or_else(|| {
            let mend = format!("write a table for each: [[{place}]]");
            faults.add(Some(value.span()), place, "is no list of tables", mend);
            Vec::new()
        })
    }

    /// Says which of several tables of one name this is.
    pub(super) fn call(&mut self, which: impl std::fmt::Display) {
        self.path = format!("{}[{which}]", self.path);
    }

    /// The text of a key that is still to be read, where it is there.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.entries.iter().find(|entry| entry.key == key)?.value.get_ref().as_str()
    }

    /// Ends the reading: what has not been asked for is unknown.
    pub(super) fn close(self, faults: &mut Faults<'_>) {
        for entry in self.entries.iter().filter(|entry| !entry.taken) {
            let meant = nearest(&entry.key, &self.known);
            let meant = meant.map(|known| format!("did you mean {known}? ")).unwrap_or_default();
            let mend = format!("{meant}known here: {}", self.known.join(", "));
            faults.add(Some(entry.key_span.clone()), self.place(&entry.key), "is an unknown key", mend);
        }
    }
}

/// The known key that an unknown one is a misspelling of: a letter in three may be another one.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = key.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::osa_distance(&folded, known);
    let (distance, known) = known.iter().map(|known| (distance(known), *known)).min()?;
    let is_plural = || known.strip_suffix('s') == Some(&folded) || folded.strip_suffix('s') == Some(known);
    (distance * 3 <= known.len() || is_plural()).then_some(known)
}

impl Value for String {
    const EXPECTED: &'static str = "text in quotes";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        value.as_str().map(Into::into).ok_or(None)
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        value.as_bool().ok_or(None)
    }
}

impl<T: Value> Value for Vec<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let items =
            value.as_array().ok_or_else(|| Some(format!("{} stands where a list belongs", kind(value))))?;
        items.iter().map(|item| T::read(item.get_ref())).collect()
    }

    fn read_all(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Flaw>> {
        let Some(items) = value.get_ref().as_array() else {
            let reason = format!("{} stands where a list belongs", kind(value.get_ref()));
            let mend = format!("put it in brackets: […], each entry {}", T::EXPECTED);
            return Err(vec![Flaw { span: value.span(), reason, mend: Some(mend) }]);
        };
        let mut values = Self::with_capacity(items.len());
        let mut flaws = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match T::read_all(item) {
                Ok(value) => values.push(value),
                Err(found) => flaws.extend(found.into_iter().map(|flaw| {
                    let reason = format!("entry {}: {}", index + 1, flaw.reason);
                    Flaw { reason, ..flaw }
                })),
            }
        }
        if flaws.is_empty() { Ok(values) } else { Err(flaws) }
    }
}

/// What a value is, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_key_is_taken_for_the_one_it_is_a_misspelling_of_and_for_no_other() {
        let known = ["requests", "per", "burst", "max_users", "redis"];
        for (key, meant) in [
            ("brust", Some("burst")),
            ("Requests", Some("requests")),
            ("request", Some("requests")),
            ("max-users", Some("max_users")),
            ("pre", Some("per")),
            ("interval", None),
            ("rate", None),
            ("", None),
        ] {
            assert_eq!(nearest(key, &known), meant, "{key}");
        }
        assert_eq!(nearest("key", &[]), None);
    }
}
