//! A snapshot of the metrics as numbers, so that two moments can be compared.

use prometheus::{Histogram, core::Metric};

use crate::{
    outcome::{Outcome, UnlockResult},
    reason::Reason,
};

/// The bounds of the buckets, in seconds: from an answer of the gateway's own to a slow one of n4n's.
pub(super) const BUCKETS: [f64; 17] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 30.0,
];

/// What was counted up to one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Calls that n4n answered.
    pub forwarded: u64,
    /// Calls that ended otherwise, by reason.
    pub ended: [u64; Reason::ALL.len()],
    /// Calls that observe mode let pass, by the reason that would have refused them.
    pub observed: [u64; Reason::ALL.len()],
    /// Forwarded calls, by what n4n made of them.
    pub unlocks: [u64; UnlockResult::LABELS.len()],
    /// How long calls took, by how they ended.
    pub durations: [Distribution; Outcome::LABELS.len()],
    /// How long n4n took.
    pub upstream_duration: Distribution,
}

impl Reading {
    /// All calls, by how they ended.
    pub fn outcomes(&self) -> [u64; Outcome::LABELS.len()] {
        let mut outcomes = [0; Outcome::LABELS.len()];
        outcomes[0] = self.forwarded;
        for (reason, count) in Reason::ALL.into_iter().zip(self.ended) {
            outcomes[Outcome::of(reason).index()] += count;
        }
        outcomes
    }
}

/// How many durations were at most as long as each bucket's bound, and, last, all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution([u64; BUCKETS.len() + 1]);

impl Distribution {
    /// What a histogram has observed.
    pub fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let histogram = metric.get_histogram();
        let mut counts = [histogram.get_sample_count(); BUCKETS.len() + 1];
        for (count, bucket) in counts.iter_mut().zip(histogram.get_bucket()) {
            *count = bucket.cumulative_count();
        }
        Self(counts)
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.0;
        for (count, before) in counts.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        Self(counts)
    }

    /// How many durations there are.
    pub const fn count(&self) -> u64 {
        self.0[BUCKETS.len()]
    }

    /// The duration that this share of all durations does not exceed, in seconds; within a bucket they are
    /// taken to be spread evenly, and over the last bound that bound is told. `None` where there are none.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        if self.count() == 0 {
            return None;
        }
        let rank = share * self.count() as f64;
        let Some(bucket) = BUCKETS.iter().zip(self.0).position(|(_, count)| count as f64 >= rank) else {
            return BUCKETS.last().copied();
        };
        let (floor, before) = match bucket {
            0 => (0.0, 0),
            _ => (BUCKETS[bucket - 1], self.0[bucket - 1]),
        };
        let within = (self.0[bucket] - before).max(1);
        Some(floor + (BUCKETS[bucket] - floor) * ((rank - before as f64) / within as f64))
    }
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;

    use super::*;

    fn observed(seconds: &[f64]) -> Distribution {
        let opts = HistogramOpts::new("a", "b").buckets(BUCKETS.to_vec());
        let histogram = Histogram::with_opts(opts).unwrap();
        for &duration in seconds {
            histogram.observe(duration);
        }
        Distribution::of(&histogram)
    }

    #[test]
    fn quantiles_lie_within_the_bucket_of_their_rank() {
        let fast_and_slow = observed(&[0.0003, 0.0003, 0.0003, 0.2]);
        let median = fast_and_slow.quantile(0.5).unwrap();
        assert!((0.00025..=0.0005).contains(&median), "{median}");
        let slowest = fast_and_slow.quantile(0.99).unwrap();
        assert!((0.1..=0.25).contains(&slowest), "{slowest}");
        assert_eq!(observed(&[0.04; 10]).quantile(1.0), Some(0.05));
        assert_eq!(observed(&[100.0]).quantile(0.5), Some(30.0), "over the last bound");
        assert_eq!(observed(&[]).quantile(0.5), None);
    }

    #[test]
    fn what_came_before_does_not_count() {
        let before = observed(&[10.0; 5]);
        let after = observed(&[10.0, 10.0, 10.0, 10.0, 10.0, 0.002]);
        let between = after.since(&before);
        assert_eq!(between.count(), 1);
        assert!(between.quantile(0.99).unwrap() <= 0.0025);
    }
}
