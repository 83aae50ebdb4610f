//! How metrics are made: their prefix, their registration, and the one home of label strings.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::reading::BUCKETS;

/// Makes metrics and registers them under the gateway's prefix.
pub(super) struct Maker<'a>(pub(super) &'a Registry);

pub(super) const DEFINITION: &str = "metric names and labels are constants, valid and used once";

pub(super) fn register(registry: &Registry, collector: impl prometheus::core::Collector + 'static) {
    registry.register(Box::new(collector)).expect(DEFINITION);
}

impl Maker<'_> {
    pub(super) fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("n4n_gateway")
    }

    fn add<T: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<T>) -> T {
        let metric = metric.expect(DEFINITION);
        register(self.0, metric.clone());
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(Self::opts(name, help)))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Self::opts(name, help)))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Self::opts(name, help), labels))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts { common_opts: Self::opts(name, help), buckets: BUCKETS.to_vec() };
        self.add(HistogramVec::new(opts, labels))
    }
}

#[expect(clippy::disallowed_methods, reason = "the only home of label strings")]
pub(super) fn counter(counters: &IntCounterVec, labels: &[&str]) -> IntCounter {
    counters.with_label_values(labels)
}

#[expect(clippy::disallowed_methods, reason = "the only home of label strings")]
pub(super) fn gauge(gauges: &IntGaugeVec, labels: &[&str]) -> IntGauge {
    gauges.with_label_values(labels)
}

#[expect(clippy::disallowed_methods, reason = "the only home of label strings")]
pub(super) fn histogram(histograms: &HistogramVec, labels: &[&str]) -> Histogram {
    histograms.with_label_values(labels)
}
