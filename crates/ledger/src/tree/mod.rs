//! RFC 6962 Merkle trees with SHA-256: hashes of leaves and nodes, roots, growth, proofs.
//!
//! What is kept of a tree is what `tlog-tiles` keeps: of each level `L` the roots of all complete subtrees of
//! `256^L` leaves. Everything between is recomputed.

mod frontier;
mod prove;
mod small;
mod verify;

pub use frontier::{Frontier, FrontierError, PEAKS_MAX, StoredHash};
pub use prove::{HashReadError, HashReader, ProveError, consistency_proof, inclusion_proof, root_at};
pub use small::SmallTree;
pub use verify::{ProofError, root_from_inclusion, verify_consistency, verify_inclusion};

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Levels of the binary tree that one level of tiles spans.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;
/// The longest inclusion proof: one hash per level of a tree of `2^64 - 1` leaves. Consistency proofs have one more.
pub const PROOF_LEN_MAX: usize = 64;

/// The hash of a leaf: `SHA-256(0x00 || data)`.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut message = [0; 65];
    message[0] = 1;
    message[1..33].copy_from_slice(left);
    message[33..].copy_from_slice(right);
    Sha256::digest(message).into()
}

/// The root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over the given leaves, hashed here.
#[must_use]
pub fn root_of<I>(leaves: I) -> Hash
where
    I: IntoIterator,
    I::Item: AsRef<[u8]>,
{
    root_of_hashes(leaves.into_iter().map(|leaf| leaf_hash(leaf.as_ref())))
}

/// The root over leaves of which the hashes are given.
#[must_use]
pub fn root_of_hashes(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.append(leaf);
    }
    frontier.root()
}

/// Reads hashes that stand one behind the other, as tiles and frontiers hold them. `None` unless the length is a
/// multiple of 32.
#[must_use]
pub fn hashes_from_bytes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.to_vec())
}
