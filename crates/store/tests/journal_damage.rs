//! Torn tails are cut off, damage is refused: at every byte.
#![allow(clippy::unwrap_used)]

mod support;

use store::disk::{Disk, MemDisk};
use store::journal::{KeptKind, OpenError, fuzz_journal};
use support::{Dice, GROUP, append, base, batch, dump, kept, open, records};
use types::journal::RecordHeader;

use proptest::prelude::*;

const SEGMENT: u64 = 8 * 1024;
const FIRST: &str = "segment-0000000000000001";

type Dump = Vec<(RecordHeader, Option<bytes::Bytes>)>;

/// Three flushes in one segment; returns where each ends.
fn three_frames(disk: &MemDisk) -> Vec<usize> {
    let (mut journal, _) = open(disk, SEGMENT).unwrap();
    let mut ends = vec![512];
    for round in 0..3 {
        let next = journal.next_position(GROUP);
        let said = records(next, 2, 150 + 100 * round);
        let flushed = journal.append(&[batch(GROUP, &said)], &[kept(KeptKind::TREE_HEAD, b"a signed head")]).unwrap();
        ends.push(ends.last().unwrap() + flushed.len);
    }
    ends
}

fn read(disk: &MemDisk) -> Result<(Dump, bool), OpenError> {
    let (journal, report) = open(disk, SEGMENT)?;
    Ok((dump(&journal, GROUP), report.torn.is_some()))
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_the_journal_goes_on() {
    let disk = MemDisk::new();
    let ends = three_frames(&disk);
    let whole = disk.bytes(FIRST).unwrap();
    let all = read(&disk).unwrap().0;
    let mut dice = Dice::new(1);
    // The last bytes of the frame are padding: without them it is whole.
    let content_end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in ends[2]..content_end {
        for fill in 0..3 {
            let mut bytes = whole.clone();
            match fill {
                0 => bytes[cut..ends[3]].fill(0),
                1 => bytes[cut..ends[3]].iter_mut().for_each(|byte| *byte = dice.roll(256) as u8),
                _ => bytes[ends[2]..cut].fill(0),
            }
            if bytes == whole || (fill == 2 && cut == ends[2]) {
                continue;
            }
            let torn = MemDisk::new();
            torn.put(FIRST, bytes);
            let (mut journal, report) = open(&torn, SEGMENT).unwrap();
            let is_empty = fill == 0 && cut == ends[2];
            assert_eq!(report.torn.is_some(), !is_empty, "cut at {cut}, fill {fill}");
            assert_eq!(dump(&journal, GROUP), all[..4], "cut at {cut}, fill {fill}");
            append(&mut journal, 1, 20);
            torn.crash(0);
            let (again, was_torn) = read(&torn).unwrap();
            assert_eq!((again.len(), was_torn), (5, false), "cut at {cut}, fill {fill}");
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_refused_or_changes_no_answer() {
    let disk = MemDisk::new();
    let ends = three_frames(&disk);
    let (all, _) = read(&disk).unwrap();
    for offset in 0..SEGMENT as usize {
        for mask in [1, 0x80] {
            let flipped = disk.fork();
            assert!(flipped.flip(FIRST, offset, mask));
            match read(&flipped) {
                Err(error) => {
                    assert!(offset < ends[2], "byte {offset}: {error}");
                    assert!(error.to_string().contains(FIRST), "{error}");
                    if let OpenError::Damaged { offset: at, .. } = error {
                        assert!(at as usize <= offset, "byte {offset}, said to be at {at}");
                    }
                }
                Ok((read, true)) => {
                    assert!(offset >= ends[2], "byte {offset} is no tail");
                    let expected = if offset < ends[3] { &all[..4] } else { &all[..] };
                    assert_eq!(read, expected, "byte {offset}");
                }
                Ok((read, false)) => assert_eq!(read, all, "byte {offset}"),
            }
        }
    }
}

#[test]
fn damage_in_an_older_segment_is_refused_even_at_its_end() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    for _ in 0..20 {
        append(&mut journal, 2, 300);
    }
    assert!(disk.list().unwrap().len() > 2);
    let (all, _) = read(&disk).unwrap();
    for offset in 0..SEGMENT as usize {
        let flipped = disk.fork();
        flipped.flip(FIRST, offset, 0x10);
        match read(&flipped) {
            Err(error) => assert!(error.to_string().contains(FIRST), "{error}"),
            Ok((read, torn)) => assert!(!torn && read == all, "byte {offset}"),
        }
        // What refused must have changed nothing.
        let mut expected = disk.bytes(FIRST).unwrap();
        expected[offset] ^= 0x10;
        assert_eq!(flipped.bytes(FIRST).unwrap(), expected, "byte {offset}");
    }
    let name = "segment-0000000000000002";
    for offset in 0..1024 {
        let flipped = disk.fork();
        flipped.flip(name, offset, 0x10);
        match read(&flipped) {
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
            Ok((read, torn)) => assert!(!torn && read == all, "byte {offset}"),
        }
    }
}

#[test]
fn a_whole_frame_in_a_body_is_no_frame() {
    // A body that holds a copy of the journal itself, at every alignment, and a torn write after it.
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, 64 * 1024).unwrap();
    append(&mut journal, 1, 100);
    let mut said = records(2, 1, 0);
    let copy = disk.bytes(FIRST).unwrap()[512..2048].to_vec();
    let mut body = Vec::new();
    for shift in 0..16 {
        body.resize(body.len() + shift * 8, 0);
        body.extend_from_slice(&copy);
    }
    said[0].header.body_len = body.len() as u32;
    said[0].body = body.into();
    journal.append(&[batch(GROUP, &said)], &[]).unwrap();
    // Frames of this journal's own are the one thing that would pass, and users never see one. Another
    // journal's, or another segment's, do not.
    let other = MemDisk::new();
    let (mut next, _) = open(&other, 64 * 1024).unwrap();
    append(&mut next, 1, 100);
    next.trim(GROUP, &base(2)).unwrap();
    let mut bytes = disk.bytes(FIRST).unwrap();
    let foreign = {
        let signer = support::TestSigner::new();
        let disk = MemDisk::new();
        let options = support::options(64 * 1024);
        let (mut journal, _) =
            store::journal::Journal::open(std::sync::Arc::new(disk.clone()), options, signer).unwrap();
        append(&mut journal, 1, 100);
        disk.bytes(FIRST).unwrap()[512..1024].to_vec()
    };
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 512 * 512;
    bytes[1024 + 32] ^= 1;
    bytes[1024 + 512..].fill(0);
    bytes[end..end + 512].copy_from_slice(&foreign);
    let torn = MemDisk::new();
    torn.put(FIRST, bytes);
    let (journal, report) = open(&torn, 64 * 1024).unwrap();
    assert!(report.torn.is_some());
    assert_eq!(dump(&journal, GROUP).len(), 1);
}

proptest! {
    #[test]
    fn the_reader_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        fuzz_journal(&bytes);
    }

    /// Starts from a sound journal, so that the fuzzing gets past the first checks.
    #[test]
    fn the_reader_never_panics_on_a_mangled_journal(
        edits in proptest::collection::vec((0..SEGMENT as usize, any::<u8>()), 0..8),
        len in 0..SEGMENT as usize,
    ) {
        let disk = MemDisk::new();
        three_frames(&disk);
        let mut bytes = disk.bytes(FIRST).unwrap();
        for (offset, byte) in edits {
            bytes[offset] = byte;
        }
        fuzz_journal(&bytes);
        bytes.truncate(len);
        fuzz_journal(&bytes);
    }
}
