//! Commands: what clients ask the replicated state machine to do. Encoded as CBOR with numbered fields.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::limits::COMMAND_LEN_MAX;
use crate::object::{Body, Checksum, ChecksumAlgorithm, ChecksumKind, Metadata, cbor_bytes};
use crate::{ClusterId, OrderKey, ReplicaId, Slot, SlotSet};

/// A command as consensus orders it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Command {
    /// Fresh and random: salts the commitments of its ledger entries.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub salt: [u8; 32],
    /// The access key id that asked; empty for the node itself.
    #[n(1)]
    pub principal: String,
    /// What makes a retry recognisable, if the client sent it.
    #[n(2)]
    pub request: Option<RequestToken>,
    /// What to do.
    #[n(3)]
    pub op: Op,
}

/// Identifies one logical call of a client over its retries (`s3.md`, Beyond S3).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct RequestToken {
    /// The client's id of the call, at most [`crate::limits::REQUEST_ID_LEN_MAX`] bytes.
    #[n(0)]
    pub id: String,
    /// SHA-256 over what the call asks for: decoded payload and condition.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub digest: [u8; 32],
}

/// What a command does. `*` marks those that touch every slot.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Op {
    /// `*` The first command of a group: entry 0 of its ledger.
    #[n(0)]
    Genesis(#[n(0)] Genesis),
    /// `*` Makes a bucket.
    #[n(1)]
    CreateBucket(#[n(0)] CreateBucket),
    /// `*` Removes an empty bucket.
    #[n(2)]
    DeleteBucket(#[n(0)] DeleteBucket),
    /// `*` Turns versioning on or suspends it.
    #[n(3)]
    SetVersioning(#[n(0)] SetVersioning),
    /// Writes an object.
    #[n(4)]
    PutObject(#[n(0)] PutObject),
    /// Deletes one or more objects or versions of one bucket.
    #[n(5)]
    DeleteObjects(#[n(0)] DeleteObjects),
    /// Writes an object from another one, sharing its body.
    #[n(6)]
    CopyObject(#[n(0)] CopyObject),
    /// Starts a multipart upload.
    #[n(7)]
    CreateUpload(#[n(0)] CreateUpload),
    /// Adds or replaces a part.
    #[n(8)]
    UploadPart(#[n(0)] UploadPart),
    /// Makes an object of the parts.
    #[n(9)]
    CompleteUpload(#[n(0)] CompleteUpload),
    /// Drops an upload and its parts.
    #[n(10)]
    AbortUpload(#[n(0)] AbortUpload),
    /// `*` Adds or replaces an access key.
    #[n(11)]
    PutAccessKey(#[n(0)] PutAccessKey),
    /// `*` Removes an access key.
    #[n(12)]
    DeleteAccessKey(#[n(0)] DeleteAccessKey),
    /// `*` Adds a node to the directory of the cluster, or replaces what stands there of it.
    #[n(13)]
    PutNode(#[n(0)] PutNode),
    /// `*` What a Reconfig does to the state: the next epoch stands in it. Never proposed as such: every member makes it
    /// of the Reconfig that was decided.
    #[n(14)]
    BeginEpoch(#[n(0)] BeginEpoch),
    /// `*` Says who is to hold the read lease of a zone, and whether one member coordinates its writes. From version 2 of
    /// the logic on.
    #[n(15)]
    PutZone(#[n(0)] PutZone),
    /// `*` Takes a node into the directory, for a join token that is good once. It gets the next replica
    /// number. From version 2 of the logic on.
    #[n(16)]
    AdmitNode(#[n(0)] AdmitNode),
    /// `*` Changes nothing: where it is executed, the state is that of one instant. What a listing becomes that finds no
    /// quiet one. From version 2 of the logic on.
    #[n(17)]
    Barrier,
}

/// The first configuration.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Genesis {
    /// The cluster's id.
    #[n(0)]
    pub cluster: ClusterId,
    /// The permanent origin of the group's log (first line of its checkpoints).
    #[n(1)]
    pub origin: String,
    /// The members of the first epoch and their Ed25519 public keys, in rising replica order.
    #[n(2)]
    pub members: Vec<Member>,
    /// How many of them must sign a head.
    #[n(3)]
    pub quorum: u32,
}

/// A replica and its key.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Member {
    /// The replica.
    #[n(0)]
    pub replica: ReplicaId,
    /// Its name in signed notes.
    #[n(1)]
    pub name: String,
    /// Its Ed25519 public key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub key: [u8; 32],
}

impl Member {
    /// What a replica is called in signed notes.
    #[must_use]
    pub fn name_of(cluster: ClusterId, replica: ReplicaId) -> String {
        format!("{cluster}.entangle/replica/{replica}")
    }
}

/// See [`Op::CreateBucket`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CreateBucket {
    /// Its name; the gateway has checked the naming rules.
    #[n(0)]
    pub bucket: String,
    /// The region it was asked for in; informational.
    #[n(1)]
    pub region: Option<String>,
}

/// See [`Op::DeleteBucket`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DeleteBucket {
    /// Its name.
    #[n(0)]
    pub bucket: String,
}

/// Versioning of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Versioning {
    /// Never turned on: an overwrite replaces.
    #[default]
    #[n(0)]
    Off,
    /// Every write makes a version.
    #[n(1)]
    Enabled,
    /// Writes replace the version `null`.
    #[n(2)]
    Suspended,
}

/// See [`Op::SetVersioning`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SetVersioning {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// `Enabled` or `Suspended`; `Off` is refused.
    #[n(1)]
    pub versioning: Versioning,
}

/// Matches an entity tag.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum EtagMatch {
    /// `*`
    #[n(0)]
    Any,
    /// One of these, without quotes.
    #[n(1)]
    OneOf(#[n(0)] Vec<String>),
}

/// Conditions on the current version of a key, judged at execution. All given must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Condition {
    /// `If-Match`.
    #[n(0)]
    pub if_match: Option<EtagMatch>,
    /// `If-None-Match`.
    #[n(1)]
    pub if_none_match: Option<EtagMatch>,
    /// `If-Modified-Since` (copy source only), unix seconds.
    #[n(2)]
    pub if_modified_since: Option<u64>,
    /// `If-Unmodified-Since` (copy source only), unix seconds.
    #[n(3)]
    pub if_unmodified_since: Option<u64>,
    /// The size that a conditional delete expects.
    #[n(4)]
    pub if_size: Option<u64>,
    /// The last-modified time (unix seconds) that a conditional delete expects.
    #[n(5)]
    pub if_modified_at: Option<u64>,
}

/// See [`Op::PutObject`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PutObject {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// The key.
    #[n(1)]
    pub key: String,
    /// The bytes.
    #[n(2)]
    pub body: Body,
    /// Length of the body in bytes.
    #[n(3)]
    pub len: u64,
    /// Content digest: see `docs/formats/commands.md` ([`crate::object`]).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// MD5 of the bytes: the ETag.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// The verified checksum, if any.
    #[n(6)]
    pub checksum: Option<Checksum>,
    /// Headers to keep.
    #[n(7)]
    pub metadata: Metadata,
    /// What must hold.
    #[n(8)]
    pub condition: Condition,
}

/// Which version a client names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum VersionSelector {
    /// `null`: what was written while versioning was not on.
    #[n(0)]
    Null,
    /// This version.
    #[n(1)]
    Id(#[n(0)] OrderKey),
}

/// One deletion of a [`DeleteObjects`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DeleteItem {
    /// The key.
    #[n(0)]
    pub key: String,
    /// The version to remove; `None` deletes the current one (or writes a delete marker).
    #[n(1)]
    pub version: Option<VersionSelector>,
    /// What must hold.
    #[n(2)]
    pub condition: Condition,
}

/// See [`Op::DeleteObjects`]. Items are independent, as in S3: one may fail while others succeed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DeleteObjects {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// At least one and at most [`crate::limits::DELETE_ITEMS_MAX`]; executed in order.
    #[n(1)]
    pub items: Vec<DeleteItem>,
}

/// See [`Op::CopyObject`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CopyObject {
    /// Where from.
    #[n(0)]
    pub source: Source,
    /// Where to: the bucket.
    #[n(1)]
    pub bucket: String,
    /// Where to: the key.
    #[n(2)]
    pub key: String,
    /// `None` copies the source's headers, else these replace them.
    #[n(3)]
    pub metadata: Option<Metadata>,
    /// What must hold of the destination.
    #[n(4)]
    pub condition: Condition,
    /// A checksum of the whole source body, computed by the gateway because another algorithm was asked
    /// for. Valid only while the source's content digest equals `expect`.
    #[n(5)]
    pub checksum: Option<Checksum>,
    /// The content digest of the source that the gateway saw, if it computed anything from it.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub expect: Option<[u8; 32]>,
}

/// The source of a copy.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Source {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// The key.
    #[n(1)]
    pub key: String,
    /// The version; `None`: the current one.
    #[n(2)]
    pub version: Option<VersionSelector>,
    /// `x-amz-copy-source-if-*`.
    #[n(3)]
    pub condition: Condition,
}

/// See [`Op::CreateUpload`]. The upload's id is the order key of this command.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CreateUpload {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// The key.
    #[n(1)]
    pub key: String,
    /// Headers of the object to be.
    #[n(2)]
    pub metadata: Metadata,
    /// The checksum algorithm and kind asked for.
    #[n(3)]
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// See [`Op::UploadPart`]. Part copies that are not whole objects go through the gateway as plain parts.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct UploadPart {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// The key.
    #[n(1)]
    pub key: String,
    /// The upload.
    #[n(2)]
    pub upload: OrderKey,
    /// From 1 to [`crate::limits::PARTS_MAX`].
    #[n(3)]
    pub number: u16,
    /// The bytes.
    #[n(4)]
    pub body: Body,
    /// Length of the body in bytes.
    #[n(5)]
    pub len: u64,
    /// Content digest of the part.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// MD5 of the part.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// The verified checksum, if any.
    #[n(8)]
    pub checksum: Option<Checksum>,
}

/// A part as CompleteMultipartUpload names it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CompletedPart {
    /// Its number.
    #[n(0)]
    pub number: u16,
    /// Its ETag, without quotes.
    #[n(1)]
    pub etag: String,
    /// Its checksum, if the client names it.
    #[n(2)]
    pub checksum: Option<Checksum>,
}

/// See [`Op::CompleteUpload`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CompleteUpload {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// The key.
    #[n(1)]
    pub key: String,
    /// The upload.
    #[n(2)]
    pub upload: OrderKey,
    /// As the client listed them: execution checks order, tags and sizes.
    #[n(3)]
    pub parts: Vec<CompletedPart>,
    /// What must hold of the current object.
    #[n(4)]
    pub condition: Condition,
    /// The checksum of the whole object that the client expects (without the `-N` of composites).
    #[n(5)]
    pub checksum: Option<Checksum>,
    /// The total length that the client expects (`x-amz-mp-object-size`).
    #[n(6)]
    pub len: Option<u64>,
}

/// See [`Op::AbortUpload`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AbortUpload {
    /// The bucket.
    #[n(0)]
    pub bucket: String,
    /// The key.
    #[n(1)]
    pub key: String,
    /// The upload.
    #[n(2)]
    pub upload: OrderKey,
}

