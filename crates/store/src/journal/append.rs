//! The journal itself: appending batches, one frame and one flush at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ledger::tree::{SmallTree, leaf_hash};
use types::GroupId;
use types::journal::{BatchHead, RecordHeader};
use types::limits::{BATCH_LEN_MAX, BATCH_RECORDS_MAX};
use types::sign::Signer;

use super::error::AppendError;
use super::layout::{
    ALIGN, BATCH_FIXED_LEN, Crc, FRAME_HEADER_LEN, kept_len, put_batch, put_kept, put_slot, round_up, seal_frame,
    slot_len,
};
use super::read::Reader;
use super::segment::{Carried, SegmentHeader, Stand, nonce, segment_name};
use super::shelf::{Segment, Shelf, mark};
use super::spare::Spare;
use super::{Base, Batch, Flushed, JournalOptions, Kept, KeptKind, Record, SealedBatch};
use crate::disk::{Disk, DiskFile};

/// The largest frame: a batch of the largest size, and its headers.
const FRAME_LEN_MAX: usize = BATCH_LEN_MAX + BATCH_RECORDS_MAX * (RecordHeader::LEN + 48) + 64 * 1024;

/// The journal of a node. See the [module](super).
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: JournalOptions,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) stands: BTreeMap<GroupId, Stand>,
    pub(super) carried: Carried,
    pub(super) current: Current,
    pub(super) number_next: u64,
    pub(super) spare: Spare,
    pub(super) buffer: Vec<u8>,
    pub(super) poisoned: bool,
}

/// The segment that is written to.
pub(super) struct Current {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) sequence: u64,
    pub(super) place: String,
    pub(super) crc: Crc,
    /// Where the next frame goes.
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// A frame in the buffer, not yet on disk.
pub(super) struct Staged {
    pub(super) flushed: Flushed,
    stands: BTreeMap<GroupId, Stand>,
    carried: Vec<Kept>,
}

impl Journal {
    /// Makes records and kept records durable in one write and one flush.
    ///
    /// On [`AppendError::Full`] and on refused input nothing was written and the journal goes on; after any
    /// other error every later call fails.
    pub fn append(&mut self, batches: &[Batch<'_>], kept: &[Kept]) -> Result<Flushed, AppendError> {
        let staged = self.stage(batches, kept)?;
        self.write_staged()?;
        self.flush_staged()?;
        Ok(self.commit(staged))
    }

    /// The position of the group's next record.
    #[must_use]
    pub fn next_position(&self, group: GroupId) -> u64 {
        self.stands.get(&group).copied().unwrap_or_default().next
    }

    /// The hash of the group's last batch head; zeros before the first.
    #[must_use]
    pub fn head_hash(&self, group: GroupId) -> [u8; 32] {
        self.stands.get(&group).copied().unwrap_or_default().previous
    }

    /// The groups that have records or had some.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.stands.keys().copied().collect()
    }

    /// What stands in place of the group's trimmed records.
    #[must_use]
    pub fn base(&self, group: GroupId) -> Option<Base> {
        self.kept(group, KeptKind::BASE).and_then(|bytes| Base::from_kept(&bytes))
    }

    /// The latest kept record of a kind of which only the latest counts.
    #[must_use]
    pub fn kept(&self, group: GroupId, kind: KeptKind) -> Option<Bytes> {
        self.carried.get(&(group, kind)).cloned()
    }

