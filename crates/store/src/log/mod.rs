//! The ledger at rest: flat, append-only files that tiles, bundles and proofs are slices of.
//!
//! What is appended is durable after [`LogFiles::sync`] only; until then the caller keeps the rows elsewhere and
//! appends them again after a crash. Layout: `docs/formats/log.md`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ledger::tree::{Hash, HashReadError, HashReader, TILE_WIDTH, root_of_hashes};
use parking_lot::{Mutex, RwLock};

mod mark;
mod open;
mod side;
mod verify;

pub use verify::{VerifiedLog, VisitRow};

use crate::disk::{Disk, DiskFile, is_full};
use mark::{Mark, MarkFile};

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 128;
const HASH_LEN: usize = 32;

/// An entry to be appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRow {
    /// The entry.
    pub entry: [u8; ENTRY_LEN],
    /// Its RFC 6962 leaf hash.
    pub leaf: Hash,
    /// Its side record; may be empty.
    pub side: Bytes,
}

/// What can go wrong with the files of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk answered with an error.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The error.
        source: io::Error,
    },
    /// No room. Nothing changed; try again when there is some.
    #[error("{file}: the disk is full")]
    Full {
        /// The file.
        file: String,
    },
    /// Written in another version of the format.
    #[error("{file} is of format {found} and this build reads format 1: start the version that wrote it")]
    Version {
        /// The file.
        file: String,
        /// The version found.
        found: u32,
    },
    /// What was durable is not there or does not check.
    #[error("{file} is damaged: {reason}. Restore the data folder from a backup, or replace this replica")]
    Damaged {
        /// The file.
        file: String,
        /// What does not check.
        reason: String,
    },
    /// Entries that do not follow those there.
    #[error("entry {first} cannot follow {len} entries")]
    Gap {
        /// The first index given.
        first: u64,
        /// How many entries there are.
        len: u64,
    },
    /// An entry other than the one already there: the log would fork.
    #[error("entry {0} is there already and is another")]
    Conflict(u64),
    /// An index or range beyond the end, or a level that has none.
    #[error("entries up to {end} were asked for and there are {len}")]
    Range {
        /// The end asked for.
        end: u64,
        /// How many there are.
        len: u64,
    },
    /// A side record longer than the one that it replaces.
    #[error("the side record of entry {0} cannot be replaced by a longer one")]
    TooLong(u64),
    /// A flush failed: nothing is known of what it left. The node must start again.
    #[error("an earlier flush of the ledger's files failed: the node must start again")]
    Poisoned,
}

/// The files of one log. Reads take no lock that a writer holds for long.
pub struct LogFiles {
    disk: Arc<dyn Disk>,
    entries: Named,
    side: Named,
    side_index: Named,
    /// `hash-0` and on.
    levels: RwLock<Vec<Named>>,
    len: AtomicU64,
    writer: Mutex<WriterState>,
}

/// A file and its name.
#[derive(Clone)]
struct Named {
    file: Arc<dyn DiskFile>,
    name: String,
}

/// What only one caller at a time may touch.
struct WriterState {
    mark: MarkFile,
    side_len: u64,
    has_new_names: bool,
    poisoned: bool,
}

impl LogFiles {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of entries that are there and durable.
    #[must_use]
    pub fn synced_len(&self) -> u64 {
        self.durable_len().min(self.len())
    }

    /// Number of entries that ever were made durable, those set back by [`LogFiles::truncate`] among them. It never
    /// shrinks: a log that does not come back to it was made from an older copy.
    #[must_use]
    pub fn durable_len(&self) -> u64 {
        self.writer.lock().mark.current.len
    }

    /// Whether one of the two slots of the mark did not check at the opening: a crash cut its write short, or it was
    /// damaged. The other one counts.
    #[must_use]
    pub fn has_torn_mark(&self) -> bool {
        self.writer.lock().mark.is_torn
    }

