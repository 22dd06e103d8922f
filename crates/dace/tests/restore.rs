//! What a journal cannot hold is refused with a clear error and never panics.
#![allow(clippy::unwrap_used)]

mod world;

use bytes::Bytes;
use dace::{Base, Core, Output, Predecessor, Record, Restore, RestoreFault, SubmitError};
use proptest::prelude::*;
use types::journal::{LayoutError, RecordKind};
use types::limits::COMMAND_LEN_MAX;
use types::{CommandId, Epoch, Incarnation, ReplicaId, Slot, SlotSet, Timestamp};
use world::{World, lone};

/// Two incarnations: Open 1, Clock 2, Propose 3, Commit 4, Propose 5, Commit 6, Open 7, Clock 8, Propose 9, Commit 10.
fn journal() -> Vec<Record> {
    let mut world = World::new();
    let slots = SlotSet::of(vec![Slot(1)]);
    world.start().unwrap();
    world.flush(1);
    world.submit(&slots, b"a").0.unwrap();
    world.now.mono_ns += 20_000_000;
    world.now.wall_ns += 20_000_000;
    world.submit(&slots, b"b").0.unwrap();
    world.flush(6);
    world.crash(Timestamp::ZERO).unwrap();
    world.start().unwrap();
    world.flush(7);
    world.submit(&slots, b"c").0.unwrap();
    assert_eq!(world.appended(), 10);
    world.journal
}

/// Replays the journal; gives the first fault and where.
fn replay(journal: &[Record], executed_cut: Timestamp) -> Option<(u64, RestoreFault)> {
    let mut core = Core::new(lone(), Restore { base: None, executed_cut }).unwrap();
    for record in journal {
        if let Err(error) = core.restore_record(record.clone()) {
            assert!(!error.to_string().is_empty());
            return Some((error.position, error.fault));
        }
    }
    None
}

fn with(index: usize, change: impl FnOnce(&mut Record)) -> Option<(u64, RestoreFault)> {
    let mut journal = journal();
    change(&mut journal[index]);
    replay(&journal, Timestamp::ZERO)
}

#[test]
fn an_untouched_journal_is_taken() {
    assert_eq!(replay(&journal(), Timestamp::ZERO), None);
}

#[test]
fn each_contradiction_has_its_name() {
    use RestoreFault as F;
    let position = |expected| F::Position { expected };
    assert_eq!(with(3, |r| r.header.position = 5), Some((5, position(4))));
    assert_eq!(with(0, |r| r.header.position = 2), Some((2, position(1))));
    assert_eq!(with(0, |r| r.header.position = 0), Some((0, position(1))));
    assert_eq!(with(2, |r| r.header.id.replica = ReplicaId(2)), Some((3, F::Replica(ReplicaId(2)))));
    assert_eq!(with(2, |r| r.header.epoch = Epoch(2)), Some((3, F::Epoch(Epoch(2)))));
    assert_eq!(with(3, |r| r.header.kind = RecordKind::Ack), Some((4, F::Kind(RecordKind::Ack))));
    assert_eq!(with(2, |r| r.header.aux = 3), Some((3, F::Field("aux"))));
    assert_eq!(with(3, |r| r.header.flags = 1), Some((4, F::Field("flags"))));
    assert_eq!(with(3, |r| r.header.ballot = 1), Some((4, F::Field("ballot"))));
    assert_eq!(with(3, |r| r.header.body_len = 1), Some((4, F::Field("body length"))));
    assert_eq!(with(1, |r| r.header.id.counter = 1), Some((2, F::Field("id"))));
    let incarnation = |expected, found| F::Incarnation { expected: Incarnation(expected), found: Incarnation(found) };
    assert_eq!(with(6, |r| r.header.id.incarnation.0 = 3), Some((7, incarnation(2, 3))));
    assert_eq!(with(8, |r| r.header.id.incarnation.0 = 1), Some((9, incarnation(2, 1))));
    assert_eq!(with(6, |r| r.header.id.counter = 1), Some((7, F::Counter { expected: 0, found: 1 })));
    assert_eq!(with(4, |r| r.header.id.counter = 1), Some((5, F::Counter { expected: 2, found: 1 })));
    assert!(matches!(with(4, |r| r.header.timestamp.0 = 5), Some((5, F::Timestamp { .. }))));
    assert!(matches!(with(6, |r| r.header.timestamp.0 = 5), Some((7, F::Timestamp { .. }))));
    assert!(matches!(with(7, |r| r.header.aux = 5), Some((8, F::Timestamp { .. }))));
    assert!(matches!(with(7, |r| r.header.aux = u64::MAX), Some((8, F::Timestamp { .. }))));
    assert!(matches!(with(8, |r| r.header.timestamp.0 += 1 << 40), Some((9, F::Field(_)))));
    assert_eq!(with(4, |r| r.body = Bytes::new()), Some((5, F::Body { expected: 5 })));
    assert_eq!(with(4, |r| r.body = Bytes::from_static(&[0; 5])), Some((5, F::Layout(LayoutError::Proposal))));
    assert!(matches!(with(3, |r| r.header.id.counter = 2), Some((4, F::Decision { .. }))));
    assert!(matches!(with(3, |r| r.header.timestamp.0 += 1), Some((4, F::Decision { .. }))));
}

