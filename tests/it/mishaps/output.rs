//! Whoever reads the gateway's output is gone, asleep, or out of space.
