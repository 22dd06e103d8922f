//! The side record: what an entry says, readably. It stands beside the tree, salted and in two parts, each of which
//! can be erased or disclosed alone while every proof stays valid. `docs/formats/ledger.md` is its document.

use std::borrow::Cow;

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};
use types::OrderKey;
use types::fact::{Fact, FactDetail};
use types::limits::{KEY_LEN_MAX, SIDE_LEN_MAX};

use crate::entry::Entry;
use crate::tree::Hash;

/// Bytes of a bucket's name in a commitment or a side record (S3 allows 63). A longer one is shortened.
pub const BUCKET_LEN_MAX: usize = 255;
/// Bytes of the principal in a side record. A longer one is shortened.
pub const PRINCIPAL_LEN_MAX: usize = 128;
/// Bytes of an ETag in a side record. A longer one is shortened.
pub const ETAG_LEN_MAX: usize = 128;
/// Bytes of a condition in a side record. A longer one is shortened.
pub const CONDITION_LEN_MAX: usize = 2048;
/// Bytes of a refusal in a side record. A longer one is shortened.
pub const REFUSAL_LEN_MAX: usize = 1024;
/// Bytes of a configuration in a side record. Of a longer one its SHA-256 stands there.
pub const CONFIGURATION_LEN_MAX: usize = 8 * 1024;

/// The side record of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SideRecord {
    #[n(0)]
    version: u8,
    /// A CBOR [`Readable`].
    #[n(1)]
    readable: Part,
    /// The 28 bytes of the predecessor's order key, or nothing.
    #[n(2)]
    predecessor: Part,
}

/// A part of a side record.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
enum Part {
    /// It is there.
    #[n(0)]
    Open {
        /// Keeps the hash from being guessed.
        #[cbor(n(0), with = "minicbor::bytes")]
        salt: [u8; 32],
        /// What is hashed after the salt.
        #[cbor(n(1), with = "minicbor::bytes")]
        body: Vec<u8>,
    },
    /// It was erased, or is not disclosed: its hash.
    #[n(1)]
    Erased {
        /// What [`Part::hash`] gave.
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: Hash,
    },
}

/// The readable part of a side record.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Readable {
    /// The salt of the entry's name commitment.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name_salt: [u8; 32],
    /// The bucket; empty for cluster-wide changes.
    #[n(1)]
    pub bucket: String,
    /// The key; empty where none is meant.
    #[n(2)]
    pub key: String,
    /// What happened. Its `predecessor` is always `None`: that stands in a part of its own.
    #[n(3)]
    pub detail: FactDetail,
    /// Some text above was over its limit and is shortened ([`shortened`]), or the configuration is its SHA-256.
    #[n(4)]
    pub shortened: bool,
}

/// What a side record tells of its entry, after the check that it belongs to it. `None`: erased or not disclosed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The readable part.
    pub readable: Option<Readable>,
    /// The order key of the write of the same key that this one follows (`Some(None)`: there was none).
    pub predecessor: Option<Option<OrderKey>>,
}

/// Bucket and key of an entry, disclosed without the rest of its side record.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NameOpening {
    /// The salt of the name commitment.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub salt: [u8; 32],
    /// The bucket.
    #[n(1)]
    pub bucket: String,
    /// The key.
    #[n(2)]
    pub key: String,
}

/// Why bytes are not a side record.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// More than [`SIDE_LEN_MAX`] bytes.
    #[error("side record of {0} bytes is over the limit of {SIDE_LEN_MAX}")]
    TooLong(usize),
    /// A version that this build does not know.
    #[error("side record version {0} is not known to this build")]
    Version(u8),
    /// Not the CBOR of a side record.
    #[error("malformed side record: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Bytes are left after the record or after its readable part.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// The predecessor is not an order key, or stands in the readable part.
    #[error("malformed predecessor")]
    Predecessor,
}

/// Why a side record, or a name, does not open an entry.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The record is not the one that the entry commits to.
    #[error("the side record is not the one that the entry commits to")]
    Digest,
    /// The names are not those that the entry commits to.
    #[error("the bucket and key are not those that the entry commits to")]
    Name,
    /// The part that the entry commits to is malformed: the replicas that formed it are at fault.
    #[error(transparent)]
    Malformed(#[from] SideError),
}

