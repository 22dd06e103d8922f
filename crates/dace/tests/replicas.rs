//! Groups of several replicas through the public door: the common paths, and random schedules.
#![allow(clippy::unwrap_used)]

mod group;

use std::collections::BTreeMap;

use group::Group;
use proptest::prelude::*;
use types::{CommandId, Slot, SlotSet, Timestamp};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

/// A write that the first two decide, and of which the third hears nothing.
fn write_by_two(group: &mut Group) {
    group.submit(1, &slot(5), b"a").0.unwrap();
    group.flush(1, None);
    group.deliver(1, 2).unwrap();
    group.flush(2, None);
    group.deliver(2, 1).unwrap();
    group.flush(1, None);
    assert_eq!(group.node(1).executed.len(), 1, "visible at its coordinator");
}

#[test]
fn a_command_is_executed_everywhere_and_cut() {
    for (n, f) in [(2, 0), (3, 1), (4, 1), (5, 1), (5, 2), (7, 3)] {
        let mut group = Group::new(n, f);
        group.start_all();
        let (id, _) = group.submit(1, &slot(5), b"a");
        let id = id.unwrap();
        group.submit(2, &SlotSet::All, b"star").0.unwrap();
        group.exchange();
        group.advance(20_000_000);
        group.exchange();
        for r in 1..=n {
            let node = group.node(r);
            assert_eq!(node.executed.len(), 2, "replica {r} of {n}");
            assert_eq!(node.executed[0].1, id);
            assert!(!node.cuts.is_empty(), "replica {r} of {n}");
        }
        if f <= 1 {
            assert_eq!(group.core(1).counters().fast, 1, "with f = 1 the fast path is always taken");
        }
    }
}

#[test]
fn a_dead_coordinators_command_is_recovered() {
    let mut group = Group::new(3, 1);
    group.start_all();
    group.submit(1, &slot(5), b"a").0.unwrap();
    group.flush(1, None);
    group.deliver(1, 2).unwrap();
    group.crash(1);
    for _ in 0..60 {
        group.advance(100_000_000);
        group.exchange();
    }
    assert_eq!(group.node(2).executed.len(), 1);
    assert_eq!(group.node(3).executed.len(), 1);
    assert!(
        group.core(2).counters().rules.iter().sum::<u64>() + group.core(3).counters().rules.iter().sum::<u64>() > 0
    );
    group.restore(1).unwrap();
    group.start(1);
    group.exchange();
    group.advance(20_000_000);
    group.exchange();
    assert_eq!(group.nodes[&1].executed, group.nodes[&2].executed);
}

#[test]
fn a_trimmed_group_brings_a_lost_member_back_by_snapshot() {
    let mut group = Group::new(3, 1);
    group.start_all();
    group.crash(3);
    for round in 0..40_u32 {
        let payload = round.to_be_bytes();
        if group.submit(1 + round % 2, &slot(5), &payload).0.is_err() {
            continue;
        }
        group.exchange();
        group.advance(500_000_000);
        group.exchange();
    }
    assert!(group.node(1).executed.len() > 20, "{}", group.node(1).executed.len());
    for r in [1, 2] {
        group.store(r).unwrap();
    }
    group.exchange();
    for r in [1, 2] {
        assert!(group.trim(r).is_some());
        assert!(group.core(r).status().known < 5, "votes are forgotten");
    }
    group.restore(3).unwrap();
    group.start(3);
    group.exchange();
    assert!(group.node(3).wants.is_some());
    group.install(1, 3);
    for _ in 0..10 {
        group.exchange();
        group.advance(200_000_000);
    }
    group.submit(3, &slot(5), b"back").0.unwrap();
    group.exchange();
    group.advance(20_000_000);
    group.exchange();
    assert_eq!(group.nodes[&3].executed, group.nodes[&2].executed);
    assert_eq!(group.nodes[&3].executed, group.nodes[&1].executed);
}

/// The only failure is the disk of the second, which forgets that it attached a visible write. The third reads its journal
/// up to that, and will refuse it; its answer to a read may come first.
#[test]
fn an_answer_from_a_rolled_back_disk_does_not_count() {
    let mut group = Group::new(3, 1);
    group.start_all();
    let copy = (group.node(2).journal.clone(), group.node(2).durable);
    write_by_two(&mut group);
    group.deliver(2, 3).unwrap();
    group.crash(2);
    (group.node(2).journal, group.node(2).durable) = copy;
    group.restore(2).unwrap();
    group.start_unasked(2);
    group.flush(2, None);
    group.messages.clear();
    let now = group.node(3).now;
    group.core(3).handle_read(now, slot(5)).unwrap();
    group.tick(3);
    for (from, to) in [(3, 2), (2, 3)] {
        group.messages.retain(|(a, b, _)| (*a, *b) == (from, to));
        assert!(!group.messages.is_empty(), "the second is asked, and answers");
        while group.messages.iter().any(|(a, ..)| *a == from) {
            group.give();
        }
    }
    assert_eq!(group.node(3).reads, [] as [u64; 0], "with the second it is no majority");
    assert!(group.connect(2, 3).is_err(), "it is refused");
    for _ in 0..4 {
        group.exchange();
        group.advance(500_000_000);
    }
    assert_eq!(group.node(3).reads.len(), 1, "the first answers, too");
    assert_eq!(group.node(3).executed.len(), 1);
}

