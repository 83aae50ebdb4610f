//! Values of calls under way, which may be taken back yet.

use super::Value;

/// The values, each with what stands for its user, once for each call.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Vec<(u64, Value)>);

impl Unsettled {
    /// Whether a call of that user for that value is under way.
    pub(super) fn has(&self, user: u64, value: Value) -> bool {
        self.0.contains(&(user, value))
    }

    /// Takes note of a call.
    pub(super) fn add(&mut self, user: u64, value: Value) {
        self.0.push((user, value));
    }

    /// Has a value count for good, whatever becomes of other calls for it.
    pub(super) fn settle(&mut self, user: u64, value: Value) {
        self.0.retain(|call| *call != (user, value));
    }

    /// Takes back a call; tells whether its value is to count no more: no call for it counts, and no other is under way.
    pub(super) fn take_back(&mut self, user: u64, value: Value) -> bool {
        let Some(own) = self.0.iter().position(|call| *call == (user, value)) else { return false };
        self.0.swap_remove(own);
        !self.has(user, value)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
