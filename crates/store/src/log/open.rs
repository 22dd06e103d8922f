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
        log.redo()?;
        if log.has_torn_mark() {
            // What lies behind may have been durable: it is written over by what is appended, or is evidence.
            log.check_lens(len, side_len)?;
        } else {
            log.remove_levels_above()?;
            log.cut(len, side_len)?;
        }
        Ok(log)
    }

    /// Cuts every file to its length after `len` entries; one that is shorter is damaged.
    pub(super) fn cut(&self, len: u64, side_len: u64) -> Result<(), LogError> {
        self.check_lens(len, side_len)?;
        for (named, len) in self.lens(len, side_len) {
            if named.len()? > len {
                named.file.set_len(len).map_err(|source| failed(&named.name, source))?;
            }
        }
        Ok(())
    }

    /// Whether every file reaches its length after `len` entries.
    fn check_lens(&self, len: u64, side_len: u64) -> Result<(), LogError> {
        for (named, len) in self.lens(len, side_len) {
            let found = named.len()?;
            if found < len {
                return Err(named.damaged(&format!("it has {found} bytes and {len} were durable")));
            }
        }
        if self.side_end(len)? == side_len {
            return Ok(());
        }
        Err(self.side_index.damaged("it does not end where the side records do"))
    }

    /// Every file, and its length after `len` entries.
    fn lens(&self, len: u64, side_len: u64) -> Vec<(Named, u64)> {
        let mut lens = vec![
            (self.entries.clone(), len * ENTRY_LEN as u64),
            (self.side_index.clone(), len * 8),
            (self.side.clone(), side_len),
        ];
        let mut count = len;
        for level in self.levels.read().iter() {
            lens.push((level.clone(), count * HASH_LEN as u64));
            count /= TILE_WIDTH as u64;
        }
        lens
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