impl SideRecord {
    /// The version of the encoding.
    pub const VERSION: u8 = 1;

    /// What the entry commits to: `SHA-256("entangle/side/v1\n" || hash of the readable part || hash of the
    /// predecessor part)`.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Sha256::new()
            .chain_update(b"entangle/side/v1\n")
            .chain_update(self.readable.hash(READABLE_DOMAIN))
            .chain_update(self.predecessor.hash(PREDECESSOR_DOMAIN))
            .finalize()
            .into()
    }

    /// The stored form: CBOR with numbered fields, at most [`SIDE_LEN_MAX`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding into a vector cannot fail")
    }

    /// The inverse of [`SideRecord::to_bytes`]. Says nothing yet of what is inside the parts: [`opens`] does.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SideError> {
        if bytes.len() > SIDE_LEN_MAX {
            return Err(SideError::TooLong(bytes.len()));
        }
        let record: Self = decode_all(bytes)?;
        if record.version == Self::VERSION { Ok(record) } else { Err(SideError::Version(record.version)) }
    }

    /// The record without its readable part: names, sizes, digests and principal are gone. The digest is the same.
    #[must_use]
    pub fn without_readable(&self) -> Self {
        Self { readable: self.readable.erased(READABLE_DOMAIN), ..self.clone() }
    }

    /// The record without its predecessor part. The digest is the same.
    #[must_use]
    pub fn without_predecessor(&self) -> Self {
        Self { predecessor: self.predecessor.erased(PREDECESSOR_DOMAIN), ..self.clone() }
    }

    /// The record with both parts erased. The digest is the same.
    #[must_use]
    pub fn erased(&self) -> Self {
        self.without_readable().without_predecessor()
    }

    /// What it tells, unchecked: [`opens`] also checks that it belongs to an entry.
    pub fn open(&self) -> Result<Opened, SideError> {
        let readable = match &self.readable {
            Part::Erased { .. } => None,
            Part::Open { body, .. } => {
                let readable: Readable = decode_all(body)?;
                if readable.detail.predecessor.is_some() {
                    return Err(SideError::Predecessor);
                }
                Some(readable)
            }
        };
        let predecessor = match &self.predecessor {
            Part::Erased { .. } => None,
            Part::Open { body, .. } if body.is_empty() => Some(None),
            Part::Open { body, .. } => {
                let body = body.as_slice().try_into().map_err(|_| SideError::Predecessor)?;
                Some(Some(OrderKey::from_bytes(body)))
            }
        };
        Ok(Opened { readable, predecessor })
    }
}

impl Readable {
    /// Bucket and key alone, for disclosure without the rest.
    #[must_use]
    pub fn name(&self) -> NameOpening {
        NameOpening { salt: self.name_salt, bucket: self.bucket.clone(), key: self.key.clone() }
    }
}

impl NameOpening {
    /// Whether the entry commits to this bucket and key.
    pub fn check(&self, entry: &Entry) -> Result<(), OpenError> {
        if !entry.is_block() && name_commitment(&self.salt, &self.bucket, &self.key) == entry.name {
            Ok(())
        } else {
            Err(OpenError::Name)
        }
    }
}

impl Part {
    fn hash(&self, domain: &[u8]) -> Hash {
        match self {
            Self::Open { salt, body } => {
                Sha256::new().chain_update(domain).chain_update(salt).chain_update(body).finalize().into()
            }
            Self::Erased { hash } => *hash,
        }
    }

    fn erased(&self, domain: &[u8]) -> Self {
        Self::Erased { hash: self.hash(domain) }
    }
}

const READABLE_DOMAIN: &[u8] = b"entangle/side-readable/v1\n";
const PREDECESSOR_DOMAIN: &[u8] = b"entangle/side-predecessor/v1\n";

/// Checks that the side record is the one that the entry commits to and that its names are the committed ones; tells
/// what it says.
pub fn opens(entry: &Entry, side: &SideRecord) -> Result<Opened, OpenError> {
    if entry.is_block() || side.digest() != entry.side {
        return Err(OpenError::Digest);
    }
    let opened = side.open()?;
    if let Some(readable) = &opened.readable
        && name_commitment(&readable.name_salt, &readable.bucket, &readable.key) != entry.name
    {
        return Err(OpenError::Name);
    }
    Ok(opened)
}

