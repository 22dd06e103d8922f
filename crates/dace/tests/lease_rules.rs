//! What grants bind to, by hand: terms that change with a restart, suspected holders, votes that were withheld for long.
#![allow(clippy::unwrap_used)]

mod group;

use dace::{LeaseTiming, Zone};
use group::{Group, Item};
use types::journal::{RecordHeader, RecordKind};
use types::{ReplicaId, Slot, SlotSet};

const MS: u64 = 1_000_000;

fn set_up(group: &mut Group, r: u32, term_ms: u64) {
    group.core(r).set_lease_timing(LeaseTiming { term_ns: term_ms * MS, rate_error_ppm: 1000 });
}

fn zone() -> Zone {
    Zone(b"b/".to_vec().into())
}

fn want(group: &mut Group) {
    let now = group.node(3).now;
    group.core(3).want_lease(now, &zone(), [1; 32]).unwrap();
    group.drain(3);
}

/// A grant that was renewed for a longer term than the one before is as long in a base, and binds for as long after the
/// next restart.
#[test]
fn a_renewed_grant_is_as_long_as_its_last_term() {
    let mut group = Group::new(3, 1);
    (1..=3).for_each(|r| set_up(&mut group, r, 200));
    group.start_all();
    want(&mut group);
    group.exchange();
    for r in [1, 2, 3] {
        group.crash(r);
        group.restore(r).unwrap();
        set_up(&mut group, r, 2000);
        group.start(r);
        group.flush(r, None);
    }
    group.exchange();
    want(&mut group);
    // Renewed while the one of the first life runs, and after that, until its records are trimmed.
    for _ in 0..60 {
        group.submit(1, &SlotSet::of(vec![Slot(1)]), b"x").0.unwrap();
        group.exchange();
        group.advance(40 * MS);
    }
    (1..=3).for_each(|r| assert!(group.store(r).is_some()));
    group.exchange();
    assert!(group.trim(1).is_some());
    group.crash(1);
    group.restore(1).unwrap();
    set_up(&mut group, 1, 2000);
    group.core(1).prefer(&[ReplicaId(2)]);
    group.start(1);
    let until = group.core(3).lease_until(&zone()).unwrap();
    for _ in 0..8 {
        // The holder is not heard of, and counts on its grants for most of the term.
        group.flush(1, None);
        group.deliver(2, 1).unwrap();
        group.advance(50 * MS);
        group.tick(1);
    }
    assert!(group.node(3).now.mono_ns < until, "it holds the lease");
    group.deliver(2, 1).unwrap();
    group.submit(1, &SlotSet::of(vec![Slot(1)]), b"y").0.unwrap();
    let proposed = group.node(1).journal.iter().rev().find_map(|item| match item {
        Item::Said(record) if record.header.kind == RecordKind::Propose => Some(record.header),
        _ => None,
    });
    assert_eq!(proposed.unwrap().aux & 0b100, 0b100, "its grantor does not decide without it");
}

fn leased() -> Group {
    let mut group = Group::new(3, 1);
    (1..=3).for_each(|r| set_up(&mut group, r, 20_000));
    group.start_all();
    want(&mut group);
    group.flush(3, None);
    group
}

fn said(group: &Group, r: u32, kind: RecordKind) -> Vec<RecordHeader> {
    let headers = group.nodes[&r].journal.iter().filter_map(|item| match item {
        Item::Said(record) if record.header.kind == kind => Some(record.header),
        _ => None,
    });
    headers.collect()
}

/// Suspicion excuses from no promise: the holder may well hold.
#[test]
fn a_suspected_holder_of_an_own_grant_is_in_the_fast_quorum() {
    let mut group = leased();
    group.deliver(3, 1).unwrap();
    group.flush(1, None);
    group.deliver(1, 3).unwrap();
    let now = group.node(1).now;
    assert!(group.core(3).lease_until(&zone()).is_some(), "it holds the zone by one grant");
    group.core(1).suspect(now, ReplicaId(3), true);
    group.core(1).prefer(&[ReplicaId(2)]);
    group.submit(1, &SlotSet::of(vec![Slot(1)]), b"x").0.unwrap();
    assert_eq!(said(&group, 1, RecordKind::Propose).last().unwrap().aux & 0b100, 0b100);
}

