//! The journal: one physical log per node, shared by its groups, and the only authority on durability.
//!
//! Two classes of record go in. What a replica *said* is positioned, chained and signed per flush, and can be
//! read by peers; what it *kept* is local. One flush makes one frame durable, whatever is in it. The layout is
//! documented in `docs/formats/journal.md`.
//!
//! [`Journal`] is synchronous and a function of its calls and its [`Disk`](crate::disk::Disk), so that a
//! simulator can drive it; [`Writer`] puts it behind one thread that groups commits. A failed write or flush
//! poisons the journal: nothing is known of what it left, so the process must start again and read.

use bytes::Bytes;
use ledger::tree::SmallTree;
use types::journal::{BatchHead, RecordHeader};
use types::limits::SEGMENT_LEN;
use types::{ClusterId, GroupId, Incarnation, ReplicaId};

mod append;
mod begin;
mod error;
mod fuzz;
mod layout;
mod open;
mod queue;
mod read;
mod scan;
mod segment;
mod shelf;
mod spare;
mod trim;
mod verify;
mod window;
mod writer;

#[cfg(test)]
mod vectors;

pub use append::Journal;
pub use begin::Beginning;
pub use error::{AppendError, EraseError, OpenError, ReadError};
pub use fuzz::fuzz_journal;
pub use open::{OpenReport, Torn};
pub use read::{Reader, Records, Replay, Replayed, StoredBatch, StoredBody, StoredRecord};
pub use spare::{SpareMade, SpareTask};
pub use verify::{Verified, verify};
pub use writer::{Append, Event, Refused, Statistics, Timings, Writer, WriterOptions};

/// Whose journal it is, and how it is cut into segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    /// The cluster; a journal of another one is refused.
    pub cluster: ClusterId,
    /// The replica; a journal of another one is refused.
    pub replica: ReplicaId,
    /// Bytes of each new segment; at least 4096 and a multiple of 512. Existing ones keep their length.
    pub segment_len: u64,
    /// Whether a spare segment is written with zeros before it is used. Reserved space that was never written
    /// costs a file system a change of metadata at each flush; the zeros are written off the hot path instead.
    pub fill_spare: bool,
}

impl JournalOptions {
    /// With segments of [`SEGMENT_LEN`].
    #[must_use]
    pub fn new(cluster: ClusterId, replica: ReplicaId) -> Self {
        Self { cluster, replica, segment_len: SEGMENT_LEN, fill_spare: true }
    }
}

/// A record to be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What is hashed and signed.
    pub header: RecordHeader,
    /// Blinds the body's hash; not stored when there is no body.
    pub salt: [u8; 32],
    /// As long as the header says.
    pub body: Bytes,
}

/// Records of one group to be said in one flush, at the positions that follow those already said.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The group.
    pub group: GroupId,
    /// The writer's incarnation.
    pub incarnation: Incarnation,
    /// The records, in order of position.
    pub records: &'a [Record],
}

/// The kind of a kept record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeptKind(pub u8);

impl KeptKind {
    /// What replaces the trimmed part of a group's journal; written by [`Journal::trim`] only.
    pub const BASE: Self = Self(1);
    /// The latest tree head that this node signed.
    pub const TREE_HEAD: Self = Self(2);
    /// This replica's own copy of a peer's command: header (96), salt (32), body. Kept in the flush of the record that
    /// vouches for it, so it goes when that goes.
    pub const COMMAND: Self = Self(128);

    /// Whether only the latest record of this kind counts (it is then carried from segment to segment);
    /// others go with their segment.
    #[must_use]
    pub fn is_latest_only(self) -> bool {
        self.0 < 128
    }
}

/// A kept record: local, and in no batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The group that it is about.
    pub group: GroupId,
    /// Its kind.
    pub kind: KeptKind,
    /// Opaque here.
    pub bytes: Bytes,
}

/// What stands in place of a group's trimmed records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// Records below this position are replaced (some may still be there).
    pub below: u64,
    /// What the consensus core gave for them.
    pub bytes: Bytes,
}

impl Base {
    fn to_kept(&self, group: GroupId) -> Kept {
        let mut bytes = Vec::with_capacity(8 + self.bytes.len());
        bytes.extend_from_slice(&self.below.to_be_bytes());
        bytes.extend_from_slice(&self.bytes);
        Kept { group, kind: KeptKind::BASE, bytes: bytes.into() }
    }

    fn from_kept(bytes: &Bytes) -> Option<Self> {
        let below = bytes.first_chunk::<8>()?;
        Some(Self { below: u64::from_be_bytes(*below), bytes: bytes.slice(8..) })
    }
}

/// A batch as it was signed and made durable: what receipts are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedBatch {
    /// The head.
    pub head: BatchHead,
    /// The node's Ed25519 signature over [`BatchHead::signed_message`].
    pub signature: [u8; 64],
    /// The encoded record headers.
    pub headers: Vec<[u8; RecordHeader::LEN]>,
    /// The tree over them, of which the head signs the root.
    pub tree: SmallTree,
}

/// What one flush made durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// The number of its frame: dense from 1.
    pub number: u64,
    /// The batches, in the order given (one that changes its epoch is split).
    pub batches: Vec<SealedBatch>,
    /// How many kept records.
    pub kept: usize,
    /// How many of them are of a kind of which only the latest counts.
    pub latest: usize,
    /// Bytes written.
    pub len: usize,
}