    /// Appends entries from index `first` on. Those already there, or durable, are compared and passed over.
    pub fn append(&self, first: u64, rows: &[LogRow]) -> Result<(), LogError> {
        let mut writer = self.writer()?;
        let len = self.len();
        if first > len {
            return Err(LogError::Gap { first, len });
        }
        let stored = len.max(writer.mark.current.len);
        let known = usize::try_from(stored - first).map_or(rows.len(), |known| known.min(rows.len()));
        let (known, rows) = rows.split_at(known);
        let end = first + known.len() as u64;
        let there = self.entries.read_range(first..end, ENTRY_LEN)?;
        for ((index, row), entry) in (first..).zip(known).zip(there.as_chunks::<ENTRY_LEN>().0) {
            if row.entry != *entry {
                return Err(LogError::Conflict(index));
            }
        }
        let len = len.max(end);
        self.len.store(len, Ordering::Release);
        if rows.is_empty() {
            return Ok(());
        }
        let mut buffers = Buffers::default();
        let mut side_len = writer.side_len;
        for row in rows {
            side_len += buffers.put(row, side_len);
        }
        self.entries.write(&buffers.entries, len * ENTRY_LEN as u64)?;
        self.side.write(&buffers.side, writer.side_len)?;
        self.side_index.write(&buffers.index, len * 8)?;
        let end = len + rows.len() as u64;
        self.append_hashes(&mut writer, len, end, &buffers.leaves)?;
        writer.side_len = side_len;
        self.len.store(end, Ordering::Release);
        Ok(())
    }

    /// Writes leaf hashes and the roots of what they complete.
    fn append_hashes(&self, writer: &mut WriterState, len: u64, end: u64, leaves: &[u8]) -> Result<(), LogError> {
        self.level(0)?.write(leaves, len * HASH_LEN as u64)?;
        let (mut len, mut end, mut level) = (len, end, 0);
        loop {
            let below = self.level(level)?;
            level += 1;
            (len, end) = (len / TILE_WIDTH as u64, end / TILE_WIDTH as u64);
            if len == end {
                return Ok(());
            }
            let mut roots = Vec::new();
            for index in len..end {
                let tile = below.read(index * (TILE_WIDTH * HASH_LEN) as u64, TILE_WIDTH * HASH_LEN)?;
                roots.extend_from_slice(&root_of_hashes(tile.as_chunks::<HASH_LEN>().0.iter().copied()));
            }
            if self.levels.read().len() == level {
                let named = Named::create_or_open(self.disk.as_ref(), &level_name(level))?;
                self.levels.write().push(named);
                writer.has_new_names = true;
            }
            self.level(level)?.write(&roots, len * HASH_LEN as u64)?;
        }
    }

    /// The entries of a range, one behind the other.
    pub fn entries(&self, range: Range<u64>) -> Result<Vec<u8>, LogError> {
        self.check(range.end, self.len())?;
        self.entries.read_range(range, ENTRY_LEN)
    }

    /// The hashes of a range of a level, one behind the other: a tile is 256 of them.
    pub fn hashes(&self, level: u8, range: Range<u64>) -> Result<Vec<u8>, LogError> {
        let len = self.len().checked_shr(8 * u32::from(level)).unwrap_or(0);
        self.check(range.end, len)?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.level(usize::from(level))?.read_range(range, HASH_LEN)
    }

    /// Drops all entries from `len` on. Durable ones stay in the files, out of sight, until they are appended again:
    /// what was durable is evidence, and what comes in its place must be the same.
    pub fn truncate(&self, len: u64) -> Result<(), LogError> {
        let mut writer = self.writer()?;
        self.check(len, self.len())?;
        let durable = writer.mark.current;
        let (kept, side_len) =
            if len < durable.len { (durable.len, durable.side_len) } else { (len, self.side_end(len)?) };
        self.len.store(len, Ordering::Release);
        writer.side_len = side_len;
        self.cut(kept, side_len)
    }

    /// Makes everything appended durable.
    pub fn sync(&self) -> Result<(), LogError> {
        let mut writer = self.writer()?;
        let (len, side_len) = (self.len(), writer.side_len);
        if len <= writer.mark.current.len {
            return Ok(());
        }
        let synced = self.sync_files(&mut writer, len, side_len);
        synced.inspect_err(|_| writer.poisoned = true)
    }

