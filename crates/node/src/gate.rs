//! Generations per slot: what lets a cached read be trusted without the core's loop.
//!
//! Before an execution is answered, the generation of each slot that it touched is raised. What was read
//! under an older generation is not served again, so a read that begins after an answer sees its write.

use std::sync::atomic::{AtomicU64, Ordering};

use types::limits::SLOTS;
use types::{Slot, SlotSet};

/// One counter per slot and one for `*` commands.
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

impl Gate {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), all: AtomicU64::new(0) }
    }

    /// The slot's generation. Read it before the rows.
    pub(crate) fn generation(&self, slot: Slot) -> Generation {
        Generation {
            slot: self.slots[usize::from(slot.0)].load(Ordering::Acquire),
            all: self.all.load(Ordering::Acquire),
        }
    }

    /// Raises the generations of what an execution touched. Call it after its rows are visible and before it
    /// is answered.
    pub(crate) fn raise(&self, slots: &SlotSet) {
        match slots {
            SlotSet::All => {
                self.all.fetch_add(1, Ordering::Release);
            }
            SlotSet::Some(slots) => {
                for slot in slots {
                    self.slots[usize::from(slot.0)].fetch_add(1, Ordering::Release);
                }
            }
        }
    }
}
