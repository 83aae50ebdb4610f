//! How many values there were, where there is no room for each: linear counting over cells that know when they were hit.
//!
//! Every value hits one of [`CELLS`] cells, always the same; how many were never hit tells how many values there were
//! (Whang, Vander-Zanden and Taylor, "A linear-time probabilistic counting algorithm", 1990). A cell keeps the step in
//! which it was last hit, so that what is longer ago than the period can be let go of. For a thousand values the standard
//! error is 3.5 %, so that three in a thousand counts are off by more than 11 %; for fewer it is smaller.

use super::{
    MISS_WEIGHT, Value,
    entry::{Entry, STEPS, Slot},
};

/// How many cells there are, of four bits each.
const CELLS: usize = 704;

/// How many values are remembered by themselves all the same, the latest first: those that are asked for again.
pub(super) const RECENT: usize = 8;

/// The values of one user, estimated.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    /// Each cell's slot and one, zero where it was not hit; two cells a byte.
    cells: [u8; CELLS / 2],
    recent: [Entry; RECENT],
}

impl Sketch {
    /// The sketch of these values.
    pub(super) fn of(entries: &mut [Entry], latest: Slot) -> Self {
        let mut sketch = Self { cells: [0; CELLS / 2], recent: [Entry::NONE; RECENT] };
        // The oldest first, so that the latest ones are remembered.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.slot().age(latest)));
        for entry in entries {
            sketch.add(entry.value(), entry.slot());
            if entry.is_missed() {
                sketch.miss(entry.value(), entry.slot());
            }
        }
        sketch
    }

    /// What the values count, if so many cells were hit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to some 4600")]
    pub(super) fn estimate(hit: u32) -> u32 {
        let cells = CELLS as f64;
        // Where none is left there were more values than can be told.
        let empty = (cells - f64::from(hit)).max(1.0);
        (cells * (cells / empty).ln()).round() as u32
    }

    /// What the values count.
    pub(super) fn count(&self) -> u32 {
        Self::estimate(self.hit())
    }

    /// What the values would count with one more, whether that hits a cell that was hit already or not: else a walk that has
    /// come to its limit would go on through the values that do.
    pub(super) fn count_with_another(&self) -> u32 {
        Self::estimate(self.hit() + 1)
    }

    /// Takes note that a value was asked for again that is among the latest; false where it is not.
    pub(super) fn renew(&mut self, value: Value, slot: Slot) -> bool {
        let known = self.recent.iter().any(|entry| *entry != Entry::NONE && entry.value() == value);
        if known {
            self.add(value, slot);
        }
        known
    }

    /// Makes a value count; false where its cell was hit already.
    pub(super) fn add(&mut self, value: Value, slot: Slot) -> bool {
        let place = self.recent.iter().position(|entry| entry.value() == value).unwrap_or(RECENT - 1);
        self.recent[..=place].rotate_right(1);
        self.recent[0] = Entry::new(value, slot);
        self.hit_at(cell_of(value), slot)
    }

    /// Makes a value count as one that n4n refused: it hits further cells, always the same.
    pub(super) fn miss(&mut self, value: Value, slot: Slot) {
        for further in 1..MISS_WEIGHT {
            self.hit_at(cell_of(another(value, further)), slot);
        }
    }

    /// Makes a value count no more whose cell nothing had hit before.
    pub(super) fn remove(&mut self, value: Value) {
        self.set(cell_of(value), 0);
        for entry in self.recent.iter_mut().filter(|entry| entry.value() == value) {
            *entry = Entry::NONE;
        }
    }

    /// Lets go of what was last asked for in a step that does not stay.
    pub(super) fn retain(&mut self, stays: impl Fn(Slot) -> bool) {
        let mut kept = [0; 16];
        for (slot, kept) in (0..STEPS as u8).zip(&mut kept[1..]) {
            *kept = if stays(Slot(slot)) { slot + 1 } else { 0 };
        }
        for byte in &mut self.cells {
            *byte = kept[usize::from(*byte >> 4)] << 4 | kept[usize::from(*byte & 0xf)];
        }
        for entry in &mut self.recent {
            if *entry != Entry::NONE && !stays(entry.slot()) {
                *entry = Entry::NONE;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.iter().all(|byte| *byte == 0)
    }

    /// Adds up how many cells were last hit how many steps ago.
    pub(super) fn add_ages(&self, ages: &mut [u32; STEPS as usize], latest: Slot) {
        for slot in (0..CELLS).filter_map(|cell| self.cell(cell)) {
            ages[slot.age(latest) as usize] += 1;
        }
    }

    /// How many cells were hit.
    fn hit(&self) -> u32 {
        self.cells.iter().map(|byte| u32::from(byte & 0xf != 0) + u32::from(byte >> 4 != 0)).sum()
    }

    fn cell(&self, cell: usize) -> Option<Slot> {
        let pair = self.cells[cell / 2];
        let kept = if cell & 1 == 0 { pair & 0xf } else { pair >> 4 };
        kept.checked_sub(1).map(Slot)
    }

    fn set(&mut self, cell: usize, kept: u8) {
        let pair = &mut self.cells[cell / 2];
        *pair = if cell & 1 == 0 { *pair & 0xf0 | kept } else { *pair & 0xf | kept << 4 };
    }

    fn hit_at(&mut self, cell: usize, slot: Slot) -> bool {
        let is_new = self.cell(cell).is_none();
        self.set(cell, slot.0 + 1);
        is_new
    }
}

/// The cell that a value hits.
const fn cell_of(value: Value) -> usize {
    ((value.0 as u64 * CELLS as u64) >> Value::BITS) as usize
}

/// What stands for the further weight of a value: as random as the value, which has the process' secret in it.
const fn another(value: Value, further: u32) -> Value {
    // The finaliser of MurmurHash3.
    let mut bits = value.0 ^ further << Value::BITS;
    bits = (bits ^ bits >> 16).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ bits >> 13).wrapping_mul(0xc2b2_ae35);
    Value((bits ^ bits >> 16) >> (u32::BITS - Value::BITS))
}
