//! The digest of the state: LtHash, which needs only the rows that change.
//!
//! Each row of [`types::state::Table::Catalog`] is spread by BLAKE3 into 1024 lanes of 16 bits; the digest is
//! the sum of all rows, lane by lane, modulo 2^16. So rows can be added and removed in any order, and equal
//! digests mean equal rows (Lewi and others, "Securing Update Propagation with Homomorphic Hashing", 2019).

use sha2::{Digest, Sha256};

/// Lanes of the sum.
const LANES: usize = 1024;

/// The sum over the rows of a state. Equal for equal rows, whatever the order in which they came and went.
#[derive(Clone, PartialEq, Eq)]
pub struct StateDigest {
    lanes: Box<[u16; LANES]>,
}

impl Default for StateDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl StateDigest {
    /// Encoded size in bytes.
    pub const LEN: usize = LANES * 2;

    /// That of no rows: all zero.
    #[must_use]
    pub fn new() -> Self {
        Self { lanes: Box::new([0; LANES]) }
    }

    /// Counts a row in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let spread = spread(key, value);
        for (lane, word) in self.lanes.iter_mut().zip(spread.as_chunks().0) {
            *lane = lane.wrapping_add(u16::from_le_bytes(*word));
        }
    }

    /// Counts a row out that was counted in.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        let spread = spread(key, value);
        for (lane, word) in self.lanes.iter_mut().zip(spread.as_chunks().0) {
            *lane = lane.wrapping_sub(u16::from_le_bytes(*word));
        }
    }

    /// The lanes in order, each little endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        for (word, lane) in out.as_chunks_mut().0.iter_mut().zip(self.lanes.iter()) {
            *word = lane.to_le_bytes();
        }
        out
    }

    /// The inverse of [`StateDigest::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut digest = Self::new();
        for (lane, word) in digest.lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = u16::from_le_bytes(*word);
        }
        digest
    }

    /// SHA-256 of [`StateDigest::to_bytes`]: what a block entry commits to.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

impl core::fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "StateDigest({})", crate::rows::hex(&self.sha256()))
    }
}

/// BLAKE3 of `u32 key length || key || value`, in extended output.
fn spread(key: &[u8], value: &[u8]) -> [u8; StateDigest::LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut out = [0; StateDigest::LEN];
    hasher.finalize_xof().fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [(&[u8], &[u8]); 4] = [(b"a", b"1"), (b"a1", b""), (b"", b"a1"), (b"b", b"2")];

    fn sum(rows: impl IntoIterator<Item = usize>) -> StateDigest {
        rows.into_iter().fold(StateDigest::new(), |mut digest, row| {
            digest.add(ROWS[row].0, ROWS[row].1);
            digest
        })
    }

    #[test]
    fn the_order_of_changes_leaves_no_trace() {
        let mut digest = sum([3, 1, 0, 2]);
        assert_eq!(digest, sum([0, 1, 2, 3]));
        digest.remove(ROWS[1].0, ROWS[1].1);
        assert_eq!(digest, sum([0, 2, 3]));
        for row in [0, 2, 3] {
            digest.remove(ROWS[row].0, ROWS[row].1);
        }
        assert_eq!(digest, StateDigest::new());
    }

    #[test]
    fn where_the_key_ends_counts() {
        let digests = [sum([0]), sum([1]), sum([2]), sum([3])];
        for (at, digest) in digests.iter().enumerate() {
            assert!(digests[..at].iter().all(|other| other != digest));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let digest = sum([0, 1]);
        assert_eq!(StateDigest::from_bytes(&digest.to_bytes()), digest);
        assert_eq!(digest.sha256(), <[u8; 32]>::from(Sha256::digest(digest.to_bytes())));
    }
}
