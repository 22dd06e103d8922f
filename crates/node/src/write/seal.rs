//! Step *seal*: a complete block becomes ledger entries and moves the stored state to its cut, all in one
//! atomic batch. Runs behind the answer and is derived: what a crash loses here is made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use catalog::digest::StateDigest;
use ledger::block::{self, Cut};
use ledger::tree::{Frontier, Hash, root_at};
use minicbor::{Decode, Encode};
use store::log::{LogError, LogFiles, LogRow};
use store::state::{State, StateBatch, StateError};
use types::fact::Fact;
use types::state::{ReadError, Table, Write};
use types::{GroupId, Timestamp};

use crate::replica::Block;
use crate::replica::overlay::Overlay;

/// Version byte of the seal marker.
const VERSION: u8 = 1;

/// The marker that rides in every state batch: where the stored state stands, and what sealing goes on from
/// (`docs/formats/state.md`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SealMarker {
    /// The cut at which the state stands.
    #[n(0)]
    pub cut: Timestamp,
    /// The edge of the tree ([`Frontier::to_bytes`]).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub frontier: Vec<u8>,
    /// The lanes of the state digest.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: Vec<u8>,
    /// Entries below this index are durable in the log's files; those from here on are rows too.
    #[n(3)]
    pub rows_from: u64,
    /// Commands sealed since the genesis.
    #[n(4)]
    pub commands: u64,
}

impl SealMarker {
    /// The bytes that are stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        minicbor::encode(self, &mut out).expect("encoding into a vector cannot fail");
        out
    }

    /// The inverse of [`SealMarker::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                minicbor::decode(rest).map_err(|error| SealError::Marker(format!("malformed: {error}")))
            }
            Some((version, _)) => Err(SealError::Marker(format!("version {version} is not known to this build"))),
            None => Err(SealError::Marker("it is empty".to_owned())),
        }
    }
}

/// Why a block could not be sealed, or sealing not be resumed. The replica stops.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The state could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The state could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log's files could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The facts do not make a block: a defect of this program.
    #[error("the block at {0} cannot be formed: {1}")]
    Block(Timestamp, block::BlockError),
    /// The marker of the state cannot be used.
    #[error("the seal marker of the state cannot be used: {0}; restore a backup into a new folder")]
    Marker(String),
    /// The ledger was turned off for a benchmark here, or is to be turned off where there is one.
    #[error(
        "a folder is filled either with a ledger or, for a benchmark, without: this one {0}; give --data a new folder"
    )]
    Mixed(&'static str),
    /// The log's files hold less than the marker says, and no rows stand in for the rest.
    #[error(
        "the ledger files hold {files} entries and the state {rows_from}: entries are missing; restore a backup into a new folder"
    )]
    Missing {
        /// Entries in the files.
        files: u64,
        /// Entries that the marker says are durable there.
        rows_from: u64,
    },
    /// The tree of the log's files is not the one that the state was sealed with.
    #[error("the ledger files do not give the root that was sealed at size {size}; restore a backup into a new folder")]
    Root {
        /// The size.
        size: u64,
    },
}

/// A head of the log: what a node signs, once it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The cut.
    pub cut: Timestamp,
    /// Number of entries.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
}

impl Head {
    /// Encoded size in bytes.
    pub const LEN: usize = 48;

    /// Whether the two cannot be heads of one log that was cut deterministically: one size with two roots, or
    /// one cut with two sizes.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        (self.size == other.size && self.root != other.root) || (self.cut == other.cut && self.size != other.size)
    }

    /// Cut, size, root; big endian. The body of a kept record before the head is signed.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.cut.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.size.to_be_bytes());
        out[16..].copy_from_slice(&self.root);
        out
    }

    /// The inverse of [`Head::to_bytes`]; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let (cut, rest) = bytes.split_first_chunk::<8>()?;
        let (size, root) = rest.split_first_chunk::<8>()?;
        Some(Self {
            cut: Timestamp(u64::from_be_bytes(*cut)),
            size: u64::from_be_bytes(*size),
            root: root.try_into().ok()?,
        })
    }
}

/// Seals blocks, one after the other. No threads, no clock: the simulator drives it too.
pub struct Sealer<S: ?Sized> {
    group: GroupId,
    state: Arc<S>,
    log: Arc<LogFiles>,
    overlay: Arc<Overlay>,
    ledger: bool,
    frontier: Frontier,
    digest: StateDigest,
    cut: Timestamp,
    rows_from: u64,
    commands: u64,
    /// Rows whose entries are durable in the files; removed with the next batch.
    stale_rows: std::ops::Range<u64>,
    /// Retry rows that no retry can ask for any more; removed with the next batch, unless that writes them.
    stale_retries: Vec<Bytes>,
    /// Where the search for such rows goes on.
    retry_cursor: Bytes,
}

/// Retry rows looked at per checkpoint.
const RETRY_ROWS_LOOKED_AT: usize = 100_000;

