//! Torn tails are cut off, damage is refused: at every byte.
#![allow(clippy::unwrap_used)]

mod support;

use store::disk::{Disk, MemDisk};
use store::journal::{KeptKind, OpenError, fuzz_journal};
use support::{Dice, GROUP, append, batch, dump, kept, open, record, records};
use types::journal::{BatchHead, RecordHeader};
use types::{ClusterId, Epoch, Incarnation, ReplicaId};

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

/// A user who stores a copy of some journal, and a crash in the middle of that very write: what looks like
/// frames behind the torn place must not be taken for them.
#[test]
fn frames_of_another_journal_in_a_body_are_no_frames() {
    const LONG: u64 = 64 * 1024;
    let other = MemDisk::new();
    let (mut journal, _) = support::open_signed(&other, LONG);
    (0..4).for_each(|_| append(&mut journal, 1, 100));
    let copy = other.bytes(FIRST).unwrap()[512..4 * 512].to_vec();

    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, LONG).unwrap();
    append(&mut journal, 1, 100);
    let mut body = Vec::new();
    for _ in 0..64 {
        // Every alignment that a body can have, 8 bytes apart.
        body.extend_from_slice(&copy);
        body.resize(body.len() + 8, 0);
    }
    body.truncate(40_000);
    let mut said = records(2, 1, 0);
    said[0].header.body_len = body.len() as u32;
    said[0].body = body.into();
    journal.append(&[batch(GROUP, &said)], &[]).unwrap();
    let at_a_sector =
        disk.bytes(FIRST).unwrap()[1024..].chunks(512).filter(|sector| sector.starts_with(b"EJFR")).count();
    assert!(at_a_sector > 1, "the test places copies where frames are looked for");
    disk.flip(FIRST, 1024 + 40, 1);
    let (journal, report) = open(&disk, LONG).unwrap();
    assert!(report.torn.is_some());
    assert_eq!(dump(&journal, GROUP).len(), 1);
}

/// Found by fuzzing: the last position that there is, in a frame whose checksums are right.
#[test]
fn a_batch_at_the_last_position_is_refused() {
    let mut header = record(u64::MAX, 0, 0).header;
    header.epoch = Epoch(0);
    let head = BatchHead {
        cluster: ClusterId::default(),
        group: GROUP,
        epoch: header.epoch,
        replica: ReplicaId::default(),
        incarnation: Incarnation(1),
        position: header.position,
        count: 1,
        previous: [0; 32],
        root: [0; 32],
    };
    let item = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &head.to_bytes(), &[0; 64], &header.to_bytes()].concat();
    let core_len = u8::try_from(item.len() / 8).unwrap();
    fuzz_journal(&[&[core_len][..], &item].concat());
}

proptest! {
    /// Half of the bytes are small, as tags and lengths are.
    #[test]
    fn the_reader_never_panics_behind_right_checksums(
        bytes in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..1024),
    ) {
        fuzz_journal(&bytes);
    }

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
