//! The state on disk, in fjall.

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::fjall::{
    self as fjall, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    Readable,
};
use bytes::Bytes;
use types::state::{ReadError, StateRead, Table, Visit};

use super::{Snapshot, State, StateBatch, StateError};

const FORMAT: &[u8] = b"1";
const FORMAT_KEY: &[u8] = b"format";
const APPLIED_KEY: &[u8] = b"applied";
/// Inline bodies from this length on lie apart from their keys, so that compaction does not copy them.
const SEPARATE_LEN: u32 = 4096;

/// How much memory and how many threads the state may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FjallOptions {
    /// Bytes of the block cache.
    pub cache_len: u64,
    /// Bytes that a table may hold in memory before they are written out: catalog and bodies this many each,
    /// the others a quarter.
    pub write_buffer_len: u64,
    /// Bytes of fjall's own journals before tables are written out; at least 64 MiB.
    pub journal_len_max: u64,
    /// Threads that write out and compact.
    pub workers: usize,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_len: 64 * 1024 * 1024,
            write_buffer_len: 16 * 1024 * 1024,
            journal_len_max: 128 * 1024 * 1024,
            workers: 2,
        }
    }
}

/// The state of a node on disk. Cheap to clone.
#[derive(Clone)]
pub struct FjallState {
    database: Database,
    tables: [Keyspace; 4],
    meta: Keyspace,
    folder: Arc<str>,
}

impl FjallState {
    /// Opens the state in a folder, or makes it.
    pub fn open(path: impl AsRef<Path>, options: FjallOptions) -> Result<Self, StateError> {
        let path = path.as_ref();
        let folder: Arc<str> = path.display().to_string().into();
        // Damaged files make fjall's parsers panic in places; here that is one more way to be damaged.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_database(path, &folder, options)));
        let state = opened.unwrap_or_else(|_| {
            Err(StateError::Damaged { folder: folder.to_string(), reason: "its files cannot be parsed".to_owned() })
        })?;
        state.check_format()?;
        Ok(state)
    }

    fn open_database(path: &Path, folder: &Arc<str>, options: FjallOptions) -> Result<Self, StateError> {
        let fail = |error| failed(folder, error);
        let database = Database::builder(path)
            .cache_size(options.cache_len)
            .max_journaling_size(options.journal_len_max)
            .worker_threads(options.workers)
            .manual_journal_persist(true)
            .open()
            .map_err(fail)?;
        let open = |table: Table| database.keyspace(table.name(), || table_options(table, options)).map_err(fail);
        let tables = [open(Table::Catalog)?, open(Table::Bodies)?, open(Table::Retry)?, open(Table::Ledger)?];
        let meta_options = || KeyspaceCreateOptions::default().max_memtable_size(1024 * 1024);
        let meta = database.keyspace("meta", meta_options).map_err(fail)?;
        Ok(Self { database, tables, meta, folder: Arc::clone(folder) })
    }

    /// Refuses a folder of another version; marks a new one.
    fn check_format(&self) -> Result<(), StateError> {
        match self.meta.get(FORMAT_KEY).map_err(|error| self.failed(error))? {
            Some(found) if *found == *FORMAT => Ok(()),
            Some(found) => Err(StateError::Version {
                folder: self.folder.to_string(),
                found: String::from_utf8_lossy(&found).into_owned(),
            }),
            None => {
                self.meta.insert(FORMAT_KEY, FORMAT).map_err(|error| self.failed(error))?;
                self.database.persist(PersistMode::SyncAll).map_err(|error| self.failed(error))
            }
        }
    }

    /// A view that later batches do not change, and the `applied` of the last batch that it has.
    pub fn frozen(&self) -> Result<(Snapshot, Option<Vec<u8>>), StateError> {
        let snapshot = self.database.snapshot();
        let applied = snapshot.get(&self.meta, APPLIED_KEY).map_err(|error| self.failed(error))?;
        let applied = applied.map(|applied| applied.to_vec());
        Ok((Arc::new(FjallSnapshot { state: self.clone(), snapshot }), applied))
    }

    fn table(&self, table: Table) -> &Keyspace {
        match table {
            Table::Catalog => &self.tables[0],
            Table::Bodies => &self.tables[1],
            Table::Retry => &self.tables[2],
            Table::Ledger => &self.tables[3],
        }
    }