/// See [`Op::PutAccessKey`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PutAccessKey {
    /// The access key id.
    #[n(0)]
    pub access_key: String,
    /// Its secret, sealed under the cluster key (`docs/formats/keys.md`).
    #[cbor(n(1), with = "cbor_bytes")]
    pub sealed: Bytes,
    /// A note for people.
    #[n(2)]
    pub description: String,
}

/// See [`Op::DeleteAccessKey`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DeleteAccessKey {
    /// The access key id.
    #[n(0)]
    pub access_key: String,
}

/// See [`Op::PutNode`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PutNode {
    /// Its replica, name and key.
    #[n(0)]
    pub member: Member,
    /// The region that it says it is in.
    #[n(1)]
    pub region: String,
    /// Where other nodes reach it: `host:port`; empty: it dials them.
    #[n(2)]
    pub mesh: String,
    /// What people call it.
    #[n(3)]
    pub label: String,
}

/// See [`Op::AdmitNode`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AdmitNode {
    /// The name of its token (`docs/formats/mesh.md`): a hash, which opens nothing.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub token: [u8; 32],
    /// When the token expires, in seconds since the Unix epoch.
    #[n(1)]
    pub expires_s: u64,
    /// Its Ed25519 public key for the mesh: whoever comes again with the token has to have it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub identity: [u8; 32],
    /// The Ed25519 public key with which it signs.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub key: [u8; 32],
    /// The region that it says it is in.
    #[n(4)]
    pub region: String,
    /// Where other nodes reach it: `host:port`; empty: it dials them.
    #[n(5)]
    pub mesh: String,
    /// What people call it.
    #[n(6)]
    pub label: String,
}