#[test]
fn a_second_decision_is_refused() {
    let mut journal = journal();
    let mut again = journal[3].clone();
    again.header.position = 11;
    journal.push(again);
    assert!(matches!(replay(&journal, Timestamp::ZERO), Some((11, RestoreFault::Decision { .. }))));
}

#[test]
fn an_erased_body_matters_only_above_the_executed_cut() {
    let mut journal = journal();
    journal[2].body = Bytes::new();
    journal[2].salt = [0; 32];
    let cut = journal[2].header.timestamp.tick_end();
    assert_eq!(replay(&journal, cut), None);
    assert_eq!(replay(&journal, Timestamp::ZERO), Some((3, RestoreFault::Body { expected: 5 })));
}

#[test]
fn a_record_after_the_start_is_refused() {
    let mut world = World::new();
    world.start().unwrap();
    let record = world.journal[0].clone();
    assert_eq!(world.core.restore_record(record).unwrap_err().fault, RestoreFault::Started);
}

#[test]
fn a_journal_with_a_hole_behind_its_base_is_refused() {
    let journal = journal();
    let mut world = World::new();
    world.journal = journal;
    world.durable = 10;
    world.crash(Timestamp::ZERO).unwrap();
    world.start().unwrap();
    world.flush(11);
    let cut = world.core.status().cut;
    let base = world.core.base(cut).unwrap();
    let restore = Restore { base: Some(base.bytes), executed_cut: cut };
    let records = world.journal.clone();
    let fresh = || Core::new(lone(), restore.clone()).unwrap();
    let position = |expected| RestoreFault::Position { expected };
    // It may begin anywhere up to the base's end, and must go on from there.
    let first = usize::try_from(base.position).unwrap();
    assert_eq!(fresh().restore_record(records[first + 1].clone()).unwrap_err().fault, position(base.position + 1));
    let mut core = fresh();
    core.restore_record(records[2].clone()).unwrap();
    assert_eq!(core.restore_record(records[5].clone()).unwrap_err().fault, position(4));
    core.restore_record(records[3].clone()).unwrap();
    let error = core.handle_start(world.now).unwrap_err().to_string();
    assert!(error.starts_with("the journal ends at position 4, but was trimmed at"), "{error}");
}

#[test]
fn an_over_long_body_is_refused() {
    let mut world = World::new();
    world.start().unwrap();
    world.flush(1);
    let (result, outputs) = world.submit(&SlotSet::All, &vec![0; COMMAND_LEN_MAX + 9000]);
    assert_eq!(result, Err(SubmitError::TooLong(COMMAND_LEN_MAX + 9002)));
    assert!(outputs.is_empty());
    assert!(!SubmitError::TooLong(1).is_retryable());
}

#[test]
#[should_panic(expected = "before it was handed out")]
fn a_position_never_handed_out_is_a_bug_of_the_driver() {
    let mut world = World::new();
    world.start().unwrap();
    world.flush(2);
}

