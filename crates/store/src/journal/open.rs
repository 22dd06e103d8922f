//! Opening: walk everything, mend what a crash may leave, refuse the rest.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use types::sign::Signer;

use super::JournalOptions;
use super::append::{Current, Journal, open_segment, place_segment};
use super::begin::Beginning;
use super::error::OpenError;
use super::layout::{Crc, ERASED};
use super::scan::{Scan, scan};
use super::segment::{SPARE, SegmentHeader, nonce};
use super::shelf::{Segment, Shelf};
use super::spare::{SPARE_URGENT, Spare, make};
use super::window::Window;
use crate::disk::{Disk, DiskFile, is_full};

/// A flush that a crash cut short. It was never reported as done, and has been removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The segment.
    pub file: String,
    /// Where it started.
    pub offset: u64,
    /// Bytes from there to the end of the segment.
    pub len: u64,
    /// What did not check.
    pub reason: String,
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenReport {
    /// Segments.
    pub segments: usize,
    /// Said records in them.
    pub records: u64,
    /// A flush cut short, if there was one.
    pub torn: Option<Torn>,
    /// Erased bodies of which the overwriting was completed.
    pub erasures_completed: usize,
}

impl Journal {
    /// Opens the journal in a folder, or makes one. On an error nothing was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        signer: Arc<dyn Signer>,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_or_begin(disk, options, signer, None)
    }

    /// Opens the journal in a folder, or makes one that begins so.
    pub(super) fn open_or_begin(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        signer: Arc<dyn Signer>,
        beginning: Option<&Beginning>,
    ) -> Result<(Self, OpenReport), OpenError> {
        if options.segment_len < 4096 || !options.segment_len.is_multiple_of(512) {
            return Err(OpenError::SegmentLen(options.segment_len));
        }
        let mut scan = scan(disk.as_ref(), options.cluster, options.replica, &mut |_| Ok(()))?;
        let report = OpenReport {
            segments: scan.segments.len(),
            records: scan.records,
            torn: scan.torn.take(),
            erasures_completed: scan.half_erased.len(),
        };
        let folder_error = |source| OpenError::Io { file: disk.locate(""), source };
        let spare = reuse_spare(disk.as_ref(), &options).map_err(folder_error)?;
        let (current, spare) = match scan.segments.last() {
            Some(last) => {
                mend(&scan, last, report.torn.as_ref())?;
                disk.sync_dir().map_err(folder_error)?;
                (resume(last)?, spare)
            }
            None => {
                if let Some(beginning) = beginning {
                    (scan.stands, scan.carried) = beginning.place();
                }
                (first_segment(disk.as_ref(), &options, signer.as_ref(), spare, &mut scan)?, Spare::Wanted)
            }
        };
        let journal = Self {
            disk,
            options,
            signer,
            shelf: Arc::new(Shelf { segments: RwLock::new(scan.segments.into()) }),
            stands: scan.stands,
            carried: scan.carried,
            current,
            number_next: scan.number_next,
            spare,
            buffer: Vec::new(),
            poisoned: false,
        };
        Ok((journal, report))
    }
}

/// Removes a torn tail, completes erasures, and makes durable what was read.
fn mend(scan: &Scan, last: &Segment, torn: Option<&Torn>) -> Result<(), OpenError> {
    for (segment, offset, len) in &scan.half_erased {
        let segment = &scan.segments[*segment];
        let fail = |source| OpenError::Io { file: segment.place.clone(), source };
        overwrite_erased(segment.file.as_ref(), *offset, *len).map_err(fail)?;
    }
    let fail = |source| OpenError::Io { file: last.place.clone(), source };
    if let Some(torn) = torn {
        zero(&last.file, torn.offset, torn.offset + torn.len).map_err(fail)?;
    }
    if let Some((offset, len)) = scan.last_frame {
        // A flush that failed may have left these bytes in a cache that calls them clean: write them again.
        let mut window = Window::new(Arc::clone(&last.file));
        let bytes = window.bytes(offset, len).map_err(fail)?;
        last.file.write_at(bytes, offset).map_err(fail)?;
    }
    last.file.sync().map_err(fail)
}

/// Goes on at the end of the last segment.
fn resume(last: &Segment) -> Result<Current, OpenError> {
    let len = last.file.len().map_err(|source| OpenError::Io { file: last.place.clone(), source })?;
    Ok(Current {
        file: Arc::clone(&last.file),
        sequence: last.sequence,
        place: last.place.clone(),
        crc: Crc::new(&last.nonce),
        offset: last.end,
        len,
    })
}

/// Makes the first segment of a new journal.
fn first_segment(
    disk: &dyn Disk,
    options: &JournalOptions,
    signer: &dyn Signer,
    spare: Spare,
    scan: &mut Scan,
) -> Result<Current, OpenError> {
    let fail = |source: io::Error| {
        let file = disk.locate(SPARE);
        if is_full(&source) {
            OpenError::Full { file, len: options.segment_len }
        } else {
            OpenError::Io { file, source }
        }
    };
    let file = match spare {
        Spare::Ready(file) => file,
        _ => make(disk, SPARE, options.segment_len, false).map_err(fail)?,
    };
    let header = SegmentHeader {
        cluster: options.cluster,
        replica: options.replica,
        sequence: 1,
        number: 1,
        len: options.segment_len,
        nonce: nonce(signer, options.cluster, options.replica, 1),
        groups: scan.stands.clone(),
        carried: scan.carried.clone(),
    };
    let bytes = header.encode();
    place_segment(disk, SPARE, &file, 1, &bytes).map_err(fail)?;
    let (segment, current) = open_segment(disk, file, &header, bytes.len() as u64);
    scan.segments.push(segment);
    Ok(current)
}

/// Takes over a spare of the right length from an earlier run; a roll cut short may have left a header in it.
fn reuse_spare(disk: &dyn Disk, options: &JournalOptions) -> io::Result<Spare> {
    let names = disk.list()?;
    if names.iter().any(|name| name == SPARE_URGENT) {
        disk.remove(SPARE_URGENT)?;
        disk.sync_dir()?;
    }
    if names.iter().all(|name| name != SPARE) {
        return Ok(Spare::Wanted);
    }
    let file = disk.open(SPARE)?;
    if file.len()? != options.segment_len {
        disk.remove(SPARE)?;
        disk.sync_dir()?;
        return Ok(Spare::Wanted);
    }
    zero(&file, 0, options.segment_len)?;
    // It may have been cut short before its space was taken.
    file.reserve(options.segment_len)?;
    file.sync()?;
    disk.sync_dir()?;
    Ok(Spare::Ready(file))
}

/// Overwrites what is not zero in `from..to` with zeros, durably.
fn zero(file: &Arc<dyn DiskFile>, from: u64, to: u64) -> io::Result<()> {
    const PIECE_LEN: u64 = 64 * 1024;
    let mut window = Window::new(Arc::clone(file));
    let mut offset = from;
    let mut written = false;
    while let Some(at) = window.first_nonzero(offset, to)? {
        let end = to.min(at + PIECE_LEN);
        let zeros = vec![0; usize::try_from(end - at).map_err(io::Error::other)?];
        file.write_at(&zeros, at)?;
        written = true;
        offset = end;
    }
    if written { file.sync() } else { Ok(()) }
}

/// Overwrites an erased body's slot but for its state, durably.
pub(super) fn overwrite_erased(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<()> {
    let mut slot = vec![0; len];
    slot[4..8].copy_from_slice(&ERASED);
    file.write_at(&slot, offset)?;
    file.sync()
}
