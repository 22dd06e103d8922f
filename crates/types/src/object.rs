//! What is known of an object: metadata, checksums, and where its bytes are.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::Timestamp;

/// Encodes [`Bytes`] as a CBOR byte string.
pub mod cbor_bytes {
    use bytes::Bytes;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    /// Writes a byte string.
    pub fn encode<C, W: Write>(value: &Bytes, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.bytes(value)?.ok()
    }

    /// Reads a byte string.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, DecodeError> {
        Ok(Bytes::copy_from_slice(d.bytes()?))
    }
}

/// The checksum algorithms of S3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC).
    #[n(0)]
    Crc32,
    /// CRC-32C (Castagnoli).
    #[n(1)]
    Crc32c,
    /// CRC-64/NVME.
    #[n(2)]
    Crc64Nvme,
    /// SHA-1.
    #[n(3)]
    Sha1,
    /// SHA-256.
    #[n(4)]
    Sha256,
}

impl ChecksumAlgorithm {
    /// Length of the value in bytes.
    #[must_use]
    pub fn value_len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// What a checksum covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum ChecksumKind {
    /// The bytes of the whole object.
    #[n(0)]
    FullObject,
    /// The checksums of the parts.
    #[n(1)]
    Composite,
}

/// A verified checksum of a body.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Checksum {
    /// How it was computed.
    #[n(0)]
    pub algorithm: ChecksumAlgorithm,
    /// What it covers.
    #[n(1)]
    pub kind: ChecksumKind,
    /// Its value, raw.
    #[cbor(n(2), with = "cbor_bytes")]
    pub value: Bytes,
}

/// A chunk of a body in the vaults. All but the last of a body are [`crate::limits::CHUNK_LEN`] long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Chunk {
    /// Length in bytes, at least 1.
    #[n(0)]
    pub len: u32,
    /// BLAKE3 of its bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub digest: [u8; 32],
}

/// Names one body in the vaults; drawn at random, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct PlacementId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// A body in the vaults: chunks are write-once and belong to this body alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Placement {
    /// Its name.
    #[n(0)]
    pub id: PlacementId,
    /// When the first chunk was placed, by the placing node's clock.
    #[n(1)]
    pub placed_at: Timestamp,
    /// In order of the bytes; at least one.
    #[n(2)]
    pub chunks: Vec<Chunk>,
}

impl Placement {
    /// Total length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }

    /// Whether it holds no bytes (a valid one always does).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// The bytes of a body, as a command carries them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum Body {
    /// The bytes themselves, at most [`crate::limits::INLINE_BODY_LEN_MAX`]; empty bodies too.
    #[n(0)]
    Inline(#[cbor(n(0), with = "cbor_bytes")] Bytes),
    /// They are in the vaults.
    #[n(1)]
    Placed(#[n(0)] Placement),
}

/// Headers kept with an object and given back with it. Absent ones are `None`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Metadata {
    /// `Content-Type`.
    #[n(0)]
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    #[n(1)]
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    #[n(2)]
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    #[n(3)]
    pub content_language: Option<String>,
    /// `Cache-Control`.
    #[n(4)]
    pub cache_control: Option<String>,
    /// `Expires`, as the client sent it.
    #[n(5)]
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    #[n(6)]
    pub website_redirect: Option<String>,
    /// `x-amz-meta-*`: names without the prefix, lower case, strictly rising.
    #[n(7)]
    pub user: Vec<(String, String)>,
}
