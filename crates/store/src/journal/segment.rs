//! The header of a segment: whose it is, where every group stands at its start, and what is carried into it.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use types::sign::Signer;
use types::{ClusterId, GroupId, ReplicaId};

use super::layout::{ALIGN, Nonce, pad, put_kept, take_kept, u32_at, u64_at};
use super::{Kept, KeptKind};

/// The name of the segment in waiting.
pub(super) const SPARE: &str = "spare";
/// The version of the journal's format that this build writes and reads.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"ENTJSEG\0";
const FIXED_LEN: usize = 96;
const GROUP_LEN: usize = 48;
const NONCE_DOMAIN: &[u8] = b"entangle/journal-nonce/v1\n";

/// The file name of a segment.
pub(super) fn segment_name(sequence: u64) -> String {
    format!("segment-{sequence:016x}")
}

/// The inverse of [`segment_name`].
pub(super) fn segment_sequence(name: &str) -> Option<u64> {
    let sequence = u64::from_str_radix(name.strip_prefix("segment-")?, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

/// The nonce of a segment: nobody without the signing key can compute it, so no body can pass for a frame.
pub(super) fn nonce(signer: &dyn Signer, cluster: ClusterId, replica: ReplicaId, sequence: u64) -> Nonce {
    let mut message = NONCE_DOMAIN.to_vec();
    message.extend_from_slice(&cluster.0);
    message.extend_from_slice(&replica.0.to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    let digest = Sha256::digest(signer.sign(&message));
    let mut nonce = Nonce::default();
    nonce.copy_from_slice(&digest[..16]);
    nonce
}

/// Where a group's journal stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stand {
    /// Position of the next record.
    pub(super) next: u64,
    /// Hash of the last batch head; zeros before the first.
    pub(super) previous: [u8; 32],
}

impl Default for Stand {
    fn default() -> Self {
        Self { next: 1, previous: [0; 32] }
    }
}

/// The latest kept records of the kinds that are carried along.
pub(super) type Carried = BTreeMap<(GroupId, KeptKind), Bytes>;

/// What opens a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) cluster: ClusterId,
    pub(super) replica: ReplicaId,
    pub(super) sequence: u64,
    pub(super) number: u64,
    pub(super) len: u64,
    pub(super) nonce: Nonce,
    pub(super) groups: BTreeMap<GroupId, Stand>,
    pub(super) carried: Carried,
}

/// Why bytes are not the header of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HeaderError {
    /// Not the magic of a segment.
    Foreign,
    /// Another version of the format.
    Version(u32),
    /// The checksum or the structure does not check.
    Damaged,
}

impl SegmentHeader {
    /// Length of the fixed part, and what must be read to know the whole length.
    pub(super) const FIXED_LEN: usize = FIXED_LEN;

    /// The bytes, padded to where the first frame starts.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; FIXED_LEN];
        for (group, stand) in &self.groups {
            out.extend_from_slice(&group.0.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&stand.next.to_be_bytes());
            out.extend_from_slice(&stand.previous);
        }
        for ((group, kind), bytes) in &self.carried {
            put_kept(&mut out, &Kept { group: *group, kind: *kind, bytes: bytes.clone() });
        }
        let len = out.len() + 8;
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_be_bytes());
        out[12..16].copy_from_slice(&count(len));
        out[16..32].copy_from_slice(&self.cluster.0);
        out[32..36].copy_from_slice(&self.replica.0.to_be_bytes());
        out[40..48].copy_from_slice(&self.sequence.to_be_bytes());
        out[48..56].copy_from_slice(&self.number.to_be_bytes());
        out[56..64].copy_from_slice(&self.len.to_be_bytes());
        out[64..80].copy_from_slice(&self.nonce);
        out[80..84].copy_from_slice(&count(self.groups.len()));
        out[84..88].copy_from_slice(&count(self.carried.len()));
        out.extend_from_slice(&[0; 4]);
        let crc = crc_fast::crc32_iscsi(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        pad(&mut out, ALIGN);
        out
    }

    /// The length of the whole header, read from its fixed part.
    pub(super) fn whole_len(fixed: &[u8]) -> Result<usize, HeaderError> {
        if fixed.len() < FIXED_LEN {
            return Err(HeaderError::Damaged);
        }
        if fixed[..8] != MAGIC {
            return Err(HeaderError::Foreign);
        }
        match u32_at(fixed, 8) {
            VERSION => Ok(u32_at(fixed, 12) as usize),
            other => Err(HeaderError::Version(other)),
        }
    }

    /// Decodes the bytes of a whole header, padding not included.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let len = Self::whole_len(bytes)?;
        let whole = bytes.get(..len).filter(|bytes| bytes.len() >= FIXED_LEN + 8).ok_or(HeaderError::Damaged)?;
        let (content, crc) = whole.split_at(len - 4);
        if crc_fast::crc32_iscsi(content) != u32_at(crc, 0) {
            return Err(HeaderError::Damaged);
        }
        let content = &content[..content.len() - 4];
        let mut rest = &content[FIXED_LEN..];
        let mut groups = BTreeMap::new();
        for _ in 0..u32_at(content, 80) {
            let (group, after) = rest.split_at_checked(GROUP_LEN).ok_or(HeaderError::Damaged)?;
            let mut previous = [0; 32];
            previous.copy_from_slice(&group[16..]);
            groups.insert(GroupId(u32_at(group, 0)), Stand { next: u64_at(group, 8), previous });
            rest = after;
        }
        let mut carried = Carried::new();
        for _ in 0..u32_at(content, 84) {
            let (kept, after) = take_kept(rest).map_err(|_| HeaderError::Damaged)?;
            carried.insert((kept.group, kept.kind), kept.bytes);
            rest = after;
        }
        let mut cluster = ClusterId::default();
        cluster.0.copy_from_slice(&content[16..32]);
        let mut nonce = Nonce::default();
        nonce.copy_from_slice(&content[64..80]);
        let header = Self {
            cluster,
            replica: ReplicaId(u32_at(content, 32)),
            sequence: u64_at(content, 40),
            number: u64_at(content, 48),
            len: u64_at(content, 56),
            nonce,
            groups,
            carried,
        };
        // One header has one encoding: this also refuses bytes that must be zero and are not.
        let same = rest.is_empty() && header.encode().get(..len) == Some(whole);
        same.then_some(header).ok_or(HeaderError::Damaged)
    }
}

/// Lengths and counts are far below 4 GiB: the journal bounds what it carries.
fn count(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a header is bounded by a quarter of a segment").to_be_bytes()
}
