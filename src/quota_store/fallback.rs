//! What takes the place of the shared accounts while they cannot be asked.

/// What is done about quotas while Redis fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRedisFails {
    /// They are counted in this process.
    Local,
    /// Whoever has one is refused.
    Reject,
    /// They are not counted.
    Forward,
}
