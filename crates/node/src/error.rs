//! What can go wrong at the door of a node, each with what the caller needs to act.

use std::path::PathBuf;

use types::state::ReadError;

/// Why a node did not start. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder could not be read or written.
    #[error("{path}: {source}; check that the folder exists, that there is room and that this user may write to it")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder was written by another version of the format.
    #[error(
        "{path} has data format {found}, this build reads {expected}; start it with the build that wrote it, or restore a backup into a new folder"
    )]
    Format {
        /// The `format` file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this build reads.
        expected: String,
    },
    /// Another process has the folder open.
    #[error("{path} is in use by another process; stop that one first, or give this one its own --data folder")]
    InUse {
        /// The `lock` file.
        path: PathBuf,
    },
    /// The folder holds something else.
    #[error("{path} is not empty and is no Entangle data folder; give --data an empty or a new folder")]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// A key file is missing although data exists that was made with it.
    #[error(
        "{path} is missing, but the data folder was made with it; put the keys folder back (or name it with --keys), without it this data can neither be served nor signed for"
    )]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// A key file cannot be used.
    #[error("{path}: {reason}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A newer build has written it, with members that all have that.
    #[error(
        "the group executes commands by version {needed} of the logic and this build knows up to {known}; start the newer build that ran here before"
    )]
    Logic {
        /// What the group executes by.
        needed: u32,
        /// What this build has.
        known: u32,
    },
    /// The journal was refused.
    #[error("the journal was refused: {0}")]
    Journal(String),
    /// The state was refused.
    #[error("the state was refused: {0}")]
    State(String),
    /// The ledger was refused.
    #[error("the ledger was refused: {0}")]
    Ledger(String),
    /// The vault was refused.
    #[error("the vault was refused: {0}")]
    Vault(String),
    /// The consensus core refused its configuration or its journal.
    #[error("the consensus core could not be restored: {0}")]
    Core(String),
}

/// Why a write was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A queue is full. Nothing was proposed.
    #[error("the node is busy: {0}; slow down and try again")]
    SlowDown(&'static str),
    /// Less is free than the reserve. Nothing was proposed. Deletes are still taken.
    #[error("the disk is full: {free} bytes are free and {reserve} are kept in reserve; delete objects or add space")]
    DiskFull {
        /// Free bytes.
        free: u64,
        /// The reserve.
        reserve: u64,
    },
    /// The node takes no work yet, or not now. Nothing was proposed.
    #[error("the node is not ready: {0}; try again soon, or send the request to another node")]
    NotReady(String),
    /// Too few members of the group can be reached. Nothing was proposed.
    #[error(
        "{reachable} of {members} members can be reached, and {needed} are needed; look after the others or the links to them"
    )]
    NoQuorum {
        /// Members that can be reached, this one among them.
        reachable: usize,
        /// All members.
        members: usize,
        /// How many must be reached.
        needed: usize,
    },
    /// The node is shutting down. Nothing was proposed.
    #[error("the node is stopping; send the request to another one, or again when it is back")]
    Stopping,
    /// The node has stopped working; its log says why. The outcome is unknown if the write was sent before.
    #[error("the node has failed: {0}; whether the write took place is unknown until it is back")]
    Failed(String),
    /// No answer in time. The outcome is unknown.
    #[error("no answer in time; whether the write took place is unknown, ask for it later")]
    TimedOut,
    /// The request is larger than a command may be. Nothing was proposed.
    #[error("the request makes a command of {len} bytes, over the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The body could not be stored. Nothing was proposed.
    #[error("the body could not be stored: {0}")]
    Body(String),
}

impl WriteError {
    /// Whether the same request may be sent again without doing its work twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::SlowDown(_)
                | Self::DiskFull { .. }
                | Self::NotReady(_)
                | Self::NoQuorum { .. }
                | Self::Stopping
                | Self::Body(_)
        )
    }

    /// Whether the write may have taken place although it was not acknowledged.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::TimedOut)
    }
}

/// Why bytes of a body could not be given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] ReadError),
    /// A chunk is missing, cannot be read, or is not what the catalog says.
    #[error("{0}")]
    Damaged(String),
}
