//! The bytes of the journal: frames, items and body slots. `docs/formats/journal.md` is their document.

use bytes::Bytes;
use types::GroupId;
use types::journal::{BatchHead, LayoutError, RecordHeader};

use super::{Kept, KeptKind};

/// Frames start at multiples of this, so that a flush never rewrites a sector of an older one.
pub(super) const ALIGN: usize = crate::disk::SECTOR_LEN;
/// Length of a frame's header.
pub(super) const FRAME_HEADER_LEN: usize = 32;
/// Length of a body slot before its body: CRC, state, salt.
pub(super) const SLOT_HEADER_LEN: usize = 40;
/// The state word of an erased body.
pub(super) const ERASED: [u8; 4] = *b"ERAS";
/// What stands before a batch's record headers: item word, head, signature.
pub(super) const BATCH_FIXED_LEN: usize = 8 + BatchHead::LEN + SIGNATURE_LEN;

const FRAME_MAGIC: [u8; 4] = *b"EJFR";
const SIGNATURE_LEN: usize = 64;
const ITEM_BATCH: u8 = 1;
const ITEM_KEPT: u8 = 2;
const KEPT_FIXED_LEN: usize = 16;

/// What makes the CRCs of one segment unlike those of any other.
pub(super) type Nonce = [u8; 16];

/// CRC-32C that starts from a nonce.
#[derive(Clone, Copy)]
pub(super) struct Crc(crc_fast::Digest);

impl Crc {
    pub(super) fn new(nonce: &Nonce) -> Self {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(nonce);
        Self(digest)
    }

    pub(super) fn of(&self, bytes: &[u8]) -> u32 {
        let mut digest = self.0;
        digest.update(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "a 32-bit CRC")]
        return digest.finalize() as u32;
    }
}

/// Rounds up to a multiple of `unit`.
pub(super) fn round_up(len: usize, unit: usize) -> usize {
    len.div_ceil(unit) * unit
}

/// Bytes of the slot of a body of this length; none for an empty body.
pub(super) fn slot_len(body_len: usize) -> usize {
    if body_len == 0 { 0 } else { SLOT_HEADER_LEN + round_up(body_len, 8) }
}

/// Bytes of the item of a kept record.
pub(super) fn kept_len(kept: &Kept) -> usize {
    KEPT_FIXED_LEN + round_up(kept.bytes.len(), 8)
}

/// Appends zeros up to a multiple of `unit`.
pub(super) fn pad(out: &mut Vec<u8>, unit: usize) {
    out.resize(round_up(out.len(), unit), 0);
}

/// Appends the item of a kept record.
pub(super) fn put_kept(out: &mut Vec<u8>, kept: &Kept) {
    out.extend_from_slice(&[ITEM_KEPT, kept.kind.0, 0, 0]);
    out.extend_from_slice(&kept.group.0.to_be_bytes());
    let len = u32::try_from(kept.bytes.len()).expect("append refuses what is over the batch limit");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kept.bytes);
    pad(out, 8);
}

