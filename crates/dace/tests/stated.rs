//! What a state from elsewhere holds is not called void, wherever its command was decided. A recovery may decide one far below
//! what its coordinator proposed, so that the proposal says nothing about it: driven by hand.
#![allow(clippy::unwrap_used)]

mod epochs;

use dace::Timing;
use epochs::{Cluster, of};
use types::journal::RecordKind;
use types::{CommandId, Epoch, ReplicaId, Slot, SlotSet, Timestamp};

const MS: u64 = 1_000_000;

/// The clocks of 1 and 2 run ahead of that of 3, each by less than what makes silent.
fn skew(cluster: &mut Cluster) {
    for (r, ns) in [(1, 780 * MS), (2, 390 * MS)] {
        let node = cluster.node(r);
        node.now.mono_ns += ns;
        node.now.wall_ns += ns;
    }
    for (from, to) in [(2, 1), (3, 1), (2, 3)] {
        cluster.deliver(from, to);
    }
}

/// 2 and 3 go on without 1.
fn suspect(cluster: &mut Cluster) {
    for r in [2, 3] {
        let now = cluster.node(r).now;
        cluster.replica(r).suspect(now, ReplicaId(1), true);
    }
}

/// 1 proposes a command far ahead of the clock of 3, and is not heard any more. 3 holds it, and recovers it with 2, which had
/// not heard of it: they decide it below what 1 proposed. They store a state that holds it, and forget it.
fn decided_below() -> (Cluster, CommandId) {
    let timing = Timing { recover_ns: 20 * MS, ..Timing::default() };
    let mut cluster = Cluster::new(3, 1, 3, move |core| core.set_timing(timing));
    cluster.settle();
    cluster.submit(2, &SlotSet::of(vec![Slot(2)])).unwrap();
    cluster.settle();
    skew(&mut cluster);
    let id = cluster.submit(1, &SlotSet::of(vec![Slot(1)])).unwrap();
    let t0 = proposed(&cluster, id);
    cluster.flush(1);
    cluster.deliver(1, 3);
    suspect(&mut cluster);
    for _ in 0..4 {
        cluster.advance(20 * MS);
        cluster.talk(&[2, 3]);
    }
    cluster.advance(450 * MS);
    cluster.talk(&[2, 3]);
    let (decided, _) = cluster.decided[&id];
    for r in [2, 3] {
        cluster.store(r);
    }
    cluster.talk(&[2, 3]);
    let stored = cluster.nodes[&2].stored.as_ref().unwrap().cut;
    assert!(decided <= stored && stored < t0, "decided at {decided}, stored at {stored}, proposed at {t0}");
    // A journal is trimmed in front of a command of a later tick.
    cluster.submit(2, &SlotSet::of(vec![Slot(3)])).unwrap();
    cluster.talk(&[2, 3]);
    for r in [2, 3] {
        cluster.trim(r);
    }
    (cluster, id)
}

/// At what timestamp a command was proposed.
fn proposed(cluster: &Cluster, id: CommandId) -> Timestamp {
    let said = cluster.nodes[&id.replica.0].journals[&Epoch(1)].said();
    said.last().filter(|record| record.header.kind == RecordKind::Propose).unwrap().header.timestamp
}

/// 2 and 3 end the epoch, and 1 hears of that, and nobody hears it.
fn end_epoch(cluster: &mut Cluster) {
    cluster.reconfigure(2, &of(&[1, 2, 3])).unwrap();
    for _ in 0..3 {
        cluster.advance(10 * MS);
        cluster.talk(&[2, 3]);
    }
    assert_eq!(cluster.nodes[&2].membership.as_ref().unwrap().epoch, Epoch(2), "the epoch is over there");
    for from in [2, 3, 2, 3] {
        cluster.read(from, 1, Epoch(1)).unwrap();
    }
    assert_eq!(cluster.nodes[&1].membership.as_ref().unwrap().epoch, Epoch(2), "and here");
}

fn install(cluster: &mut Cluster) {
    assert!(cluster.read(2, 1, Epoch(1)).is_err(), "2 has forgotten what 1 wants to read");
    assert!(cluster.install(2, 1));
}

#[test]
fn what_an_installed_state_holds_is_not_void() {
    let (mut cluster, id) = decided_below();
    install(&mut cluster);
    end_epoch(&mut cluster);
    assert!(cluster.covered.contains(&id) && cluster.nodes[&1].voids.is_empty());
}

/// The same in the next life, which begins with that state: the journal tells of the proposal alone.
#[test]
fn what_a_restored_state_holds_is_not_void() {
    let (mut cluster, id) = decided_below();
    install(&mut cluster);
    cluster.flush(1);
    cluster.crash(1, true);
    cluster.start(1);
    end_epoch(&mut cluster);
    assert!(cluster.covered.contains(&id) && cluster.nodes[&1].voids.is_empty());
}

/// What is proposed behind that is void like any other, or else its client would wait for ever.
#[test]
fn what_was_proposed_on_a_state_from_elsewhere_may_be_void() {
    let (mut cluster, id) = decided_below();
    install(&mut cluster);
    let later = cluster.submit(1, &SlotSet::of(vec![Slot(1)])).unwrap();
    end_epoch(&mut cluster);
    assert!(cluster.covered.contains(&id));
    assert_eq!(cluster.nodes[&1].voids, [later]);
}

/// The state at the beginning of an epoch holds nothing of the epoch, whenever it comes: what was proposed before that is
/// void where the epoch ends without it.
#[test]
fn the_state_at_the_beginning_of_an_epoch_holds_nothing_of_it() {
    let mut cluster = Cluster::new(3, 1, 3, |_| {});
    cluster.settle();
    suspect(&mut cluster);
    cluster.reconfigure(2, &of(&[1, 2, 3])).unwrap();
    cluster.talk(&[2, 3]);
    cluster.talk(&[2, 3]);
    cluster.notify(2, 1);
    cluster.flush(1);
    let id = cluster.submit(1, &SlotSet::of(vec![Slot(1)])).unwrap();
    assert!(cluster.replica(1).core(Epoch(2)).is_some(), "1 has entered, and waits for the state");
    for from in [2, 3, 2, 3] {
        cluster.read(from, 1, Epoch(1)).unwrap();
    }
    assert_eq!(cluster.nodes[&1].membership.as_ref().unwrap().epoch, Epoch(2), "1 has it");
    for r in [2, 3] {
        cluster.store(r);
    }
    cluster.talk(&[2, 3]);
    cluster.reconfigure(2, &of(&[1, 2, 3])).unwrap();
    cluster.talk(&[2, 3]);
    cluster.talk(&[2, 3]);
    for from in [2, 3, 2, 3] {
        cluster.read(from, 1, Epoch(2)).unwrap();
    }
    assert_eq!(cluster.nodes[&1].membership.as_ref().unwrap().epoch, Epoch(3));
    assert_eq!(cluster.nodes[&1].voids, [id]);
    assert!(cluster.covered.is_empty());
}
