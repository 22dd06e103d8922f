//! Commands by slot: the smallest one in a slot, or of all, without a search.
//!
//! Used for what blocks (per journal: attached and not decided) and for what is decided and not executed. A
//! command whose slots are not known, and a `*` command, stands in every slot.

use std::collections::BTreeSet;
use std::ops::Bound;

use types::limits::SLOTS;
use types::{CommandId, Slot, SlotSet, Timestamp};

/// The place of a command in the order; in a journal's attaches, the timestamp is the attached one.
pub(crate) type Place = (Timestamp, CommandId);

/// See the file's documentation.
#[derive(Clone)]
pub(crate) struct SlotIndex {
    /// By slot, rising; those of every slot are not listed here.
    slots: Vec<Vec<Place>>,
    /// Those that stand in every slot.
    everywhere: BTreeSet<Place>,
    /// All of them.
    order: BTreeSet<Place>,
}

impl SlotIndex {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Vec::new(); usize::from(SLOTS)], everywhere: BTreeSet::new(), order: BTreeSet::new() }
    }

    /// Adds a command; `None`: its slots are not known.
    pub(crate) fn insert(&mut self, place: Place, slots: Option<&SlotSet>) {
        if !self.order.insert(place) {
            return;
        }
        match slots {
            None | Some(SlotSet::All) => {
                self.everywhere.insert(place);
            }
            Some(SlotSet::Some(slots)) => {
                for slot in slots {
                    let listed = &mut self.slots[usize::from(slot.0)];
                    let at = listed.partition_point(|other| *other < place);
                    listed.insert(at, place);
                }
            }
        }
    }

    /// Takes a command out; `slots` as it was inserted with. False if it was not there.
    pub(crate) fn remove(&mut self, place: Place, slots: Option<&SlotSet>) -> bool {
        if !self.order.remove(&place) {
            return false;
        }
        match slots {
            None | Some(SlotSet::All) => {
                let was = self.everywhere.remove(&place);
                debug_assert!(was, "a command is removed as it was inserted");
            }
            Some(SlotSet::Some(slots)) => {
                for slot in slots {
                    self.slots[usize::from(slot.0)].retain(|other| *other != place);
                }
            }
        }
        true
    }

    /// The slots of a command became known.
    pub(crate) fn learn(&mut self, place: Place, slots: &SlotSet) {
        if self.remove(place, None) {
            self.insert(place, Some(slots));
        }
    }

    /// The smallest of all.
    pub(crate) fn first(&self) -> Option<Place> {
        self.order.first().copied()
    }

    /// The smallest in `slot`.
    pub(crate) fn first_in(&self, slot: Slot) -> Option<Place> {
        let listed = self.slots[usize::from(slot.0)].first().copied();
        match (listed, self.everywhere.first().copied()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Those that stand in every slot, rising.
    pub(crate) fn everywhere(&self) -> impl Iterator<Item = Place> + '_ {
        self.everywhere.iter().copied()
    }

    /// Those that name `slot`, rising; without those that stand in every slot.
    pub(crate) fn listed_in(&self, slot: Slot) -> &[Place] {
        &self.slots[usize::from(slot.0)]
    }

    /// The smallest in any of `slots`.
    pub(crate) fn first_of(&self, slots: &SlotSet) -> Option<Place> {
        match slots {
            SlotSet::All => self.first(),
            SlotSet::Some(slots) => slots.iter().filter_map(|slot| self.first_in(*slot)).min(),
        }
    }

    /// All of them, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.order.iter().copied()
    }

    /// Those above `after` and at or below `last`, rising.
    pub(crate) fn between(&self, after: Timestamp, last: Timestamp) -> impl Iterator<Item = Place> + '_ {
        let last = (last, CommandId::MAX).max((after, CommandId::MAX));
        self.order.range((Bound::Excluded((after, CommandId::MAX)), Bound::Included(last))).copied()
    }

    /// Those that stand in one of `slots`, in no particular order, doubles included.
    pub(crate) fn standing_in<'a>(&'a self, slots: &'a SlotSet) -> Box<dyn Iterator<Item = Place> + 'a> {
        match slots {
            SlotSet::All => Box::new(self.iter()),
            SlotSet::Some(slots) => Box::new(
                slots
                    .iter()
                    .flat_map(|slot| self.slots[usize::from(slot.0)].iter().copied())
                    .chain(self.everywhere.iter().copied()),
            ),
        }
    }

    /// Number of commands.
    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use types::{Incarnation, ReplicaId};

    use super::*;

    fn place(t: u64) -> Place {
        (Timestamp(t), CommandId { replica: ReplicaId(1), incarnation: Incarnation(1), counter: t })
    }

    #[test]
    fn a_command_of_unknown_slots_stands_in_every_slot_until_they_are_known() {
        let mut index = SlotIndex::new();
        let one = SlotSet::of(vec![Slot(1), Slot(7)]);
        index.insert(place(5), None);
        index.insert(place(9), Some(&SlotSet::of(vec![Slot(2)])));
        assert_eq!(index.first_in(Slot(2)), Some(place(5)));
        index.learn(place(5), &one);
        assert_eq!(index.first_in(Slot(2)), Some(place(9)));
        assert_eq!(index.first_of(&one), Some(place(5)));
        assert_eq!(index.first(), Some(place(5)));
        assert!(index.remove(place(5), Some(&one)));
        assert!(!index.remove(place(5), Some(&one)));
        assert_eq!(index.first_of(&one), None);
        assert_eq!(index.count(), 1);
    }
}
