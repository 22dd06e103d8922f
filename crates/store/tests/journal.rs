//! The journal through its public door: appending, reading, rolling, trimming, erasing, refusing.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use store::disk::{Disk, MemDisk};
use store::journal::{AppendError, Journal, KeptKind, OpenError, ReadError, StoredBody};
use support::{
    FastSigner, GROUP, append, base, batch, dump, kept, open, open_signed, options, record, records, verify_signed,
};
use types::{ClusterId, Epoch, GroupId, Incarnation, ReplicaId};

const SEGMENT: u64 = 16 * 1024;

#[test]
fn what_was_appended_is_read_back_after_opening_again() {
    let disk = MemDisk::new();
    let (mut journal, report) = open_signed(&disk, SEGMENT);
    assert_eq!((report.segments, report.records, report.torn), (0, 0, None));
    let said = [record(1, 100, 0), record(2, 0, 0), record(3, 7, 0)];
    let flushed = journal.append(&[batch(GROUP, &said)], &[kept(KeptKind::TREE_HEAD, b"head")]).unwrap();
    assert_eq!((flushed.number, flushed.kept, flushed.batches.len()), (1, 1, 1));
    let sealed = &flushed.batches[0];
    assert_eq!((sealed.head.position, sealed.head.count, sealed.head.previous), (1, 3, [0; 32]));
    assert_eq!(sealed.tree.root(), sealed.head.root);
    append(&mut journal, 4, 30);
    let before = dump(&journal, GROUP);
    assert_eq!(before.len(), 7);
    assert_eq!(before[0].1.as_deref(), Some(&said[0].body[..]));

    disk.restart();
    let (journal, report) = open_signed(&disk, SEGMENT);
    assert_eq!((report.segments, report.records, report.torn), (1, 7, None));
    assert_eq!(dump(&journal, GROUP), before);
    assert_eq!(journal.next_position(GROUP), 8);
    assert_eq!(journal.kept(GROUP, KeptKind::TREE_HEAD).as_deref(), Some(&b"head"[..]));
    let verified = verify_signed(&disk).unwrap();
    assert_eq!((verified.frames, verified.batches, verified.records, verified.bodies), (2, 2, 7, 6));
}

#[test]
fn a_batch_costs_one_write_and_one_flush() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    let before = disk.counts();
    let said = records(1, 20, 50);
    journal.append(&[batch(GROUP, &said)], &[kept(KeptKind::TREE_HEAD, b"head")]).unwrap();
    let after = disk.counts();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(after.changes - before.changes, 2);
}

#[test]
fn groups_share_a_flush_and_epochs_split_a_batch() {
    let disk = MemDisk::new();
    let (mut journal, _) = open_signed(&disk, SEGMENT);
    let other = GroupId(9);
    let mut first = records(1, 4, 10);
    first[2].header.epoch = Epoch(2);
    first[3].header.epoch = Epoch(2);
    let second = records(1, 2, 0);
    let flushed = journal.append(&[batch(GROUP, &first), batch(other, &second)], &[]).unwrap();
    let heads: Vec<_> =
        flushed.batches.iter().map(|batch| (batch.head.group, batch.head.epoch, batch.head.count)).collect();
    assert_eq!(heads, [(GROUP, Epoch(1), 2), (GROUP, Epoch(2), 2), (other, Epoch(1), 2)]);
    assert_eq!(flushed.batches[1].head.previous, flushed.batches[0].head.hash());
    verify_signed(&disk).unwrap();
    disk.restart();
    let (journal, _) = open_signed(&disk, SEGMENT);
    assert_eq!((dump(&journal, GROUP).len(), dump(&journal, other).len()), (4, 2));
    assert_eq!(journal.groups(), [GROUP, other]);
}

