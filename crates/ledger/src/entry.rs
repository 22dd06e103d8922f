//! The entry: 128 bytes of commitments, the leaf of the log. This layout cannot be changed;
//! `docs/formats/ledger.md` is its document.

use sha2::{Digest as _, Sha256};
use types::fact::{Fact, FactKind, FactOutcome};
use types::{CommandId, Epoch, GroupId, OrderKey, Timestamp};

use crate::side::{self, SideRecord};
use crate::tree::{Hash, leaf_hash};

/// One entry of a group's ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What kind of change it speaks of.
    pub kind: FactKind,
    /// Whether the change took place.
    pub outcome: FactOutcome,
    /// The epoch in which it was formed.
    pub epoch: Epoch,
    /// Where it stands; strictly rising over the log.
    pub order: OrderKey,
    /// The group whose log this is.
    pub group: GroupId,
    /// [`side::name_commitment`] to bucket and key. Of a block: the state digest.
    pub name: Hash,
    /// [`SideRecord::digest`] of the side record. Of a block: [`block_digest`].
    pub side: Hash,
}

/// Why 128 bytes are not an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    /// A version that this build does not know.
    #[error("entry version {0} is not known to this build")]
    Version(u8),
    /// A hash suite that this build does not know.
    #[error("hash suite {0} is not known to this build")]
    Suite(u8),
    /// A kind that this build does not know.
    #[error("entry kind {0} is not known to this build")]
    Kind(u8),
    /// An outcome that this build does not know, or that a block cannot have.
    #[error("outcome {0} is not known to this build")]
    Outcome(u8),
    /// A byte that must be zero is not.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// A block entry without the order key of a block, or the reverse.
    #[error("kind and order key contradict each other")]
    Block,
}

impl Entry {
    /// Encoded size in bytes.
    pub const LEN: usize = 128;
    /// The version byte that opens every entry.
    pub const VERSION: u8 = 1;
    /// The hash suite: SHA-256 for commitments, side records and the tree.
    pub const SUITE: u8 = 1;

    /// The entry of a fact, and its side record. Deterministic, and total: texts longer than the limits in
    /// [`side`] are shortened.
    #[must_use]
    pub fn from_fact(fact: &Fact, epoch: Epoch, group: GroupId) -> (Self, SideRecord) {
        let (name, side) = side::of_fact(fact);
        let entry =
            Self { kind: fact.kind, outcome: fact.outcome, epoch, order: fact.order, group, name, side: side.digest() };
        (entry, side)
    }

    /// The entry that closes the block cut at `cut`. `entries` and `commands` count what the block holds, this entry
    /// not included.
    #[must_use]
    pub fn block(
        cut: Timestamp,
        epoch: Epoch,
        group: GroupId,
        state_digest: Hash,
        entries: u64,
        commands: u64,
    ) -> Self {
        Self {
            kind: FactKind::Block,
            outcome: FactOutcome::Applied,
            epoch,
            order: OrderKey::block(cut),
            group,
            name: state_digest,
            side: block_digest(entries, commands),
        }
    }

    /// Whether it closes a block.
    #[must_use]
    pub fn is_block(&self) -> bool {
        self.kind == FactKind::Block
    }

    /// The 128 bytes that are hashed and stored.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = Self::VERSION;
        out[1] = Self::SUITE;
        out[2] = self.kind as u8;
        out[3] = self.outcome as u8;
        out[4..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        out[8..36].copy_from_slice(&self.order.to_bytes());
        out[36..40].copy_from_slice(&self.group.0.to_be_bytes());
        out[64..96].copy_from_slice(&self.name);
        out[96..128].copy_from_slice(&self.side);
        out
    }

    /// The inverse of [`Entry::to_bytes`].
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, EntryError> {
        if bytes[0] != Self::VERSION {
            return Err(EntryError::Version(bytes[0]));
        }
        if bytes[1] != Self::SUITE {
            return Err(EntryError::Suite(bytes[1]));
        }
        let kind = kind_from_u8(bytes[2]).ok_or(EntryError::Kind(bytes[2]))?;
        let outcome = outcome_from_u8(bytes[3]).ok_or(EntryError::Outcome(bytes[3]))?;
        if bytes[40..64] != [0; 24] {
            return Err(EntryError::Reserved);
        }
        let order = OrderKey::from_bytes(&array(&bytes[8..36]));
        let of_block = order == OrderKey::block(order.timestamp);
        if of_block != (kind == FactKind::Block) || (order.id == CommandId::MAX && !of_block) {
            return Err(EntryError::Block);
        }
        if of_block && outcome != FactOutcome::Applied {
            return Err(EntryError::Outcome(bytes[3]));
        }
        Ok(Self {
            kind,
            outcome,
            epoch: Epoch(u32::from_be_bytes(array(&bytes[4..8]))),
            order,
            group: GroupId(u32::from_be_bytes(array(&bytes[36..40]))),
            name: array(&bytes[64..96]),
            side: array(&bytes[96..128]),
        })
    }

    /// The hash of the leaf that this entry is.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.to_bytes())
    }
}

/// `SHA-256("entangle/block/v1\n" || u64 entries || u64 commands)`: what a block entry says of its block's size, the
/// block entry itself not counted.
#[must_use]
pub fn block_digest(entries: u64, commands: u64) -> Hash {
    Sha256::new()
        .chain_update(b"entangle/block/v1\n")
        .chain_update(entries.to_be_bytes())
        .chain_update(commands.to_be_bytes())
        .finalize()
        .into()
}

fn kind_from_u8(byte: u8) -> Option<FactKind> {
    use FactKind as K;
    const KINDS: [FactKind; 18] = [
        K::Genesis,
        K::Put,
        K::Delete,
        K::Copy,
        K::Complete,
        K::UploadCreate,
        K::UploadPart,
        K::UploadAbort,
        K::BucketCreate,
        K::BucketDelete,
        K::BucketConfigure,
        K::KeyPut,
        K::KeyDelete,
        K::Block,
        K::NodePut,
        K::EpochBegin,
        K::ZonePut,
        K::Barrier,
    ];
    KINDS.get(usize::from(byte)).copied()
}

fn outcome_from_u8(byte: u8) -> Option<FactOutcome> {
    use FactOutcome as O;
    [O::Applied, O::PreconditionFailed, O::Refused, O::Replayed].get(usize::from(byte)).copied()
}

/// Copies a slice whose length the caller has fixed.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(slice);
    out
}