/// Appends the item of a batch up to its record headers, which the caller appends.
pub(super) fn put_batch(out: &mut Vec<u8>, head: &BatchHead, signature: &[u8; SIGNATURE_LEN]) {
    out.extend_from_slice(&[ITEM_BATCH, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&head.to_bytes());
    out.extend_from_slice(signature);
}

/// Appends the slot of a body.
pub(super) fn put_slot(out: &mut Vec<u8>, crc: &Crc, salt: &[u8; 32], body: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(salt);
    out.extend_from_slice(body);
    let sum = crc.of(&out[at + 8..]);
    out[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    pad(out, 8);
}

/// Fills in the header of the frame that starts `out`: the core ends at `core_end`, the bodies at the end.
pub(super) fn seal_frame(out: &mut Vec<u8>, crc: &Crc, number: u64, core_end: usize) {
    let core_len = u32::try_from(core_end - FRAME_HEADER_LEN).expect("append refuses what is over the batch limit");
    let bodies_len = u32::try_from(out.len() - core_end).expect("append refuses what is over the batch limit");
    let core_crc = crc.of(&out[FRAME_HEADER_LEN..core_end]);
    out[..4].copy_from_slice(&FRAME_MAGIC);
    out[4..8].fill(0);
    out[8..16].copy_from_slice(&number.to_be_bytes());
    out[16..20].copy_from_slice(&core_len.to_be_bytes());
    out[20..24].copy_from_slice(&bodies_len.to_be_bytes());
    out[24..28].copy_from_slice(&core_crc.to_be_bytes());
    let header_crc = crc.of(&out[..28]);
    out[28..32].copy_from_slice(&header_crc.to_be_bytes());
    pad(out, ALIGN);
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub(super) number: u64,
    pub(super) core_len: usize,
    pub(super) bodies_len: usize,
    core_crc: u32,
}

impl FrameHeader {
    /// Decodes 32 bytes; `None` unless all of it checks.
    pub(super) fn decode(bytes: &[u8], crc: &Crc) -> Option<Self> {
        let bytes = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
        let checks = bytes[..4] == FRAME_MAGIC
            && bytes[4..8] == [0; 4]
            && crc.of(&bytes[..28]) == u32_at(bytes, 28)
            && u32_at(bytes, 16).is_multiple_of(8)
            && u32_at(bytes, 20).is_multiple_of(8);
        checks.then(|| Self {
            number: u64_at(bytes, 8),
            core_len: u32_at(bytes, 16) as usize,
            bodies_len: u32_at(bytes, 20) as usize,
            core_crc: u32_at(bytes, 24),
        })
    }

    /// Bytes of the whole frame, padding included.
    pub(super) fn frame_len(&self) -> usize {
        round_up(FRAME_HEADER_LEN + self.core_len + self.bodies_len, ALIGN)
    }
}

/// A batch of a frame, decoded.
#[derive(Clone, Debug)]
pub(super) struct FrameBatch {
    pub(super) head: BatchHead,
    pub(super) signature: [u8; SIGNATURE_LEN],
    pub(super) records: Vec<FrameRecord>,
}

/// A record of a frame: its header, and where in the frame its slot starts (0 when it has no body).
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameRecord {
    pub(super) header: RecordHeader,
    pub(super) slot: usize,
    pub(super) erased: bool,
}

/// A frame, decoded; bodies stay in the frame's bytes.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) batches: Vec<FrameBatch>,
    pub(super) kept: Vec<Kept>,
}

/// Why bytes are not a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum FrameError {
    /// A checksum or padding does not check: what a torn write or a damaged disk leaves.
    Damaged(&'static str),
    /// All checksums are right and yet this build cannot read it: not a matter of torn writes.
    Malformed(String),
}

impl From<LayoutError> for FrameError {
    fn from(error: LayoutError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Frame {
    /// Decodes the bytes of a whole frame, as long as `header` says.
    pub(super) fn decode(bytes: &[u8], header: &FrameHeader, crc: &Crc) -> Result<Self, FrameError> {
        let core_end = FRAME_HEADER_LEN + header.core_len;
        let core = bytes.get(FRAME_HEADER_LEN..core_end).ok_or(FrameError::Damaged("the frame is cut short"))?;
        if crc.of(core) != header.core_crc {
            return Err(FrameError::Damaged("the checksum of the records does not match"));
        }
        let mut frame = Self { number: header.number, batches: Vec::new(), kept: Vec::new() };
        let mut slot = core_end;
        let mut rest = core;
        while let Some(&item) = rest.first() {
            rest = match item {
                ITEM_BATCH => frame.take_batch(rest, &mut slot)?,
                ITEM_KEPT => {
                    let (kept, rest) = take_kept(rest)?;
                    frame.kept.push(kept);
                    rest
                }
                other => return Err(FrameError::Malformed(format!("item {other} is not known to this build"))),
            };
        }
        if slot != core_end + header.bodies_len {
            return Err(FrameError::Malformed("the bodies are not as long as the headers say".to_owned()));
        }
        frame.check_slots(bytes, crc)?;
        let padding = bytes.get(slot..header.frame_len()).ok_or(FrameError::Damaged("the frame is cut short"))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FrameError::Damaged("the padding is not zero"));
        }
        Ok(frame)
    }

    fn take_batch<'a>(&mut self, bytes: &'a [u8], slot: &mut usize) -> Result<&'a [u8], FrameError> {
        let short = || FrameError::Malformed("a batch is cut short".to_owned());
        let (fixed, rest) = bytes.split_at_checked(BATCH_FIXED_LEN).ok_or_else(short)?;
        if fixed[1..8] != [0; 7] {
            return Err(LayoutError::Reserved.into());
        }
        let mut head = [0; BatchHead::LEN];
        head.copy_from_slice(&fixed[8..8 + BatchHead::LEN]);
        let head = BatchHead::from_bytes(&head)?;
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(&fixed[8 + BatchHead::LEN..]);
        let len = (head.count as usize).checked_mul(RecordHeader::LEN).ok_or_else(short)?;
        let (headers, rest) = rest.split_at_checked(len).ok_or_else(short)?;
        let end = head.position.checked_add(u64::from(head.count));
        let end = end.ok_or_else(|| FrameError::Malformed("a position is out of range".to_owned()))?;
        let mut records = Vec::with_capacity(head.count as usize);
        for (header, position) in headers.as_chunks::<{ RecordHeader::LEN }>().0.iter().zip(head.position..end) {
            let header = RecordHeader::from_bytes(header)?;
            if header.position != position || header.epoch != head.epoch {
                return Err(FrameError::Malformed("a record is not of its batch".to_owned()));
            }
            let len = slot_len(header.body_len as usize);
            records.push(FrameRecord { header, slot: if len == 0 { 0 } else { *slot }, erased: false });
            *slot += len;
        }
        if records.is_empty() {
            return Err(FrameError::Malformed("a batch is empty".to_owned()));
        }
        self.batches.push(FrameBatch { head, signature, records });
        Ok(rest)
    }

    fn check_slots(&mut self, bytes: &[u8], crc: &Crc) -> Result<(), FrameError> {
        for record in self.batches.iter_mut().flat_map(|batch| &mut batch.records).filter(|record| record.slot != 0) {
            let end = record.slot + SLOT_HEADER_LEN + record.header.body_len as usize;
            let slot = bytes.get(record.slot..end).ok_or(FrameError::Damaged("a body is cut short"))?;
            let padding = bytes.get(end..round_up(end, 8)).ok_or(FrameError::Damaged("a body is cut short"))?;
            record.erased = slot[4..8] == ERASED;
            // Any other state word is what a crash left of an erasure that was never reported.
            let whole = record.erased || crc.of(&slot[8..]) == u32_at(slot, 0);
            if !whole || padding.iter().any(|byte| *byte != 0) {
                return Err(FrameError::Damaged("the checksum of a body does not match"));
            }
        }
        Ok(())
    }
}

/// Decodes the kept item that starts `bytes`; returns it and what follows.
pub(super) fn take_kept(bytes: &[u8]) -> Result<(Kept, &[u8]), FrameError> {
    let short = || FrameError::Malformed("a kept record is cut short".to_owned());
    let (fixed, rest) = bytes.split_at_checked(KEPT_FIXED_LEN).ok_or_else(short)?;
    if fixed[0] != ITEM_KEPT || fixed[2..4] != [0; 2] || fixed[12..16] != [0; 4] {
        return Err(LayoutError::Reserved.into());
    }
    let len = u32_at(fixed, 8) as usize;
    let (content, rest) = rest.split_at_checked(round_up(len, 8)).ok_or_else(short)?;
    let (content, padding) = content.split_at(len);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(LayoutError::Reserved.into());
    }
    let kept =
        Kept { group: GroupId(u32_at(fixed, 4)), kind: KeptKind(fixed[1]), bytes: Bytes::copy_from_slice(content) };
    Ok((kept, rest))
}

/// The big-endian word at `at`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

/// The big-endian word at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}
