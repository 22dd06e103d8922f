//! Slots: the unit of order. Two commands that share a slot are ordered by consensus.

use crate::limits::SLOTS;

/// A slot of a group, below [`SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a key: the first eight bytes (big endian) of
    /// `BLAKE3("entangle/slot/v1" || u32 len(bucket) || bucket || key)`, modulo [`SLOTS`].
    #[must_use]
    pub fn of(bucket: &str, key: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"entangle/slot/v1");
        hasher.update(&u32::try_from(bucket.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(bucket.as_bytes());
        hasher.update(key.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        #[expect(clippy::cast_possible_truncation, reason = "below SLOTS, which fits u16")]
        Self((u64::from_be_bytes(word) % u64::from(SLOTS)) as u16)
    }
}

/// The slots that a command touches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotSet {
    /// Every slot: a `*` command, which changes what keys share.
    All,
    /// Some slots, strictly rising, at least one.
    Some(Vec<Slot>),
}

impl SlotSet {
    /// Sorts and removes what is double. Panics on none: every command touches a slot.
    #[must_use]
    pub fn of(mut slots: Vec<Slot>) -> Self {
        assert!(!slots.is_empty(), "a command touches at least one slot");
        slots.sort_unstable();
        slots.dedup();
        Self::Some(slots)
    }

    /// Whether the two share a slot.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => true,
            (Self::Some(a), Self::Some(b)) => a.iter().any(|slot| b.binary_search(slot).is_ok()),
        }
    }
}