    /// A reader of what is durable; it goes on working while the journal is written to.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shelf))
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        let segments = self.shelf.segments.read();
        segments.iter().map(|segment| segment.file.len().unwrap_or(0)).sum()
    }

    /// Checks the input, makes room, signs, and encodes the frame into the buffer.
    pub(super) fn stage(&mut self, batches: &[Batch<'_>], kept: &[Kept]) -> Result<Staged, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let len = self.measure(batches, kept)?;
        if self.current.offset + len as u64 > self.current.len {
            self.roll(len)?;
        }
        let mut staged = Staged {
            flushed: Flushed {
                number: self.number_next,
                batches: Vec::with_capacity(batches.len()),
                kept: kept.len(),
                latest: kept.iter().filter(|kept| kept.kind.is_latest_only()).count(),
                len,
            },
            stands: self.stands.clone(),
            carried: kept.iter().filter(|kept| kept.kind.is_latest_only()).cloned().collect(),
        };
        self.buffer.clear();
        self.buffer.resize(FRAME_HEADER_LEN, 0);
        for batch in batches {
            for records in batch.records.chunk_by(|a, b| a.header.epoch == b.header.epoch) {
                let sealed = self.seal(batch, records, &mut staged.stands);
                put_batch(&mut self.buffer, &sealed.head, &sealed.signature);
                self.buffer.extend_from_slice(sealed.headers.as_flattened());
                staged.flushed.batches.push(sealed);
            }
        }
        for kept in kept {
            put_kept(&mut self.buffer, kept);
        }
        let core_end = self.buffer.len();
        for record in batches.iter().flat_map(|batch| batch.records).filter(|record| !record.body.is_empty()) {
            put_slot(&mut self.buffer, &self.current.crc, &record.salt, &record.body);
        }
        seal_frame(&mut self.buffer, &self.current.crc, self.number_next, core_end);
        assert_eq!(self.buffer.len(), len, "a frame is as long as it was measured");
        Ok(staged)
    }

    /// Checks the input; returns the length of its frame.
    fn measure(&self, batches: &[Batch<'_>], kept: &[Kept]) -> Result<usize, AppendError> {
        let mut next: BTreeMap<GroupId, u64> = BTreeMap::new();
        let mut len = FRAME_HEADER_LEN;
        let mut count = 0;
        for batch in batches {
            let expected = next.entry(batch.group).or_insert_with(|| self.next_position(batch.group));
            for record in batch.records {
                let position = record.header.position;
                if position != *expected {
                    return Err(AppendError::Position { group: batch.group, found: position, expected: *expected });
                }
                if record.header.body_len as usize != record.body.len() {
                    return Err(AppendError::BodyLen { group: batch.group, position });
                }
                *expected += 1;
                len += RecordHeader::LEN + slot_len(record.body.len());
            }
            len += BATCH_FIXED_LEN * batch.records.chunk_by(|a, b| a.header.epoch == b.header.epoch).count();
            count += batch.records.len();
        }
        len += kept.iter().map(kept_len).sum::<usize>();
        let len = round_up(len, ALIGN);
        let limit = self.frame_limit();
        if len > limit || count > BATCH_RECORDS_MAX {
            return Err(AppendError::TooLarge { len, limit });
        }
        self.check_carried(kept)?;
        Ok(len)
    }

    /// Bytes of the largest frame: one must always fit an empty segment.
    pub(super) fn frame_limit(&self) -> usize {
        let segment_len = usize::try_from(self.options.segment_len).unwrap_or(usize::MAX);
        FRAME_LEN_MAX.min(segment_len / 4 * 3 - ALIGN)
    }

    /// Everything carried must fit the header of a segment, beside a frame of the largest size.
    fn check_carried(&self, kept: &[Kept]) -> Result<(), AppendError> {
        if kept.iter().all(|kept| !kept.kind.is_latest_only()) {
            return Ok(());
        }
        let mut all = self.carried.clone();
        all.extend(kept.iter().map(|kept| ((kept.group, kept.kind), kept.bytes.clone())));
        let len: usize = all.values().map(|bytes| bytes.len() + 32).sum();
        let segment_len = usize::try_from(self.options.segment_len).unwrap_or(usize::MAX);
        let limit = BATCH_LEN_MAX.min(segment_len / 8);
        if len > limit { Err(AppendError::TooLarge { len, limit }) } else { Ok(()) }
    }

    /// Signs records of one epoch, and moves the group's stand behind them.
    fn seal(&self, batch: &Batch<'_>, records: &[Record], stands: &mut BTreeMap<GroupId, Stand>) -> SealedBatch {
        let stand = stands.entry(batch.group).or_default();
        let headers: Vec<_> = records.iter().map(|record| record.header.to_bytes()).collect();
        let tree = SmallTree::new(headers.iter().map(|header| leaf_hash(header)).collect());
        let head = BatchHead {
            cluster: self.options.cluster,
            group: batch.group,
            epoch: records[0].header.epoch,
            replica: self.options.replica,
            incarnation: batch.incarnation,
            position: stand.next,
            count: u32::try_from(records.len()).expect("measured against BATCH_RECORDS_MAX"),
            previous: stand.previous,
            root: tree.root(),
        };
        *stand = Stand { next: stand.next + records.len() as u64, previous: head.hash() };
        SealedBatch { head, signature: self.signer.sign(&head.signed_message()), headers, tree }
    }

    /// Hands the buffer to the operating system.
    pub(super) fn write_staged(&mut self) -> Result<(), AppendError> {
        let written = self.current.file.write_at(&self.buffer, self.current.offset);
        written.map_err(|source| self.poison(source))
    }

    /// Makes what was written durable.
    pub(super) fn flush_staged(&mut self) -> Result<(), AppendError> {
        let flushed = self.current.file.sync();
        flushed.map_err(|source| self.poison(source))
    }

    /// Takes note of what is now durable.
    pub(super) fn commit(&mut self, staged: Staged) -> Flushed {
        let end = self.current.offset + staged.flushed.len as u64;
        let mut segments = self.shelf.segments.write();
        let segment = segments.back_mut().expect("the current segment is on the shelf");
        segment.extend(self.number_next, end, &self.stands);
        drop(segments);
        self.current.offset = end;
        self.number_next += 1;
        self.stands = staged.stands;
        self.carried.extend(staged.carried.into_iter().map(|kept| ((kept.group, kept.kind), kept.bytes)));
        staged.flushed
    }

    /// From now on every call fails: nothing is known of what the last one left.
    pub(super) fn poison(&mut self, source: io::Error) -> AppendError {
        self.poisoned = true;
        AppendError::Io { file: self.current.place.clone(), source }
    }

    /// Goes on in a new segment, which must have room for a frame of `frame_len` bytes.
    fn roll(&mut self, frame_len: usize) -> Result<(), AppendError> {
        let sequence = self.current.sequence + 1;
        let header = self.segment_header(sequence);
        let bytes = header.encode();
        let limit = usize::try_from(header.len).unwrap_or(usize::MAX).saturating_sub(bytes.len());
        if frame_len > limit {
            return Err(AppendError::TooLarge { len: frame_len, limit });
        }
        let (name, file) = self.take_spare()?;
        let made = place_segment(self.disk.as_ref(), &name, &file, sequence, &bytes);
        made.map_err(|source| self.poison(source))?;
        let (segment, current) = open_segment(self.disk.as_ref(), file, &header, bytes.len() as u64);
        self.shelf.segments.write().push_back(segment);
        self.current = current;
        Ok(())
    }

    /// The header of the segment that would start here.
    pub(super) fn segment_header(&self, sequence: u64) -> SegmentHeader {
        let JournalOptions { cluster, replica, segment_len, .. } = self.options;
        SegmentHeader {
            cluster,
            replica,
            sequence,
            number: self.number_next,
            len: segment_len,
            nonce: nonce(self.signer.as_ref(), cluster, replica, sequence),
            groups: self.stands.clone(),
            carried: self.carried.clone(),
        }
    }
}

/// Gives a reserved file its header and then, once that is durable, its name.
pub(super) fn place_segment(
    disk: &dyn Disk,
    name: &str,
    file: &Arc<dyn DiskFile>,
    sequence: u64,
    header: &[u8],
) -> io::Result<()> {
    file.write_at(header, 0)?;
    file.sync()?;
    disk.rename(name, &segment_name(sequence))?;
    disk.sync_dir()
}

/// An empty segment, as readers and as the writer see it.
pub(super) fn open_segment(
    disk: &dyn Disk,
    file: Arc<dyn DiskFile>,
    header: &SegmentHeader,
    offset: u64,
) -> (Segment, Current) {
    let place = disk.locate(&segment_name(header.sequence));
    let segment = Segment {
        sequence: header.sequence,
        place: place.clone(),
        file: Arc::clone(&file),
        nonce: header.nonce,
        stands: header.groups.clone(),
        end: offset,
        marks: vec![mark(offset, header.number, &header.groups)],
    };
    let crc = Crc::new(&header.nonce);
    (segment, Current { file, sequence: header.sequence, place, crc, offset, len: header.len })
}
