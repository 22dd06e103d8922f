//! Terms of leases that change with a restart.
#![allow(clippy::unwrap_used)]

mod group;

use dace::{LeaseTiming, Zone};
use group::{Group, Item};
use types::journal::RecordKind;
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
