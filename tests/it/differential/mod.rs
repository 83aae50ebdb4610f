//! What a real PHP reads in a body is what the gateway judged.
//!
//! `N4N_SEED` and `N4N_BODIES` ask for other bodies and for more of them.

mod bodies;
mod judgement;
mod php;
mod wire;

use std::collections::BTreeMap;
use std::thread;

use n4n_gateway::php::{MAX_INPUT_VARS, pieces};

use crate::harness::{seed, setting};
use bodies::Bodies;
use judgement::{Judge, smallest};

/// Where the bodies begin unless N4N_SEED says otherwise.
const SEED: u64 = 191;

/// How many bodies are judged by both sides.
const BODIES: usize = 240_000;

/// How many are asked about at once.
const BATCH: usize = 1000;

/// How many ways of asking go on side by side.
const WORKERS: usize = 2;

#[test]
fn every_body_reads_in_php_as_it_was_judged() {
    let seed = seed(SEED);
    let batches = setting("N4N_BODIES", BODIES).div_ceil(BATCH * WORKERS);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let compare = |worker: u64| scope.spawn(move || compare(seed ^ worker << 32, batches));
        let workers: Vec<_> = (0..WORKERS as u64).map(compare).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for tally in tallies {
        println!("{tally:?}");
        tally.assert_is_weighted_towards_the_border();
    }
}

/// Has so many batches judged by both sides; panics at the first body that shows a difference.
fn compare(seed: u64, batches: usize) -> Tally {
    let mut judge = Judge::new();
    let mut bodies = Bodies::from_seed(seed);
    let mut tally = Tally::default();
    for _ in 0..batches {
        let batch: Vec<Vec<u8>> = bodies.by_ref().take(BATCH).collect();
        for (body, fault) in batch.iter().zip(judge.faults(&batch)) {
            if let Some(fault) = fault {
                let (body, fault) = smallest(body, fault, |body| judge.fault(body));
                panic!("{fault}, in the body \"{}\"", body.escape_ascii());
            }
            tally.add(body, judge.verdict(body));
        }
    }
    tally
}

/// What the bodies were like: a generator that has lost its way would prove nothing.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    /// Those with more variables than PHP reads.
    crowded: usize,
    verdicts: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn add(&mut self, body: &[u8], verdict: &'static str) {
        self.all += 1;
        self.crowded += usize::from(pieces(body).nth(MAX_INPUT_VARS).is_some());
        *self.verdicts.entry(verdict).or_default() += 1;
    }

    fn assert_is_weighted_towards_the_border(&self) {
        for (verdict, percent) in [
            ("ok", 15),
            ("body_malformed", 5),
            ("parameter_disguised", 8),
            ("parameter_unknown", 10),
            ("lookup_missing", 1),
            ("lookup_ambiguous", 5),
            ("lookup_invalid", 5),
        ] {
            let count = self.verdicts.get(verdict).copied().unwrap_or_default();
            assert!(count * 100 >= self.all * percent, "{verdict} is rare: {self:?}");
        }
        assert_eq!(self.verdicts.len(), 7, "{self:?}");
        assert!(self.crowded * 10_000 >= self.all, "{self:?}");
    }
}