/// An `Accepted` was withheld for a holder, and a higher ballot joined meanwhile: when the grant ends it is too late for it.
#[test]
fn a_withheld_vote_is_not_given_below_a_ballot_joined_since() {
    let mut group = leased();
    group.deliver(3, 2).unwrap();
    group.core(1).prefer(&[ReplicaId(2)]);
    group.submit(1, &SlotSet::of(vec![Slot(1)]), b"x").0.unwrap();
    group.flush(1, None);
    // The holder acks, and the coordinator alone hears of it.
    group.deliver(1, 3).unwrap();
    group.flush(3, None);
    group.deliver(3, 1).unwrap();
    let now = group.node(1).now;
    group.core(1).suspect(now, ReplicaId(2), true);
    group.drain(1);
    group.flush(1, None);
    assert_eq!(said(&group, 1, RecordKind::Accept).len(), 1);
    group.deliver(1, 2).unwrap();
    assert!(said(&group, 2, RecordKind::Accepted).is_empty(), "the holder's attach was not read");
    // Another ballot.
    let mut prepared = false;
    for _ in 0..100 {
        group.advance(50 * MS);
        group.flush(1, None);
        group.flush(2, None);
        group.deliver(2, 1).unwrap();
        group.tick(1);
        group.flush(1, None);
        if !said(&group, 1, RecordKind::Prepare).is_empty() {
            prepared = true;
            break;
        }
    }
    assert!(prepared);
    group.deliver(1, 2).unwrap();
    let joined = said(&group, 2, RecordKind::Report).iter().map(|report| report.ballot).max().unwrap();
    assert!(joined > 3, "it has joined the recovery");
    for _ in 0..30 {
        group.advance(1000 * MS);
        group.tick(2);
    }
    let accepted = said(&group, 2, RecordKind::Accepted);
    assert!(accepted.iter().all(|vote| vote.ballot >= joined), "{accepted:?}");
}

/// A listing must find an instant without pending writes while the lease is held: behind that, what others have shown may
/// be missing here, and what came after it may not.
#[test]
fn a_listing_that_waited_for_longer_than_the_lease_is_not_answered() {
    let mut group = leased();
    group.deliver(3, 1).unwrap();
    group.flush(1, None);
    group.deliver(1, 3).unwrap();
    group.submit(3, &SlotSet::of(vec![Slot(1)]), b"x").0.unwrap();
    let now = group.node(3).now;
    let both = SlotSet::of(vec![Slot(1), Slot(2)]);
    group.core(3).handle_leased_read(now, &zone(), both).unwrap();
    group.core(3).handle_leased_read(now, &zone(), SlotSet::of(vec![Slot(1)])).unwrap();
    group.core(3).drop_lease(now, &zone());
    group.drain(3);
    group.exchange();
    assert_eq!(group.node(3).executed.len(), 1, "nothing is pending any more");
    assert_eq!(group.node(3).leased.len(), 1, "the read of one key is answered, whatever has become of the lease");
    assert_eq!(group.core(3).counters().contended_reads, 1);
}

/// What is decided and waits for others of its slots is not in the state yet.
#[test]
fn a_leased_read_waits_for_what_is_decided() {
    let mut group = leased();
    group.deliver(3, 1).unwrap();
    group.flush(1, None);
    group.deliver(1, 3).unwrap();
    group.submit(1, &SlotSet::of(vec![Slot(2)]), b"u").0.unwrap();
    group.flush(1, None);
    for r in [2, 3] {
        group.deliver(1, r).unwrap();
        group.flush(r, None);
    }
    group.core(2).prefer(&[ReplicaId(3)]);
    group.submit(2, &SlotSet::of(vec![Slot(1), Slot(2)]), b"x").0.unwrap();
    for (from, to) in [(2, 3), (3, 2), (2, 3)] {
        group.flush(from, None);
        group.deliver(from, to).unwrap();
    }
    assert_eq!(group.core(3).status().committed, 1, "decided, behind one that is not");
    let now = group.node(3).now;
    group.core(3).handle_leased_read(now, &zone(), SlotSet::of(vec![Slot(1)])).unwrap();
    group.drain(3);
    assert!(group.node(3).leased.is_empty(), "it waits");
    group.exchange();
    let leased = &group.node(3).leased;
    assert_eq!((leased.len(), leased[0].1), (1, 2));
}
