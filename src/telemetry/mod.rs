//! What the gateway tells of its work: metrics and the access log, both from the same records.

pub mod access_log;
pub mod metrics;
