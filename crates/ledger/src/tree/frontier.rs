//! The growing edge of a tree: enough to append to it and to know its root.

use super::{Hash, TILE_HEIGHT, empty_root, node_hash};

/// The most complete subtrees that a tree of at most `2^64 - 1` leaves consists of.
pub const PEAKS_MAX: usize = 64;

/// The roots of the complete subtrees that a tree consists of, one per bit set in its size.
#[derive(Clone)]
pub struct Frontier {
    size: u64,
    /// `peaks[h]` is the root of the complete subtree of `2^h` leaves, where bit `h` of `size` is set.
    peaks: [Hash; PEAKS_MAX],
}

/// A hash that an append completed and that tiles hold: the root of the complete subtree of `256^level` leaves with
/// this index among those of its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredHash {
    /// The level; 0: leaf hashes.
    pub level: u8,
    /// The index within the level.
    pub index: u64,
    /// The hash.
    pub hash: Hash,
}

/// Why bytes are not a frontier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrontierError {
    /// The length does not fit the size that the first eight bytes give.
    #[error("a frontier of {0} bytes does not fit its size")]
    Length(usize),
}

impl Frontier {
    /// The edge of the tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, peaks: [[0; 32]; PEAKS_MAX] }
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, given its hash.
    pub fn append(&mut self, leaf: Hash) {
        self.append_with(leaf, |_| {});
    }

    /// Appends a leaf, given its hash, and tells `stored` of each hash that tiles hold from now on: the leaf's, then
    /// those of the subtrees that it completes, by rising level.
    ///
    /// A tree holds at most `2^64 - 1` leaves; at one million a second that lasts for half a million years.
    pub fn append_with(&mut self, leaf: Hash, mut stored: impl FnMut(StoredHash)) {
        let mut hash = leaf;
        let mut height = 0;
        stored(StoredHash { level: 0, index: self.size, hash });
        while self.size >> height & 1 == 1 {
            hash = node_hash(&self.peaks[height as usize], &hash);
            height += 1;
            if height % TILE_HEIGHT == 0 {
                let level = u8::try_from(height / TILE_HEIGHT).expect("at most 64 / 8 levels");
                stored(StoredHash { level, index: self.size >> height, hash });
            }
        }
        self.peaks[height as usize] = hash;
        self.size += 1;
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut rest = self.size;
        if rest == 0 {
            return empty_root();
        }
        let mut root = self.peaks[rest.trailing_zeros() as usize];
        rest &= rest - 1;
        while rest != 0 {
            root = node_hash(&self.peaks[rest.trailing_zeros() as usize], &root);
            rest &= rest - 1;
        }
        root
    }

    /// `u64` size, then the peaks from the largest subtree to the smallest: at most 2,056 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 32 * self.size.count_ones() as usize);
        out.extend_from_slice(&self.size.to_be_bytes());
        for height in (0..PEAKS_MAX).rev().filter(|height| self.size >> height & 1 == 1) {
            out.extend_from_slice(&self.peaks[height]);
        }
        out
    }

    /// The inverse of [`Frontier::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let wrong = FrontierError::Length(bytes.len());
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(wrong)?;
        let size = u64::from_be_bytes(*size);
        let (hashes, left) = rest.as_chunks::<32>();
        if !left.is_empty() || hashes.len() != size.count_ones() as usize {
            return Err(wrong);
        }
        let mut frontier = Self { size, ..Self::new() };
        let heights = (0..PEAKS_MAX).rev().filter(|height| size >> height & 1 == 1);
        for (height, hash) in heights.zip(hashes) {
            frontier.peaks[height] = *hash;
        }
        Ok(frontier)
    }
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Frontier {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size
            && (0..PEAKS_MAX).all(|height| self.size >> height & 1 == 0 || self.peaks[height] == other.peaks[height])
    }
}

impl Eq for Frontier {}

impl core::fmt::Debug for Frontier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Frontier").field("size", &self.size).finish_non_exhaustive()
    }
}
