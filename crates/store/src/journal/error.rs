//! What can go wrong with a journal, said so that the reader knows what to do next.

use std::io;

use types::{ClusterId, GroupId, ReplicaId};

/// Why a journal was not opened or does not verify. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk answered with an error.
    #[error("{file}: {source}")]
    Io {
        /// The file or folder.
        file: String,
        /// The error.
        source: io::Error,
    },
    /// No room for the first segment.
    #[error("{file}: the disk is full and the journal needs {len} bytes: free some space and start again")]
    Full {
        /// The file that could not be made.
        file: String,
        /// How many bytes it needs.
        len: u64,
    },
    /// A file by the name of a segment that is none.
    #[error("{file} is not a journal segment: move it away, or check that this is the right data folder")]
    NotASegment {
        /// The file.
        file: String,
    },
    /// Written in another version of the format.
    #[error("{file} is of journal format {found} and this build reads format {known}: start the version that wrote it")]
    Version {
        /// The file.
        file: String,
        /// The version found.
        found: u32,
        /// The version that this build reads.
        known: u32,
    },
    /// Of another cluster.
    #[error(
        "{file} belongs to cluster {found} and this node to cluster {expected}: check the data folder and the keys"
    )]
    Cluster {
        /// The file.
        file: String,
        /// The cluster found.
        found: ClusterId,
        /// This node's cluster.
        expected: ClusterId,
    },
    /// Of another replica.
    #[error("{file} belongs to replica {found} and this node is replica {expected}: check the data folder")]
    Replica {
        /// The file.
        file: String,
        /// The replica found.
        found: ReplicaId,
        /// This node.
        expected: ReplicaId,
    },
    /// A segment between others is not there.
    #[error("{file} is missing and later segments are there: put it back, or restore the data folder from a backup")]
    Missing {
        /// The missing file.
        file: String,
    },
    /// Something that was once durable does not check.
    #[error(
        "{file} is damaged at byte {offset}: {reason}. Nothing was changed. Restore the data folder from a backup, \
         or replace this replica with a new one"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Offset in the file.
        offset: u64,
        /// What does not check.
        reason: String,
    },
    /// Options that no journal can have.
    #[error("a segment of {0} bytes cannot be: it must be a multiple of 512, and 4096 at least")]
    SegmentLen(u64),
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The segment is at its end and there is no room for another. Nothing was written, the journal is sound:
    /// try again when there is space.
    #[error("the disk is full: no room for another journal segment ({file})")]
    Full {
        /// The file that could not be made.
        file: String,
    },
    /// More than a frame may hold. Nothing was written.
    #[error("{len} bytes are more than one flush of this journal may hold ({limit})")]
    TooLarge {
        /// The bytes asked for.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Records that do not follow those already said. Nothing was written.
    #[error("group {group}: a record at position {found} where {expected} is next")]
    Position {
        /// The group.
        group: GroupId,
        /// The position given.
        found: u64,
        /// The position that is next.
        expected: u64,
    },
    /// A body that is not as long as its header says. Nothing was written.
    #[error("group {group}: the body of record {position} is not as long as its header says")]
    BodyLen {
        /// The group.
        group: GroupId,
        /// Where.
        position: u64,
    },
    /// A write or a flush failed: nothing is known of what it left. Start again and read the journal.
    #[error("{file}: a write to the journal failed ({source}): the node must start again")]
    Io {
        /// The file.
        file: String,
        /// The error.
        source: io::Error,
    },
    /// An earlier write or flush failed.
    #[error("an earlier write to the journal failed: the node must start again")]
    Poisoned,
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk answered with an error.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The error.
        source: io::Error,
    },
    /// Something durable does not check any more.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// Offset in the file.
        offset: u64,
        /// What does not check.
        reason: String,
    },
    /// The segment was trimmed before the reader was through with it.
    #[error("{file} was trimmed while it was read: start again from a later position")]
    Overtaken {
        /// The segment.
        file: String,
    },
    /// The records asked for have been trimmed.
    #[error("group {group}: position {position} has been trimmed; the journal starts at {first}")]
    Trimmed {
        /// The group.
        group: GroupId,
        /// The position asked for.
        position: u64,
        /// The first position that is there.
        first: u64,
    },
}

/// Why a body was not erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The record could not be found.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The overwriting failed: start again; what is half erased is completed then.
    #[error(transparent)]
    Write(#[from] AppendError),
}
