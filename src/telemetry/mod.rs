//! What the gateway tells of its work: metrics and the access log, both from the same records.

pub mod access_log;
pub mod metrics;

use access_log::AccessLog;
use metrics::Metrics;

use crate::outcome::Record;

/// Where records go.
#[derive(Debug)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    /// The access log; none where it is off.
    pub access_log: Option<AccessLog>,
}

impl Telemetry {
    /// Counts and logs a request that has ended.
    pub fn record(&self, record: &Record<'_>) {
        self.metrics.record(record);
        if let Some(log) = &self.access_log {
            log.write(record);
        }
    }
}
