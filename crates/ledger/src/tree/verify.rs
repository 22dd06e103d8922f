//! Checking proofs. Lengths are strict: a proof with one hash more or less than its tree demands is refused.

use super::{Hash, node_hash};

/// Why a proof does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// The leaf, or the older size, lies outside the tree (or the older size is zero, of which nothing is proved).
    #[error("{0} lies outside a tree of {1} leaves")]
    Range(u64, u64),
    /// The number of hashes is not the one that the tree demands.
    #[error("the proof has {found} hashes where {wanted} are needed")]
    Length {
        /// Hashes that are needed.
        wanted: usize,
        /// Hashes that are there.
        found: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Hashes below the point where the path to `index` leaves the right border of the tree, and those on it.
fn decompose(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

fn check_len(wanted: usize, proof: &[Hash]) -> Result<(), ProofError> {
    if proof.len() == wanted { Ok(()) } else { Err(ProofError::Length { wanted, found: proof.len() }) }
}

/// Whether the path goes to a right child at this level.
fn is_right(index: u64, level: usize) -> bool {
    index >> level & 1 == 1
}

/// The root to which an inclusion proof leads. Trust it only if it equals a root that is trusted.
pub fn root_from_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash]) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::Range(index, size));
    }
    let (inner, border) = decompose(index, size);
    check_len(inner + border, proof)?;
    let mut hash = *leaf;
    for (level, sibling) in proof[..inner].iter().enumerate() {
        hash = if is_right(index, level) { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    for sibling in &proof[inner..] {
        hash = node_hash(sibling, &hash);
    }
    Ok(hash)
}

/// Whether the leaf with this hash stands at `index` in the tree of `size` leaves with this root.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if root_from_inclusion(index, size, leaf, proof)? == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Whether the tree of `older` leaves with root `older_root` is a prefix of that of `newer` leaves with root
/// `newer_root`. Of the empty tree nothing is proved: `older` must be at least 1.
pub fn verify_consistency(
    older: u64,
    newer: u64,
    proof: &[Hash],
    older_root: &Hash,
    newer_root: &Hash,
) -> Result<(), ProofError> {
    if older == 0 || older > newer {
        return Err(ProofError::Range(older, newer));
    }
    if older == newer {
        check_len(0, proof)?;
        return if older_root == newer_root { Ok(()) } else { Err(ProofError::Root) };
    }
    let (inner, border) = decompose(older - 1, newer);
    // The rightmost complete subtree of the older tree is where both ascents start.
    let shift = older.trailing_zeros() as usize;
    let inner = inner - shift;
    let (seed, rest) = if older.is_power_of_two() {
        (*older_root, proof)
    } else {
        let (seed, rest) =
            proof.split_first().ok_or(ProofError::Length { wanted: 1 + inner + border, found: proof.len() })?;
        (*seed, rest)
    };
    if rest.len() != inner + border {
        return Err(ProofError::Length { wanted: proof.len() - rest.len() + inner + border, found: proof.len() });
    }
    let index = (older - 1) >> shift;
    let (mut older_hash, mut newer_hash) = (seed, seed);
    for (level, sibling) in rest[..inner].iter().enumerate() {
        if is_right(index, level) {
            older_hash = node_hash(sibling, &older_hash);
            newer_hash = node_hash(sibling, &newer_hash);
        } else {
            newer_hash = node_hash(&newer_hash, sibling);
        }
    }
    for sibling in &rest[inner..] {
        older_hash = node_hash(sibling, &older_hash);
        newer_hash = node_hash(sibling, &newer_hash);
    }
    if older_hash == *older_root && newer_hash == *newer_root { Ok(()) } else { Err(ProofError::Root) }
}
