//! Journals that are trimmed while the members change: a base says that its writer has the state at the beginning of
//! the epoch, so there is none before it has.
#![allow(clippy::unwrap_used)]

mod epochs;

use dace::{Base, LeaseTiming, Stored, Zone};
use epochs::{Cluster, Item, of};
use types::{Epoch, Slot, SlotSet};

const SECOND: u64 = 1_000_000_000;

/// Three members become others, of whom one has the state at the beginning, and not durably. One that has none has voted.
fn changing() -> Cluster {
    let mut cluster = Cluster::new(3, 1, 5, |core| {
        core.set_lease_timing(LeaseTiming { term_ns: SECOND, rate_error_ppm: 1000 });
    });
    cluster.settle();
    cluster.reconfigure(1, &of(&[3, 4, 5])).unwrap();
    for _ in 0..4 {
        cluster.exchange();
    }
    cluster
}

/// Trims the journal of the second epoch as far as the core says, like a driver that asks after each of its checkpoints.
fn trim(cluster: &mut Cluster, r: u32) -> Option<Base> {
    let cut = cluster.replica(r).trimmable(Epoch(2)).unwrap();
    let base = cluster.replica(r).base(Epoch(2), cut)?;
    let journal = cluster.node(r).journals.get_mut(&Epoch(2)).unwrap();
    journal.items.retain(|item| match item {
        Item::Said(record) => record.header.position > base.position,
        Item::Kept(_) => true,
    });
    journal.base = Some(base.bytes.clone());
    Some(base)
}

/// Nobody may be told that the old epoch is over, and delete what leads to the state.
fn nobody_stops(cluster: &mut Cluster) {
    for r in [4, 5] {
        trim(cluster, r);
        cluster.crash(r, true);
        cluster.start(r);
    }
    cluster.exchange();
    for r in 1..=5 {
        assert!(!cluster.nodes[&r].removed && cluster.nodes[&r].over == Epoch(0), "r{r}: nobody has the state durably");
    }
}

#[test]
fn a_journal_is_not_trimmed_before_the_state_is_there() {
    let mut cluster = changing();
    cluster.submit(3, &SlotSet::of(vec![Slot(3)])).unwrap();
    cluster.exchange();
    assert!(cluster.nodes[&4].executed.is_empty(), "it has voted, and has no state");
    nobody_stops(&mut cluster);
}

/// Records about leases ask for marks of their own.
#[test]
fn nor_where_only_leases_are_asked_for() {
    let mut cluster = changing();
    let now = cluster.node(3).now;
    cluster.replica(3).want_lease(now, &Zone(b"b/".to_vec().into()), [1; 32]).unwrap();
    cluster.drain(3);
    for _ in 0..40 {
        cluster.talk(&[3, 4, 5]);
        cluster.advance(SECOND / 3);
    }
    nobody_stops(&mut cluster);
}

/// Its peers count its `Have` by the base, too.
#[test]
fn a_base_is_no_word_of_a_state_that_is_not_durable() {
    let mut cluster = changing();
    cluster.submit(3, &SlotSet::of(vec![Slot(3)])).unwrap();
    cluster.exchange();
    cluster.crash(5, true);
    cluster.start(5);
    trim(&mut cluster, 3);
    trim(&mut cluster, 4);
    cluster.exchange();
    assert_eq!(cluster.nodes[&5].over, Epoch(0), "nobody has the state durably");
    cluster.notify(5, 1);
    assert!(!cluster.nodes[&1].removed);
    assert_eq!(cluster.replica(1).notice().over, Epoch(0));
}

/// A checkpoint that ends when the Reconfig is executed already is of the cut at which it began, and of no later one: what
/// lies between is durable in journals only.
#[test]
fn a_late_checkpoint_is_not_one_of_the_end_of_the_epoch() {
    let mut cluster = Cluster::new(3, 1, 3, |_| {});
    cluster.settle();
    for _ in 0..2 {
        cluster.submit(1, &SlotSet::of(vec![Slot(3)])).unwrap();
        cluster.exchange();
        cluster.advance(20_000_000);
        cluster.exchange();
    }
    let (cut, membership) = (cluster.nodes[&1].cuts[0], cluster.nodes[&1].membership.clone().unwrap());
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    for _ in 0..2 {
        cluster.exchange();
    }
    assert_eq!(cluster.newest().epoch, Epoch(2));
    let now = cluster.node(1).now;
    cluster.node(1).stored = Some(Stored { cut, membership });
    cluster.replica(1).handle_stored(now, cut);
    cluster.drain(1);
    assert_eq!(cluster.replica(1).beat(now, Epoch(1)).unwrap().stored, cut);
}

/// Who trims further than its own state goes cannot start again.
#[test]
fn nobody_trims_what_only_others_have_stored() {
    let mut cluster = Cluster::new(3, 1, 3, |_| {});
    cluster.settle();
    let before = cluster.nodes[&3].stored.as_ref().unwrap().cut;
    cluster.submit(1, &SlotSet::of(vec![Slot(3)])).unwrap();
    cluster.exchange();
    cluster.advance(20_000_000);
    cluster.exchange();
    cluster.store(1);
    cluster.store(2);
    cluster.exchange();
    assert!(*cluster.nodes[&3].cuts.last().unwrap() > before);
    assert!(cluster.replica(1).trimmable(Epoch(1)).unwrap() > before);
    assert_eq!(cluster.replica(3).trimmable(Epoch(1)), Some(before));
}
