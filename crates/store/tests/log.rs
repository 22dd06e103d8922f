//! The files of the ledger through their public door, on a disk that crashes.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use ledger::tree::{Frontier, inclusion_proof, leaf_hash, root_at, verify_inclusion};
use sha2::{Digest as _, Sha256};
use store::disk::{Disk, MemDisk};
use store::log::{LogError, LogFiles, LogRow, VerifiedLog};
use support::Dice;

fn open(disk: &MemDisk) -> Result<LogFiles, LogError> {
    LogFiles::open(Arc::new(disk.clone()))
}

fn row(index: u64) -> LogRow {
    let mut entry = [1; 128];
    entry[..8].copy_from_slice(&index.to_be_bytes());
    let side = Bytes::from(vec![index as u8; (index % 50) as usize]);
    LogRow { entry, leaf: leaf_hash(&entry), side }
}

fn rows(range: std::ops::Range<u64>) -> Vec<LogRow> {
    range.map(row).collect()
}

fn verify(log: &LogFiles) -> Result<VerifiedLog, LogError> {
    log.verify::<LogError>(&mut |index, entry, side| {
        let row = row(index);
        assert_eq!((*entry, side), (row.entry, &row.side[..]));
        Ok(())
    })
}

fn root(len: u64) -> [u8; 32] {
    let mut frontier = Frontier::new();
    rows(0..len).iter().for_each(|row| frontier.append(row.leaf));
    frontier.root()
}

fn check(log: &LogFiles, len: u64) {
    assert_eq!(log.len(), len);
    assert_eq!(verify(log).unwrap(), VerifiedLog { len, root: root(len) });
}

#[test]
fn hashes_of_all_levels_and_proofs_come_from_the_files() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    let len = 256 * 256 + 700;
    for first in (0..len).step_by(1000) {
        log.append(first, &rows(first..len.min(first + 1000))).unwrap();
    }
    check(&log, len);
    assert_eq!(log.hashes(1, 0..258).unwrap().len(), 258 * 32);
    assert_eq!(log.hashes(2, 0..1).unwrap().len(), 32);
    assert!(matches!(log.hashes(1, 0..259), Err(LogError::Range { end: 259, len: 258 })));
    assert!(matches!(log.hashes(3, 0..1), Err(LogError::Range { .. })));
    assert!(matches!(log.entries(0..len + 1), Err(LogError::Range { .. })));
    let root = root_at(&log, len).unwrap();
    for index in [0, 1, 255, 256, 65_535, 65_536, len - 1] {
        let proof = inclusion_proof(&log, index, len).unwrap();
        verify_inclusion(index, len, &row(index).leaf, &proof, &root).unwrap();
    }
    log.sync().unwrap();
    disk.crash(3);
    check(&open(&disk).unwrap(), len);
}

#[test]
fn rows_already_there_are_passed_over_and_others_are_a_conflict() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    log.append(0, &rows(0..10)).unwrap();
    log.append(4, &rows(4..12)).unwrap();
    log.append(2, &rows(2..5)).unwrap();
    check(&log, 12);
    assert!(matches!(log.append(13, &rows(13..14)), Err(LogError::Gap { first: 13, len: 12 })));
    let mut other = rows(11..13);
    other[0].entry[127] ^= 1;
    assert!(matches!(log.append(11, &other), Err(LogError::Conflict(11))));
    check(&log, 12);
}

