//! Starts that are vouched for in every epoch that is still served.
#![allow(clippy::unwrap_used)]

mod epochs;

use dace::{LeaseTiming, Vouched, Zone};
use epochs::{Cluster, of};
use types::journal::RecordKind;
use types::{Epoch, ReplicaId, Slot, SlotSet};

fn cluster(n: u32, all: u32) -> Cluster {
    let mut cluster = Cluster::new(n, 1, all, |core| core.set_lease_timing(LeaseTiming::default()));
    for r in 1..=n {
        cluster.exchange();
        cluster.submit(r, &SlotSet::of(vec![Slot(1)])).unwrap();
    }
    cluster.exchange();
    cluster
}

fn write(cluster: &mut Cluster, r: u32) {
    cluster.submit(r, &SlotSet::of(vec![Slot(2)])).unwrap();
    cluster.exchange();
}

/// Asks one for another. True when it vouches for all that was claimed.
fn ask(cluster: &mut Cluster, r: u32, peer: u32) -> Result<bool, String> {
    let claims = cluster.replica(r).claims();
    let vouch = cluster.replica(peer).handle_claims(ReplicaId(r), &claims).map_err(|refused| refused.to_string())?;
    cluster.replica(r).handle_vouch(ReplicaId(peer), &vouch);
    Ok(claims.epochs.iter().all(|claim| vouch.epochs.contains(&claim.epoch)))
}

#[test]
fn an_honest_start_is_vouched_for_by_the_members_of_each_epoch() {
    let mut cluster = cluster(3, 4);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    // Nobody has stored the state, so both epochs are served.
    assert_eq!(cluster.replica(1).epochs().count(), 2);
    cluster.crash(2, true);
    cluster.restore(2);
    assert_eq!(cluster.replica(2).claims().epochs.len(), 2);
    assert_eq!(cluster.replica(2).vouched(), Vouched::Lacking);
    assert_eq!(ask(&mut cluster, 2, 3), Ok(false), "it is no member of the second");
    assert_eq!(cluster.replica(2).vouched(), Vouched::Lacking, "nobody of the second epoch was asked");
    assert_eq!(ask(&mut cluster, 2, 1), Ok(true));
    assert_eq!(cluster.replica(2).vouched(), Vouched::Barely, "of the second epoch one is missing");
    let now = cluster.node(2).now;
    assert_eq!(ask(&mut cluster, 2, 4), Ok(false), "it was no member of the first");
    assert_eq!(cluster.replica(2).vouched(), Vouched::Fully);
    cluster.replica(2).handle_start(now).unwrap();
    cluster.drain(2);
    for _ in 0..3 {
        cluster.settle();
    }
    write(&mut cluster, 2);
    assert_eq!(cluster.newest().epoch, Epoch(2));
}

#[test]
fn too_few_vouchers_in_one_epoch_are_too_few() {
    let mut cluster = cluster(3, 4);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    cluster.crash(2, true);
    cluster.restore(2);
    ask(&mut cluster, 2, 3).unwrap();
    let now = cluster.node(2).now;
    assert!(cluster.replica(2).handle_start(now).is_err(), "its votes in the second epoch may be lost");
}

/// The older copy of the disk knows nothing of the second epoch, and what is left of the first is whole.
#[test]
fn a_disk_rolled_back_behind_the_beginning_of_an_epoch_is_refused() {
    let mut cluster = cluster(3, 4);
    cluster.store(2);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    let last = cluster.nodes[&2].journals[&Epoch(1)].clone();
    write(&mut cluster, 2);
    cluster.crash(2, true);
    let node = cluster.node(2);
    node.journals = [(Epoch(1), last)].into();
    node.membership = node.stored.as_ref().map(|stored| stored.membership.clone());
    cluster.restore(2);
    assert_eq!(cluster.replica(2).claims().epochs.len(), 1);
    let refused = ask(&mut cluster, 2, 4).expect_err("it has counted votes that are gone");
    assert!(refused.contains("rolled back"), "{refused}");
    assert!(ask(&mut cluster, 2, 1).is_err());
}

#[test]
fn a_rolled_back_journal_of_any_epoch_is_refused() {
    for epoch in [Epoch(1), Epoch(2)] {
        let mut cluster = cluster(3, 4);
        cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
        cluster.exchange();
        write(&mut cluster, 2);
        let journal = cluster.node(2).journals.get_mut(&epoch).unwrap();
        journal.durable -= 2;
        cluster.crash(2, true);
        cluster.restore(2);
        assert!(ask(&mut cluster, 2, 1).is_err(), "epoch {epoch}");
    }
}

/// An epoch is named by its Reconfig, and not by its number alone: what is claimed of another one is neither vouched for nor refused.
#[test]
fn a_claim_of_another_epoch_of_the_same_number_is_passed_over() {
    let mut cluster = cluster(3, 4);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    cluster.crash(2, true);
    cluster.restore(2);
    let mut claims = cluster.replica(2).claims();
    let vouch = cluster.replica(1).handle_claims(ReplicaId(2), &claims).unwrap();
    assert_eq!(vouch.epochs, [Epoch(1), Epoch(2)]);
    claims.epochs[1].entry.as_mut().unwrap().reconfig.counter += 1;
    let vouch = cluster.replica(1).handle_claims(ReplicaId(2), &claims).unwrap();
    assert_eq!(vouch.epochs, [Epoch(1)]);
}

