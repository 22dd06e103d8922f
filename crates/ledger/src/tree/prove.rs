//! Making proofs from the hashes that tiles hold.

use super::{Hash, TILE_HEIGHT, empty_root, node_hash};

/// A stored hash could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored hashes could not be read: {0}")]
pub struct HashReadError(pub String);

/// Reads stored hashes: of level `L` the roots of all complete subtrees of `256^L` leaves.
pub trait HashReader {
    /// Fills `out` with the hashes of `level` from index `first` on. At most 128 are asked for at once, and never
    /// across the border of a tile.
    fn read_hashes(&self, level: u8, first: u64, out: &mut [Hash]) -> Result<(), HashReadError>;

    /// The root of the complete subtree of `2^height` leaves with this index among those of its height. What is
    /// provided folds up to 128 stored hashes; a reader that keeps inner nodes may answer from these.
    fn read_node(&self, height: u32, index: u64) -> Result<Hash, HashReadError> {
        let mut hashes = [[0; 32]; 1 << (TILE_HEIGHT - 1)];
        let width = 1 << (height % TILE_HEIGHT);
        let level = u8::try_from(height / TILE_HEIGHT).map_err(|_| HashReadError("no such level".to_owned()))?;
        let hashes = &mut hashes[..width];
        self.read_hashes(level, index << (height % TILE_HEIGHT), hashes)?;
        Ok(fold(hashes))
    }
}

impl<R: HashReader + ?Sized> HashReader for &R {
    fn read_hashes(&self, level: u8, first: u64, out: &mut [Hash]) -> Result<(), HashReadError> {
        (**self).read_hashes(level, first, out)
    }

    fn read_node(&self, height: u32, index: u64) -> Result<Hash, HashReadError> {
        (**self).read_node(height, index)
    }
}

/// Why a proof could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The leaf, or the older size, lies outside the tree.
    #[error("{0} lies outside a tree of {1} leaves")]
    Range(u64, u64),
    /// Stored hashes could not be read.
    #[error(transparent)]
    Read(#[from] HashReadError),
}

/// Hashes a power of two of siblings up to their root, in place.
fn fold(hashes: &mut [Hash]) -> Hash {
    let mut width = hashes.len();
    while width > 1 {
        width /= 2;
        for i in 0..width {
            hashes[i] = node_hash(&hashes[2 * i], &hashes[2 * i + 1]);
        }
    }
    hashes[0]
}

/// The largest power of two below `width`, as a height. `width` is at least 2.
fn split_height(width: u64) -> u32 {
    (width - 1).ilog2()
}

/// The root over the leaves from `start` to `end`, where `start` is a multiple of a power of two that is not below
/// `end - start`, as all ranges in RFC 6962 are, and `start < end`.
fn range_root(reader: &impl HashReader, start: u64, end: u64) -> Result<Hash, HashReadError> {
    // From the right: the smallest complete subtree first, so that one hash is carried.
    let mut rest = end - start;
    let mut end = end;
    let mut root = None;
    while rest != 0 {
        let height = rest.trailing_zeros();
        end -= 1 << height;
        let peak = reader.read_node(height, end >> height)?;
        root = Some(match root {
            None => peak,
            Some(right) => node_hash(&peak, &right),
        });
        rest &= rest - 1;
    }
    root.ok_or_else(|| HashReadError("empty range".to_owned()))
}

/// The root of the tree of the first `size` leaves.
pub fn root_at(reader: &impl HashReader, size: u64) -> Result<Hash, ProveError> {
    if size == 0 {
        return Ok(empty_root());
    }
    Ok(range_root(reader, 0, size)?)
}

/// The inclusion proof (RFC 6962, section 2.1.1) of leaf `index` in the tree of the first `size` leaves: from the
/// leaf's sibling up to the root's child.
pub fn inclusion_proof(reader: &impl HashReader, index: u64, size: u64) -> Result<Vec<Hash>, ProveError> {
    if index >= size {
        return Err(ProveError::Range(index, size));
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + (1 << split_height(end - start));
        if index < middle {
            proof.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The consistency proof (RFC 6962, section 2.1.2) between the trees of the first `older` and the first `newer`
/// leaves. Empty when the two are equal. There is none from the empty tree: `older` must be at least 1.
pub fn consistency_proof(reader: &impl HashReader, older: u64, newer: u64) -> Result<Vec<Hash>, ProveError> {
    if older == 0 || older > newer {
        return Err(ProveError::Range(older, newer));
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, newer);
    while end != older {
        let middle = start + (1 << split_height(end - start));
        if older <= middle {
            proof.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    // The verifier knows the older root itself, so it is left out when it is a whole subtree.
    if start != 0 {
        proof.push(range_root(reader, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}
