//! A gateway for one privileged call.
pub mod php;
