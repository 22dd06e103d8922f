//! What the node shows of its ledger: checkpoints, tiles, policy, and inclusion receipts.

use std::sync::Arc;

use bytes::Bytes;
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::entry::Entry;
use ledger::proof::TlogProof;
use ledger::side::SideRecord;
use ledger::tile::{TileKind, TilePath, bundle};
use ledger::tree::{Hash, HashReadError, HashReader, inclusion_proof};
use store::log::LogFiles;
use types::OrderKey;

use crate::clock;
use crate::node::{Node, Shared};
use crate::write::seal::Head;

/// Why something of the ledger could not be given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProofError {
    /// Not a path of a tile or an entry bundle.
    #[error("not a tile path: {0}")]
    Path(String),
    /// No such tile, entry or object at the newest signed head.
    #[error("the ledger holds no such thing yet")]
    NotFound,
    /// The log could not be read.
    #[error("the ledger could not be read: {0}")]
    Read(String),
}

/// The hashes of the log's files, for proofs.
pub(crate) struct Files<'a>(pub(crate) &'a LogFiles);

impl HashReader for Files<'_> {
    fn read_hashes(&self, level: u8, first: u64, out: &mut [Hash]) -> Result<(), HashReadError> {
        let end = first + out.len() as u64;
        let hashes = self.0.hashes(level, first..end).map_err(|error| HashReadError(error.to_string()))?;
        for (hash, bytes) in out.iter_mut().zip(hashes.chunks_exact(size_of::<Hash>())) {
            hash.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// Signs a head as the log and as a node. Its kept record must be durable.
pub(crate) fn sign_checkpoint(shared: &Shared, head: Head) -> Vec<u8> {
    let checkpoint = Checkpoint::new(&shared.genesis.origin, head.size, head.root);
    let mut signed = SignedCheckpoint::sign(checkpoint, shared.keys.node.as_ref())
        .expect("the origin of the genesis makes a checkpoint");
    let founder = shared.genesis.members.iter().find(|member| member.replica == shared.replica);
    let name =
        founder.map_or_else(|| crate::start::name_of(shared.genesis.cluster, shared.replica), |me| me.name.clone());
    signed.cosign(&name, shared.keys.node.as_ref(), clock::now().wall_ns / 1_000_000_000);
    signed.to_string().into_bytes()
}

/// An entry of the log with the proof that it is there, and its side record.
#[derive(Clone, Debug)]
pub struct Inclusion {
    /// The proof, in the form of C2SP `tlog-proof`.
    pub proof: TlogProof,
    /// The entry.
    pub entry: [u8; Entry::LEN],
    /// The encoded side record.
    pub side: Bytes,
}

impl Node {
    /// The newest signed checkpoint; empty before the first block.
    #[must_use]
    pub fn checkpoint(&self) -> Arc<Vec<u8>> {
        self.shared.published.borrow().checkpoint.clone()
    }

    /// The policy that verifies this node's checkpoints and receipts, as text.
    #[must_use]
    pub fn policy(&self) -> String {
        self.shared.policy()
    }

    /// A tile or entry bundle of the newest signed head, by its `tlog-tiles` path.
    pub fn tile(&self, path: &str) -> Result<Bytes, ProofError> {
        let tile = TilePath::from_text(path).map_err(|error| ProofError::Path(error.to_string()))?;
        if !tile.exists_at(self.shared.head().size) {
            return Err(ProofError::NotFound);
        }
        let read = |error: store::log::LogError| ProofError::Read(error.to_string());
        match tile.kind() {
            TileKind::Entries => {
                let entries = self.shared.log.entries(tile.range()).map_err(read)?;
                let bundled =
                    bundle(entries.chunks_exact(Entry::LEN)).map_err(|error| ProofError::Read(error.to_string()))?;
                Ok(bundled.into())
            }
            TileKind::Hashes { .. } => {
                let hashes = self.shared.log.hashes(tile.level(), tile.range()).map_err(read)?;
                Ok(hashes.into())
            }
        }
    }

    /// The entry at an order key, proved under the newest signed head. [`ProofError::NotFound`] while it is
    /// not in the log yet: [`Node::included`] waits for that.
    pub fn inclusion(&self, order: OrderKey) -> Result<Inclusion, ProofError> {
        self.shared.inclusion(order)
    }

    /// Waits until everything up to `order` is in the log under a signed head.
    pub async fn included(&self, order: OrderKey) {
        wait_included(&self.shared, order).await;
    }

    /// The side record of an inclusion, decoded.
    pub fn side_record(&self, inclusion: &Inclusion) -> Result<SideRecord, ProofError> {
        SideRecord::from_bytes(&inclusion.side).map_err(|error| ProofError::Read(error.to_string()))
    }
}

impl Shared {
    pub(crate) fn inclusion(&self, order: OrderKey) -> Result<Inclusion, ProofError> {
        let published = self.published.borrow().clone();
        let (index, entry) = self.find(order, published.head.size)?.ok_or(ProofError::NotFound)?;
        let hashes = inclusion_proof(&Files(&self.log), index, published.head.size)
            .map_err(|error| ProofError::Read(error.to_string()))?;
        let side = self.log.side(index).map_err(|error| ProofError::Read(error.to_string()))?;
        let checkpoint = String::from_utf8_lossy(&published.checkpoint).into_owned();
        Ok(Inclusion { proof: TlogProof::of_entry(&entry, index, hashes, checkpoint), entry, side })
    }

    /// Entries stand in rising order key: a binary search.
    fn find(&self, order: OrderKey, size: u64) -> Result<Option<(u64, [u8; Entry::LEN])>, ProofError> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            let bytes = self.entry_at(middle)?;
            let entry = Entry::from_bytes(&bytes).map_err(|error| ProofError::Read(error.to_string()))?;
            match entry.order.cmp(&order) {
                core::cmp::Ordering::Equal => return Ok(Some((middle, bytes))),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn entry_at(&self, index: u64) -> Result<[u8; Entry::LEN], ProofError> {
        let entries = self.log.entries(index..index + 1).map_err(|error| ProofError::Read(error.to_string()))?;
        entries.as_slice().try_into().map_err(|_| ProofError::NotFound)
    }
}

pub(crate) async fn wait_included(shared: &Shared, order: OrderKey) {
    let mut published = shared.published.subscribe();
    // Ends with an error only when the node is dropped; then nobody waits.
    let _ = published.wait_for(|published| published.head.cut >= order.timestamp).await;
}
