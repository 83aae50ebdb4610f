//! What is done about quotas while Redis cannot be reached.

/// What is done about quotas while Redis fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRedisFails {
    /// They are counted in this process.
    Local,
    /// Users with a quota are refused.
    Reject,
    /// They are not counted.
    Forward,
}
