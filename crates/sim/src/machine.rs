//! What survives a process: the disks of a machine, and what a crash does to them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use store::disk::{Disk, DiskFile, MemDisk};
use store::state::{MemState, Snapshot, State, StateBatch, StateError};
use types::state::{ReadError, StateRead, Table, Visit};

use crate::mutant::Mutant;

/// A machine: disks and the stored state.
pub(crate) struct Machine {
    pub(crate) journal: MemDisk,
    pub(crate) ledger: MemDisk,
    pub(crate) state: Arc<Rows>,
    pub(crate) segment_len: u64,
}

impl Machine {
    pub(crate) fn new(segment_len: u64, mutant: Option<Mutant>) -> Self {
        let rows = Rows { state: MemState::new(), mutant, batches: AtomicU64::new(0) };
        Self { journal: MemDisk::new(), ledger: MemDisk::new(), state: Arc::new(rows), segment_len }
    }

    /// The power goes and comes back.
    pub(crate) fn crash(&self, seed: u64) {
        self.journal.crash(seed);
        self.ledger.crash(seed ^ 1);
        self.state.state.crash(seed ^ 2);
    }

    /// The process is killed; the machine goes on.
    pub(crate) fn kill(&self) {
        self.journal.restart();
        self.ledger.restart();
    }

    /// Leaves no more than `free` bytes on each disk; `None` takes the limit away.
    pub(crate) fn limit(&self, free: Option<u64>) {
        for disk in [&self.journal, &self.ledger] {
            let used = disk.list().map_or(0, |names| {
                names.iter().filter_map(|name| disk.bytes(name)).map(|bytes| bytes.len() as u64).sum()
            });
            disk.set_budget(free.map(|free| used + free));
        }
    }
}

/// The stored state, with a place for a mutant to sit.
pub(crate) struct Rows {
    state: MemState,
    mutant: Option<Mutant>,
    batches: AtomicU64,
}

impl StateRead for Rows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.state.get(table, key)
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.state.scan(table, start, end, visit)
    }
}

impl State for Rows {
    fn apply(&self, mut batch: StateBatch) -> Result<(), StateError> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        if self.mutant == Some(Mutant::MarkerWithoutRows) && number % 5 == 4 {
            batch.writes.retain(|write| write.table == Table::Ledger);
        }
        self.state.apply(batch)
    }

    fn applied(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.state.applied()
    }

    fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    fn sync(&self) -> Result<(), StateError> {
        self.state.sync()
    }

    fn disk_len(&self) -> Result<u64, StateError> {
        self.state.disk_len()
    }
}

/// A disk that, for a mutant, swallows what is written to segments that were there before, until it is told that
/// the opening is over: nothing is mended.
pub(crate) struct MendlessDisk {
    disk: MemDisk,
    swallowing: Arc<AtomicBool>,
}

/// Ends the opening.
pub(crate) struct Mended(Arc<AtomicBool>);

impl Mended {
    pub(crate) fn done(self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl MendlessDisk {
    pub(crate) fn wrap(disk: &MemDisk, swallows: bool) -> (Arc<dyn Disk>, Mended) {
        let swallowing = Arc::new(AtomicBool::new(swallows));
        let mended = Mended(Arc::clone(&swallowing));
        // The real thing goes without a wrapper.
        let wrapped: Arc<dyn Disk> =
            if swallows { Arc::new(Self { disk: disk.clone(), swallowing }) } else { Arc::new(disk.clone()) };
        (wrapped, mended)
    }
}

impl Disk for MendlessDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name)?;
        if !name.starts_with("segment-") {
            return Ok(file);
        }
        Ok(Arc::new(MendlessFile { file, swallowing: Arc::clone(&self.swallowing) }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_len(&self) -> io::Result<u64> {
        self.disk.free_len()
    }

    fn locate(&self, name: &str) -> String {
        self.disk.locate(name)
    }
}

struct MendlessFile {
    file: Arc<dyn DiskFile>,
    swallowing: Arc<AtomicBool>,
}

impl DiskFile for MendlessFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.swallowing.load(Ordering::Relaxed) { Ok(()) } else { self.file.write_at(bytes, offset) }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }
}
