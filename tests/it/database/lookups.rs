//! Lookups on the border between what passes and what does not, and the rows that each could be taken for.

use super::asking::{Row, encoded};
use crate::harness::Random;

const NAMES: [&str; 3] = ["customer_id", "subscription_id", "orderid"];

/// What a number column passes over before a number, and what it does not.
const BEFORE: [&str; 16] = [
    "0",
    "00",
    "000000000",
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "+",
    "-",
    "-0",
    "0x",
    "\u{a0}",
    "\u{661}",
    "_",
    "'",
];

/// Behind a number: what a number column leaves, or reads on.
const BEHIND: [&str; 28] = [
    "abc", "e0", "E0", "e+0", "e-0", ".0", ".", ".00", ".000e0", "-2", "_2", ":2", " ", "  ", "\n", "\0",
    "\0x", "x", "'", "%", ",0", " or 1=1", "\u{661}", "\u{ff11}", "e", "d", ";", "\u{200b}",
];

/// Letters, and others that a text column takes for them or passes over.
const LOOKALIKES: [(&str, &str); 8] = [
    ("a", "á"),
    ("e", "é"),
    ("n", "ñ"),
    ("o", "\u{f6}"),
    ("s", "\u{17f}"),
    ("A", "\u{ff21}"),
    ("z", "z\u{1}"),
    ("b", "b\u{200b}"),
];

const IN_WORDS: &str = "0123456789abenosxyzABENOSXYZ_.:-";

/// A lookup, and the rows that are there when it is asked for.
pub(super) struct Generated {
    /// The body that asks for it.
    pub(super) body: String,
    /// What it asks for.
    pub(super) value: String,
    /// The row that it is meant to find, if it passes, and others that are near.
    pub(super) rows: Vec<Row>,
}

/// An endless source of lookups, the same for the same seed.
pub(super) struct Lookups {
    random: Random,
}

impl Lookups {
    pub(super) fn from_seed(seed: u64) -> Self {
        Self { random: Random(seed) }
    }

    fn number(&mut self) -> u64 {
        let digits = if self.random.one_in(2) { 1 + self.random.below(6) } else { 1 + self.random.below(18) };
        let first = 1 + self.random.below(9) as u64;
        (1..digits).fold(first, |number, _| number * 10 + self.random.below(10) as u64)
    }

    fn word(&mut self) -> String {
        let letters: Vec<char> = IN_WORDS.chars().collect();
        let letter = |from: &[char], random: &mut Random| from[random.below(from.len())];
        let length =
            if self.random.one_in(10) { 1 + self.random.below(64) } else { 1 + self.random.below(10) };
        let mut word = String::from(letter(&letters[10..28], &mut self.random));
        word.extend((1..length).map(|_| letter(&letters, &mut self.random)));
        word
    }

    /// A number, or how else it might be spelt.
    fn of_number(&mut self, number: u64) -> String {
        let text = number.to_string();
        match self.random.below(10) {
            0..5 => text,
            5 => [self.random.pick(&BEFORE), &text].concat(),
            6..8 => [text.as_str(), self.random.pick(&BEHIND)].concat(),
            8 => [self.random.pick(&BEFORE), &text, self.random.pick(&BEHIND)].concat(),
            _ => {
                // The point elsewhere, and a power of ten that puts it back.
                let at = 1 + self.random.below(text.len());
                format!("{}.{}e{}", &text[..at], &text[at..], text.len() - at)
            }
        }
    }

    /// A word, or how else it might be spelt.
    fn of_word(&mut self, word: &str) -> String {
        match self.random.below(10) {
            0..6 => word.to_owned(),
            6 => word.to_ascii_uppercase(),
            7 => format!("{word}{}", self.random.pick(&[" ", "  ", "\t", "\0", "\n"])),
            _ => {
                let (letter, other) = LOOKALIKES[self.random.below(LOOKALIKES.len())];
                word.replace(letter, other)
            }
        }
    }

    fn rows_of_number(number: u64) -> Vec<Row> {
        let near = [number, number + 1, number - 1, number / 10, number.saturating_mul(10)];
        let mut rows = Vec::new();
        for near in near {
            if i32::try_from(near).is_ok() {
                rows.push(("by_int", near.to_string()));
            }
            if near < 10_u64.pow(18) {
                rows.extend(["by_bigint", "by_decimal", "by_varchar"].map(|table| (table, near.to_string())));
                rows.push(("by_decimal", format!("{near}.50")));
            }
        }
        let in_text =
            [format!("0{number}"), format!("{number}.0"), format!("{number}abc"), format!(" {number}")];
        rows.extend(in_text.map(|id| ("by_varchar", id)));
        rows
    }
}

impl Iterator for Lookups {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        let name = self.random.pick(&NAMES);
        let (value, rows) = if self.random.one_in(3) {
            let word = self.word();
            let rows = [word.clone(), format!("{word}x"), format!("x{word}")].map(|id| ("by_varchar", id));
            (self.of_word(&word), rows.to_vec())
        } else {
            let number = self.number();
            (self.of_number(number), Self::rows_of_number(number))
        };
        Some(Generated { body: format!("{name}={}", encoded(&value)), value, rows })
    }
}
