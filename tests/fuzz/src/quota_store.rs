//! What a configuration needs of Redis: its address.

#[path = "../../../src/quota_store/address.rs"]
mod address;

pub use address::Address;
