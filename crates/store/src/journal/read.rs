//! Reading what is durable, from a position, while the journal goes on being written.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use types::GroupId;
use types::journal::{BatchHead, RecordHeader};

use super::error::ReadError;
use super::layout::{Crc, FRAME_HEADER_LEN, Frame, FrameError, FrameHeader, FrameRecord, SLOT_HEADER_LEN};
use super::shelf::{Mark, Segment, Shelf};
use super::window::Window;
use super::{Kept, KeptKind};
use crate::disk::DiskFile;

/// Reads a journal. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shelf: Arc<Shelf>,
}

/// What is there of a record's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredBody {
    /// The record never had one.
    None,
    /// It is there.
    Present {
        /// Blinds the hash in the header.
        salt: [u8; 32],
        /// The bytes.
        bytes: Bytes,
    },
    /// It has been erased; the header still commits to it.
    Erased,
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredRecord {
    /// Its header.
    pub header: RecordHeader,
    /// Its body.
    pub body: StoredBody,
}

/// What a restart replays, in order. See [`Reader::replay`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replayed {
    /// The group said it.
    Said(StoredRecord),
    /// The group kept it, as one of a log.
    Kept(Kept),
}

/// A batch as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBatch {
    /// What was signed.
    pub head: BatchHead,
    /// The signature.
    pub signature: [u8; 64],
    /// Its records.
    pub records: Vec<StoredRecord>,
}

/// Where a body stands on disk.
pub(super) struct FoundSlot {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) offset: u64,
    pub(super) body_len: usize,
}

impl Reader {
    pub(super) fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf }
    }

    /// The first position of the group that is still there (or will be, if there is none yet).
    #[must_use]
    pub fn first_position(&self, group: GroupId) -> u64 {
        let segments = self.shelf.segments.read();
        segments.front().and_then(|segment| segment.stands.get(&group)).map_or(1, |stand| stand.next)
    }

    /// The group's records from `position` on, with their bodies. At the durable end the iterator gives
    /// `None`, and goes on when asked again after more was flushed.
    pub fn read_from(&self, group: GroupId, position: u64) -> Result<Records, ReadError> {
        let cursor = self.seek(group, position)?;
        Ok(Records { cursor, group, position, queue: VecDeque::new() })
    }

    /// What the group said and kept since the first frame that is still there, oldest first; of one flush, what it kept
    /// comes first. Kept records of which only the latest counts are left out: see [`super::Journal::kept`].
    #[must_use]
    pub fn replay(&self, group: GroupId) -> Replay {
        Replay { cursor: self.cursor_at_start(), group, queue: VecDeque::new() }
    }

    /// The batch in which the group's record at `position` was signed; `None` if that is not durable yet.
    pub fn batch_at(&self, group: GroupId, position: u64) -> Result<Option<StoredBatch>, ReadError> {
        let mut cursor = self.seek(group, position)?;
        while let Some(read) = cursor.next()? {
            let found = read.frame.batches.iter().position(|batch| contains(&batch.head, group, position));
            if let Some(index) = found {
                return Ok(Some(read.batch(index)));
            }
        }
        Ok(None)
    }

    /// All kept records of a group and kind that are still in frames, oldest first.
    pub fn kept(&self, group: GroupId, kind: KeptKind) -> Result<Vec<Bytes>, ReadError> {
        let mut cursor = self.cursor_at_start();
        let mut all = Vec::new();
        while let Some(read) = cursor.next()? {
            let wanted = |kept: &Kept| kept.group == group && kept.kind == kind;
            all.extend(read.frame.kept.into_iter().filter(wanted).map(|kept| kept.bytes));
        }
        Ok(all)
    }

    /// Where the body of a record stands; `None` if it has none or it is erased.
    pub(super) fn find_slot(&self, group: GroupId, position: u64) -> Result<Option<FoundSlot>, ReadError> {
        let mut cursor = self.seek(group, position)?;
        while let Some(read) = cursor.next()? {
            let records = read.frame.batches.iter().filter(|batch| contains(&batch.head, group, position));
            let record = records.flat_map(|batch| &batch.records).find(|record| record.header.position == position);
            let Some(record) = record else { continue };
            let there = record.slot != 0 && !record.erased;
            return Ok(there.then(|| FoundSlot {
                file: Arc::clone(&read.file),
                offset: read.offset + record.slot as u64,
                body_len: record.header.body_len as usize,
            }));
        }
        Ok(None)
    }

    /// A cursor at the last mark at or before the group's record at `position`.
    fn seek(&self, group: GroupId, position: u64) -> Result<Cursor, ReadError> {
        let first = self.first_position(group);
        if position < first {
            return Err(ReadError::Trimmed { group, position, first });
        }
        let segments = self.shelf.segments.read();
        let before = |mark: &&Mark| mark.next.get(&group).copied().unwrap_or(1) <= position;
        let found = segments.iter().rev().find_map(|segment| {
            let mark = segment.marks.iter().rev().find(before)?;
            Some(Cursor::new(Arc::clone(&self.shelf), segment, mark))
        });
        drop(segments);
        Ok(found.unwrap_or_else(|| self.cursor_at_start()))
    }

    fn cursor_at_start(&self) -> Cursor {
        let segments = self.shelf.segments.read();
        let first = segments.front().expect("a journal has at least one segment");
        Cursor::new(Arc::clone(&self.shelf), first, &first.marks[0])
    }
}

fn contains(head: &BatchHead, group: GroupId, position: u64) -> bool {
    head.group == group && head.position <= position && position - head.position < u64::from(head.count)
}

/// The records of a group in order. See [`Reader::read_from`].
pub struct Records {
    cursor: Cursor,
    group: GroupId,
    position: u64,
    queue: VecDeque<StoredRecord>,
}

