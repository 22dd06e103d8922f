//! Generations per slot: what lets a cached read be trusted without the core's loop.
//!
//! A slot's generation is odd while an execution that touches the slot becomes visible, and has risen by two
//! once it is. A cached read is served only under the even generation that it was made under, so it is never
//! older than what any other reader has seen, let alone than an answered write.

use std::sync::atomic::{AtomicU64, Ordering};

use types::limits::SLOTS;
use types::{Slot, SlotSet};

/// One counter per slot and one for `*` commands. Raised by one thread, read by all.
pub(crate) struct Gate {
    slots: Box<[AtomicU64]>,
    all: AtomicU64,
}

/// A generation, as seen at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Generation {
    slot: u64,
    all: u64,
}

/// The generation of the shared rows, which only `*` commands change, as seen at one instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct SharedGeneration(u64);

impl SharedGeneration {
    /// Whether nothing was becoming visible at that instant.
    pub(crate) fn is_settled(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

impl Generation {
    /// Whether nothing was becoming visible at that instant.
    pub(crate) fn is_settled(self) -> bool {
        self.slot.is_multiple_of(2) && self.all.is_multiple_of(2)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), all: AtomicU64::new(0) }
    }
}

impl Gate {
    /// The slot's generation. Read it before the rows.
    pub(crate) fn generation(&self, slot: Slot) -> Generation {
        Generation {
            slot: self.slots[usize::from(slot.0)].load(Ordering::SeqCst),
            all: self.all.load(Ordering::SeqCst),
        }
    }

    /// The generation of what `*` commands write alone. Read it before the rows.
    pub(crate) fn shared(&self) -> SharedGeneration {
        SharedGeneration(self.all.load(Ordering::SeqCst))
    }

    /// Runs what makes an execution visible.
    pub(crate) fn pass<T>(&self, slots: &SlotSet, show: impl FnOnce() -> T) -> T {
        self.raise(slots);
        let shown = show();
        self.raise(slots);
        shown
    }

    fn raise(&self, slots: &SlotSet) {
        match slots {
            SlotSet::All => {
                self.all.fetch_add(1, Ordering::SeqCst);
            }
            SlotSet::Some(slots) => {
                for slot in slots {
                    self.slots[usize::from(slot.0)].fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_unsettled_while_something_becomes_visible_and_new_after() {
        let gate = Gate::default();
        let (mine, other) = (Slot(7), Slot(8));
        for slots in [SlotSet::of(vec![mine]), SlotSet::All] {
            let before = gate.generation(mine);
            let elsewhere = gate.generation(other);
            assert!(before.is_settled());
            gate.pass(&slots, || assert!(!gate.generation(mine).is_settled()));
            assert!(gate.generation(mine).is_settled());
            assert_ne!(gate.generation(mine), before);
            assert_eq!(gate.generation(other) == elsewhere, slots != SlotSet::All);
        }
    }
}
