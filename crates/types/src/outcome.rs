//! Outcomes: what executing a command gave. Kept in the retry window, so encoded too.

use minicbor::{Decode, Encode};

use crate::object::Checksum;
use crate::{OrderKey, ReplicaId};

/// What a command gave.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Outcome {
    /// Done; there is nothing to say but that.
    #[n(0)]
    Done,
    /// An object was written (PUT, copy, completion).
    #[n(1)]
    Written(#[n(0)] Written),
    /// One result per item of a `DeleteObjects`, in order.
    #[n(2)]
    Deleted(#[n(0)] Vec<DeleteResult>),
    /// An upload was started: its id.
    #[n(3)]
    UploadCreated(#[n(0)] OrderKey),
    /// A part was stored: its ETag, without quotes.
    #[n(4)]
    PartStored(#[n(0)] String),
    /// Nothing was changed.
    #[n(5)]
    Refused(#[n(0)] Refusal),
    /// A node was taken in: its replica number.
    #[n(6)]
    Admitted(#[n(0)] ReplicaId),
}

/// An object as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Written {
    /// The order key of the write: names the version, and its entry in the ledger.
    #[n(0)]
    pub order: OrderKey,
    /// The version id that clients see; `None` in an unversioned bucket, `Some(None)` never occurs:
    /// suspended buckets set `null_version`.
    #[n(1)]
    pub version: Option<OrderKey>,
    /// The write made the version `null` of a bucket whose versioning is suspended.
    #[n(2)]
    pub null_version: bool,
    /// The ETag, without quotes.
    #[n(3)]
    pub etag: String,
    /// The object's checksum, if it has one.
    #[n(4)]
    pub checksum: Option<Checksum>,
    /// When, in unix milliseconds (the command's timestamp).
    #[n(5)]
    pub modified_ms: u64,
    /// For a copy: the version of the source that was copied, if it has an id.
    #[n(6)]
    pub source_version: Option<OrderKey>,
    /// Number of parts for a composite checksum's `-N`; 0 when not multipart.
    #[n(7)]
    pub parts: u16,
    /// Length in bytes.
    #[n(8)]
    pub len: u64,
}

/// The result of one deletion.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DeleteResult {
    /// The order key of the deletion.
    #[n(0)]
    pub order: OrderKey,
    /// Why not, if not.
    #[n(1)]
    pub refused: Option<Refusal>,
    /// A delete marker was written: its version id (`null` when `null_version`).
    #[n(2)]
    pub marker: Option<OrderKey>,
    /// The version that was removed, if one was named and has an id.
    #[n(3)]
    pub removed: Option<OrderKey>,
    /// What was removed was itself a delete marker.
    #[n(4)]
    pub removed_marker: bool,
    /// The marker written, or the version removed, is the version `null`.
    #[n(5)]
    pub null_version: bool,
}

/// Why nothing was changed. The gateway gives each its S3 code.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Refusal {
    /// No such bucket.
    #[n(0)]
    NoSuchBucket,
    /// The bucket exists and belongs to the asker.
    #[n(1)]
    BucketAlreadyOwnedByYou,
    /// The bucket exists and belongs to someone else.
    #[n(2)]
    BucketAlreadyExists,
    /// The bucket holds objects or versions, or more uploads than one command can drop.
    #[n(3)]
    BucketNotEmpty,
    /// Over [`crate::limits::BUCKETS_MAX`].
    #[n(4)]
    TooManyBuckets,
    /// No such object (also: If-Match on a missing key).
    #[n(5)]
    NoSuchKey,
    /// No such version.
    #[n(6)]
    NoSuchVersion,
    /// A condition on the destination does not hold.
    #[n(7)]
    PreconditionFailed,
    /// A condition on the source of a copy does not hold.
    #[n(8)]
    SourcePreconditionFailed,
    /// No such upload.
    #[n(9)]
    NoSuchUpload,
    /// A listed part does not exist, or its tag or checksum differs: its number.
    #[n(10)]
    InvalidPart(#[n(0)] u16),
    /// Parts are not listed in rising order.
    #[n(11)]
    InvalidPartOrder,
    /// A part but the last is under 5 MiB: its number.
    #[n(12)]
    EntityTooSmall(#[n(0)] u16),
    /// The checksum or the length of the whole differs from what the client expects.
    #[n(13)]
    BadDigest,
    /// A request id was used again for something else.
    #[n(14)]
    RequestIdReused,
    /// The body was placed too long ago; send it again.
    #[n(15)]
    PlacementTooOld,
    /// The source of a copy changed while the gateway read it; try again.
    #[n(16)]
    SourceChanged,
    /// What is named is a delete marker.
    #[n(17)]
    DeleteMarker,
    /// A copy onto itself that changes nothing.
    #[n(18)]
    CopyOntoItself,
    /// Over [`crate::limits::ACCESS_KEYS_MAX`].
    #[n(19)]
    TooManyAccessKeys,
    /// No such access key.
    #[n(20)]
    NoSuchAccessKey,
    /// The last access key cannot be removed.
    #[n(21)]
    LastAccessKey,
    /// The command contradicts a rule that the gateway should have checked; says which.
    #[n(22)]
    Invalid(#[n(0)] String),
    /// The command has changed as many rows as one may ([`crate::limits::COMMAND_ROWS_MAX`]): ask again
    /// for this item (S3: `SlowDown` for the key).
    #[n(23)]
    TooManyRows,
    /// A join token was used by another node.
    #[n(24)]
    TokenUsed,
    /// A join token expired before this command.
    #[n(25)]
    TokenExpired,
    /// Another node has this name: which.
    #[n(26)]
    NameTaken(#[n(0)] ReplicaId),
}