#[test]
fn wrong_input_is_refused_and_nothing_changes() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    append(&mut journal, 2, 10);
    let before = disk.counts();
    let gap = [record(4, 0, 0)];
    assert!(matches!(
        journal.append(&[batch(GROUP, &gap)], &[]),
        Err(AppendError::Position { found: 4, expected: 3, .. })
    ));
    let mut short = [record(3, 10, 0)];
    short[0].body = short[0].body.slice(1..);
    assert!(matches!(journal.append(&[batch(GROUP, &short)], &[]), Err(AppendError::BodyLen { position: 3, .. })));
    let large = [record(3, 15_000, 0)];
    assert!(matches!(journal.append(&[batch(GROUP, &large)], &[]), Err(AppendError::TooLarge { .. })));
    assert!(matches!(journal.trim(GROUP, &base(4)), Err(AppendError::Position { .. })));
    assert_eq!(disk.counts(), before);
    append(&mut journal, 1, 10);
}

#[test]
fn a_full_segment_is_followed_by_another_and_reading_crosses_over() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    for round in 0..40 {
        if round % 3 == 0 {
            assert!(journal.prepare());
        }
        append(&mut journal, 3, 500);
    }
    let names = disk.list().unwrap();
    assert!(names.len() > 4, "{names:?}");
    let all = dump(&journal, GROUP);
    assert_eq!(all.len(), 120);
    for from in [1, 2, 59, 60, 61, 119, 120, 121] {
        let read: Vec<_> =
            journal.reader().read_from(GROUP, from).unwrap().map(|r| r.unwrap().header.position).collect();
        assert_eq!(read, (from..=120).collect::<Vec<_>>());
    }
    let stored = journal.reader().batch_at(GROUP, 59).unwrap().unwrap();
    assert_eq!((stored.head.position, stored.records.len()), (58, 3));
    assert_eq!(journal.reader().batch_at(GROUP, 121).unwrap(), None);
    disk.crash(0);
    let (journal, report) = open(&disk, SEGMENT).unwrap();
    assert_eq!(report.records, 120);
    assert_eq!(dump(&journal, GROUP), all);
}

#[test]
fn a_reader_goes_on_where_it_found_the_end() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    let mut records = journal.reader().read_from(GROUP, 1).unwrap();
    assert!(records.next().is_none());
    for position in 1..100 {
        append(&mut journal, 1, 400);
        assert_eq!(records.next().unwrap().unwrap().header.position, position);
        assert!(records.next().is_none());
    }
}

#[test]
fn a_reader_that_trimming_overtakes_is_told() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    (0..40).for_each(|_| append(&mut journal, 3, 500));
    let mut slow = journal.reader().read_from(GROUP, 1).unwrap();
    let mut quick = journal.reader().read_from(GROUP, 100).unwrap();
    slow.next().unwrap().unwrap();
    journal.trim(GROUP, &base(100)).unwrap();
    let error = slow.find_map(Result::err).unwrap();
    assert!(matches!(error, ReadError::Overtaken { .. }), "{error}");
    assert!(quick.all(|record| record.is_ok()));
}

#[test]
fn trimming_drops_segments_and_keeps_what_must_survive() {
    let disk = MemDisk::new();
    let (mut journal, _) = open_signed(&disk, SEGMENT);
    journal.append(&[], &[kept(KeptKind::TREE_HEAD, b"head 1"), kept(KeptKind(200), b"log 1")]).unwrap();
    for _ in 0..40 {
        append(&mut journal, 3, 500);
    }
    let segments = |disk: &MemDisk| disk.list().unwrap().iter().filter(|name| name.starts_with("segment")).count();
    let before = segments(&disk);
    assert_eq!(journal.reader().kept(GROUP, KeptKind(200)).unwrap().len(), 1);
    journal.trim(GROUP, &base(100)).unwrap();
    assert!(segments(&disk) < before);
    let first = journal.reader().first_position(GROUP);
    assert!(first > 1 && first <= 100);
    assert!(matches!(journal.reader().read_from(GROUP, 1), Err(ReadError::Trimmed { position: 1, .. })));
    assert!(journal.reader().kept(GROUP, KeptKind(200)).unwrap().is_empty());

    // Twice more, so that the base itself is only to be found in a segment's header.
    for _ in 0..40 {
        append(&mut journal, 3, 500);
    }
    disk.crash(0);
    let (mut journal, _) = open_signed(&disk, SEGMENT);
    assert_eq!(journal.base(GROUP), Some(base(100)));
    assert_eq!(journal.kept(GROUP, KeptKind::TREE_HEAD).as_deref(), Some(&b"head 1"[..]));
    assert_eq!(dump(&journal, GROUP).last().unwrap().0.position, 240);
    assert!(matches!(journal.trim(GROUP, &base(99)), Err(AppendError::Position { .. })));
    journal.trim(GROUP, &base(241)).unwrap();
    assert_eq!(segments(&disk), 1);
    verify_signed(&disk).unwrap();
    append(&mut journal, 1, 10);
    assert_eq!(journal.next_position(GROUP), 242);
}

