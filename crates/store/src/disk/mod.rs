//! The door to files: one folder of named files, read and written by position.
//!
//! The journal and the ledger files use nothing else, so a simulator can put [`mem::MemDisk`] in the place of
//! [`RealDisk`] and lose, tear and refuse writes. What the trait promises is what POSIX promises and no more:
//! a write is durable only after [`DiskFile::sync`], a name only after [`Disk::sync_dir`].

use std::io;
use std::sync::Arc;

pub mod mem;
mod real;

pub use mem::MemDisk;
pub use real::RealDisk;
pub(crate) use real::free_len;

/// Bytes that a disk writes in one piece, as far as this crate relies on it.
pub const SECTOR_LEN: usize = 512;

/// A folder of named files.
pub trait Disk: Send + Sync {
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that exists (else [`io::ErrorKind::NotFound`]).
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes an empty file; [`io::ErrorKind::AlreadyExists`] if there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing what bore the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Open handles go on reading it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes free for an ordinary user.
    fn free_len(&self) -> io::Result<u64>;
    /// The name as a person finds it, for messages.
    fn locate(&self, name: &str) -> String;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Fills `bytes` from `offset`; fewer only at the end of the file. Returns how many were read.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; the file grows as needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable. A failure means that nothing is known of what was written.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file with zeros to `len` bytes and takes the space for all of them now, so that a later
    /// write inside never meets a full disk. Never cuts.
    fn reserve(&self, len: u64) -> io::Result<()>;
}

/// Whether an error says that the disk (or the quota) is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
