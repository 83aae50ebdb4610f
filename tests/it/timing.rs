//! How long a refusal takes does not tell whether it was the user that is unknown, or the key that is wrong.

use std::time::Instant;

use crate::harness::{API_KEY, Call, Gateway, Upstream, Wire, key_line, secret_key};

/// Each case is tried so often, in rounds, and in each round by two series that run side by side.
const CALLS: usize = 10_000;
const ROUNDS: usize = 20;
const PER_SERIES: usize = CALLS / ROUNDS / 2;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One round: the four series' calls take turns, none always after the same other. Gives each one's median, in µs.
fn round(wire: &mut Wire, calls: &[Vec<u8>; 2]) -> [f64; 4] {
    let mut times: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::with_capacity(PER_SERIES));
    for turn in 0..PER_SERIES {
        for place in 0..4 {
            // Four orders, each series in each place once.
            let series = place ^ (turn % 4);
            let start = Instant::now();
            wire.send(&calls[series % 2]);
            let answer = wire.answer();
            times[series].push(start.elapsed().as_secs_f64() * 1e6);
            assert_eq!(answer.status(), 401);
        }
    }
    times.map(|times| median(times.into_iter()))
}

#[test]
fn an_unknown_user_takes_as_long_to_refuse_as_a_wrong_key() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("access", "unlisted_users = \"reject\"")
        // Both are counted, and neither is shut out by the end.
        .set("clients", "wrong_keys = { allowed = 1000000, per = \"1h\", block = \"1h\" }")
        .append(&format!("[[users]]\nname = \"listed\"\n{}", key_line(API_KEY)))
        .start();
    let wrong = secret_key("-16-wrong-bytes-");
    let calls = ["nobody", "listed"].map(|user| Call::unlock().user(user).set("api-key", &wrong).bytes());
    let mut wire = gateway.connect();
    round(&mut wire, &calls);

    // What comes between calls on a busy machine makes every round differ, also a series from its twin, but now
    // to this side and now to that. A difference between the cases is to the same side in most rounds.
    let rounds: Vec<[f64; 4]> = (0..ROUNDS).map(|_| round(&mut wire, &calls)).collect();
    let between = median(
        rounds.iter().map(|[unknown, wrong, unknown2, wrong2]| (unknown + unknown2 - wrong - wrong2) / 2.0),
    );
    let within =
        median(rounds.iter().map(|[unknown, wrong, unknown2, wrong2]| {
            (unknown - unknown2).abs().max((wrong - wrong2).abs())
        }));
    assert!(
        between.abs() <= within,
        "the cases differ by {between} µs, two runs of one case by {within} µs: {rounds:?}"
    );
    assert!(upstream.bytes().is_empty());
}
