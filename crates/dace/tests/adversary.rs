//! Narrow schedules of groups that random ones do not find.
#![allow(clippy::unwrap_used)]

mod group;

use group::{Group, Item};
use types::journal::RecordKind;
use types::{CommandId, Slot, SlotSet};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

/// Whether the journal of `r` holds a record of `kind` about `id`.
fn says(group: &Group, r: u32, kind: RecordKind, id: CommandId) -> bool {
    let said = |item: &Item| matches!(item, Item::Said(record) if record.header.kind == kind && record.header.id == id);
    group.nodes[&r].journal.iter().any(said)
}

fn settle(group: &mut Group) {
    for _ in 0..3 {
        group.exchange();
        group.advance(20_000_000);
    }
    group.exchange();
}

/// A replica learns a decision before it could attach the command, and says no more than that it raised its floors.
/// All others forget the command; then it restarts.
#[test]
fn a_command_that_was_only_raised_does_not_pin_the_journal() {
    let mut group = Group::new(3, 1);
    group.start_all();
    // Proposals of the others are far ahead of this clock: it holds them back.
    group.node(3).now.wall_ns -= 1_000_000_000;
    group.crash(3);
    group.restore(3).unwrap();
    group.start(3);
    settle(&mut group);
    let (id, _) = group.submit(1, &slot(5), b"a");
    let id = id.unwrap();
    settle(&mut group);
    assert!(says(&group, 3, RecordKind::Raise, id) && !says(&group, 3, RecordKind::Ack, id), "it held the proposal");
    group.advance(3_000_000_000);
    settle(&mut group);
    group.submit(1, &slot(5), b"b").0.unwrap();
    settle(&mut group);
    group.advance(3_000_000_000);
    settle(&mut group);
    for r in 1..=3 {
        group.store(r).unwrap();
    }
    settle(&mut group);
    // A command of a new tick: behind it the journals can be trimmed.
    group.submit(1, &slot(6), b"c").0.unwrap();
    settle(&mut group);
    group.advance(3_000_000_000);
    settle(&mut group);
    for r in [1, 2] {
        assert!(group.trim(r).is_some());
    }
    group.crash(3);
    group.restore(3).unwrap();
    group.start(3);
    settle(&mut group);
    for _ in 0..20 {
        group.advance(3_000_000_000);
        group.exchange();
    }
    for r in 1..=3 {
        group.store(r).unwrap();
    }
    settle(&mut group);
    let known = group.core(3).status();
    assert!(group.trim(3).is_some(), "{known:?}");
}