    fn failed(&self, error: fjall::Error) -> StateError {
        failed(&self.folder, error)
    }
}

fn table_options(table: Table, options: FjallOptions) -> KeyspaceCreateOptions {
    let common = KeyspaceCreateOptions::default();
    match table {
        Table::Catalog => common.max_memtable_size(options.write_buffer_len),
        Table::Bodies => common.max_memtable_size(options.write_buffer_len).with_kv_separation(Some(
            KvSeparationOptions::default().separation_threshold(SEPARATE_LEN).compression(CompressionType::None),
        )),
        Table::Retry | Table::Ledger => common.max_memtable_size(options.write_buffer_len / 4),
    }
}

fn failed(folder: &str, error: fjall::Error) -> StateError {
    let folder = folder.to_owned();
    match error {
        fjall::Error::Locked => StateError::Locked(folder),
        fjall::Error::Io(error) if crate::disk::is_full(&error) => StateError::Full(folder),
        fjall::Error::Io(error) => StateError::Io { folder, reason: error.to_string() },
        fjall::Error::InvalidVersion(found) => {
            let found = found.map_or_else(|| "unknown to fjall".to_owned(), |found| format!("fjall {found:?}"));
            StateError::Version { folder, found }
        }
        fjall::Error::Poisoned => {
            StateError::Io { folder, reason: "an earlier write failed: the node must start again".to_owned() }
        }
        other => StateError::Damaged { folder, reason: other.to_string() },
    }
}

fn unreadable(error: &fjall::Error) -> ReadError {
    ReadError(error.to_string())
}

/// Calls `visit` for the rows that `iter` gives.
fn visit_all(iter: fjall::Iter, visit: &mut Visit<'_>) -> Result<(), ReadError> {
    for row in iter {
        let (key, value) = row.into_inner().map_err(|error| unreadable(&error))?;
        if visit(&key, &value) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range of a scan; `None` when it is empty.
fn bounds<'a>(start: &'a [u8], end: &'a [u8]) -> Option<Bounds<'a>> {
    match end {
        [] => Some((Bound::Included(start), Bound::Unbounded)),
        _ if start < end => Some((Bound::Included(start), Bound::Excluded(end))),
        _ => None,
    }
}

impl StateRead for FjallState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.table(table).get(key).map_err(|error| unreadable(&error))?.map(Bytes::from))
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let Some(bounds) = bounds(start, end) else { return Ok(()) };
        visit_all(self.table(table).range::<&[u8], _>(bounds), visit)
    }
}

impl State for FjallState {
    fn apply(&self, batch: StateBatch) -> Result<(), StateError> {
        // `Buffer`: handed to the operating system, not flushed.
        let mut changes = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), batch.writes.len() + 1)
            .durability(Some(PersistMode::Buffer));
        for write in batch.writes {
            let table = self.table(write.table);
            match write.value {
                Some(value) => changes.insert(table, write.key, value),
                None => changes.remove(table, write.key),
            }
        }
        changes.insert(&self.meta, APPLIED_KEY, batch.applied);
        changes.commit().map_err(|error| self.failed(error))
    }

    fn applied(&self) -> Result<Option<Vec<u8>>, StateError> {
        let applied = self.meta.get(APPLIED_KEY).map_err(|error| self.failed(error))?;
        Ok(applied.map(|applied| applied.to_vec()))
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(FjallSnapshot { state: self.clone(), snapshot: self.database.snapshot() })
    }

    fn sync(&self) -> Result<(), StateError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| self.failed(error))
    }

    fn disk_len(&self) -> Result<u64, StateError> {
        self.database.disk_space().map_err(|error| self.failed(error))
    }
}

/// A view of a [`FjallState`].
struct FjallSnapshot {
    state: FjallState,
    snapshot: fjall::Snapshot,
}

impl StateRead for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let found = self.snapshot.get(self.state.table(table), key).map_err(|error| unreadable(&error))?;
        Ok(found.map(Bytes::from))
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let Some(bounds) = bounds(start, end) else { return Ok(()) };
        visit_all(self.snapshot.range::<&[u8], _>(self.state.table(table), bounds), visit)
    }
}
