//! Verification of the files against each other, for `ledger verify`.

use ledger::tree::{Hash, TILE_WIDTH, leaf_hash, root_of_hashes};

use super::{ENTRY_LEN, HASH_LEN, LogError, LogFiles};

/// What files that verify hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedLog {
    /// Entries.
    pub len: u64,
    /// The RFC 6962 root over all of them, computed from the entries themselves.
    pub root: Hash,
}

/// What [`LogFiles::verify`] calls for each entry: its index, its bytes and its side record.
pub type VisitRow<'a, E> = dyn FnMut(u64, &[u8; ENTRY_LEN], &[u8]) -> Result<(), E> + 'a;

impl LogFiles {
    /// Recomputes every hash from the entries and compares it with what is stored, and checks that every side
    /// record lies where its entry says. `visit` is given each entry and its side record, in order; what it
    /// returns as an error stops the walk.
    pub fn verify<E: From<LogError>>(&self, visit: &mut VisitRow<'_, E>) -> Result<VerifiedLog, E> {
        let len = self.len();
        let mut frontier = ledger::tree::Frontier::new();
        let mut first = 0;
        while first < len {
            let end = len.min(first + TILE_WIDTH as u64);
            let entries = self.entries(first..end)?;
            let leaves = self.hashes(0, first..end)?;
            for ((index, entry), stored) in
                (first..).zip(entries.as_chunks::<ENTRY_LEN>().0).zip(leaves.as_chunks::<HASH_LEN>().0)
            {
                let leaf = leaf_hash(entry);
                if leaf != *stored {
                    return Err(self.level(0)?.damaged(&format!("entry {index} has another leaf hash")).into());
                }
                frontier.append(leaf);
                visit(index, entry, &self.side(index)?)?;
            }
            first = end;
        }
        self.verify_levels(len)?;
        Ok(VerifiedLog { len, root: frontier.root() })
    }

    /// Each level from the one below.
    fn verify_levels(&self, len: u64) -> Result<(), LogError> {
        let (mut level, mut count) = (1u8, len / TILE_WIDTH as u64);
        while count > 0 {
            for index in 0..count {
                let tile = index * TILE_WIDTH as u64..(index + 1) * TILE_WIDTH as u64;
                let below = self.hashes(level - 1, tile)?;
                let root = root_of_hashes(below.as_chunks::<HASH_LEN>().0.iter().copied());
                if self.hashes(level, index..index + 1)? != root {
                    return Err(self.level(usize::from(level))?.damaged(&format!("hash {index} is another")));
                }
            }
            level += 1;
            count /= TILE_WIDTH as u64;
        }
        Ok(())
    }
}
