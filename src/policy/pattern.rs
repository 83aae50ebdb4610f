//! What a lookup value must be, whole, once decoded: a pattern for each lookup key.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use super::LookupKey;
use crate::operation::UNLOCK;

/// A regular expression that must match the whole of a value.
///
/// It is about bytes, so that `\d` and `\w` are ASCII's: PHP and a database take no other digits for digits.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// A pattern for each lookup key.
#[derive(Debug, Clone)]
pub struct Patterns([Pattern; LookupKey::ALL.len()]);

/// Values that a number column takes for the number of another, beside numbers behind zeros: it reads as far as a number
/// goes, passing over white space before it, and takes what is no number for 0.
const MISREAD: [&str; 18] = [
    "0",
    "-0",
    "191abc",
    "191e0",
    "191.0",
    "191.",
    "191-2",
    "191_2",
    "191:2",
    "191 ",
    " 191",
    "+191",
    ".191e3",
    "0x191",
    "2026-11-27",
    "191e4567-e89b-12d3-a456-426614174000",
    "191e4567e89b12d3a456426614174000",
    "191\u{661}",
];

/// A number above the largest BIGINT, at which a column stops, as an integer of PHP's does.
const LARGE: &str = "9223372036854775808";

/// The longest number behind zeros that is tried.
const WIDEST: usize = 20;

/// The patterns that hold unless the configuration has others; compiled once.
static DEFAULT: LazyLock<Patterns> = LazyLock::new(|| {
    Patterns(
        UNLOCK.patterns.map(|pattern| Pattern::new(pattern).expect("the default is a regular expression")),
    )
});

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Those of its syntax, or that it is too large once compiled.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        let compile = |pattern: &str| RegexBuilder::new(pattern).unicode(false).build();
        // Compiled alone first: `a)|(b` must not pass for want of the brackets around it.
        compile(pattern)?;
        compile(&format!(r"\A(?:{pattern})\z")).map(Self)
    }

    /// Whether a value is what it must be. An empty one never is.
    pub fn matches(&self, value: &[u8]) -> bool {
        !value.is_empty() && self.0.is_match(value)
    }

    /// Values that it lets pass and that a number column would take for another.
    pub fn misread(&self) -> Vec<String> {
        let behind_zeros = (4..=WIDEST).map(|width| format!("{:0>width$}", 191));
        let values = MISREAD.into_iter().map(str::to_owned).chain(behind_zeros).chain([LARGE.to_owned()]);
        values.filter(|value| self.matches(value.as_bytes())).collect()
    }

    /// Whether it lets nothing pass, being empty.
    pub fn is_empty(&self) -> bool {
        self.as_str() == r"\A(?:)\z"
    }

    /// Whether it lets anything pass that can be written in a line, however unlike an id.
    pub fn is_open(&self) -> bool {
        ["'", "a b", "../x", "<i>", "1;2", "%00"].iter().all(|value| self.matches(value.as_bytes()))
    }

    /// Its text, with what makes it match the whole.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Default for Patterns {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl From<[Pattern; LookupKey::ALL.len()]> for Patterns {
    fn from(patterns: [Pattern; LookupKey::ALL.len()]) -> Self {
        Self(patterns)
    }
}

impl Patterns {
    /// What the value of a key must be.
    pub const fn of(&self, key: LookupKey) -> &Pattern {
        &self.0[key as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_let_no_number_pass_that_goes_on_or_begins_otherwise() {
        let patterns = Patterns::default();
        let [number, word, order] = LookupKey::ALL.map(|key| patterns.of(key));
        for value in ["1", "191", "999999999999999999"] {
            assert!([number, word, order].iter().all(|pattern| pattern.matches(value.as_bytes())), "{value}");
        }
        for value in ["a", "Z", "e5", "TX-2026:11.a_b", &"a".repeat(64)] {
            assert!(!number.matches(value.as_bytes()), "{value}");
            assert!(word.matches(value.as_bytes()) && order.matches(value.as_bytes()), "{value}");
        }
        let long = "a".repeat(65);
        for value in ["", "-a", "_a", "a b", "a\n", "a\0", "é", "aé", "1234567890123456789", &long] {
            let is_refused = |pattern: &Pattern| !pattern.matches(value.as_bytes());
            assert!(is_refused(number) && is_refused(word) && is_refused(order), "{value}");
        }
        assert!([number, word, order].iter().all(|pattern| pattern.misread().is_empty()));
    }

    #[test]
    fn digits_and_letters_of_a_pattern_are_asciis() {
        for (pattern, value, matches) in [
            (r"\d{1,20}", "191", true),
            (r"\d{1,20}", "١٩١", false),
            (r"\w+", "aZ_9", true),
            (r"\w+", "é", false),
            (r"[[:alpha:]]+", "é", false),
            (r"(?i)k", "\u{212a}", false),
            ("é", "é", true),
            (r"(?u)\p{Greek}", "α", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(value.as_bytes()),
                matches,
                "{pattern} {value}"
            );
        }
        assert!(Pattern::new(r"\p{Greek}").is_err(), "it would have to be said");
    }

    #[test]
    fn what_a_number_column_takes_for_another_is_found() {
        for (pattern, finds) in [
            ("[1-9][0-9]{0,17}", None),
            ("[A-Za-z][0-9A-Za-z-]*", None),
            ("(?:TX)-[0-9]{1,9}", None),
            ("[0-9]{1,20}", Some("0191")),
            ("[0-9]{9}", Some("000000191")),
            ("[1-9][0-9]{0,18}", Some("9223372036854775808")),
            ("[0-9A-Za-z_.:-]{1,64}", Some("191e0")),
            ("[1-9][0-9]*(?:[.][0-9]+)?", Some("191.0")),
            ("[1-9][0-9]*[a-z]*", Some("191abc")),
            ("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", Some("191e4567-e89b-12d3-a456-426614174000")),
            ("[0-9a-f]{32}", Some("191e4567e89b12d3a456426614174000")),
            (r"(?u)\d+", Some("191\u{661}")),
            ("(?s).*", Some("191 ")),
        ] {
            let found = Pattern::new(pattern).unwrap().misread();
            match finds {
                Some(value) => assert!(found.iter().any(|found| found == value), "{pattern}: {found:?}"),
                None => assert!(found.is_empty(), "{pattern}: {found:?}"),
            }
        }
    }
}
