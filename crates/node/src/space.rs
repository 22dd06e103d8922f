//! Free space: measured now and then, checked on every write, so that a full disk refuses writes before it
//! stops the journal.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::WriteError;

/// The free space of the data folder's file system.
pub(crate) struct Space {
    folder: PathBuf,
    reserve: u64,
    free: AtomicU64,
}

impl Space {
    pub(crate) fn new(folder: PathBuf, reserve: u64) -> Self {
        let space = Self { folder, reserve, free: AtomicU64::new(u64::MAX) };
        space.measure();
        space
    }

    /// Asks the file system. An error leaves the last figure: the writes themselves will tell.
    pub(crate) fn measure(&self) {
        if let Ok(stat) = rustix::fs::statvfs(&self.folder) {
            self.free.store(stat.f_bavail.saturating_mul(stat.f_frsize), Ordering::Relaxed);
        }
    }

    /// Free bytes at the last measurement.
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// The reserve in bytes.
    pub(crate) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Refuses when less than the reserve is free.
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        let free = self.free();
        if free < self.reserve {
            return Err(WriteError::DiskFull { free, reserve: self.reserve });
        }
        Ok(())
    }
}