#[test]
fn a_group_that_needs_its_records_holds_segments_back() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    let other = GroupId(2);
    let said = records(1, 1, 10);
    journal.append(&[batch(other, &said)], &[]).unwrap();
    for _ in 0..20 {
        append(&mut journal, 3, 500);
    }
    journal.trim(GROUP, &base(61)).unwrap();
    assert_eq!(journal.reader().first_position(GROUP), 1, "the first segment holds the other group's record");
    journal.trim(other, &base(2)).unwrap();
    assert!(journal.reader().first_position(GROUP) > 1);
    assert_eq!(journal.reader().first_position(other), 2);
}

#[test]
fn an_erased_body_is_gone_and_everything_still_verifies() {
    let disk = MemDisk::new();
    let (mut journal, _) = open_signed(&disk, SEGMENT);
    append(&mut journal, 3, 700);
    append(&mut journal, 3, 700);
    let secret = record(2, 700, 0).body;
    let contains = |disk: &MemDisk| {
        let bytes = disk.bytes("segment-0000000000000001").unwrap();
        bytes.windows(64).any(|window| window == &secret[100..164])
    };
    assert!(contains(&disk));
    assert!(journal.erase(GROUP, 2).unwrap());
    assert!(!journal.erase(GROUP, 2).unwrap());
    assert!(!contains(&disk));
    let read: Vec<_> = journal.reader().read_from(GROUP, 1).unwrap().map(|record| record.unwrap().body).collect();
    assert_eq!(read[1], StoredBody::Erased);
    assert!(matches!(read[0], StoredBody::Present { .. }));
    disk.crash(0);
    let (journal, report) = open_signed(&disk, SEGMENT);
    assert_eq!((report.torn, report.erasures_completed), (None, 0));
    assert_eq!(dump(&journal, GROUP)[1].1, None);
    let verified = verify_signed(&disk).unwrap();
    assert_eq!((verified.bodies, verified.erased), (5, 1));
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    let disk = MemDisk::new();
    disk.set_budget(Some(SEGMENT + SEGMENT / 2));
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    assert!(!journal.prepare());
    assert!(journal.is_low());
    let mut appended = 0;
    let error = loop {
        let said = records(journal.next_position(GROUP), 1, 400);
        match journal.append(&[batch(GROUP, &said)], &[]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    assert!(appended > 10, "a preallocated segment is used to its end");
    assert_eq!(disk.list().unwrap().len(), 1, "nothing half made is left");
    assert_eq!(dump(&journal, GROUP).len(), appended);
    disk.set_budget(Some(4 * SEGMENT));
    assert!(journal.prepare());
    assert!(!journal.is_low());
    append(&mut journal, 1, 400);
    disk.crash(0);
    assert_eq!(open(&disk, SEGMENT).unwrap().1.records as usize, appended + 1);
}

#[test]
fn a_spare_segment_lets_a_full_disk_trim() {
    let disk = MemDisk::new();
    disk.set_budget(Some(2 * SEGMENT));
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    assert!(journal.prepare());
    while disk.list().unwrap().iter().any(|name| name == "spare") {
        append(&mut journal, 1, 400);
    }
    assert!(!journal.prepare(), "no room for another");
    let next = journal.next_position(GROUP);
    journal.trim(GROUP, &base(next)).unwrap();
    assert!(journal.prepare(), "the trimmed segment's space is free again");
}

#[test]
fn a_failed_flush_poisons() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    append(&mut journal, 1, 100);
    disk.fail_sync_after(0, 5);
    let said = records(2, 1, 100);
    assert!(matches!(journal.append(&[batch(GROUP, &said)], &[]), Err(AppendError::Io { .. })));
    assert!(matches!(journal.append(&[batch(GROUP, &said)], &[]), Err(AppendError::Poisoned)));
    assert!(matches!(journal.trim(GROUP, &base(2)), Err(AppendError::Poisoned)));
    assert!(journal.erase(GROUP, 1).is_err());
    assert_eq!(dump(&journal, GROUP).len(), 1, "readers see what is durable only");
}

/// A flush failed, the process starts again, and the page cache shows what the disk does not have.
#[test]
fn what_opening_shows_is_durable_even_after_a_failed_flush() {
    for seed in 0..200 {
        let disk = MemDisk::new();
        let (mut journal, _) = open(&disk, SEGMENT).unwrap();
        append(&mut journal, 2, 300);
        disk.fail_sync_after(0, seed);
        let said = records(3, 2, 900);
        journal.append(&[batch(GROUP, &said)], &[]).unwrap_err();
        disk.restart();
        let (journal, _) = open(&disk, SEGMENT).unwrap();
        let shown = dump(&journal, GROUP);
        disk.crash(seed);
        let (journal, report) = open(&disk, SEGMENT).unwrap();
        assert_eq!(report.torn, None, "seed {seed}");
        assert_eq!(dump(&journal, GROUP), shown, "seed {seed}");
    }
}

#[test]
fn a_folder_of_something_else_is_refused_with_its_name() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    append(&mut journal, 1, 100);
    let name = "segment-0000000000000001";
    let open_as =
        |disk: &MemDisk, options| Journal::open(Arc::new(disk.clone()), options, Arc::new(FastSigner)).err().unwrap();
    let mut other = options(SEGMENT);
    other.cluster = ClusterId([8; 16]);
    assert!(matches!(open_as(&disk, other), OpenError::Cluster { .. }));
    let mut other = options(SEGMENT);
    other.replica = ReplicaId(2);
    assert!(matches!(open_as(&disk, other), OpenError::Replica { .. }));
    assert!(matches!(open_as(&disk, options(1000)), OpenError::SegmentLen(1000)));

    let flipped = disk.fork();
    flipped.flip(name, 11, 3);
    let error = open_as(&flipped, options(SEGMENT));
    assert!(matches!(error, OpenError::Version { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains(name));
    let flipped = disk.fork();
    flipped.flip(name, 0, 3);
    assert!(matches!(open_as(&flipped, options(SEGMENT)), OpenError::NotASegment { .. }));
}

#[test]
fn a_missing_segment_is_named() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    for _ in 0..40 {
        append(&mut journal, 3, 500);
    }
    disk.remove("segment-0000000000000002").unwrap();
    let error = open(&disk, SEGMENT).err().unwrap();
    assert!(matches!(&error, OpenError::Missing { file } if file == "segment-0000000000000002"), "{error}");
}

#[test]
fn a_signature_of_another_key_does_not_verify() {
    let disk = MemDisk::new();
    let (mut journal, _) = open(&disk, SEGMENT).unwrap();
    append(&mut journal, 1, 100);
    let error = verify_signed(&disk).unwrap_err();
    assert!(error.to_string().contains("signature"), "{error}");
}

#[test]
fn incarnations_are_signed() {
    let disk = MemDisk::new();
    let (mut journal, _) = open_signed(&disk, SEGMENT);
    let said = records(1, 1, 0);
    let batch = store::journal::Batch { group: GROUP, incarnation: Incarnation(5), records: &said };
    let flushed = journal.append(&[batch], &[]).unwrap();
    assert_eq!(flushed.batches[0].head.incarnation, Incarnation(5));
}
