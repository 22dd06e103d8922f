//! The fixed layouts that a journal signs: record headers and batch heads.
//!
//! A batch is what one flush makes durable. Its root is an RFC 6962 tree over the encoded headers of the
//! records *said*; a header commits to its body by `H(salt || body)`, and salt and body stand in a section
//! outside every hash. So a receipt is small, and erasing a body breaks no evidence. These layouts cannot
//! be changed; `docs/formats/journal.md` is their document.

use sha2::{Digest as _, Sha256};

use crate::{ClusterId, CommandId, Epoch, GroupId, Incarnation, ReplicaId, Slot, SlotSet, Timestamp};

/// What a record says (`consensus.md`, section 2). The number is the byte on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// A coordinator's command, its timestamp and its fast quorum.
    Propose = 1,
    /// Attached at ballot 0.
    Ack = 2,
    /// The command's timestamp is decided.
    Commit = 3,
    /// Floors raised to a commit above what was attached.
    Raise = 4,
    /// Start of recovery at a ballot.
    Prepare = 5,
    /// Answer to a `Prepare`.
    Report = 6,
    /// Phase two at a ballot.
    Accept = 7,
    /// Answer to an `Accept`.
    Accepted = 8,
    /// Asks for a read lease.
    LeaseRequest = 9,
    /// Grants a read lease.
    LeaseGrant = 10,
    /// Clock promise (a durable one is a ceiling).
    Clock = 11,
    /// Enters an epoch.
    Enter = 12,
    /// The state at a reconfiguration is durable here.
    Have = 13,
    /// Opens an incarnation: the first record after every start.
    Open = 14,
}

impl RecordKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        use RecordKind as K;
        [
            K::Propose,
            K::Ack,
            K::Commit,
            K::Raise,
            K::Prepare,
            K::Report,
            K::Accept,
            K::Accepted,
            K::LeaseRequest,
            K::LeaseGrant,
            K::Clock,
            K::Enter,
            K::Have,
            K::Open,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The header of a said record: 96 bytes, big endian, the leaf of its batch's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// What is said.
    pub kind: RecordKind,
    /// Meaning by kind; 0 where none is documented.
    pub flags: u16,
    /// The epoch in which it is said.
    pub epoch: Epoch,
    /// Position in the journal: dense from 1 over all incarnations.
    pub position: u64,
    /// The command spoken of; all zero where there is none.
    pub id: CommandId,
    /// `t0`, `t_j`, `t` or `T_j`, by kind.
    pub timestamp: Timestamp,
    /// The ballot; 0 for the fast path.
    pub ballot: u64,
    /// By kind. `Propose`: the fast quorum as a bit mask over the epoch's members in rising replica order.
    pub aux: u64,
    /// Length of the body in bytes; 0 when there is none.
    pub body_len: u32,
    /// [`body_hash`] of salt and body; all zero when there is no body.
    pub body_hash: [u8; 32],
}

/// Why a header or a head could not be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LayoutError {
    /// A version that this build does not know.
    #[error("version {0} is not known to this build")]
    Version(u8),
    /// A record kind that this build does not know.
    #[error("record kind {0} is not known to this build")]
    Kind(u8),
    /// A byte that must be zero is not.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// Slots that are not strictly rising and in range, or a body cut short.
    #[error("malformed proposal body")]
    Proposal,
}

impl RecordHeader {
    /// Encoded size in bytes.
    pub const LEN: usize = 96;
    /// The version byte that opens every header.
    pub const VERSION: u8 = 1;

    /// The 96 bytes that are hashed and stored.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = Self::VERSION;
        out[1] = self.kind as u8;
        out[2..4].copy_from_slice(&self.flags.to_be_bytes());
        out[4..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.position.to_be_bytes());
        out[16..32].copy_from_slice(&self.id.to_bytes());
        out[32..40].copy_from_slice(&self.timestamp.0.to_be_bytes());
        out[40..48].copy_from_slice(&self.ballot.to_be_bytes());
        out[48..56].copy_from_slice(&self.aux.to_be_bytes());
        out[56..60].copy_from_slice(&self.body_len.to_be_bytes());
        out[64..96].copy_from_slice(&self.body_hash);
        out
    }

    /// The inverse of [`RecordHeader::to_bytes`].
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, LayoutError> {
        if bytes[0] != Self::VERSION {
            return Err(LayoutError::Version(bytes[0]));
        }
        let kind = RecordKind::from_u8(bytes[1]).ok_or(LayoutError::Kind(bytes[1]))?;
        if bytes[60..64] != [0; 4] {
            return Err(LayoutError::Reserved);
        }
        Ok(Self {
            kind,
            flags: u16::from_be_bytes(array(&bytes[2..4])),
            epoch: Epoch(u32::from_be_bytes(array(&bytes[4..8]))),
            position: u64::from_be_bytes(array(&bytes[8..16])),
            id: CommandId::from_bytes(&array(&bytes[16..32])),
            timestamp: Timestamp(u64::from_be_bytes(array(&bytes[32..40]))),
            ballot: u64::from_be_bytes(array(&bytes[40..48])),
            aux: u64::from_be_bytes(array(&bytes[48..56])),
            body_len: u32::from_be_bytes(array(&bytes[56..60])),
            body_hash: array(&bytes[64..96]),
        })
    }
}

/// Copies a slice whose length the caller has fixed.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(slice);
    out
}

