//! Digests and checksums of bodies that are put together from parts.

use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest, Md5};
use types::object::{Checksum, ChecksumAlgorithm, ChecksumKind, Chunk};

/// Domain of the content digest of a body in several chunks.
const CONTENT_DOMAIN: &[u8] = b"entangle/content/v1\n";

/// The content digest of a body, from its chunks in order: that of the only one, or the BLAKE3 of
/// `"entangle/content/v1\n"` and `(u32 length, digest)` of each.
pub(crate) fn digest(chunks: impl IntoIterator<Item = Chunk>) -> [u8; 32] {
    let mut chunks = chunks.into_iter();
    let Some(first) = chunks.next() else { return *blake3::hash(b"").as_bytes() };
    let Some(second) = chunks.next() else { return first.digest };
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONTENT_DOMAIN);
    for chunk in [first, second].into_iter().chain(chunks) {
        hasher.update(&chunk.len.to_be_bytes());
        hasher.update(&chunk.digest);
    }
    *hasher.finalize().as_bytes()
}

/// The MD5 of the parts' MD5s: the hash in the ETag of a multipart object.
pub(crate) fn md5_of(parts: impl IntoIterator<Item = [u8; 16]>) -> [u8; 16] {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The checksum of an object from the length and checksum of its parts, all of this algorithm and each of the
/// whole part. `None` when the algorithm has none of this kind.
pub(crate) fn combined<'a>(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    parts: impl Iterator<Item = (u64, &'a [u8])>,
) -> Option<Checksum> {
    let value = match kind {
        ChecksumKind::FullObject => full(algorithm, parts)?,
        ChecksumKind::Composite => composite(algorithm, parts)?,
    };
    Some(Checksum { algorithm, kind, value: value.into() })
}

/// Which CRC an algorithm is, if it is one.
fn crc(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

fn full<'a>(algorithm: ChecksumAlgorithm, parts: impl Iterator<Item = (u64, &'a [u8])>) -> Option<Vec<u8>> {
    let crc = crc(algorithm)?;
    let number = |value: &[u8]| value.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    // The CRC of no bytes is 0, in all three, and combining with it changes nothing.
    let whole = parts.fold(0, |whole, (len, value)| match len {
        0 => whole,
        _ => checksum_combine(crc, whole, number(value), len),
    });
    let bytes = whole.to_be_bytes();
    Some(bytes[bytes.len() - algorithm.value_len()..].to_vec())
}

fn composite<'a>(algorithm: ChecksumAlgorithm, parts: impl Iterator<Item = (u64, &'a [u8])>) -> Option<Vec<u8>> {
    let values: Vec<u8> = parts.flat_map(|(_, value)| value.iter().copied()).collect();
    Some(match algorithm {
        ChecksumAlgorithm::Sha1 => sha1::Sha1::digest(&values).to_vec(),
        ChecksumAlgorithm::Sha256 => sha2::Sha256::digest(&values).to_vec(),
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => {
            let bytes = crc_fast::checksum(crc(algorithm)?, &values).to_be_bytes();
            bytes[bytes.len() - algorithm.value_len()..].to_vec()
        }
        ChecksumAlgorithm::Crc64Nvme => return None,
    })
}
