//! Walking a whole log: every entry, every side record, the order, the blocks, the hashes and the signed head are
//! checked, and the first defect is named with its index.

use types::fact::{FactKind, FactOutcome};
use types::{CommandId, Epoch, GroupId, OrderKey, Timestamp};

use crate::entry::{Entry, EntryError, block_digest};
use crate::policy::{Accepted, CheckError, Policy};
use crate::side::{OpenError, SideError, SideRecord, opens};
use crate::tree::{Frontier, Hash, StoredHash, leaf_hash};

/// The first thing that is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[error("entry {index}: {kind}")]
pub struct Defect {
    /// The index of the entry at which it shows; the size of the log where it shows at the end.
    pub index: u64,
    /// What is wrong.
    pub kind: DefectKind,
}

/// What can be wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum DefectKind {
    /// The entry is not 128 bytes, or malformed.
    #[error("malformed: {0}")]
    Entry(#[from] EntryError),
    /// It does not stand above the entry before it.
    #[error("its order key does not stand above that of the entry before")]
    Order,
    /// It stands at or below the cut of a block that is already closed.
    #[error("its timestamp lies in a block that is already closed")]
    Late,
    /// It belongs to another group than the first.
    #[error("it belongs to group {0}, the log to another")]
    Group(GroupId),
    /// Its epoch is below that of the entry before.
    #[error("its epoch {0} is below that of the entry before")]
    Epoch(Epoch),
    /// The first entry is not the first configuration, or another one claims to be.
    #[error("the first configuration stands at entry 0 and only there")]
    Genesis,
    /// A block entry without entries before it, or whose counts are not those of its block.
    #[error("the block entry does not count what its block holds")]
    Block,
    /// The side record is malformed.
    #[error("malformed side record: {0}")]
    Side(#[from] SideError),
    /// The side record is not the one that the entry commits to.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first entries lead to another root than a head says.
    #[error("the first {0} entries do not lead to the root that was signed")]
    Root(u64),
    /// The log is shorter than a head says.
    #[error("the log ends here, but a head of {0} entries was signed")]
    Short(u64),
    /// Entries after the last block entry.
    #[error("the last block is not closed")]
    Unclosed,
    /// The state is not the one that the last block commits to.
    #[error("the state is not the one that the last block commits to")]
    State,
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum LogError<E> {
    /// It could not be read.
    #[error("the log could not be read: {0}")]
    Read(E),
    /// The checkpoint is not accepted.
    #[error("the checkpoint is not accepted: {0}")]
    Checkpoint(#[from] CheckError),
    /// Something is wrong with the log.
    #[error(transparent)]
    Defect(#[from] Defect),
}

/// One leaf as a log is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The bytes of the entry.
    pub entry: [u8; Entry::LEN],
    /// The bytes of the side record (none at all of a block entry); `None` if it is not at hand.
    pub side: Option<Vec<u8>>,
}

/// What a log that verifies holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Number of entries.
    pub entries: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Side records of which both parts are there.
    pub open_sides: u64,
    /// Side records of which at least one part is erased.
    pub erased_sides: u64,
    /// Side records that were not at hand.
    pub absent_sides: u64,
    /// The last cut.
    pub cut: Timestamp,
    /// The state digest of the last block.
    pub state_digest: Hash,
    /// The root over all entries.
    pub root: Hash,
}

/// Checks a log entry by entry.
#[derive(Clone, Debug)]
pub struct Walker {
    frontier: Frontier,
    /// Heads that must be met, by rising size.
    heads: Vec<(u64, Hash)>,
    group: Option<GroupId>,
    epoch: Epoch,
    last: Option<OrderKey>,
    open: Open,
    summary: Summary,
}

/// The block that is not closed yet.
#[derive(Clone, Copy, Default, Debug)]
struct Open {
    entries: u64,
    commands: u64,
    command: Option<CommandId>,
}

impl Walker {
    /// Starts at entry 0. Each head (size and root) must be met on the way; order does not matter.
    #[must_use]
    pub fn new(mut heads: Vec<(u64, Hash)>) -> Self {
        heads.sort_unstable();
        Self {
            frontier: Frontier::new(),
            heads,
            group: None,
            epoch: Epoch(0),
            last: None,
            open: Open::default(),
            summary: Summary {
                entries: 0,
                blocks: 0,
                open_sides: 0,
                erased_sides: 0,
                absent_sides: 0,
                cut: Timestamp::ZERO,
                state_digest: [0; 32],
                root: crate::tree::empty_root(),
            },
        }
    }

    /// Takes the next entry and its side record (`None` if it is not at hand), and tells `stored` of every hash that
    /// tiles hold from now on, so that stored ones can be compared.
    pub fn push(
        &mut self,
        entry: &[u8; Entry::LEN],
        side: Option<&[u8]>,
        stored: impl FnMut(StoredHash),
    ) -> Result<(), Defect> {
        let index = self.frontier.size();
        self.check(entry, side).map_err(|kind| Defect { index, kind })?;
        self.frontier.append_with(leaf_hash(entry), stored);
        self.summary.entries += 1;
        let size = self.frontier.size();
        let met = self.heads.partition_point(|(head, _)| *head < size);
        let mut due = self.heads[met..].iter().take_while(|(head, _)| *head == size).peekable();
        if due.peek().is_some() {
            let root = self.frontier.root();
            if due.any(|(_, head)| *head != root) {
                return Err(Defect { index, kind: DefectKind::Root(size) });
            }
        }
        Ok(())
    }

    fn check(&mut self, bytes: &[u8; Entry::LEN], side: Option<&[u8]>) -> Result<(), DefectKind> {
        let entry = Entry::from_bytes(bytes)?;
        let first = self.last.is_none();
        if self.last.is_some_and(|last| entry.order <= last) {
            return Err(DefectKind::Order);
        }
        if self.summary.blocks > 0 && entry.order.timestamp <= self.summary.cut {
            return Err(DefectKind::Late);
        }
        if *self.group.get_or_insert(entry.group) != entry.group {
            return Err(DefectKind::Group(entry.group));
        }
        if entry.epoch < self.epoch {
            return Err(DefectKind::Epoch(entry.epoch));
        }
        let founds = entry.kind == FactKind::Genesis && entry.outcome == FactOutcome::Applied;
        if founds != first {
            return Err(DefectKind::Genesis);
        }
        if entry.is_block() {
            self.close(&entry, side)?;
        } else {
            self.open.entries += 1;
            if self.open.command.replace(entry.order.id) != Some(entry.order.id) {
                self.open.commands += 1;
            }
            self.check_side(&entry, side)?;
        }
        self.epoch = entry.epoch;
        self.last = Some(entry.order);
        Ok(())
    }

    fn close(&mut self, entry: &Entry, side: Option<&[u8]>) -> Result<(), DefectKind> {
        if self.open.entries == 0 || block_digest(self.open.entries, self.open.commands) != entry.side {
            return Err(DefectKind::Block);
        }
        if side.is_some_and(|side| !side.is_empty()) {
            return Err(DefectKind::Open(OpenError::Digest));
        }
        self.open = Open::default();
        self.summary.blocks += 1;
        self.summary.cut = entry.order.timestamp;
        self.summary.state_digest = entry.name;
        Ok(())
    }

    fn check_side(&mut self, entry: &Entry, side: Option<&[u8]>) -> Result<(), DefectKind> {
        let Some(side) = side else {
            self.summary.absent_sides += 1;
            return Ok(());
        };
        let opened = opens(entry, &SideRecord::from_bytes(side)?)?;
        if opened.readable.is_some() && opened.predecessor.is_some() {
            self.summary.open_sides += 1;
        } else {
            self.summary.erased_sides += 1;
        }
        Ok(())
    }

    /// The edge of the tree so far.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The end of the log: every head was met, the last block is closed, and it commits to this state (SHA-256 of the
    /// state digest), if one is given.
    pub fn finish(mut self, state_digest: Option<&Hash>) -> Result<Summary, Defect> {
        let index = self.frontier.size();
        let defect = |kind| Err(Defect { index, kind });
        if let Some((size, _)) = self.heads.iter().find(|(size, _)| *size > index) {
            return defect(DefectKind::Short(*size));
        }
        if self.heads.iter().any(|(size, root)| *size == 0 && *root != crate::tree::empty_root()) {
            return defect(DefectKind::Root(0));
        }
        if self.open.entries > 0 {
            return defect(DefectKind::Unclosed);
        }
        if state_digest.is_some_and(|state| self.summary.blocks > 0 && *state != self.summary.state_digest) {
            return defect(DefectKind::State);
        }
        self.summary.root = self.frontier.root();
        Ok(self.summary)
    }
}

/// Checks a whole log against a signed checkpoint and, if it is given, the digest of the state at its last cut.
pub fn verify_log<E>(
    leaves: impl IntoIterator<Item = Result<Leaf, E>>,
    checkpoint: &[u8],
    policy: &Policy,
    state_digest: Option<&Hash>,
) -> Result<(Accepted, Summary), LogError<E>> {
    let accepted = policy.check(checkpoint)?;
    let mut walker = Walker::new(vec![(accepted.checkpoint.size, accepted.checkpoint.root)]);
    for leaf in leaves {
        let leaf = leaf.map_err(LogError::Read)?;
        walker.push(&leaf.entry, leaf.side.as_deref(), |_| {})?;
    }
    Ok((accepted, walker.finish(state_digest)?))
}