proptest! {
    /// Whatever a damaged journal says: an error, or a core that starts and goes on.
    #[test]
    fn no_journal_panics(
        edits in prop::collection::vec((0_usize..10, 0_u8..9, any::<u64>()), 1..4),
        swap in prop::option::of((0_usize..10, 0_usize..10)),
    ) {
        let mut journal = journal();
        for (index, field, value) in edits {
            let header = &mut journal[index].header;
            match field {
                0 => header.position = value % 12,
                1 => header.timestamp = Timestamp(value),
                2 => header.id = CommandId { counter: value % 4, ..header.id },
                3 => header.id.incarnation = Incarnation((value % 4) as u32),
                4 => header.kind = RecordKind::from_u8((value % 14 + 1) as u8).unwrap(),
                5 => header.aux = value,
                6 => header.body_len = (value % 7) as u32,
                7 => header.timestamp.0 = header.timestamp.0.wrapping_add(value % 3).wrapping_sub(1),
                _ => journal[index].body = Bytes::from(value.to_be_bytes().to_vec()),
            }
        }
        if let Some((a, b)) = swap {
            journal.swap(a, b);
        }
        let mut world = World::new();
        for record in journal {
            if world.core.restore_record(record).is_err() {
                return Ok(());
            }
        }
        if world.start().is_ok() {
            world.flush(world.appended());
            world.submit(&SlotSet::All, b"on").0.unwrap();
            world.flush(world.appended());
            prop_assert_eq!(world.core.status().in_flight, 0);
        }
    }
}

/// A journal that is not at hand any more, as a backup remembers it.
fn predecessor(world: &World) -> Predecessor {
    let status = world.core.status();
    Predecessor { position: world.durable, cut: status.cut, ceiling: status.ceiling, incarnation: status.incarnation }
}

#[test]
fn an_empty_journal_goes_on_behind_its_predecessor() {
    let slots = SlotSet::of(vec![Slot(1)]);
    let mut world = World::new();
    world.start().unwrap();
    world.flush(1);
    let (old, _) = world.submit(&slots, b"a");
    world.flush(world.appended());
    world.now.mono_ns += 20_000_000;
    world.now.wall_ns += 20_000_000;
    world.tick();
    let before = predecessor(&world);
    assert!(before.cut > Timestamp::ZERO && before.ceiling >= before.cut);

    let base = Base::succeeding(&lone(), &before).unwrap();
    assert_eq!((base.position, base.cut), (before.position, before.cut));
    world.journal.clear();
    world.base = Some(base.bytes);
    // The clock of the machine that restores is set back by an hour.
    world.now.wall_ns -= 3_600_000_000_000;
    assert_eq!(world.crash(before.cut), Ok(vec![]));
    let outputs = world.start().unwrap();
    let [Output::Append(open)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(open.header.position, before.position + 1);
    assert_eq!(open.header.id.incarnation, Incarnation(before.incarnation.0 + 1));
    assert!(open.header.timestamp > before.ceiling);
    world.flush(world.appended());
    let (new, outputs) = world.submit(&slots, b"b");
    assert!(new.unwrap() > old.unwrap());
    let Some(Output::Append(propose)) = outputs.iter().rev().nth(1) else { panic!("{outputs:?}") };
    assert!(propose.header.timestamp > before.ceiling);
    // What it says replays over the same base.
    world.flush(world.appended());
    assert!(world.crash(before.cut).is_ok());
}

#[test]
fn a_predecessor_that_cannot_have_been_is_refused() {
    let sound = Predecessor { position: 7, cut: Timestamp(10), ceiling: Timestamp(20), incarnation: Incarnation(1) };
    assert!(Base::succeeding(&lone(), &sound).is_ok());
    for wrong in [
        Predecessor { position: 0, ..sound },
        Predecessor { ceiling: Timestamp(9), ..sound },
        Predecessor { incarnation: Incarnation(0), ..sound },
    ] {
        assert!(Base::succeeding(&lone(), &wrong).is_err(), "{wrong:?}");
    }
    // A state that is not the one of the backup is older, and is refused.
    let base = Base::succeeding(&lone(), &sound).unwrap();
    let restore = Restore { base: Some(base.bytes), executed_cut: Timestamp(9) };
    assert!(Core::new(lone(), restore).is_err());
}
