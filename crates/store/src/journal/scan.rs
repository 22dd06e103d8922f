//! Walks a whole journal without changing anything: what opening and verifying have in common.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use types::{ClusterId, GroupId, ReplicaId};

use super::error::OpenError;
use super::layout::{ALIGN, Crc, FRAME_HEADER_LEN, Frame, FrameError, FrameHeader, SLOT_HEADER_LEN, round_up};
use super::open::Torn;
use super::segment::{Carried, HeaderError, SegmentHeader, Stand, VERSION, segment_name, segment_sequence};
use super::shelf::{Segment, mark};
use super::window::Window;
use crate::disk::Disk;

/// A frame as the walk passes it.
pub(super) struct Passed<'a> {
    pub(super) place: &'a str,
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
    pub(super) frame: &'a Frame,
}

/// Called for every frame, in order.
pub(super) type Visit<'a> = dyn FnMut(&Passed<'_>) -> Result<(), OpenError> + 'a;

/// What a walk found.
pub(super) struct Scan {
    cluster: ClusterId,
    replica: ReplicaId,
    pub(super) segments: Vec<Segment>,
    pub(super) stands: BTreeMap<GroupId, Stand>,
    pub(super) carried: Carried,
    pub(super) number_next: u64,
    pub(super) torn: Option<Torn>,
    /// Offset and length of the last frame, if it is in the last segment.
    pub(super) last_frame: Option<(u64, usize)>,
    /// Erased bodies that a crash left half overwritten: segment index, offset and length of what to zero.
    pub(super) half_erased: Vec<(usize, u64, usize)>,
    pub(super) records: u64,
}

/// Reads all segments on `disk`.
pub(super) fn scan(
    disk: &dyn Disk,
    cluster: ClusterId,
    replica: ReplicaId,
    visit: &mut Visit<'_>,
) -> Result<Scan, OpenError> {
    let names = disk.list().map_err(|source| OpenError::Io { file: disk.locate(""), source })?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| segment_sequence(name)).collect();
    sequences.sort_unstable();
    if let Some(pair) = sequences.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(OpenError::Missing { file: disk.locate(&segment_name(pair[0] + 1)) });
    }
    let mut scan = Scan {
        cluster,
        replica,
        segments: Vec::with_capacity(sequences.len()),
        stands: BTreeMap::new(),
        carried: Carried::new(),
        number_next: 1,
        torn: None,
        last_frame: None,
        half_erased: Vec::new(),
        records: 0,
    };
    for sequence in &sequences {
        let is_last = Some(sequence) == sequences.last();
        Walk::open(disk, *sequence, &mut scan)?.run(&mut scan, is_last, visit)?;
    }
    Ok(scan)
}

/// The walk through one segment.
struct Walk {
    place: String,
    window: Window,
    crc: Crc,
    offset: u64,
    end: u64,
}

impl Walk {
    /// Reads the header and checks that it continues what the scan has seen.
    fn open(disk: &dyn Disk, sequence: u64, scan: &mut Scan) -> Result<Self, OpenError> {
        let (cluster, replica) = (scan.cluster, scan.replica);
        let name = segment_name(sequence);
        let place = disk.locate(&name);
        let fail = |source| OpenError::Io { file: disk.locate(&name), source };
        let file = disk.open(&name).map_err(fail)?;
        let len = file.len().map_err(fail)?;
        let mut window = Window::new(Arc::clone(&file));
        let (header, header_len) = read_header(&mut window, len, &place)?;
        if header.cluster != cluster {
            return Err(OpenError::Cluster { file: place, found: header.cluster, expected: cluster });
        }
        if header.replica != replica {
            return Err(OpenError::Replica { file: place, found: header.replica, expected: replica });
        }
        let damaged = |reason: &str| Err(damage(&place, 0, reason));
        if header.sequence != sequence {
            return damaged("its header names another segment");
        }
        if header.len != len {
            return damaged("its header names another length");
        }
        if scan.segments.is_empty() {
            scan.stands.clone_from(&header.groups);
            scan.carried.clone_from(&header.carried);
            scan.number_next = header.number;
        } else if header.number != scan.number_next || header.groups != scan.stands || header.carried != scan.carried {
            return damaged("it does not continue the segment before it");
        }
        let offset = round_up(header_len, ALIGN) as u64;
        scan.last_frame = None;
        scan.segments.push(Segment {
            sequence,
            place: place.clone(),
            file,
            nonce: header.nonce,
            marks: vec![mark(offset, header.number, &header.groups)],
            stands: header.groups,
            end: offset,
        });
        Ok(Self { place, window, crc: Crc::new(&header.nonce), offset, end: len })
    }