/// `SHA-256("entangle/name/v1\n" || salt || u32 len(bucket) || bucket || u32 len(key) || key)`.
#[must_use]
pub fn name_commitment(salt: &[u8; 32], bucket: &str, key: &str) -> Hash {
    let len = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    Sha256::new()
        .chain_update(b"entangle/name/v1\n")
        .chain_update(salt)
        .chain_update(len(bucket))
        .chain_update(bucket)
        .chain_update(len(key))
        .chain_update(key)
        .finalize()
        .into()
}

/// The salts of an entry: each reveals nothing of the others, nor of those of the command's other items.
fn derived_salt(domain: &[u8], fact: &Fact) -> [u8; 32] {
    Sha256::new()
        .chain_update(domain)
        .chain_update(fact.salt)
        .chain_update(fact.order.item.to_be_bytes())
        .finalize()
        .into()
}

/// The name commitment and the side record of a fact.
pub(crate) fn of_fact(fact: &Fact) -> (Hash, SideRecord) {
    let (bucket, cut_bucket) = shortened(&fact.bucket, BUCKET_LEN_MAX);
    let (key, cut_key) = shortened(&fact.key, KEY_LEN_MAX);
    let (detail, cut_detail) = bounded_detail(&fact.detail);
    let name_salt = derived_salt(b"entangle/salt/name/v1\n", fact);
    let name = name_commitment(&name_salt, &bucket, &key);
    let readable = Readable {
        name_salt,
        bucket: bucket.into_owned(),
        key: key.into_owned(),
        detail,
        shortened: cut_bucket || cut_key || cut_detail,
    };
    let body = minicbor::to_vec(&readable).expect("encoding into a vector cannot fail");
    let predecessor = fact.detail.predecessor.map_or_else(Vec::new, |order| order.to_bytes().to_vec());
    let side = SideRecord {
        version: SideRecord::VERSION,
        readable: Part::Open { salt: derived_salt(b"entangle/salt/readable/v1\n", fact), body },
        predecessor: Part::Open { salt: derived_salt(b"entangle/salt/predecessor/v1\n", fact), body: predecessor },
    };
    (name, side)
}

/// The detail without its predecessor, every text within its limit; and whether any had to be shortened.
fn bounded_detail(detail: &FactDetail) -> (FactDetail, bool) {
    let mut out = FactDetail { predecessor: None, ..detail.clone() };
    let mut cut = shorten(&mut out.principal, PRINCIPAL_LEN_MAX);
    for (text, max) in
        [(&mut out.etag, ETAG_LEN_MAX), (&mut out.condition, CONDITION_LEN_MAX), (&mut out.refusal, REFUSAL_LEN_MAX)]
    {
        cut |= text.as_mut().is_some_and(|text| shorten(text, max));
    }
    if let Some((bucket, key)) = &mut out.source {
        cut |= shorten(bucket, BUCKET_LEN_MAX);
        cut |= shorten(key, KEY_LEN_MAX);
    }
    if let Some(configuration) = &mut out.configuration
        && configuration.len() > CONFIGURATION_LEN_MAX
    {
        *configuration = Sha256::digest(&*configuration).to_vec();
        cut = true;
    }
    (out, cut)
}

fn shorten(text: &mut String, len_max: usize) -> bool {
    match shortened(text, len_max) {
        (Cow::Owned(short), true) => {
            *text = short;
            true
        }
        _ => false,
    }
}

/// A text of more than `len_max` bytes as a side record gives it: its longest prefix of whole characters within
/// `len_max` bytes, an ellipsis, and the SHA-256 of the whole in hex. Such a text is longer than `len_max`, so it is
/// never mistaken for one that was given.
#[must_use]
pub fn shortened(text: &str, len_max: usize) -> (Cow<'_, str>, bool) {
    if text.len() <= len_max {
        return (Cow::Borrowed(text), false);
    }
    let mut short = text[..text.floor_char_boundary(len_max)].to_owned();
    short.push('…');
    for byte in Sha256::digest(text) {
        short.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')));
    }
    (Cow::Owned(short), true)
}

/// Decodes CBOR that must take up all of `bytes`.
fn decode_all<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, SideError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode()?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        left => Err(SideError::Trailing(left)),
    }
}
