//! Floors: the highest timestamp promised in each slot.

use types::limits::SLOTS;
use types::{Slot, SlotSet, Timestamp};

/// One timestamp per slot, with one value that stands for all of them: a `*` command raises that one
/// instead of 4096.
#[derive(Clone)]
pub(crate) struct Floors {
    slots: Vec<Timestamp>,
    /// Holds in every slot (`floor_all`).
    all: Timestamp,
    /// The largest of all the floors.
    highest: Timestamp,
}

impl Floors {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Timestamp::ZERO; usize::from(SLOTS)], all: Timestamp::ZERO, highest: Timestamp::ZERO }
    }

    /// The highest timestamp promised in any of `slots`.
    pub(crate) fn floor(&self, slots: &SlotSet) -> Timestamp {
        match slots {
            SlotSet::All => self.highest,
            SlotSet::Some(slots) => {
                slots.iter().map(|slot| self.slots[index(*slot)]).fold(self.all, |floor, slot| floor.max(slot))
            }
        }
    }

    /// The highest timestamp promised in any slot at all.
    pub(crate) fn highest(&self) -> Timestamp {
        self.highest
    }

    /// Raises those floors of `slots` that lie below `timestamp` to it.
    pub(crate) fn raise_to(&mut self, slots: &SlotSet, timestamp: Timestamp) {
        match slots {
            SlotSet::All => self.all = self.all.max(timestamp),
            SlotSet::Some(slots) => {
                for slot in slots {
                    let floor = &mut self.slots[index(*slot)];
                    *floor = timestamp.max(*floor);
                }
            }
        }
        self.highest = self.highest.max(timestamp);
    }

    /// The lowest timestamp promised in `slots`: for all of them, what holds in every slot.
    pub(crate) fn lowest(&self, slots: &SlotSet) -> Timestamp {
        match slots {
            SlotSet::All => self.all,
            SlotSet::Some(slots) => {
                slots.iter().map(|slot| self.slots[index(*slot)].max(self.all)).min().unwrap_or(self.all)
            }
        }
    }

    /// What is promised in one slot.
    pub(crate) fn at(&self, slot: Slot) -> Timestamp {
        self.slots[index(slot)].max(self.all)
    }

    /// What is promised in every slot (`floor_all`).
    pub(crate) fn everywhere(&self) -> Timestamp {
        self.all
    }

    /// Raises the floor of every slot that lies below `timestamp` to it.
    pub(crate) fn raise_all(&mut self, timestamp: Timestamp) {
        self.all = self.all.max(timestamp);
        self.highest = self.highest.max(timestamp);
    }
}

fn index(slot: Slot) -> usize {
    usize::from(slot.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(slots: &[u16]) -> SlotSet {
        SlotSet::of(slots.iter().map(|slot| Slot(*slot)).collect())
    }

    #[test]
    fn a_floor_is_that_of_its_slots_only() {
        let mut floors = Floors::new();
        floors.raise_to(&some(&[1, 2]), Timestamp(10));
        floors.raise_to(&some(&[2]), Timestamp(11));
        assert_eq!(floors.floor(&some(&[0])), Timestamp(0));
        assert_eq!(floors.floor(&some(&[1])), Timestamp(10));
        assert_eq!(floors.floor(&some(&[1, 2])), Timestamp(11));
        assert_eq!(floors.floor(&SlotSet::All), Timestamp(11));
    }

    #[test]
    fn floor_all_stands_for_every_slot() {
        let mut floors = Floors::new();
        floors.raise_to(&some(&[7]), Timestamp(10));
        floors.raise_to(&SlotSet::All, Timestamp(20));
        assert_eq!(floors.floor(&some(&[4095])), Timestamp(20));
        floors.raise_to(&some(&[7]), Timestamp(21));
        assert_eq!(floors.floor(&SlotSet::All), Timestamp(21));
        floors.raise_all(Timestamp(5));
        assert_eq!(floors.floor(&some(&[0])), Timestamp(20));
    }
}