    fn run(mut self, scan: &mut Scan, is_last: bool, visit: &mut Visit<'_>) -> Result<(), OpenError> {
        loop {
            match self.step(scan, visit) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Damaged(reason)) => {
                    let later = self.later_frame()?;
                    if !is_last || later.is_some() {
                        let reason = match later {
                            Some(later) => format!("{reason}, and a sound record follows at byte {later}"),
                            None => format!("{reason}, and a later segment follows"),
                        };
                        return Err(damage(&self.place, self.offset, reason));
                    }
                    let len = self.end - self.offset;
                    scan.torn = Some(Torn { file: self.place, offset: self.offset, len, reason });
                    return Ok(());
                }
            }
        }
    }

    /// Passes one frame. `false` at the end of what was written.
    fn step(&mut self, scan: &mut Scan, visit: &mut Visit<'_>) -> Result<bool, Stop> {
        let (offset, place) = (self.offset, &self.place);
        let io = |source| OpenError::Io { file: place.clone(), source };
        let refuse = |reason: String| Stop::Refused(damage(place, offset, reason));
        let room = self.end - offset;
        if room < FRAME_HEADER_LEN as u64 {
            return Ok(false);
        }
        let bytes = self.window.bytes(offset, FRAME_HEADER_LEN).map_err(io)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return match self.window.first_nonzero(offset, self.end).map_err(io)? {
                None => Ok(false),
                Some(at) => Err(Stop::Damaged(format!("byte {at} should be zero"))),
            };
        }
        let Some(header) = FrameHeader::decode(bytes, &self.crc) else {
            return Err(Stop::Damaged("the header of a frame does not check".to_owned()));
        };
        let len = header.frame_len();
        if header.number != scan.number_next {
            return Err(refuse(format!("frame {} where {} is next", header.number, scan.number_next)));
        }
        if len as u64 > room {
            return Err(refuse("a frame is longer than its segment".to_owned()));
        }
        let bytes = self.window.bytes(offset, len).map_err(io)?;
        let frame = match Frame::decode(bytes, &header, &self.crc) {
            Ok(frame) => frame,
            Err(FrameError::Damaged(reason)) => return Err(Stop::Damaged(reason.to_owned())),
            Err(FrameError::Malformed(reason)) => return Err(refuse(reason)),
        };
        let passed = Passed { place, offset, bytes, frame: &frame };
        visit(&passed).map_err(Stop::Refused)?;
        note_half_erased(scan, &passed);
        pass(scan, frame, offset + len as u64).map_err(refuse)?;
        scan.last_frame = Some((offset, len));
        self.offset += len as u64;
        Ok(true)
    }

    /// The offset of a frame header that checks, behind what does not. A torn write leaves none: a frame is
    /// only started once the one before it is whole.
    fn later_frame(&mut self) -> Result<Option<u64>, OpenError> {
        let mut offset = self.offset + ALIGN as u64;
        while offset + FRAME_HEADER_LEN as u64 <= self.end {
            let bytes = self
                .window
                .bytes(offset, FRAME_HEADER_LEN)
                .map_err(|source| OpenError::Io { file: self.place.clone(), source })?;
            if FrameHeader::decode(bytes, &self.crc).is_some() {
                return Ok(Some(offset));
            }
            offset += ALIGN as u64;
        }
        Ok(None)
    }
}

/// Why a walk stops before the end.
enum Stop {
    /// Something does not check: a torn tail, or damage.
    Damaged(String),
    /// No torn write explains it.
    Refused(OpenError),
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::Refused(error)
    }
}

/// Checks that a frame continues the chain, and takes it in.
fn pass(scan: &mut Scan, frame: Frame, end: u64) -> Result<(), String> {
    let segment = scan.segments.last_mut().expect("a frame is of a segment that the scan has opened");
    segment.extend(frame.number, end, &scan.stands);
    for batch in &frame.batches {
        let head = &batch.head;
        if (head.cluster, head.replica) != (scan.cluster, scan.replica) {
            return Err("a batch is of another replica".to_owned());
        }
        let stand = scan.stands.entry(head.group).or_default();
        if (head.position, head.previous) != (stand.next, stand.previous) {
            return Err(format!("group {}: the chain of batches is broken at position {}", head.group, stand.next));
        }
        let next = head.position.checked_add(u64::from(head.count)).ok_or("a position is out of range")?;
        *stand = Stand { next, previous: head.hash() };
        scan.records += u64::from(head.count);
    }
    for kept in frame.kept.into_iter().filter(|kept| kept.kind.is_latest_only()) {
        scan.carried.insert((kept.group, kept.kind), kept.bytes);
    }
    scan.number_next += 1;
    Ok(())
}

/// Remembers erased bodies of which something is left.
fn note_half_erased(scan: &mut Scan, passed: &Passed<'_>) {
    for record in passed.frame.batches.iter().flat_map(|batch| &batch.records).filter(|record| record.erased) {
        let len = SLOT_HEADER_LEN + record.header.body_len as usize;
        let slot = &passed.bytes[record.slot..record.slot + len];
        if slot[..4] != [0; 4] || slot[8..].iter().any(|byte| *byte != 0) {
            scan.half_erased.push((scan.segments.len() - 1, passed.offset + record.slot as u64, len));
        }
    }
}

/// Reads the header of a segment that is `len` bytes long; returns its length too.
fn read_header(window: &mut Window, len: u64, place: &str) -> Result<(SegmentHeader, usize), OpenError> {
    let io = |source: io::Error| OpenError::Io { file: place.to_owned(), source };
    let fail = |error| match error {
        HeaderError::Foreign => OpenError::NotASegment { file: place.to_owned() },
        HeaderError::Version(found) => OpenError::Version { file: place.to_owned(), found, known: VERSION },
        HeaderError::Damaged => damage(place, 0, "the header of the segment does not check"),
    };
    let fixed = window.bytes(0, SegmentHeader::FIXED_LEN).map_err(io)?;
    let whole_len = SegmentHeader::whole_len(fixed).map_err(fail)?;
    let padded_len = round_up(whole_len, ALIGN);
    if padded_len as u64 > len {
        return Err(fail(HeaderError::Damaged));
    }
    let bytes = window.bytes(0, padded_len).map_err(io)?;
    let header = SegmentHeader::decode(bytes).map_err(fail)?;
    if bytes[whole_len..].iter().any(|byte| *byte != 0) {
        return Err(fail(HeaderError::Damaged));
    }
    Ok((header, whole_len))
}

fn damage(place: &str, offset: u64, reason: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: place.to_owned(), offset, reason: reason.into() }
}