/// See [`Op::BeginEpoch`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BeginEpoch {
    /// The epoch that begins, as the consensus core encodes it (`docs/formats/consensus.md`).
    #[cbor(n(0), with = "minicbor::bytes")]
    pub membership: Vec<u8>,
    /// Its members.
    #[n(1)]
    pub members: Vec<ReplicaId>,
}

/// See [`Op::PutZone`]. Policy alone: it moves where reads and writes of a zone are cheap, and never what they give.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct PutZone {
    /// The zone: a literal prefix of `bucket/key`; empty: everything.
    #[n(0)]
    pub zone: String,
    /// Who is to hold its lease.
    #[n(1)]
    pub holders: Holders,
    /// Who coordinates its writes, as long as it can be reached; `None`: whoever is asked.
    #[n(2)]
    pub home: Option<ReplicaId>,
}

impl PutZone {
    /// Whether it says no more than what holds of every zone of which nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.holders == Holders::Nobody && self.home.is_none()
    }
}

/// Who is to hold the lease of a zone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub enum Holders {
    /// Nobody: reads ask a quorum, and writes wait for nobody's lease.
    #[default]
    #[n(0)]
    Nobody,
    /// Every member of the group.
    #[n(1)]
    Everyone,
    /// Those of these that are members, in rising order.
    #[n(2)]
    These(#[n(0)] Vec<ReplicaId>),
}

