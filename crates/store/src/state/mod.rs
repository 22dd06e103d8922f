//! The rows of the replicated state. The journal can rebuild them, so nothing here is flushed per batch.
//!
//! [`FjallState`] keeps them on disk; [`MemState`] is the model of the same trait, for tests and simulation.
//! Layout: `docs/formats/state.md`.

use std::sync::Arc;

use types::state::{StateRead, Write};

mod fjall;
mod manifest;
mod mem;

pub use fjall::{FjallOptions, FjallState};
pub use manifest::check_manifests;
pub use mem::MemState;

/// Changes that are made together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StateBatch {
    /// Rows set and removed; of two for one row the later counts.
    pub writes: Vec<Write>,
    /// What the state then stands at; opaque here.
    pub applied: Vec<u8>,
}

/// A view of the state at one instant.
pub type Snapshot = Arc<dyn StateRead + Send + Sync>;

/// The state of a node.
pub trait State: StateRead + Send + Sync {
    /// Makes all changes of a batch, its `applied` included, or none. A process that dies afterwards loses
    /// nothing of it; a machine may, down to the last [`State::sync`], but never a part of a batch.
    fn apply(&self, batch: StateBatch) -> Result<(), StateError>;

    /// The `applied` of the last batch; `None` before the first.
    fn applied(&self) -> Result<Option<Vec<u8>>, StateError>;

    /// A view that later batches do not change. It holds space: do not keep it for long.
    fn snapshot(&self) -> Snapshot;

    /// Makes everything applied durable.
    fn sync(&self) -> Result<(), StateError>;

    /// Bytes on disk.
    fn disk_len(&self) -> Result<u64, StateError>;
}

/// What can go wrong with the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it open.
    #[error("{0} is in use by another process: stop that one first")]
    Locked(String),
    /// Written in another version of the format.
    #[error("{folder} is of format {found} and this build reads format 1: start the version that wrote it")]
    Version {
        /// The folder.
        folder: String,
        /// The version found.
        found: String,
    },
    /// It does not check.
    #[error("{folder} is damaged: {reason}. Restore the data folder from a backup, or replace this replica")]
    Damaged {
        /// The folder.
        folder: String,
        /// What does not check.
        reason: String,
    },
    /// No room on the disk. The node must start again once there is.
    #[error("{0}: the disk is full")]
    Full(String),
    /// The disk answered with an error.
    #[error("{folder}: {reason}")]
    Io {
        /// The folder.
        folder: String,
        /// The error.
        reason: String,
    },
}
