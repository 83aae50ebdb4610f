//! What one user asked for lately: each value while there are few, a sketch of them beyond that.

use super::{
    Value,
    entry::{Entry, STEPS, Slot},
    sketch::Sketch,
};

/// How many values are remembered each by itself; as large as a sketch then.
pub(super) const FEW: usize = 96;

/// How many there is room for at first, after that, and at most: most users ask for a handful.
const ROOM: [usize; 3] = [8, 32, FEW];

/// A new value over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    /// What all values count with it.
    pub(super) count: u32,
    /// How many steps on there is room for it.
    pub(super) room_in: u32,
}

/// The values of one user within the period.
#[derive(Debug, Clone)]
pub(super) struct Window {
    values: Values,
    /// The step in which it was last used.
    step: u32,
    /// What the values counted then.
    count: u32,
}

#[derive(Debug, Clone)]
enum Values {
    /// Each of them.
    Few(Vec<Entry>),
    /// So many that they are estimated.
    Many(Box<Sketch>),
}

impl Window {
    /// Nothing asked for yet.
    pub(super) const fn at(step: u32) -> Self {
        Self { values: Values::Few(Vec::new()), step, count: 0 }
    }

    /// Judges a value that is asked for; tells whether it is new and counts from now on, and whether it is over the limit.
    pub(super) fn ask(
        &mut self,
        value: Value,
        step: u32,
        limit: u32,
        is_refused: bool,
    ) -> (bool, Option<Over>) {
        let slot = self.move_on(step);
        if self.renew(value, slot) {
            return (false, None);
        }
        let count = self.count_with_another();
        let over = (count > limit).then(|| Over { count, room_in: self.room_in(limit, slot) });
        let counts = over.is_none() || !is_refused;
        let is_new = counts && self.add(value, slot);
        self.recount();
        (is_new, over)
    }

    /// Takes note that a value was asked for again whose first call is under way.
    pub(super) fn ask_again(&mut self, value: Value, step: u32) {
        let slot = self.move_on(step);
        if !self.renew(value, slot) {
            self.add(value, slot);
            self.recount();
        }
    }

    /// Makes a value count as one that n4n refused, if it counts.
    pub(super) fn missed(&mut self, value: Value, step: u32) {
        let slot = self.move_on(step);
        match &mut self.values {
            Values::Few(entries) => {
                if let Some(entry) = entries.iter_mut().find(|entry| entry.value() == value) {
                    entry.miss();
                }
            }
            Values::Many(sketch) => sketch.miss(value, slot),
        }
        self.recount();
    }

    /// Makes a value count no more.
    pub(super) fn take_back(&mut self, value: Value, step: u32) {
        self.move_on(step);
        match &mut self.values {
            Values::Few(entries) => entries.retain(|entry| entry.value() != value),
            Values::Many(sketch) => sketch.remove(value),
        }
        self.recount();
    }

    /// Whether all that was asked for is longer ago than the period.
    pub(super) fn is_over(&self, step: u32) -> bool {
        self.steps_since(step) >= STEPS
    }

    /// What the values counted when it was last used.
    pub(super) const fn last_count(&self) -> u32 {
        self.count
    }

    /// How many steps ago it was last used. They are taken from the clock before the lock, so that one may come a little
    /// behind the last.
    pub(super) const fn steps_since(&self, step: u32) -> u32 {
        let steps = step.wrapping_sub(self.step);
        if steps > u32::MAX / 2 { 0 } else { steps }
    }

    /// Lets go of what is longer ago than the period; gives the slot of this step.
    fn move_on(&mut self, step: u32) -> Slot {
        let steps = self.steps_since(step);
        if steps == 0 {
            return Slot::of(self.step);
        }
        let latest = Slot::of(self.step);
        let stays = |slot: Slot| slot.age(latest) + steps < STEPS;
        let is_empty = match &mut self.values {
            _ if steps >= STEPS => true,
            Values::Few(entries) => {
                entries.retain(|entry| stays(entry.slot()));
                entries.is_empty()
            }
            Values::Many(sketch) => {
                sketch.retain(stays);
                sketch.is_empty()
            }
        };
        if is_empty {
            self.values = Values::Few(Vec::new());
        }
        self.step = step;
        self.recount();
        Slot::of(step)
    }

    /// Takes note that a value was asked for again; false where it is not known to have been asked for.
    fn renew(&mut self, value: Value, slot: Slot) -> bool {
        match &mut self.values {
            Values::Few(entries) => match entries.iter_mut().find(|entry| entry.value() == value) {
                Some(entry) => {
                    entry.renew(slot);
                    true
                }
                None => false,
            },
            Values::Many(sketch) => sketch.renew(value, slot),
        }
    }

    /// Makes a value count that is not known; false where it counts already, as far as can be told.
    fn add(&mut self, value: Value, slot: Slot) -> bool {
        if let Values::Few(entries) = &mut self.values {
            if entries.len() < FEW {
                let room = ROOM.into_iter().find(|room| *room > entries.len()).unwrap_or(FEW);
                entries.reserve_exact(room - entries.len());
                entries.push(Entry::new(value, slot));
                return true;
            }
            self.values = Values::Many(Box::new(Sketch::of(entries, slot)));
        }
        match &mut self.values {
            Values::Few(_) => false,
            Values::Many(sketch) => sketch.add(value, slot),
        }
    }

    /// What the values would count with one more.
    fn count_with_another(&self) -> u32 {
        match &self.values {
            Values::Few(_) => self.count + 1,
            Values::Many(sketch) => sketch.count_with_another(),
        }
    }

    fn recount(&mut self) {
        self.count = match &self.values {
            Values::Few(entries) => entries.iter().map(|entry| entry.weight()).sum(),
            Values::Many(sketch) => sketch.count(),
        };
    }

    /// In how many steps there is room for one more value, if none is asked for until then.
    fn room_in(&self, limit: u32, latest: Slot) -> u32 {
        let mut ages = [0; STEPS as usize];
        let left = |sum: u32| match &self.values {
            Values::Few(_) => sum,
            Values::Many(_) => Sketch::estimate(sum),
        };
        match &self.values {
            Values::Few(entries) => {
                for entry in entries {
                    ages[entry.slot().age(latest) as usize] += entry.weight();
                }
            }
            Values::Many(sketch) => sketch.add_ages(&mut ages, latest),
        }
        let mut sum: u32 = ages.iter().sum();
        for age in (0..STEPS).rev() {
            sum -= ages[age as usize];
            if left(sum) < limit {
                return STEPS - age;
            }
        }
        STEPS
    }
}
