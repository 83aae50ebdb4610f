//! The metrics page, parsed so that a test can ask for a sum.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

/// A label and its value.
static PAIR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"([a-zA-Z_]+)="((?:[^"\\]|\\.)*)""#).unwrap());

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    series: Vec<(Series, f64)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

impl Metrics {
    pub(crate) fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("metric line {line:?}"));
            (Series::parse(series), value.parse().unwrap())
        });
        Self { series: series.collect() }
    }

    /// The sum over the series of that name that have at least those labels: `name{label="value"}`.
    pub(crate) fn sum(&self, selector: &str) -> f64 {
        let wanted = Series::parse(selector);
        self.series.iter().filter(|(series, _)| series.is_selected_by(&wanted)).map(|(_, value)| value).sum()
    }

    /// The series of that name that are not zero, as they are shown.
    pub(crate) fn named(&self, name: &str) -> Vec<String> {
        let named = self.series.iter().filter(|(series, value)| series.name == name && *value != 0.0);
        named.map(|(series, value)| format!("{:?} {value}", series.labels)).collect()
    }

    /// Whether any series has that name and those labels.
    pub(crate) fn has(&self, selector: &str) -> bool {
        let wanted = Series::parse(selector);
        self.series.iter().any(|(series, _)| series.is_selected_by(&wanted))
    }

    /// How many series there are.
    pub(crate) fn count(&self) -> usize {
        self.series.len()
    }
}

impl Series {
    fn parse(text: &str) -> Self {
        let Some((name, labels)) = text.split_once('{') else {
            return Self { name: text.to_owned(), labels: BTreeMap::new() };
        };
        let labels = PAIR.captures_iter(labels).map(|pair| (pair[1].to_owned(), pair[2].to_owned()));
        Self { name: name.to_owned(), labels: labels.collect() }
    }

    fn is_selected_by(&self, wanted: &Self) -> bool {
        self.name == wanted.name
            && wanted.labels.iter().all(|(label, value)| self.labels.get(label) == Some(value))
    }
}
