//! What a configuration needs of Redis: its address.

#[path = "../../../src/quota_store/address.rs"]
mod address;
#[path = "../../../src/quota_store/fallback.rs"]
mod fallback;

pub use address::Address;
pub use fallback::WhenRedisFails;
