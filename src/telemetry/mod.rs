//! What operators see: metrics, the access log and the last refusals, made from the same records, and the operational log.

pub mod access_log;
pub mod enumeration_metrics;
mod event;
pub mod limited;
mod line;
pub mod log;
pub mod metrics;
pub mod reading;
pub mod refusals;
mod series;
mod sink;
pub mod suspects;
mod writer;
