//! One value, and the steps by which time goes by for it.

use super::{MISS_WEIGHT, Value};

/// How many steps a value counts: that in which it was last asked for, and those that make up the period behind it.
pub(super) const STEPS: u32 = 15;

/// The place of a step among [`STEPS`], each of which one lies behind the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u8);

impl Slot {
    pub(super) const fn of(step: u32) -> Self {
        Self((step % STEPS) as u8)
    }

    /// How many steps ago it was, seen from the latest.
    pub(super) const fn age(self, latest: Self) -> u32 {
        (latest.0 as u32 + STEPS - self.0 as u32) % STEPS
    }
}

/// A value, whether n4n refused it, and when it was last asked for; in 32 bits, since there are millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    const MISSED: u32 = 1 << 4;
    const SLOT: u32 = 0xf;

    /// No value: its slot is none of [`STEPS`].
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) const fn new(value: Value, slot: Slot) -> Self {
        Self(value.0 << 5 | slot.0 as u32)
    }

    pub(super) const fn value(self) -> Value {
        Value(self.0 >> 5)
    }

    pub(super) const fn slot(self) -> Slot {
        Slot((self.0 & Self::SLOT) as u8)
    }

    /// Makes it one that n4n refused.
    pub(super) const fn miss(&mut self) {
        self.0 |= Self::MISSED;
    }

    /// Makes it one that was last asked for then.
    pub(super) const fn renew(&mut self, slot: Slot) {
        self.0 = self.0 & !Self::SLOT | slot.0 as u32;
    }

    pub(super) const fn is_missed(self) -> bool {
        self.0 & Self::MISSED != 0
    }

    /// As how many values it counts.
    pub(super) const fn weight(self) -> u32 {
        if self.is_missed() { MISS_WEIGHT } else { 1 }
    }
}