#[test]
fn truncation_hides_what_was_durable_until_the_same_comes_again() {
    for seed in 0..50 {
        let disk = MemDisk::new();
        let log = open(&disk).unwrap();
        log.append(0, &rows(0..600)).unwrap();
        log.sync().unwrap();
        log.append(600, &rows(600..650)).unwrap();
        log.truncate(300).unwrap();
        check(&log, 300);
        assert_eq!((log.synced_len(), log.durable_len()), (300, 600));
        let mut other = rows(300..310);
        other[9].entry[127] ^= 1;
        assert!(matches!(log.append(300, &other), Err(LogError::Conflict(309))));
        log.append(300, &rows(300..310)).unwrap();
        log.sync().unwrap();
        check(&log, 310);
        disk.crash(seed);
        let log = open(&disk).unwrap();
        check(&log, 600);
        log.truncate(300).unwrap();
        log.append(300, &rows(300..620)).unwrap();
        check(&log, 620);
        log.sync().unwrap();
        assert_eq!((log.synced_len(), log.durable_len()), (620, 620));
        disk.crash(seed);
        check(&open(&disk).unwrap(), 620);
    }
}

#[test]
fn what_was_synced_survives_thousands_of_crashes() {
    for seed in 0..1500 {
        let mut dice = Dice::new(seed);
        let disk = MemDisk::new();
        let (mut synced, mut asked) = (0, 0);
        for life in 0..4 {
            let log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            let len = log.len();
            assert!(len == synced || len == asked, "seed {seed}, life {life}: {len} of {synced}");
            assert_eq!(verify(&log).unwrap().len, len, "seed {seed}, life {life}");
            (synced, asked) = (len, len);
            disk.power_off_after(dice.roll(60));
            for _ in 0..12 {
                let len = log.len();
                let done = match dice.roll(4) {
                    0 => {
                        asked = len.max(synced);
                        log.sync().map(|()| synced = asked)
                    }
                    1 if dice.roll(3) == 0 => log.truncate(dice.roll(len + 1)),
                    _ => log.append(len, &rows(len..len + dice.roll(100))),
                };
                if done.is_err() {
                    break;
                }
                asked = synced;
            }
            disk.crash(dice.roll(u64::MAX));
        }
    }
}

#[test]
fn side_records_are_replaced_whole_or_not_at_all() {
    for seed in 0..1000 {
        let mut dice = Dice::new(seed);
        let disk = MemDisk::new();
        let log = open(&disk).unwrap();
        log.append(0, &rows(0..60)).unwrap();
        assert!(matches!(log.replace_side(40, b"x"), Err(LogError::Range { .. })), "not durable yet");
        log.sync().unwrap();
        assert!(matches!(log.replace_side(40, &[1; 41]), Err(LogError::TooLong(40))));
        disk.power_off_after(dice.roll(12));
        let done = log.replace_side(40, b"erased").is_ok();
        disk.crash(dice.roll(u64::MAX));
        let log = open(&disk).unwrap();
        let side = log.side(40).unwrap();
        assert!(side == b"erased"[..] || (!done && side == row(40).side), "seed {seed}: {side:?}");
        for index in (0..60).filter(|index| *index != 40) {
            assert_eq!(log.side(index).unwrap(), row(index).side, "seed {seed}");
        }
        assert!(!disk.list().unwrap().contains(&"side-redo".to_owned()));
    }
}

#[test]
fn a_flipped_byte_is_found_by_verification_or_changes_nothing() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    log.append(0, &rows(0..300)).unwrap();
    log.sync().unwrap();
    let mut dice = Dice::new(5);
    for name in disk.list().unwrap() {
        let len = disk.bytes(&name).unwrap().len() as u64;
        for _ in 0..100 {
            let offset = dice.roll(len) as usize;
            let flipped = disk.fork();
            flipped.flip(&name, offset, 1 << dice.roll(8));
            let Ok(log) = open(&flipped) else { continue };
            let mut same = true;
            let verified = log.verify::<LogError>(&mut |index, entry, side| {
                same &= *entry == row(index).entry && *side == row(index).side;
                Ok(())
            });
            // Side records are covered by the digests in the entries, which the caller compares.
            let is_side = name.starts_with("side");
            assert!(verified.is_err() || same || is_side, "{name} at {offset}");
        }
    }
}