impl<S: State + ?Sized> Sealer<S> {
    /// Resumes from the marker of the stored state: cuts the log's files to what the state knows, or fills
    /// them up from its rows.
    pub fn resume(
        group: GroupId,
        state: Arc<S>,
        log: Arc<LogFiles>,
        overlay: Arc<Overlay>,
        ledger: bool,
    ) -> Result<Self, SealError> {
        let mut sealer = Self {
            group,
            state,
            log,
            overlay,
            ledger,
            frontier: Frontier::new(),
            digest: StateDigest::new(),
            cut: Timestamp::ZERO,
            rows_from: 0,
            commands: 0,
            stale_rows: 0..0,
            stale_retries: Vec::new(),
            retry_cursor: Bytes::new(),
        };
        if let Some(bytes) = sealer.state.applied()? {
            let marker = SealMarker::from_bytes(&bytes)?;
            let unusable = |error: &dyn core::fmt::Display| SealError::Marker(error.to_string());
            sealer.frontier = Frontier::from_bytes(&marker.frontier).map_err(|error| unusable(&error))?;
            sealer.digest = marker
                .digest
                .as_slice()
                .try_into()
                .map(StateDigest::from_bytes)
                .map_err(|_| unusable(&"bad digest lanes"))?;
            sealer.cut = marker.cut;
            sealer.rows_from = marker.rows_from;
            sealer.commands = marker.commands;
        }
        match (sealer.ledger, sealer.commands > 0, sealer.frontier.size() > 0) {
            (true, true, false) => return Err(SealError::Mixed("has none and so holds no evidence")),
            (false, _, true) => return Err(SealError::Mixed("has one")),
            _ => {}
        }
        sealer.refill()?;
        Ok(sealer)
    }

    /// The cut at which the stored state stands.
    #[must_use]
    pub fn cut(&self) -> Timestamp {
        self.cut
    }

    /// The head of the log.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { cut: self.cut, size: self.frontier.size(), root: self.frontier.root() }
    }

    /// The digest of the stored state.
    #[must_use]
    pub fn digest(&self) -> &StateDigest {
        &self.digest
    }

    /// Seals a block: state, rows of the new entries and marker in one batch, then the log's files, then the
    /// overlay lets go.
    pub fn seal(&mut self, block: &Block) -> Result<Head, SealError> {
        assert!(block.cut > self.cut, "cuts rise");
        let newest = newest_writes(block);
        self.fold(&newest)?;
        self.stale_retries.retain(|key| !newest.contains_key(&(Table::Retry, key.clone())));
        let mut writes: Vec<Write> = newest.into_values().collect();
        let mut items = Vec::new();
        let first = self.frontier.size();
        self.commands += block.executed.len() as u64;
        if self.ledger {
            items = self.entries(block)?;
            for (index, item) in (first..).zip(&items) {
                writes.push(Write { table: Table::Ledger, key: row_key(index), value: Some(row_value(item)) });
            }
        }
        let changed = writes.len();
        for index in self.stale_rows.clone() {
            writes.push(Write { table: Table::Ledger, key: row_key(index), value: None });
        }
        for key in self.stale_retries.drain(..) {
            writes.push(Write { table: Table::Retry, key, value: None });
        }
        self.cut = block.cut;
        self.state.apply(StateBatch { writes: writes.clone(), applied: self.marker().to_bytes() })?;
        self.stale_rows = 0..0;
        if !items.is_empty() {
            self.log.append(first, &items)?;
        }
        writes.truncate(changed);
        self.overlay.sealed(block.cut, &writes);
        Ok(self.head())
    }

    /// Makes state and log durable; the journal may then be trimmed up to the cut that is returned.
    pub fn checkpoint(&mut self) -> Result<Timestamp, SealError> {
        self.log.sync()?;
        let size = self.frontier.size();
        if self.ledger && size > self.rows_from {
            self.stale_rows = self.rows_from..size;
            self.rows_from = size;
        }
        self.state.sync()?;
        self.look_for_stale_retries()?;
        Ok(self.cut)
    }

    /// Goes on through the retry window; what has expired by the cut can be asked for by no later command.
    fn look_for_stale_retries(&mut self) -> Result<(), SealError> {
        let mut looked = 0;
        let mut last = Bytes::new();
        let (cut, stale) = (self.cut, &mut self.stale_retries);
        self.state.scan(Table::Retry, &self.retry_cursor, b"", &mut |key, value| {
            looked += 1;
            if catalog::retry_is_expired(value, cut) {
                stale.push(Bytes::copy_from_slice(key));
            }
            if looked < RETRY_ROWS_LOOKED_AT {
                return core::ops::ControlFlow::Continue(());
            }
            last = Bytes::copy_from_slice(key);
            core::ops::ControlFlow::Break(())
        })?;
        self.retry_cursor = last;
        Ok(())
    }

    fn marker(&self) -> SealMarker {
        SealMarker {
            cut: self.cut,
            frontier: self.frontier.to_bytes(),
            digest: self.digest.to_bytes().to_vec(),
            rows_from: self.rows_from,
            commands: self.commands,
        }
    }

    /// Folds what the block changes in the catalog into the state digest.
    fn fold(&mut self, newest: &BTreeMap<(Table, Bytes), Write>) -> Result<(), SealError> {
        for ((table, key), write) in newest {
            if *table != Table::Catalog {
                continue;
            }
            let old = self.state.get(Table::Catalog, key)?;
            if old == write.value {
                continue;
            }
            if let Some(old) = old {
                self.digest.remove(key, &old);
            }
            if let Some(new) = &write.value {
                self.digest.add(key, new);
            }
        }
        Ok(())
    }

    /// Forms the entries of the block and appends them to the tree.
    fn entries(&mut self, block: &Block) -> Result<Vec<LogRow>, SealError> {
        let facts: Vec<&Fact> = block.executed.iter().flat_map(|executed| &executed.facts).collect();
        let cut = Cut {
            previous: self.cut,
            at: block.cut,
            epoch: block.epoch,
            group: self.group,
            state_digest: self.digest.sha256(),
        };
        let formed = block::build(&self.frontier, &cut, &facts).map_err(|error| SealError::Block(block.cut, error))?;
        self.frontier = formed.frontier;
        Ok(formed
            .entries
            .into_iter()
            .zip(formed.leaf_hashes)
            .zip(formed.sides)
            .map(|((entry, leaf), side)| LogRow { entry, leaf, side: side.into() })
            .collect())
    }

    /// Brings the log's files to the size of the tree.
    fn refill(&mut self) -> Result<(), SealError> {
        let size = self.frontier.size();
        let mut files = self.log.len();
        if files > size {
            self.log.truncate(size)?;
            files = size;
        }
        if files < self.rows_from {
            return Err(SealError::Missing { files, rows_from: self.rows_from });
        }
        while files < size {
            let value = self.state.get(Table::Ledger, &row_key(files))?;
            let item = value.as_ref().and_then(row_item).ok_or(SealError::Missing { files, rows_from: size })?;
            self.log.append(files, &[item])?;
            files += 1;
        }
        let root = root_at(&crate::proofs::Files(&self.log), size).map_err(|_| SealError::Root { size })?;
        if size > 0 && root != self.frontier.root() {
            return Err(SealError::Root { size });
        }
        Ok(())
    }
}

