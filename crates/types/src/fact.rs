//! Facts: what the state machine tells the ledger of each key that a command wrote, or refused to write.

use minicbor::{Decode, Encode};

use crate::OrderKey;

/// What kind of change an entry speaks of. The number is the byte in the entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum FactKind {
    /// The first configuration.
    #[n(0)]
    Genesis = 0,
    /// An object was put.
    #[n(1)]
    Put = 1,
    /// An object, or a version of it, was deleted.
    #[n(2)]
    Delete = 2,
    /// An object was copied to.
    #[n(3)]
    Copy = 3,
    /// A multipart upload was completed.
    #[n(4)]
    Complete = 4,
    /// A multipart upload was started.
    #[n(5)]
    UploadCreate = 5,
    /// A part was stored.
    #[n(6)]
    UploadPart = 6,
    /// An upload was aborted.
    #[n(7)]
    UploadAbort = 7,
    /// A bucket was made.
    #[n(8)]
    BucketCreate = 8,
    /// A bucket was removed.
    #[n(9)]
    BucketDelete = 9,
    /// A bucket's configuration was changed.
    #[n(10)]
    BucketConfigure = 10,
    /// An access key was added or replaced.
    #[n(11)]
    KeyPut = 11,
    /// An access key was removed.
    #[n(12)]
    KeyDelete = 12,
    /// Closes a block: commits to the state at the cut.
    #[n(13)]
    Block = 13,
    /// A node was added to the directory, or changed there.
    #[n(14)]
    NodePut = 14,
    /// An epoch began: the members changed, or how many of them may fail, or the logic.
    #[n(15)]
    EpochBegin = 15,
    /// What is said of a zone was changed: who holds its lease, who coordinates its writes.
    #[n(16)]
    ZonePut = 16,
    /// Nothing was changed: a listing was ordered among the writes.
    #[n(17)]
    Barrier = 17,
}

/// Whether the change took place. The number is the byte in the entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum FactOutcome {
    /// It did.
    #[n(0)]
    Applied = 0,
    /// A condition did not hold.
    #[n(1)]
    PreconditionFailed = 1,
    /// Refused for another reason (the side record says which).
    #[n(2)]
    Refused = 2,
    /// A retry: the entry named in the side record says what happened.
    #[n(3)]
    Replayed = 3,
}

/// One fact: becomes one entry of the ledger and its side record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// Where it stands.
    pub order: OrderKey,
    /// What kind of change.
    pub kind: FactKind,
    /// Whether it took place.
    pub outcome: FactOutcome,
    /// The salt of the command: the commitments' salts are derived from it and the item.
    pub salt: [u8; 32],
    /// The bucket; empty for cluster-wide changes.
    pub bucket: String,
    /// The key; empty where none is meant (the access key id for key changes).
    pub key: String,
    /// What the side record tells.
    pub detail: FactDetail,
}

/// The readable part of a fact. Stored beside the tree, salted, erasable.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct FactDetail {
    /// The access key id that asked; empty for the node itself.
    #[n(0)]
    pub principal: String,
    /// Length of the object or part in bytes.
    #[n(1)]
    pub len: Option<u64>,
    /// Its content digest.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: Option<[u8; 32]>,
    /// Its ETag, without quotes.
    #[n(3)]
    pub etag: Option<String>,
    /// What the request demanded, in words: `if-match: "..."`.
    #[n(4)]
    pub condition: Option<String>,
    /// Why it was refused, in words.
    #[n(5)]
    pub refusal: Option<String>,
    /// The upload spoken of.
    #[n(6)]
    pub upload: Option<OrderKey>,
    /// The part spoken of.
    #[n(7)]
    pub part: Option<u16>,
    /// The version that a deletion removed, or that a copy was made from.
    #[n(8)]
    pub version: Option<OrderKey>,
    /// Bucket and key that a copy was made from.
    #[n(9)]
    pub source: Option<(String, String)>,
    /// A delete marker was written.
    #[n(10)]
    pub marker: bool,
    /// The order key of the write of the same key that this one follows.
    #[n(11)]
    pub predecessor: Option<OrderKey>,
    /// For a replay: the order key of the original.
    #[n(12)]
    pub original: Option<OrderKey>,
    /// For the genesis entry, or a configuration: its encoded command.
    #[cbor(n(13), with = "minicbor::bytes")]
    pub configuration: Option<Vec<u8>>,
}
