//! Exact while there are few, within the stated error beyond that.

use super::*;
use crate::enumeration::{sketch::RECENT, window::FEW};

#[test]
fn few_values_are_counted_exactly() {
    for seed in 0..50 {
        let (caller, mut seeded) = (Caller::new(FEW as u32), Seeded(seed));
        for _ in 0..FEW {
            assert!(caller.ask(seeded.value()).is_ok());
        }
        assert_eq!(caller.ask(seeded.value()).unwrap_err().count, FEW as u32 + 1);
    }
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "counts to a thousand")]
fn many_values_are_counted_within_the_stated_error() {
    const TRIALS: u64 = 150;
    let mut within = 0;
    for count in [100_u32, 200, 500, 1000] {
        let mut errors = Vec::new();
        for seed in 0..TRIALS {
            let (mut window, mut seeded) = (Window::at(0), Seeded(seed << 32 | u64::from(count)));
            for number in 0..count {
                window.ask(seeded.value(), number * entry::STEPS / count, u32::MAX, false);
            }
            errors.push((f64::from(window.last_count()) - f64::from(count)) / f64::from(count));
        }
        let standard = (errors.iter().map(|error| error * error).sum::<f64>() / TRIALS as f64).sqrt();
        let mean = errors.iter().sum::<f64>() / TRIALS as f64;
        within += errors.iter().filter(|error| error.abs() <= 0.11).count();
        assert!(standard < 0.038, "{count}: standard error {standard}");
        assert!(mean.abs() < 0.01, "{count}: bias {mean}");
    }
    assert!(within >= 4 * TRIALS as usize - 5, "{within} of {} within 11 %", 4 * TRIALS);
}

#[test]
fn misses_weigh_more_among_many_too() {
    let (mut window, mut seeded) = (Window::at(0), Seeded(7));
    for _ in 0..200 {
        let value = seeded.value();
        window.ask(value, 0, u32::MAX, false);
        for _ in 0..2 {
            window.missed(value, 0);
        }
    }
    let count = window.last_count();
    assert!((534..=666).contains(&count), "{count}");
}

#[test]
fn among_many_the_latest_may_be_asked_for_again() {
    let (caller, mut seeded) = (Caller::new(300), Seeded(3));
    let mut passed = Vec::new();
    loop {
        let value = seeded.value();
        if caller.ask(value).is_err() {
            break;
        }
        passed.push(value);
    }
    assert!((267..=333).contains(&passed.len()), "{}", passed.len());
    for _ in 0..3 {
        for value in passed.iter().rev().take(RECENT) {
            assert!(caller.ask(*value).is_ok());
        }
    }
    // Any other is refused, whether its cell was hit already or not: else a walk would go on through those.
    assert!((0..500).all(|_| caller.ask(seeded.value()).is_err()));
}

#[test]
fn many_become_few_again() {
    let (mut window, mut seeded) = (Window::at(0), Seeded(9));
    for _ in 0..300 {
        window.ask(seeded.value(), 0, u32::MAX, false);
    }
    for _ in 0..40 {
        window.ask(seeded.value(), 5, u32::MAX, false);
    }
    window.ask(seeded.value(), entry::STEPS, u32::MAX, false);
    let count = window.last_count();
    assert!((28..=42).contains(&count), "{count}: some of the last hit cells that others had hit");
    window.ask(seeded.value(), 3 * entry::STEPS, u32::MAX, false);
    assert_eq!(window.last_count(), 1);
}