impl Iterator for Records {
    type Item = Result<StoredRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.queue.pop_front() {
                self.position = record.header.position + 1;
                return Some(Ok(record));
            }
            let read = match self.cursor.next() {
                Ok(read) => read?,
                Err(error) => return Some(Err(error)),
            };
            let group = self.group;
            let batches = read.frame.batches.iter().filter(|batch| batch.head.group == group);
            let records = batches.flat_map(|batch| &batch.records);
            let wanted = records.filter(|record| record.header.position >= self.position);
            self.queue.extend(wanted.map(|record| read.record(record)));
        }
    }
}

/// What a group said and kept. See [`Reader::replay`].
pub struct Replay {
    cursor: Cursor,
    group: GroupId,
    queue: VecDeque<Replayed>,
}

impl Iterator for Replay {
    type Item = Result<Replayed, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(replayed) = self.queue.pop_front() {
                return Some(Ok(replayed));
            }
            let mut read = match self.cursor.next() {
                Ok(read) => read?,
                Err(error) => return Some(Err(error)),
            };
            let group = self.group;
            let kept = core::mem::take(&mut read.frame.kept).into_iter();
            let kept = kept.filter(|kept| kept.group == group && !kept.kind.is_latest_only());
            self.queue.extend(kept.map(Replayed::Kept));
            let batches = read.frame.batches.iter().filter(|batch| batch.head.group == group);
            let records = batches.flat_map(|batch| &batch.records);
            self.queue.extend(records.map(|record| Replayed::Said(read.record(record))));
        }
    }
}

/// Goes from frame to frame.
struct Cursor {
    shelf: Arc<Shelf>,
    sequence: u64,
    place: String,
    file: Arc<dyn DiskFile>,
    window: Window,
    crc: Crc,
    offset: u64,
    number: u64,
}

/// A frame and its bytes.
struct ReadFrame {
    file: Arc<dyn DiskFile>,
    offset: u64,
    bytes: Bytes,
    frame: Frame,
}

impl Cursor {
    fn new(shelf: Arc<Shelf>, segment: &Segment, mark: &Mark) -> Self {
        Self {
            shelf,
            sequence: segment.sequence,
            place: segment.place.clone(),
            file: Arc::clone(&segment.file),
            window: Window::new(Arc::clone(&segment.file)),
            crc: Crc::new(&segment.nonce),
            offset: mark.offset,
            number: mark.number,
        }
    }

    /// The next frame; `None` at the durable end.
    fn next(&mut self) -> Result<Option<ReadFrame>, ReadError> {
        loop {
            let segments = self.shelf.segments.read();
            let Some(last) = segments.back().map(|segment| segment.sequence) else { return Ok(None) };
            let end = segments.iter().find(|segment| segment.sequence == self.sequence).map(|segment| segment.end);
            let follower = segments.iter().find(|segment| segment.sequence > self.sequence);
            match end {
                Some(end) if self.offset < end => {
                    drop(segments);
                    return self.read(end).map(Some);
                }
                _ if self.sequence >= last => return Ok(None),
                _ => {}
            }
            let Some(follower) = follower else { return Ok(None) };
            let next = Self::new(Arc::clone(&self.shelf), follower, &follower.marks[0]);
            if next.number != self.number {
                return Err(ReadError::Overtaken { file: self.place.clone() });
            }
            drop(segments);
            *self = next;
        }
    }

    fn read(&mut self, end: u64) -> Result<ReadFrame, ReadError> {
        match self.try_read(end) {
            // An erasure may have changed the slot between two reads; the second sees it whole.
            Err(ReadError::Damaged { .. }) => {
                self.window = Window::new(Arc::clone(&self.file));
                self.try_read(end)
            }
            read => read,
        }
    }

    fn try_read(&mut self, end: u64) -> Result<ReadFrame, ReadError> {
        let (place, offset) = (&self.place, self.offset);
        let io = |source| ReadError::Io { file: place.clone(), source };
        let damaged = |reason: &str| ReadError::Damaged { file: place.clone(), offset, reason: reason.to_owned() };
        let bytes = self.window.bytes(offset, FRAME_HEADER_LEN).map_err(io)?;
        let header = FrameHeader::decode(bytes, &self.crc).ok_or_else(|| damaged("a frame's header does not check"))?;
        let len = header.frame_len();
        if header.number != self.number || offset + len as u64 > end {
            return Err(damaged("another frame stands there"));
        }
        let bytes = Bytes::copy_from_slice(self.window.bytes(offset, len).map_err(io)?);
        let frame = Frame::decode(&bytes, &header, &self.crc).map_err(|error| match error {
            FrameError::Damaged(reason) => damaged(reason),
            FrameError::Malformed(reason) => damaged(&reason),
        })?;
        self.offset += len as u64;
        self.number += 1;
        Ok(ReadFrame { file: Arc::clone(&self.file), offset, bytes, frame })
    }
}

impl ReadFrame {
    fn batch(&self, index: usize) -> StoredBatch {
        let batch = &self.frame.batches[index];
        let records = batch.records.iter().map(|record| self.record(record)).collect();
        StoredBatch { head: batch.head, signature: batch.signature, records }
    }

    fn record(&self, record: &FrameRecord) -> StoredRecord {
        let body = match record.slot {
            0 => StoredBody::None,
            _ if record.erased => StoredBody::Erased,
            slot => {
                let start = slot + SLOT_HEADER_LEN;
                let mut salt = [0; 32];
                salt.copy_from_slice(&self.bytes[start - 32..start]);
                let bytes = self.bytes.slice(start..start + record.header.body_len as usize);
                StoredBody::Present { salt, bytes }
            }
        };
        StoredRecord { header: record.header, body }
    }
}