    fn sync_files(&self, writer: &mut WriterState, len: u64, side_len: u64) -> Result<(), LogError> {
        for named in [&self.entries, &self.side, &self.side_index] {
            named.sync()?;
        }
        let levels = self.levels.read().clone();
        levels.iter().try_for_each(Named::sync)?;
        if writer.has_new_names {
            self.disk.sync_dir().map_err(|source| LogError::Io { file: self.disk.locate(""), source })?;
            writer.has_new_names = false;
        }
        let generation = writer.mark.current.generation + 1;
        writer.mark.write(Mark { generation, len, side_len })
    }

    fn writer(&self) -> Result<parking_lot::MutexGuard<'_, WriterState>, LogError> {
        let writer = self.writer.lock();
        if writer.poisoned { Err(LogError::Poisoned) } else { Ok(writer) }
    }

    fn level(&self, level: usize) -> Result<Named, LogError> {
        self.levels.read().get(level).cloned().ok_or(LogError::Range { end: 1, len: 0 })
    }

    fn check(&self, end: u64, len: u64) -> Result<(), LogError> {
        if end <= len { Ok(()) } else { Err(LogError::Range { end, len }) }
    }
}

impl HashReader for LogFiles {
    fn read_hashes(&self, level: u8, first: u64, out: &mut [Hash]) -> Result<(), HashReadError> {
        let range = first..first.saturating_add(out.len() as u64);
        let bytes = self.hashes(level, range).map_err(|error| HashReadError(error.to_string()))?;
        out.copy_from_slice(bytes.as_chunks::<HASH_LEN>().0);
        Ok(())
    }
}

/// The name of the file of a level.
fn level_name(level: usize) -> String {
    format!("hash-{level}")
}

/// Rows as they go to the files.
#[derive(Default)]
struct Buffers {
    entries: Vec<u8>,
    leaves: Vec<u8>,
    side: Vec<u8>,
    index: Vec<u8>,
}

impl Buffers {
    /// Adds a row whose side record starts at `side_start`; returns its length in `side`.
    fn put(&mut self, row: &LogRow, side_start: u64) -> u64 {
        self.entries.extend_from_slice(&row.entry);
        self.leaves.extend_from_slice(&row.leaf);
        let len = u32::try_from(row.side.len()).expect("side records are bounded by SIDE_LEN_MAX");
        self.side.extend_from_slice(&len.to_be_bytes());
        self.side.extend_from_slice(&row.side);
        let len = 4 + u64::from(len);
        self.index.extend_from_slice(&(side_start + len).to_be_bytes());
        len
    }
}

impl Named {
    fn create_or_open(disk: &dyn Disk, name: &str) -> Result<Self, LogError> {
        let file = match disk.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(name),
            made => made,
        };
        let place = disk.locate(name);
        match file {
            Ok(file) => Ok(Self { file, name: place }),
            Err(source) => Err(failed(&place, source)),
        }
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), LogError> {
        self.file.write_at(bytes, offset).map_err(|source| failed(&self.name, source))
    }

    fn sync(&self) -> Result<(), LogError> {
        self.file.sync().map_err(|source| failed(&self.name, source))
    }

    fn len(&self) -> Result<u64, LogError> {
        self.file.len().map_err(|source| failed(&self.name, source))
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; len];
        match self.file.read_at(&mut bytes, offset) {
            Ok(read) if read == len => Ok(bytes),
            Ok(_) => Err(self.damaged("it is shorter than it was")),
            Err(source) => Err(failed(&self.name, source)),
        }
    }

    /// Items of `width` bytes.
    fn read_range(&self, range: Range<u64>, width: usize) -> Result<Vec<u8>, LogError> {
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        self.read(range.start * width as u64, count.saturating_mul(width))
    }

    fn damaged(&self, reason: &str) -> LogError {
        LogError::Damaged { file: self.name.clone(), reason: reason.to_owned() }
    }
}

fn failed(name: &str, source: io::Error) -> LogError {
    let file = name.to_owned();
    if is_full(&source) { LogError::Full { file } } else { LogError::Io { file, source } }
}
