//! Floors: the highest timestamp promised in each slot.

use types::limits::SLOTS;
use types::{Slot, SlotSet, Timestamp};

/// One timestamp per slot, with one value that stands for all of them: a `*` command raises that one
/// instead of 4096.
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

    /// Raises the floors of `slots` to `timestamp`, which must be above each of them.
    pub(crate) fn raise(&mut self, slots: &SlotSet, timestamp: Timestamp) {
        let floor = self.floor(slots);
        assert!(timestamp > floor, "timestamps rise strictly in every slot: {timestamp:?} after {floor:?}");
        match slots {
            SlotSet::All => self.all = timestamp,
            SlotSet::Some(slots) => {
                for slot in slots {
                    self.slots[index(*slot)] = timestamp;
                }
            }
        }
        self.highest = self.highest.max(timestamp);
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
        floors.raise(&some(&[1, 2]), Timestamp(10));
        floors.raise(&some(&[2]), Timestamp(11));
        assert_eq!(floors.floor(&some(&[0])), Timestamp(0));
        assert_eq!(floors.floor(&some(&[1])), Timestamp(10));
        assert_eq!(floors.floor(&some(&[1, 2])), Timestamp(11));
        assert_eq!(floors.floor(&SlotSet::All), Timestamp(11));
    }

    #[test]
    fn floor_all_stands_for_every_slot() {
        let mut floors = Floors::new();
        floors.raise(&some(&[7]), Timestamp(10));
        floors.raise(&SlotSet::All, Timestamp(20));
        assert_eq!(floors.floor(&some(&[4095])), Timestamp(20));
        floors.raise(&some(&[7]), Timestamp(21));
        assert_eq!(floors.floor(&SlotSet::All), Timestamp(21));
        floors.raise_all(Timestamp(5));
        assert_eq!(floors.floor(&some(&[0])), Timestamp(20));
    }

    #[test]
    #[should_panic(expected = "rise strictly")]
    fn a_star_below_one_slot_is_refused() {
        let mut floors = Floors::new();
        floors.raise(&some(&[7]), Timestamp(10));
        floors.raise(&SlotSet::All, Timestamp(10));
    }
}
