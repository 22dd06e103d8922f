//! The rows of the replicated state: what they hold and how they are encoded (`docs/formats/catalog.md`).
//!
//! A value is one byte, [`ROW_VERSION`], and then CBOR with numbered fields. Rows are written by the state
//! machine only; everyone reads them through [`crate::query`].

pub(crate) mod key;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use types::command::{Genesis, PutNode, PutZone, VersionSelector, Versioning};
use types::object::{Checksum, ChecksumAlgorithm, ChecksumKind, Metadata, Placement, cbor_bytes};
use types::state::ReadError;
use types::{OrderKey, ReplicaId};

pub use key::{BODY_KEY_LEN, body_key};

/// The first byte of every row value.
pub const ROW_VERSION: u8 = 1;

/// What a row's value can be.
pub(crate) trait Row: Encode<()> + for<'b> Decode<'b, ()> {
    /// What the row is called in an error.
    const NAME: &'static str;

    fn to_value(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.push(ROW_VERSION);
        minicbor::encode(self, &mut out).expect("encoding into a vector cannot fail");
        out.into()
    }

    fn from_value(value: &[u8]) -> Result<Self, ReadError> {
        let broken = |why: &str| ReadError(format!("a {} row is broken: {why}", Self::NAME));
        let Some((&version, body)) = value.split_first() else { return Err(broken("it is empty")) };
        if version != ROW_VERSION {
            return Err(broken("it has another version"));
        }
        let mut decoder = minicbor::Decoder::new(body);
        let row = decoder.decode().map_err(|error| broken(&error.to_string()))?;
        if decoder.position() != body.len() {
            return Err(broken("bytes are left over"));
        }
        Ok(row)
    }
}

macro_rules! row {
    ($name:ident, $label:literal) => {
        impl Row for $name {
            const NAME: &'static str = $label;
        }
    };
}

row!(GenesisRow, "genesis");
row!(BucketRow, "bucket");
row!(ObjectRow, "object");
row!(UploadRow, "upload");
row!(PartRow, "part");
row!(PartIndexRow, "part index");
row!(AccessKeyRow, "access key");
row!(NodeRow, "node");
row!(EpochRow, "epoch");
row!(ZoneRow, "zone");
row!(TokenRow, "join token");

/// The first configuration (`g`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct GenesisRow {
    /// The command that wrote it.
    #[n(0)]
    pub order: OrderKey,
    /// The configuration.
    #[n(1)]
    pub genesis: Genesis,
}

/// A node of the cluster (`n`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NodeRow {
    /// The command that wrote it.
    #[n(0)]
    pub order: OrderKey,
    /// What it says.
    #[n(1)]
    pub node: PutNode,
}

/// A join token that was used (`t`); it goes once the token has expired.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TokenRow {
    /// The command that used it.
    #[n(0)]
    pub order: OrderKey,
    /// When it expires, in seconds since the Unix epoch.
    #[n(1)]
    pub expires_s: u64,
    /// The key for the mesh of the node that used it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub identity: [u8; 32],
    /// That node.
    #[n(3)]
    pub replica: ReplicaId,
}

/// The epoch (`e`); there is none in the first.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct EpochRow {
    /// The Reconfig that made it.
    #[n(0)]
    pub order: OrderKey,
    /// The epoch, as the consensus core encodes it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub membership: Vec<u8>,
    /// Whoever is or was a member, in rising order: no number is used again.
    #[n(2)]
    pub ever: Vec<ReplicaId>,
}

/// What is said of a zone (`z`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ZoneRow {
    /// The command that wrote it.
    #[n(0)]
    pub order: OrderKey,
    /// What it says.
    #[n(1)]
    pub zone: PutZone,
}

/// A bucket (`b`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct BucketRow {
    /// The command that made it.
    #[n(0)]
    pub created: OrderKey,
    /// The access key id that made it.
    #[n(1)]
    pub owner: String,
    /// The region it was asked for in; informational.
    #[n(2)]
    pub region: Option<String>,
    /// Its versioning.
    #[n(3)]
    pub versioning: Versioning,
}

impl BucketRow {
    /// When it was made, in unix milliseconds.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        self.created.timestamp.unix_ms()
    }
}

