//! A gateway for one privileged call.
pub mod php;
pub mod stand_in;