#[test]
fn the_journal_of_every_epoch_needs_its_own_vouchers() {
    let mut cluster = cluster(3, 4);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    cluster.crash(2, true);
    cluster.restore(2);
    ask(&mut cluster, 2, 1).unwrap();
    ask(&mut cluster, 2, 4).unwrap();
    assert_eq!(cluster.replica(2).vouched(), Vouched::Barely, "of the first epoch 3 is missing");
}

/// Who has not entered an epoch vouches for what is older, and for nothing else.
#[test]
fn an_answer_counts_for_the_epochs_that_it_names() {
    let mut cluster = cluster(3, 3);
    cluster.crash(3, true);
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    for _ in 0..3 {
        cluster.advance(600_000_000);
        cluster.exchange();
    }
    assert_eq!(cluster.replica(2).epochs().count(), 2);
    cluster.start(3);
    cluster.crash(2, true);
    cluster.restore(2);
    assert_eq!(ask(&mut cluster, 2, 1), Ok(true));
    assert_eq!(ask(&mut cluster, 2, 3), Ok(false), "it has not heard of the second");
    assert_eq!(cluster.replica(2).vouched(), Vouched::Barely);
}

/// Of an epoch that it is no member of a replica has no journal, and none is missed.
#[test]
fn nothing_is_missed_of_an_epoch_that_a_replica_is_no_member_of() {
    let mut cluster = cluster(3, 4);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    cluster.crash(3, true);
    cluster.restore(3);
    assert_eq!(cluster.replica(3).claims().epochs.len(), 1);
    assert_eq!(ask(&mut cluster, 3, 1), Ok(true));
    assert_eq!(ask(&mut cluster, 3, 2), Ok(true));
    assert_eq!(cluster.replica(3).vouched(), Vouched::Fully);
}

/// Who knows that an epoch is over has deleted its journal of it. A peer that has not heard of that has counted the journal, and
/// must not take that for a rolled-back disk.
#[test]
fn a_journal_deleted_because_its_epoch_is_over_is_not_missed() {
    let mut cluster = cluster(3, 3);
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    cluster.exchange();
    for r in [1, 2] {
        cluster.store(r);
    }
    cluster.talk(&[1, 2]);
    assert_eq!(cluster.nodes[&1].journals.keys().copied().collect::<Vec<_>>(), [Epoch(2)]);
    assert_eq!(cluster.nodes[&3].journals.len(), 2, "3 has not heard of it");
    cluster.crash(1, true);
    cluster.restore(1);
    assert_eq!(cluster.replica(1).claims().over, Epoch(1));
    assert_eq!(ask(&mut cluster, 1, 3), Ok(true));
}

/// It slept while the epoch ended, and those who could vouch for its journal have deleted theirs: it says nothing more in
/// that epoch, and goes on in the next one.
#[test]
fn what_is_over_is_neither_vouched_for_nor_gone_on_with() {
    let mut cluster = cluster(3, 4);
    cluster.crash(3, true);
    cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    for _ in 0..6 {
        cluster.settle();
    }
    assert!(cluster.replica(1).core(Epoch(1)).is_none(), "two of the new members and a newcomer hold the state");
    cluster.restore(3);
    let said = cluster.node(3).journals[&Epoch(1)].items.len();
    assert_eq!(ask(&mut cluster, 3, 1), Ok(false));
    assert_eq!(cluster.replica(3).vouched(), Vouched::Fully, "nothing is left that needs it");
    cluster.begin(3);
    cluster.exchange();
    if let Some(journal) = cluster.nodes[&3].journals.get(&Epoch(1)) {
        assert_eq!(journal.items.len(), said, "it is silent in the epoch that is over");
    }
    for _ in 0..6 {
        cluster.settle();
    }
    assert!(cluster.replica(3).core(Epoch(1)).is_none());
    write(&mut cluster, 3);
    let node = &cluster.nodes[&3];
    assert_eq!(node.membership.as_ref().map(|of| of.epoch), Some(Epoch(2)));
    assert_eq!(node.executed.len(), cluster.nodes[&1].executed.len());
}

/// What is wanted in one epoch is wanted in the next, and asked for as soon as anything can be said there.
#[test]
fn leases_of_a_new_epoch_are_asked_for_at_once() {
    let mut cluster = cluster(3, 4);
    let now = cluster.node(2).now;
    cluster.replica(2).want_lease(now, &Zone(b"b/".to_vec().into()), [1; 32]).unwrap();
    cluster.drain(2);
    cluster.exchange();
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    cluster.exchange();
    let said = cluster.nodes[&2].journals[&Epoch(2)].said();
    let asked = said.filter(|record| record.header.kind == RecordKind::LeaseRequest).count();
    assert_eq!(asked, 1, "once, and not a third of a term later");
}
