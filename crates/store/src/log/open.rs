//! Opening: everything is cut to what the mark says is durable.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ledger::tree::TILE_WIDTH;
use parking_lot::{Mutex, RwLock};

use super::mark::MarkFile;
use super::{ENTRY_LEN, HASH_LEN, LogError, LogFiles, Named, WriterState, failed, level_name};
use crate::disk::Disk;

impl LogFiles {
    /// Opens the files in a folder, or makes them. What was not durable when the node stopped is cut off.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        let open = |name: &str| Named::create_or_open(disk.as_ref(), name);
        let (entries, side, side_index) = (open("entries")?, open("side")?, open("side-index")?);
        let mut levels = vec![open(&level_name(0))?];
        let entries_len = entries.file.len().map_err(|source| failed(&entries.name, source))?;
        let mark = MarkFile::open(disk.as_ref(), entries_len == 0)?;
        let (len, side_len) = (mark.current.len, mark.current.side_len);
        let mut width = TILE_WIDTH as u64;
        while len >= width {
            levels.push(open(&level_name(levels.len()))?);
            width = width.saturating_mul(TILE_WIDTH as u64);
        }
        // A crash may have lost names that a first opening made: the first sync makes all of them durable.
        let writer = WriterState { mark, side_len, has_new_names: true, poisoned: false };
        let log = Self {
            disk,
            entries,
            side,
            side_index,
            levels: RwLock::new(levels),
            len: AtomicU64::new(len),
            writer: Mutex::new(writer),
        };
        log.remove_levels_above()?;
        log.redo()?;
        log.cut(len, side_len)?;
        Ok(log)
    }

    /// Cuts every file to its length after `len` entries; one that is shorter is damaged.
    pub(super) fn cut(&self, len: u64, side_len: u64) -> Result<(), LogError> {
        cut(&self.entries, len * ENTRY_LEN as u64)?;
        cut(&self.side_index, len * 8)?;
        cut(&self.side, side_len)?;
        let levels = self.levels.read().clone();
        let mut count = len;
        for level in &levels {
            cut(level, count * HASH_LEN as u64)?;
            count /= TILE_WIDTH as u64;
        }
        if self.side_end(len)? == side_len {
            return Ok(());
        }
        Err(self.side_index.damaged("it does not end where the side records do"))
    }

    /// Removes hash files of levels that the durable entries do not reach.
    fn remove_levels_above(&self) -> Result<(), LogError> {
        let known = self.levels.read().len();
        let fail = |source| failed(&self.disk.locate(""), source);
        for name in self.disk.list().map_err(fail)? {
            let level = name.strip_prefix("hash-").and_then(|level| level.parse::<usize>().ok());
            if level.is_some_and(|level| level >= known) {
                self.disk.remove(&name).map_err(fail)?;
            }
        }
        Ok(())
    }
}

fn cut(named: &Named, len: u64) -> Result<(), LogError> {
    let found = named.file.len().map_err(|source| failed(&named.name, source))?;
    if found < len {
        return Err(named.damaged(&format!("it has {found} bytes and {len} were durable")));
    }
    if found > len {
        named.file.set_len(len).map_err(|source| failed(&named.name, source))?;
    }
    Ok(())
}
