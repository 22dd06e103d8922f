//! The segment in waiting: made ahead and off the hot path, so that an append never has to allocate, and so
//! that a node whose disk has become full can still say what deleting and trimming need.

use std::io;
use std::sync::Arc;

use super::append::Journal;
use super::error::AppendError;
use super::segment::SPARE;
use crate::disk::{Disk, DiskFile, is_full};

/// The name of a segment made in the middle of an append, because no spare was ready.
pub(super) const SPARE_URGENT: &str = "spare-urgent";

/// Zeros are written, and flushed, in pieces of this length, so that they never stand long before a flush of
/// the journal.
const FILL_LEN: usize = 512 * 1024;

/// Whether a spare is there.
pub(super) enum Spare {
    /// None, and nobody makes one. Entered at a roll.
    Wanted,
    /// A [`SpareTask`] is out.
    Making,
    /// There is one. Left at the next roll.
    Ready(Arc<dyn DiskFile>),
    /// Making one failed; the journal is low on space until a later attempt succeeds.
    Failed,
}

/// Makes a spare segment; it may run on another thread than the journal.
pub struct SpareTask {
    disk: Arc<dyn Disk>,
    len: u64,
    fill: bool,
}

/// What became of a [`SpareTask`].
pub struct SpareMade(io::Result<Arc<dyn DiskFile>>);

impl SpareTask {
    /// Makes the spare. Give the answer to [`Journal::spare_made`].
    #[must_use]
    pub fn run(self) -> SpareMade {
        SpareMade(make(self.disk.as_ref(), SPARE, self.len, self.fill))
    }
}

impl Journal {
    /// What to run to have a spare segment, if one is wanted. [`Writer`](super::Writer) sees to it by itself.
    pub fn spare_task(&mut self) -> Option<SpareTask> {
        if self.poisoned || matches!(self.spare, Spare::Making | Spare::Ready(_)) {
            return None;
        }
        self.spare = Spare::Making;
        let (len, fill) = (self.options.segment_len, self.options.fill_spare);
        Some(SpareTask { disk: Arc::clone(&self.disk), len, fill })
    }

    /// Takes the answer of a [`SpareTask`].
    pub fn spare_made(&mut self, made: SpareMade) {
        self.spare = match made.0 {
            Ok(file) => Spare::Ready(file),
            Err(_) => Spare::Failed,
        };
    }

    /// Notes that a [`SpareTask`] could not be run.
    pub(super) fn spare_not_made(&mut self) {
        self.spare = Spare::Failed;
    }

    /// Makes a spare segment here and now, if one is wanted. Returns whether there is one.
    pub fn prepare(&mut self) -> bool {
        if let Some(task) = self.spare_task() {
            let made = task.run();
            self.spare_made(made);
        }
        matches!(self.spare, Spare::Ready(_))
    }

    /// Whether no spare segment could be made: what is left of the current one is all that can be appended.
    /// Ordinary writes should be refused now, so that deletes and trims still find room.
    #[must_use]
    pub fn is_low(&self) -> bool {
        matches!(self.spare, Spare::Failed)
    }

    /// The spare's name and file; makes one if none is ready.
    pub(super) fn take_spare(&mut self) -> Result<(String, Arc<dyn DiskFile>), AppendError> {
        if let Spare::Ready(file) = &self.spare {
            let file = Arc::clone(file);
            self.spare = Spare::Wanted;
            return Ok((SPARE.to_owned(), file));
        }
        match make(self.disk.as_ref(), SPARE_URGENT, self.options.segment_len, false) {
            Ok(file) => Ok((SPARE_URGENT.to_owned(), file)),
            Err(error) if is_full(&error) => {
                self.spare = Spare::Failed;
                Err(AppendError::Full { file: self.disk.locate(SPARE_URGENT) })
            }
            Err(source) => Err(self.poison(source)),
        }
    }
}

/// Makes a file of `len` zeros, durably; leaves nothing behind when it fails.
pub(super) fn make(disk: &dyn Disk, name: &str, len: u64, fill: bool) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(name)?;
    let made = (|| {
        file.reserve(len)?;
        file.sync()?;
        if fill {
            fill_with_zeros(file.as_ref(), len)?;
        }
        disk.sync_dir()
    })();
    match made {
        Ok(()) => Ok(file),
        Err(error) => {
            // The error at hand tells more than one of the clean-up could.
            let _ = disk.remove(name);
            Err(error)
        }
    }
}

fn fill_with_zeros(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_LEN];
    let mut offset = 0;
    while offset < len {
        let piece = usize::try_from(len - offset).map_or(FILL_LEN, |rest| rest.min(FILL_LEN));
        file.write_at(&zeros[..piece], offset)?;
        file.sync()?;
        offset += piece as u64;
    }
    Ok(())
}