impl Holders {
    /// Whether a member is to hold it.
    #[must_use]
    pub fn has(&self, replica: ReplicaId) -> bool {
        match self {
            Self::Nobody => false,
            Self::Everyone => true,
            Self::These(these) => these.binary_search(&replica).is_ok(),
        }
    }
}

/// Why bytes are not a command.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More than [`COMMAND_LEN_MAX`] bytes.
    #[error("command of {0} bytes is over the limit of {COMMAND_LEN_MAX}")]
    TooLong(usize),
    /// Not the CBOR of a command that this build knows.
    #[error("malformed command: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Bytes are left after the command.
    #[error("{0} bytes are left over after the command")]
    Trailing(usize),
}

impl Op {
    /// The bucket and the first key that it writes; `None` where it writes what keys share.
    #[must_use]
    pub fn first_key(&self) -> Option<(&str, &str)> {
        match self {
            Self::PutObject(put) => Some((&put.bucket, &put.key)),
            Self::DeleteObjects(delete) => {
                Some((&delete.bucket, delete.items.first().map_or("", |item| item.key.as_str())))
            }
            Self::CopyObject(copy) => Some((&copy.bucket, &copy.key)),
            Self::CreateUpload(upload) => Some((&upload.bucket, &upload.key)),
            Self::UploadPart(part) => Some((&part.bucket, &part.key)),
            Self::CompleteUpload(complete) => Some((&complete.bucket, &complete.key)),
            Self::AbortUpload(abort) => Some((&abort.bucket, &abort.key)),
            Self::Genesis(_)
            | Self::CreateBucket(_)
            | Self::DeleteBucket(_)
            | Self::SetVersioning(_)
            | Self::PutAccessKey(_)
            | Self::DeleteAccessKey(_)
            | Self::PutNode(_)
            | Self::AdmitNode(_)
            | Self::Barrier
            | Self::BeginEpoch(_)
            | Self::PutZone(_) => None,
        }
    }
}

impl Command {
    /// The encoded command, or the error that it is over [`COMMAND_LEN_MAX`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let bytes = minicbor::to_vec(self).expect("encoding into a vector cannot fail");
        if bytes.len() > COMMAND_LEN_MAX {
            return Err(CodecError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// The inverse of [`Command::to_bytes`]. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > COMMAND_LEN_MAX {
            return Err(CodecError::TooLong(bytes.len()));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let command = decoder.decode()?;
        match bytes.len() - decoder.position() {
            0 => Ok(command),
            left => Err(CodecError::Trailing(left)),
        }
    }

    /// The slots that the command touches: those of its keys, or all for a `*` command.
    #[must_use]
    pub fn slots(&self) -> SlotSet {
        let one = |bucket: &str, key: &str| SlotSet::of(vec![Slot::of(bucket, key)]);
        match &self.op {
            Op::Genesis(_)
            | Op::CreateBucket(_)
            | Op::DeleteBucket(_)
            | Op::SetVersioning(_)
            | Op::PutAccessKey(_)
            | Op::DeleteAccessKey(_)
            | Op::PutNode(_)
            | Op::AdmitNode(_)
            | Op::Barrier
            | Op::BeginEpoch(_)
            | Op::PutZone(_) => SlotSet::All,
            Op::PutObject(put) => one(&put.bucket, &put.key),
            Op::DeleteObjects(delete) if delete.items.is_empty() => one(&delete.bucket, ""),
            Op::DeleteObjects(delete) => {
                SlotSet::of(delete.items.iter().map(|item| Slot::of(&delete.bucket, &item.key)).collect())
            }
            Op::CopyObject(copy) => {
                SlotSet::of(vec![Slot::of(&copy.source.bucket, &copy.source.key), Slot::of(&copy.bucket, &copy.key)])
            }
            Op::CreateUpload(upload) => one(&upload.bucket, &upload.key),
            Op::UploadPart(part) => one(&part.bucket, &part.key),
            Op::CompleteUpload(complete) => one(&complete.bucket, &complete.key),
            Op::AbortUpload(abort) => one(&abort.bucket, &abort.key),
        }
    }
}