#[test]
fn a_file_shorter_than_what_was_durable_is_damage() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    log.append(0, &rows(0..300)).unwrap();
    log.sync().unwrap();
    for name in ["entries", "hash-0", "hash-1", "side", "side-index"] {
        let cut = disk.fork();
        let mut bytes = disk.bytes(name).unwrap();
        bytes.pop();
        cut.put(name, bytes);
        let error = open(&cut).err().unwrap();
        assert!(matches!(&error, LogError::Damaged { file, .. } if file == name), "{error}");
    }
}

#[test]
fn a_slot_of_the_mark_that_does_not_check_is_told_of_and_nothing_is_cut_off() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    for first in [0, 200] {
        log.append(first, &rows(first..first + 200)).unwrap();
        log.sync().unwrap();
    }
    for offset in [0, 9, 20, 43, 44, 511, 512, 540, 1023] {
        let flipped = disk.fork();
        flipped.flip("mark", offset, 1);
        for _ in 0..2 {
            let log = open(&flipped).unwrap();
            assert!(log.has_torn_mark(), "{offset}");
            check(&log, if offset < 512 { 400 } else { 200 });
            let lens = ["entries", "hash-0", "hash-1"].map(|name| flipped.bytes(name).unwrap().len());
            assert_eq!(lens, [400 * 128, 400 * 32, 32], "{offset}");
        }
        let log = open(&flipped).unwrap();
        log.append(log.len(), &rows(log.len()..500)).unwrap();
        log.sync().unwrap();
        let log = open(&flipped).unwrap();
        assert!(!log.has_torn_mark(), "{offset}");
        check(&log, 500);
    }
}

#[test]
fn a_full_disk_changes_nothing() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    log.append(0, &rows(0..10)).unwrap();
    disk.set_budget(Some(5000));
    assert!(matches!(log.append(10, &rows(10..200)), Err(LogError::Full { .. })));
    check(&log, 10);
    disk.set_budget(None);
    log.append(10, &rows(10..200)).unwrap();
    check(&log, 200);
}

/// The first file of a level is made, then there is no room for what goes into it.
#[test]
fn a_level_begun_on_a_full_disk_is_durable_after_the_next_sync() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    log.append(0, &rows(0..255)).unwrap();
    log.sync().unwrap();
    let used: usize = disk.list().unwrap().iter().map(|name| disk.bytes(name).unwrap().len()).sum();
    disk.set_budget(Some(used as u64 + 128 + 8 + 32 + 4 + 5));
    assert!(matches!(log.append(255, &rows(255..256)), Err(LogError::Full { .. })));
    assert!(disk.list().unwrap().contains(&"hash-1".to_owned()), "the test fills the disk where it means to");
    disk.set_budget(None);
    log.append(255, &rows(255..256)).unwrap();
    log.sync().unwrap();
    for seed in 0..20 {
        let disk = disk.fork();
        disk.crash(seed);
        check(&open(&disk).unwrap(), 256);
    }
}

#[test]
fn the_document_says_what_is_written() {
    let document = include_str!("../../../docs/formats/log.md");
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    let entry = [1; 128];
    log.append(0, &[LogRow { entry, leaf: leaf_hash(&entry), side: Bytes::from_static(b"side") }]).unwrap();
    log.sync().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let leaf: [u8; 32] = Sha256::digest([&[0][..], &entry].concat()).into();
    assert_eq!(disk.bytes("hash-0").unwrap(), leaf);
    let mark = disk.bytes("mark").unwrap();
    for (what, bytes) in [
        ("`hash-0`", disk.bytes("hash-0").unwrap()),
        ("`side`", disk.bytes("side").unwrap()),
        ("`side-index`", disk.bytes("side-index").unwrap()),
        ("`mark`, slot 0", mark[..44].to_vec()),
    ] {
        let line = format!("| {what} | `{}` |", hex(&bytes));
        assert!(document.contains(&line), "docs/formats/log.md lacks: {line}");
    }
}
