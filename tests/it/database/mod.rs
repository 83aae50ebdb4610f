//! What a real database finds is what the trail names: lookups that pass find their own row and no other, and spellings by which
//! a database would find another's are refused.
//!
//! `N4N_SEED` and `N4N_LOOKUPS` ask for other lookups and for more of them: `N4N_LOOKUPS=200000` takes some minutes.

mod asking;
mod lookups;

use std::collections::BTreeMap;

use n4n_gateway::config::Settings;
use n4n_gateway::policy::{Lookup, LookupKey, Policy};
use serde_json::Value;

use crate::harness::{Call, Gateway, MariaDb, Php, seed, setting};
use asking::{Asking, Found};
use lookups::{Generated, Lookups};

/// Where the lookups begin unless N4N_SEED says otherwise.
const SEED: u64 = 191;

/// How many lookups that pass are tried, and how many of those go through all of the gateway and PHP's server.
const LOOKUPS: usize = 12_000;
const CALLS: usize = 150;

/// How many are asked about at once.
const BATCH: usize = 2000;

fn policy(more: &str) -> Policy {
    let least = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]";
    Settings::parse(&format!("{least}\n{more}"), std::path::Path::new(".")).unwrap().policy
}

/// What the lookups were like: a generator that has lost its way would prove nothing.
#[derive(Debug, Default)]
struct Tally {
    numbers: usize,
    words: usize,
    refused: usize,
    /// Of those, the ones by which some column finds a row, which is then another's.
    refused_and_found: usize,
    /// By table, how often one did.
    found_by: BTreeMap<String, usize>,
}

impl Tally {
    fn passed(&self) -> usize {
        self.numbers + self.words
    }

    fn add(&mut self, lookup: Option<&Lookup>, found: &Found) {
        match lookup {
            Some(lookup) if is_number(&lookup.value) => self.numbers += 1,
            Some(_) => self.words += 1,
            None => {
                self.refused += 1;
                let tables = found.tables_with_rows();
                self.refused_and_found += usize::from(!tables.is_empty());
                for table in tables {
                    *self.found_by.entry(table).or_default() += 1;
                }
            }
        }
    }

    fn assert_is_weighted_towards_the_border(&self) {
        println!("{self:?}");
        assert!(self.numbers * 3 >= self.passed() && self.words * 8 >= self.passed(), "{self:?}");
        assert!(self.refused * 3 >= self.passed() && self.refused_and_found * 2 >= self.refused, "{self:?}");
        for table in asking::TABLES {
            assert!(
                self.found_by.get(table).is_some_and(|&count| count * 20 >= self.refused),
                "{table}: {self:?}"
            );
        }
    }
}

fn is_number(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is wrong with what a lookup that passes finds, if anything.
fn fault(value: &str, found: &Found) -> Option<String> {
    let wanted = if is_number(value) {
        let fits = value.parse::<i32>().is_ok();
        [
            if fits { vec![value.to_owned()] } else { vec![] },
            vec![value.into()],
            vec![format!("{value}.00")],
            vec![value.into()],
        ]
    } else {
        // A word is 0 in a column of numbers, whatever its pattern: README says how to refuse words.
        [vec!["0".to_owned()], vec!["0".into()], vec!["0.00".into()], vec![value.into()]]
    };
    // To a text column words in another case are the same, and it has one of them.
    let is_wanted = |(found, wanted): (&Vec<String>, &Vec<String>)| {
        found.len() == wanted.len()
            && found.iter().zip(wanted).all(|(found, wanted)| found.eq_ignore_ascii_case(wanted))
    };
    let is_right = found.rows.iter().all(|rows| rows.iter().zip(&wanted).all(is_wanted));
    let as_integer = if is_number(value) { value } else { "0" };
    (!is_right || found.as_integer != as_integer).then(|| format!("{value} finds {found:?}, not {wanted:?}"))
}

/// Judged by the library, read by PHP's `parse_str`, and looked up by PDO in every table, in bulk.
#[test]
fn what_passes_finds_its_own_row_and_what_would_find_anothers_is_refused() {
    let mut lookups = Lookups::from_seed(seed(SEED));
    let wanted = setting("N4N_LOOKUPS", LOOKUPS);
    let (default, numbers) = (policy(""), policy("policy.value_pattern = '[1-9][0-9]{0,17}'"));
    let database = MariaDb::start();
    let mut asking = Asking::start(&database);
    let mut tally = Tally::default();
    while tally.passed() < wanted {
        let batch: Vec<Generated> = lookups.by_ref().take(BATCH).collect();
        let judged: Vec<_> = batch
            .iter()
            .map(|generated| Lookup::of(generated.body.as_bytes(), &default.patterns).ok())
            .collect();
        let bodies = batch.iter().zip(&judged).map(|(generated, lookup)| match lookup {
            Some(lookup) => String::from_utf8(lookup.canonical_body().to_vec()).unwrap(),
            None => generated.body.clone(),
        });
        let rows = batch.iter().flat_map(|generated| &generated.rows);
        let found = asking.ask(rows, bodies);
        for ((generated, lookup), found) in batch.iter().zip(&judged).zip(&found) {
            if let Some(lookup) = lookup {
                assert_eq!(lookup.value, generated.value, "what is looked up is what was sent");
                assert_eq!(fault(&lookup.value, found), None, "{}", generated.body);
                let is_word = !is_number(&lookup.value);
                assert!(!is_word || lookup.key != LookupKey::CustomerId, "{}", generated.body);
                let passes_as_number = Lookup::of(generated.body.as_bytes(), &numbers.patterns).is_ok();
                assert_eq!(passes_as_number, !is_word, "{}", generated.body);
            }
            tally.add(lookup.as_ref(), found);
        }
    }
    tally.assert_is_weighted_towards_the_border();
}

/// The same through the process, its trail and PHP's own server, call by call.
#[test]
fn the_row_that_an_answered_call_found_is_the_one_that_the_trail_names() {
    let database = MariaDb::start();
    let batch: Vec<Generated> = Lookups::from_seed(seed(SEED)).take(CALLS).collect();
    let mut asking = Asking::start(&database);
    let none = asking.ask(batch.iter().flat_map(|generated| &generated.rows), std::iter::empty());
    assert!(none.is_empty());
    let php = Php::serving("customers.php", &[("N4N_DB", database.socket())]);
    let gateway = Gateway::before(php.address()).set("log", "audit = \"audit.jsonl\"").start();
    let mut wire = gateway.connect();
    let mut answered = BTreeMap::new();
    let mut refused = 0;
    for generated in &batch {
        let answer = wire.call(&Call::unlock().body(&generated.body));
        match answer.status() {
            200 => drop(answered.insert(answer.one("x-request-id").to_owned(), Found::read(&answer.json()))),
            _ => {
                assert_eq!(answer.code(), "lookup_invalid", "{}", generated.body);
                refused += 1;
            }
        }
    }
    let trail = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    let records = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut recorded = 0;
    for intent in records.filter(|record| record["event"] == "intent") {
        let found = &answered[intent["request_id"].as_str().unwrap()];
        assert_eq!(fault(intent["value"].as_str().unwrap(), found), None, "{intent}");
        recorded += 1;
    }
    assert_eq!(recorded, answered.len());
    assert!(recorded * 4 >= CALLS && refused * 4 >= CALLS, "{recorded} recorded, {refused} refused");
}
