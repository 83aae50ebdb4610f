//! A gateway for one privileged call.
pub mod php;
pub mod policy;
pub mod quota;
pub mod reason;
pub mod stand_in;
