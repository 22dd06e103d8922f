//! Backups: one file that holds everything a stopped node acknowledged, and making a new data folder of it.
//! `docs/formats/backup.md` is the document, also of what a restored node may sign.
//!
//! The keys folder is in no backup: a copy of the data alone can neither sign nor open a secret. Without a copy of
//! the keys, kept apart, a backup cannot be restored.

mod format;
mod items;
mod make;
mod open;
mod restore;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use format::FormatError;

use crate::error::StartError;
use crate::progress::Report;
use crate::verify::{VerifyError, hex};
use items::{Counts, Manifest};

/// What was backed up, or restored and verified.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BackupReport {
    /// Files written, or read: 1.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows of the state.
    pub rows: u64,
    /// Bytes of bodies in the vault.
    pub chunk_bytes: u64,
    /// Number of ledger entries.
    pub tree_size: u64,
    /// The root over them, in hex: that of the checkpoint in the backup.
    pub root: String,
}

impl BackupReport {
    fn new(bytes: u64, counts: &Counts, manifest: &Manifest) -> Self {
        Self {
            files: 1,
            bytes,
            rows: counts.catalog + counts.bodies + counts.retry,
            chunk_bytes: counts.chunk_bytes,
            tree_size: manifest.size,
            root: hex(&manifest.root),
        }
    }
}

/// Why a backup was not made, or not restored. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data folder or the keys could not be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file could not be read or written.
    #[error("{path}: {source}; check that there is room and that this user may read and write there")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The backup would replace something.
    #[error("{0} is there already; name a new file for the backup")]
    Exists(PathBuf),
    /// The data folder holds nothing that was acknowledged.
    #[error("{0} holds no ledger yet; start a node on it first, there is nothing to back up")]
    Empty(PathBuf),
    /// What the data folder holds does not fit together.
    #[error(
        "the data folder does not verify ({0}); run `entangle ledger verify --data` for all findings, no backup was made"
    )]
    Unsound(String),
    /// Its group has, or had, several members.
    #[error(
        "{0} is the folder of a member of a group, and no backup is made of one: restored, it would be a second life of its replica number, which the others refuse, and bodies of large objects that only they hold would be missing. The other members are its copies: replace a lost one (`entangle cluster replace`), add one more (`entangle cluster add`), and for a copy outside the cluster copy the objects out through S3"
    )]
    Changed(PathBuf),
    /// The file is no whole backup.
    #[error("{path} was refused: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        source: FormatError,
    },
    /// The backup is whole and was made under other keys.
    #[error(
        "{path} was made with other keys ({reason}); put the keys folder in place that its node had, or name it with --keys"
    )]
    Keys {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The backup was made by a version of the state machine that this build does not run.
    #[error(
        "{path} holds rows of logic version {found} and this build runs version {known}; restore it with the build that made it"
    )]
    Logic {
        /// The file.
        path: PathBuf,
        /// The version in the backup.
        found: u32,
        /// The version of this build.
        known: u32,
    },
    /// There is something where the data folder is to be made.
    #[error("{0} is not empty; name a new folder, or remove what an interrupted restore has left there")]
    NotEmpty(PathBuf),
    /// What came out is not what went in.
    #[error("what was restored does not verify ({0}); it was removed again, use another copy of the backup")]
    Unverified(String),
}

impl From<VerifyError> for BackupError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Start(error) => Self::Start(error),
            VerifyError::Io { path, source } => Self::Io { path, source },
        }
    }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |source| BackupError::Io { path: path.to_owned(), source }
}

/// Backs the data folder of a stopped node up into a new file. The folder is not changed. Everything in the backup
/// is checked while it is written: rows against the state digest, entries against the tree, bodies against their
/// digests.
pub fn backup(data: &Path, keys: &Path, to: &Path, report: Report<'_>) -> Result<BackupReport, BackupError> {
    make::backup(data, keys, to, report)
}

/// Makes a new data folder of a backup. Refuses a folder that holds anything; verifies what it has made before the
/// folder becomes one that a node starts on.
pub fn restore(from: &Path, data: &Path, keys: &Path, report: Report<'_>) -> Result<BackupReport, BackupError> {
    restore::restore(from, data, keys, report)
}