#[test]
fn a_quorum_read_waits_for_what_was_visible() {
    let mut group = Group::new(3, 1);
    group.start_all();
    write_by_two(&mut group);
    let now = group.node(3).now;
    let read = group.core(3).handle_read(now, slot(5)).unwrap();
    group.tick(3);
    while group.give().is_some() {}
    assert_eq!(group.node(3).reads, [] as [u64; 0], "it must not answer from its own state");
    group.exchange();
    assert_eq!(group.node(3).reads, [read]);
    assert_eq!(group.node(3).executed.len(), 1);
}

/// One step of a random schedule.
#[derive(Clone, Debug)]
enum Step {
    Submit(u32, u16, bool),
    Flush(u32),
    Deliver(u32, u32),
    Messages(u8),
    Advance(u64),
    Crash(u32),
    Restart(u32),
    Store(u32),
    Trim(u32),
}

fn step(n: u32) -> impl Strategy<Value = Step> {
    let r = move || 1..=n;
    prop_oneof![
        6 => (r(), 0_u16..3, prop::bool::weighted(0.1)).prop_map(|(r, slot, star)| Step::Submit(r, slot, star)),
        12 => r().prop_map(Step::Flush),
        30 => (r(), r()).prop_map(|(from, to)| Step::Deliver(from, to)),
        3 => (1_u8..9).prop_map(Step::Messages),
        6 => prop_oneof![Just(1_000_000_u64), Just(10_000_000), Just(700_000_000), Just(2_500_000_000)].prop_map(Step::Advance),
        1 => r().prop_map(Step::Crash),
        2 => r().prop_map(Step::Restart),
        2 => r().prop_map(Step::Store),
        1 => r().prop_map(Step::Trim),
    ]
}

/// One timestamp per command; the same order per slot; the same block at every cut.
fn check(group: &mut Group, n: u32) {
    let mut timestamps: BTreeMap<CommandId, Timestamp> = BTreeMap::new();
    let mut blocks: BTreeMap<Timestamp, Vec<(Timestamp, CommandId)>> = BTreeMap::new();
    for r in 1..=n {
        let node = group.node(r);
        let mut executed = node.executed.clone();
        for (timestamp, id) in &executed {
            assert_eq!(*timestamps.entry(*id).or_insert(*timestamp), *timestamp, "{id}");
        }
        executed.sort_unstable();
        for cut in &node.cuts {
            let below: Vec<_> = executed.iter().copied().filter(|(timestamp, _)| timestamp <= cut).collect();
            let first = blocks.entry(*cut).or_insert_with(|| below.clone());
            assert_eq!(*first, below, "the same at cut {cut} of replica {r}");
        }
    }
}

fn run(n: u32, f: u32, steps: &[Step]) {
    let mut group = Group::new(n, f);
    group.start_all();
    let mut submitted = Vec::new();
    for step in steps {
        match *step {
            Step::Submit(r, slot_number, star) if group.is_up(r) => {
                let slots = if star { SlotSet::All } else { slot(slot_number) };
                submitted.extend(group.submit(r, &slots, b"x").0);
            }
            Step::Flush(r) if group.is_up(r) => drop(group.flush(r, None)),
            Step::Deliver(from, to) if from != to && group.is_up(from) && group.is_up(to) => {
                let _ = group.deliver(from, to);
            }
            Step::Messages(count) => drop((0..count).map_while(|_| group.give()).collect::<Vec<_>>()),
            Step::Advance(ns) => {
                group.advance(ns);
                for r in 1..=n {
                    if group.is_up(r) {
                        group.tick(r);
                    }
                }
            }
            Step::Crash(r) if group.is_up(r) => group.crash(r),
            Step::Restart(r) if !group.is_up(r) => {
                group.restore(r).unwrap();
                group.start(r);
            }
            Step::Store(r) if group.is_up(r) => drop(group.store(r)),
            Step::Trim(r) if group.is_up(r) => drop(group.trim(r)),
            _ => {}
        }
        check(&mut group, n);
    }
    heal(&mut group, n);
    check(&mut group, n);
    let reference = group.node(1).executed.len();
    for r in 1..=n {
        let status = group.core(r).status();
        assert_eq!((status.committed, group.node(r).executed.len()), (0, reference), "replica {r}: {status:?}");
        assert_eq!(status.in_flight, 0, "replica {r}: {status:?}");
    }
}

fn cut_of(group: &Group, r: u32) -> Timestamp {
    group.nodes[&r].core.as_ref().unwrap().status().cut
}

/// Everyone is up and connected for long enough.
fn heal(group: &mut Group, n: u32) {
    for r in 1..=n {
        if !group.is_up(r) {
            group.restore(r).unwrap();
            group.start(r);
        }
    }
    for _ in 0..60 {
        for from in 1..=n {
            group.flush(from, None);
            for to in (1..=n).filter(|to| *to != from) {
                let _ = group.deliver(from, to);
            }
        }
        for r in 1..=n {
            if let Some(cut) = group.node(r).wants.take() {
                let source = (1..=n).find(|other| *other != r && group.node(*other).stored >= cut);
                if let Some(source) = source.filter(|source| group.nodes[source].stored > cut_of(group, r)) {
                    group.install(source, r);
                }
            }
        }
        group.exchange();
        group.advance(300_000_000);
        group.exchange();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn three_replicas_agree(steps in prop::collection::vec(step(3), 0..120)) {
        run(3, 1, &steps);
    }

    #[test]
    fn five_replicas_agree(steps in prop::collection::vec(step(5), 0..160)) {
        run(5, 2, &steps);
    }
}
