//! The journal's thread: order, group commit, push-back, failure.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use store::disk::MemDisk;
use store::journal::{Append, AppendError, Event, Flushed, Refused, Writer, WriterOptions};
use support::{GROUP, base, dump, open, record};
use types::Incarnation;

const SEGMENT: u64 = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

fn start(disk: &MemDisk, options: WriterOptions) -> (Writer, mpsc::Receiver<Event>) {
    let (journal, _) = open(disk, SEGMENT).unwrap();
    let (send, events) = mpsc::channel();
    let writer = Writer::start(journal, options, move |event| {
        let _ = send.send(event);
    });
    (writer.unwrap(), events)
}

fn one(position: u64) -> Append {
    Append { group: GROUP, incarnation: Incarnation(1), said: vec![record(position, 100, 0)], kept: Vec::new() }
}

fn flushed(events: &mpsc::Receiver<Event>) -> Arc<Flushed> {
    match events.recv_timeout(PATIENCE).unwrap() {
        Event::Flushed(flushed, _) => flushed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_queues_up_during_a_flush_shares_the_next() {
    let disk = MemDisk::new();
    let (writer, events) = start(&disk, WriterOptions { flush_delay: Duration::from_millis(20) });
    for position in 1..=200 {
        writer.append(one(position)).unwrap();
    }
    let mut next = 1;
    while next <= 200 {
        for batch in &flushed(&events).batches {
            assert_eq!(batch.head.position, next);
            next += u64::from(batch.head.count);
        }
    }
    let statistics = writer.statistics();
    assert_eq!((statistics.appends, statistics.records), (200, 200));
    assert!(statistics.flushes < 20, "{} flushes", statistics.flushes);
    assert!(statistics.flushing >= Duration::from_millis(20) * statistics.flushes as u32);
    let journal = writer.stop().unwrap();
    assert_eq!(dump(&journal, GROUP).len(), 200);
}

#[test]
fn stopping_writes_what_is_queued() {
    let disk = MemDisk::new();
    let (writer, _events) = start(&disk, WriterOptions { flush_delay: Duration::from_millis(5) });
    for position in 1..=50 {
        writer.append(one(position)).unwrap();
    }
    let journal = writer.stop().unwrap();
    assert_eq!(journal.next_position(GROUP), 51);
    disk.crash(0);
    assert_eq!(open(&disk, SEGMENT).unwrap().1.records, 50);
}

#[test]
fn a_failed_flush_is_told_once_and_nothing_more_is_taken() {
    let disk = MemDisk::new();
    let (writer, events) = start(&disk, WriterOptions::default());
    writer.append(one(1)).unwrap();
    flushed(&events);
    // The spare segment is made on another thread and flushed too: whichever comes first fails.
    disk.power_off_after(0);
    writer.append(one(2)).unwrap();
    assert!(matches!(events.recv_timeout(PATIENCE).unwrap(), Event::Failed(AppendError::Io { .. })));
    assert!(matches!(writer.append(one(3)), Err(Refused::Stopped(_))));
    assert!(matches!(writer.trim(GROUP, base(1)), Err(AppendError::Poisoned)));
    assert!(writer.stop().is_some());
    assert!(events.recv_timeout(PATIENCE).is_err(), "nothing more was told");
}

#[test]
fn an_append_that_no_flush_can_hold_is_given_back() {
    let disk = MemDisk::new();
    let (writer, _events) = start(&disk, WriterOptions::default());
    let mut append = one(1);
    append.said = vec![record(1, SEGMENT as usize, 0)];
    assert!(matches!(writer.append(append), Err(Refused::TooLarge(_))));
}

#[test]
fn a_queue_that_is_full_pushes_back() {
    let disk = MemDisk::new();
    let (writer, events) = start(&disk, WriterOptions { flush_delay: Duration::from_millis(100) });
    let empty = || Append {
        group: GROUP,
        incarnation: Incarnation(1),
        said: Vec::new(),
        kept: vec![support::kept(store::journal::KeptKind(200), b"x")],
    };
    let mut taken = 0;
    let refused = loop {
        match writer.append(empty()) {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 1_000_000, "the queue has no end");
    };
    assert!(matches!(refused, Refused::Full(_)));
    let mut kept = 0;
    while kept < taken {
        kept += flushed(&events).kept;
    }
    writer.append(empty()).unwrap();
}

#[test]
fn trimming_and_erasing_go_through_the_thread() {
    let disk = MemDisk::new();
    let (writer, events) = start(&disk, WriterOptions::default());
    for position in 1..=20 {
        writer.append(one(position)).unwrap();
    }
    let mut last = 0;
    while last < 20 {
        last =
            flushed(&events).batches.last().map_or(last, |batch| batch.head.position + u64::from(batch.head.count) - 1);
    }
    assert!(writer.erase(GROUP, 7).unwrap());
    assert!(!writer.erase(GROUP, 7).unwrap());
    writer.trim(GROUP, base(15)).unwrap();
    let bodies: Vec<_> = writer.reader().read_from(GROUP, 7).unwrap().map(|record| record.unwrap().body).collect();
    assert_eq!(bodies[0], store::journal::StoredBody::Erased);
    assert_eq!(bodies.len(), 14);
    assert_eq!(writer.stop().unwrap().base(GROUP), Some(base(15)));
}

#[test]
fn a_full_disk_stalls_the_writer_until_there_is_room() {
    let disk = MemDisk::new();
    disk.set_budget(Some(SEGMENT + 1000));
    let (writer, events) = start(&disk, WriterOptions::default());
    let mut position = 1;
    let stalled = loop {
        writer.append(one(position)).unwrap();
        position += 1;
        match events.recv_timeout(PATIENCE).unwrap() {
            Event::Flushed(..) => {}
            other => break other,
        }
    };
    assert!(matches!(stalled, Event::Stalled));
    assert!(writer.is_low());
    disk.set_budget(None);
    assert_eq!(flushed(&events).batches[0].head.position, position - 1);
    writer.append(one(position)).unwrap();
    flushed(&events);
}