/// `SHA-256("entangle/journal-body/v1\n" || salt || body)`: what a header says of its body.
#[must_use]
pub fn body_hash(salt: &[u8; 32], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"entangle/journal-body/v1\n").chain_update(salt).chain_update(body).finalize().into()
}

/// What a replica signs per flush: 112 bytes, big endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHead {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group whose journal this is.
    pub group: GroupId,
    /// The epoch of the writer when it wrote.
    pub epoch: Epoch,
    /// The writer.
    pub replica: ReplicaId,
    /// The writer's incarnation.
    pub incarnation: Incarnation,
    /// Position of the first record.
    pub position: u64,
    /// Number of records, at least 1.
    pub count: u32,
    /// [`BatchHead::hash`] of the batch before it in this journal; all zero for the first.
    pub previous: [u8; 32],
    /// RFC 6962 root over the encoded headers.
    pub root: [u8; 32],
}

impl BatchHead {
    /// Encoded size in bytes.
    pub const LEN: usize = 112;
    /// What is put before the encoded head when it is signed or hashed.
    pub const DOMAIN: &'static [u8] = b"entangle/journal-head/v1\n";

    /// The 112 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..16].copy_from_slice(&self.cluster.0);
        out[16..20].copy_from_slice(&self.group.0.to_be_bytes());
        out[20..24].copy_from_slice(&self.epoch.0.to_be_bytes());
        out[24..28].copy_from_slice(&self.replica.0.to_be_bytes());
        out[28..32].copy_from_slice(&self.incarnation.0.to_be_bytes());
        out[32..40].copy_from_slice(&self.position.to_be_bytes());
        out[40..44].copy_from_slice(&self.count.to_be_bytes());
        out[48..80].copy_from_slice(&self.previous);
        out[80..112].copy_from_slice(&self.root);
        out
    }

    /// The inverse of [`BatchHead::to_bytes`].
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, LayoutError> {
        if bytes[44..48] != [0; 4] {
            return Err(LayoutError::Reserved);
        }
        Ok(Self {
            cluster: ClusterId(array(&bytes[..16])),
            group: GroupId(u32::from_be_bytes(array(&bytes[16..20]))),
            epoch: Epoch(u32::from_be_bytes(array(&bytes[20..24]))),
            replica: ReplicaId(u32::from_be_bytes(array(&bytes[24..28]))),
            incarnation: Incarnation(u32::from_be_bytes(array(&bytes[28..32]))),
            position: u64::from_be_bytes(array(&bytes[32..40])),
            count: u32::from_be_bytes(array(&bytes[40..44])),
            previous: array(&bytes[48..80]),
            root: array(&bytes[80..112]),
        })
    }

    /// The message under the signature: [`BatchHead::DOMAIN`] and the encoded head.
    #[must_use]
    pub fn signed_message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(Self::DOMAIN.len() + Self::LEN);
        message.extend_from_slice(Self::DOMAIN);
        message.extend_from_slice(&self.to_bytes());
        message
    }

    /// SHA-256 of the signed message: what the next batch names as its predecessor.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.signed_message()).into()
    }
}

/// Encodes the body of a `Propose`: `u16` number of slots (`0xffff`: every slot), the slots as `u16`, then
/// the payload.
#[must_use]
pub fn encode_proposal(slots: &SlotSet, payload: &[u8]) -> Vec<u8> {
    let listed: &[Slot] = match slots {
        SlotSet::All => &[],
        SlotSet::Some(slots) => slots,
    };
    let mut body = Vec::with_capacity(2 + 2 * listed.len() + payload.len());
    let count = match slots {
        SlotSet::All => u16::MAX,
        SlotSet::Some(slots) => u16::try_from(slots.len()).expect("slots are distinct and fewer than 4097"),
    };
    body.extend_from_slice(&count.to_be_bytes());
    for slot in listed {
        body.extend_from_slice(&slot.0.to_be_bytes());
    }
    body.extend_from_slice(payload);
    body
}

/// Stands in place of the number of slots in the body of a Reconfig, which touches every slot.
const RECONFIG: u16 = u16::MAX - 1;

/// Encodes the body of a `Propose` of a Reconfig (`consensus.md`, section 8): `0xfffe`, then the payload.
#[must_use]
pub fn encode_reconfig(payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(2 + payload.len());
    body.extend_from_slice(&RECONFIG.to_be_bytes());
    body.extend_from_slice(payload);
    body
}

/// The payload of a Reconfig; `None` when this is the body of another command.
#[must_use]
pub fn reconfig_of(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(&RECONFIG.to_be_bytes())
}

/// The inverse of [`encode_proposal`] and [`encode_reconfig`]: the slots, and where the payload starts.
pub fn decode_proposal(body: &[u8]) -> Result<(SlotSet, usize), LayoutError> {
    let (count, rest) = body.split_first_chunk::<2>().ok_or(LayoutError::Proposal)?;
    let count = u16::from_be_bytes(*count);
    if count >= RECONFIG {
        return Ok((SlotSet::All, 2));
    }
    let len = usize::from(count) * 2;
    let listed = rest.get(..len).ok_or(LayoutError::Proposal)?;
    let slots: Vec<Slot> = listed.chunks_exact(2).map(|pair| Slot(u16::from_be_bytes([pair[0], pair[1]]))).collect();
    let rising = slots.windows(2).all(|pair| pair[0] < pair[1]);
    if slots.is_empty() || !rising || slots.iter().any(|slot| slot.0 >= crate::limits::SLOTS) {
        return Err(LayoutError::Proposal);
    }
    Ok((SlotSet::Some(slots), 2 + len))
}