/// Where the bytes of an object or part are.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub enum BodyAt {
    /// There are none: an empty body, or a delete marker.
    #[default]
    #[n(0)]
    Nothing,
    /// In [`types::state::Table::Bodies`], under [`body_key`] of the write's order key.
    #[n(1)]
    Inline,
    /// In the vaults.
    #[n(2)]
    Placed(#[n(0)] Placement),
    /// In part rows, under this holder: the upload, or the object that a copy made. Objects only.
    #[n(3)]
    Parts(#[n(0)] OrderKey),
}

/// A version of an object: the current one (`o`) or a noncurrent one (`v`). A delete marker too.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ObjectRow {
    /// The order key of the write: names the version and its entry in the ledger.
    #[n(0)]
    pub order: OrderKey,
    /// It is the version `null`: written while versioning was not enabled.
    #[n(1)]
    pub null: bool,
    /// It is a delete marker; all below is empty then.
    #[n(2)]
    pub marker: bool,
    /// Length in bytes.
    #[n(3)]
    pub len: u64,
    /// Content digest ([`types::object`]).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// MD5 of the bytes, or of the MD5s of the parts.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// Number of parts; 0 when it was not uploaded in parts.
    #[n(6)]
    pub parts: u16,
    /// Its checksum, if it has one.
    #[n(7)]
    pub checksum: Option<Checksum>,
    /// Headers kept with it.
    #[n(8)]
    pub metadata: Metadata,
    /// Where its bytes are.
    #[n(9)]
    pub body: BodyAt,
    /// Only in a current row: which noncurrent version of the key is the version `null`, if one is.
    #[n(10)]
    pub null_below: Option<OrderKey>,
}

impl ObjectRow {
    /// The ETag, without quotes: MD5, with `-N` for an object of `N` parts.
    #[must_use]
    pub fn etag(&self) -> String {
        let hash = hex(&self.md5);
        if self.parts == 0 { hash } else { format!("{hash}-{}", self.parts) }
    }

    /// The version id as clients see it: `null`, or 56 hex digits.
    #[must_use]
    pub fn version_text(&self) -> String {
        if self.null { "null".to_owned() } else { self.order.to_hex() }
    }

    /// What names this version.
    #[must_use]
    pub fn selector(&self) -> VersionSelector {
        if self.null { VersionSelector::Null } else { VersionSelector::Id(self.order) }
    }

    /// Its version id if it has one of its own (is not `null`).
    #[must_use]
    pub fn version_id(&self) -> Option<OrderKey> {
        (!self.null).then_some(self.order)
    }

    /// When it was written, in unix milliseconds.
    #[must_use]
    pub fn modified_ms(&self) -> u64 {
        self.order.timestamp.unix_ms()
    }

    /// The key of its inline bytes in [`types::state::Table::Bodies`], if they are there.
    #[must_use]
    pub fn body_key(&self) -> Option<[u8; BODY_KEY_LEN]> {
        matches!(self.body, BodyAt::Inline).then(|| body_key(self.order, 0))
    }

    /// The checksum as headers show it: Base64 is the gateway's; this is the `-N` behind it, if any.
    #[must_use]
    pub fn checksum_parts(&self) -> Option<u16> {
        let composite = self.checksum.as_ref().is_some_and(|checksum| checksum.kind == ChecksumKind::Composite);
        (composite && self.parts > 0).then_some(self.parts)
    }
}

/// An upload in progress (`u`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct UploadRow {
    /// The access key id that started it.
    #[n(0)]
    pub principal: String,
    /// Headers of the object to be.
    #[n(1)]
    pub metadata: Metadata,
    /// The checksum that the object is to have.
    #[n(2)]
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// A part, of an upload in progress or of an object (`p`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PartRow {
    /// The command that stored it here.
    #[n(0)]
    pub order: OrderKey,
    /// Length in bytes.
    #[n(1)]
    pub len: u64,
    /// Content digest.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// MD5: its ETag.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// Its checksum, if it was given one.
    #[n(4)]
    pub checksum: Option<Checksum>,
    /// Where its bytes are; never [`BodyAt::Parts`].
    #[n(5)]
    pub body: BodyAt,
}

impl PartRow {
    /// The ETag, without quotes.
    #[must_use]
    pub fn etag(&self) -> String {
        hex(&self.md5)
    }

    /// When it was stored, in unix milliseconds.
    #[must_use]
    pub fn modified_ms(&self) -> u64 {
        self.order.timestamp.unix_ms()
    }
}

/// The parts of an object, in short (`i`): what a read needs to find the part rows of a range.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct PartIndexRow {
    /// In rising order of number, which is the order of the bytes.
    #[n(0)]
    pub parts: Vec<IndexedPart>,
}

/// One part of an object.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct IndexedPart {
    /// Its number.
    #[n(0)]
    pub number: u16,
    /// Length in bytes.
    #[n(1)]
    pub len: u64,
    /// Its checksum, if it has one.
    #[n(2)]
    pub checksum: Option<Checksum>,
}

/// An access key (`k`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AccessKeyRow {
    /// The command that wrote it.
    #[n(0)]
    pub order: OrderKey,
    /// Its secret, sealed under the cluster key.
    #[cbor(n(1), with = "cbor_bytes")]
    pub sealed: Bytes,
    /// A note for people.
    #[n(2)]
    pub description: String,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