/// The last write of each row in the block: the order of commands is the order of their timestamps.
fn newest_writes(block: &Block) -> BTreeMap<(Table, Bytes), Write> {
    let mut newest = BTreeMap::new();
    for executed in &block.executed {
        for write in &executed.writes {
            newest.insert((write.table, write.key.clone()), write.clone());
        }
    }
    newest
}

/// The key of an entry's row: its index, big endian.
pub(crate) fn row_key(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

/// Entry, leaf hash, side record.
pub(crate) fn row_value(item: &LogRow) -> Bytes {
    let mut value = Vec::with_capacity(item.entry.len() + item.leaf.len() + item.side.len());
    value.extend_from_slice(&item.entry);
    value.extend_from_slice(&item.leaf);
    value.extend_from_slice(&item.side);
    value.into()
}

fn row_item(value: &Bytes) -> Option<LogRow> {
    let (entry, rest) = value.split_first_chunk::<128>()?;
    let (leaf, side) = rest.split_first_chunk::<32>()?;
    Some(LogRow { entry: *entry, leaf: *leaf, side: Bytes::copy_from_slice(side) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn head(cut: u64, size: u64, root: u8) -> Head {
        Head { cut: Timestamp(cut), size, root: [root; 32] }
    }

    /// The vectors of `docs/formats/state.md`.
    #[test]
    fn head_and_marker_have_the_documented_bytes() {
        let bytes = head(10_000_000, 3, 7).to_bytes();
        assert_eq!(bytes[..16], [0, 0, 0, 0, 0, 0x98, 0x96, 0x80, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(bytes[16..], [7; 32]);
        assert_eq!(Head::from_bytes(&bytes), Some(head(10_000_000, 3, 7)));
        assert_eq!(Head::from_bytes(&bytes[1..]), None);

        let marker =
            SealMarker { cut: Timestamp(10_000_000), frontier: vec![1, 2], digest: vec![3], rows_from: 4, commands: 5 };
        let bytes = marker.to_bytes();
        assert_eq!(bytes, [1, 0x85, 0x1a, 0x00, 0x98, 0x96, 0x80, 0x42, 1, 2, 0x41, 3, 4, 5]);
        assert_eq!(SealMarker::from_bytes(&bytes).unwrap(), marker);
        assert!(SealMarker::from_bytes(&[2]).is_err());
        assert!(SealMarker::from_bytes(&[]).is_err());
    }

    #[test]
    fn one_size_has_one_root_and_one_cut_one_size() {
        assert!(!head(1, 2, 3).contradicts(&head(1, 2, 3)));
        assert!(!head(1, 2, 3).contradicts(&head(2, 4, 5)));
        assert!(head(1, 2, 3).contradicts(&head(1, 2, 4)));
        assert!(head(1, 2, 3).contradicts(&head(1, 3, 3)));
    }
}
