//! What removes: trimming behind a base, and erasing bodies in place.

use std::io;

use types::GroupId;

use super::append::Journal;
use super::error::{AppendError, EraseError};
use super::layout::{ERASED, SLOT_HEADER_LEN};
use super::open::overwrite_erased;
use super::segment::segment_name;
use super::{Base, Flushed};

impl Journal {
    /// Replaces the group's records below `base.below` by `base`: makes the base durable first, then removes
    /// the segments in which no group needs anything any more. Returns the flush of the base.
    ///
    /// A base below an earlier one, or above what was said, is refused as [`AppendError::Position`].
    pub fn trim(&mut self, group: GroupId, base: &Base) -> Result<Flushed, AppendError> {
        let next = self.next_position(group);
        let floor = self.base(group).map_or(1, |base| base.below);
        if base.below < floor || base.below > next {
            let expected = if base.below > next { next } else { floor };
            return Err(AppendError::Position { group, found: base.below, expected });
        }
        let flushed = self.append(&[], &[base.to_kept(group)])?;
        self.drop_segments()?;
        Ok(flushed)
    }

    /// Removes the oldest segments as long as every group's records in them are replaced by its base.
    fn drop_segments(&mut self) -> Result<(), AppendError> {
        while let Some(sequence) = self.droppable() {
            let name = segment_name(sequence);
            // One at a time and durably: a gap between segments would be taken for damage.
            let removed = self.disk.remove(&name).and_then(|()| self.disk.sync_dir());
            removed.map_err(|source| self.poison(source))?;
            self.shelf.segments.write().pop_front();
        }
        Ok(())
    }

    fn droppable(&self) -> Option<u64> {
        let segments = self.shelf.segments.read();
        let (oldest, follower) = (segments.front()?, segments.get(1)?);
        let below = |group| self.base(group).map_or(1, |base| base.below);
        follower.stands.iter().all(|(group, stand)| stand.next <= below(*group)).then_some(oldest.sequence)
    }

    /// Erases the body of a record where it stands. No hash, head or chain changes; the record then reads as
    /// erased. Returns false if it has no body or is erased already.
    pub fn erase(&mut self, group: GroupId, position: u64) -> Result<bool, EraseError> {
        if self.poisoned {
            return Err(AppendError::Poisoned.into());
        }
        let Some(found) = self.reader().find_slot(group, position)? else { return Ok(false) };
        let len = SLOT_HEADER_LEN + found.body_len;
        // The state word lies within a sector, and is durable before anything under the checksum changes.
        let erased = (|| -> io::Result<()> {
            found.file.write_at(&ERASED, found.offset + 4)?;
            found.file.sync()?;
            overwrite_erased(found.file.as_ref(), found.offset, len)
        })();
        erased.map_err(|source| self.poison(source))?;
        Ok(true)
    }
}
