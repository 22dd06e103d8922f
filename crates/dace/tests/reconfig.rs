//! Reconfigurations, one rule at a time: what each step of the change of an epoch does, and what a crash leaves of it.
#![allow(clippy::unwrap_used)]

mod epochs;

use dace::{LeaseTiming, Zone};
use epochs::{Cluster, of};
use types::{Epoch, Slot, SlotSet};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

fn cluster(n: u32, f: u32, all: u32) -> Cluster {
    let mut cluster = Cluster::new(n, f, all, |core| {
        core.set_lease_timing(LeaseTiming { term_ns: 1_000_000_000, rate_error_ppm: 1000 });
        core.publish_pending();
    });
    cluster.settle();
    cluster
}

/// Every member of the newest epoch writes, and all have the same state.
fn all_write(cluster: &mut Cluster, epoch: u32, members: &[u32]) {
    for _ in 0..6 {
        cluster.settle();
    }
    assert_eq!(cluster.newest().epoch, Epoch(epoch));
    for r in members {
        cluster.submit(*r, &slot(3)).unwrap();
        cluster.submit(*r, &SlotSet::All).unwrap();
    }
    for _ in 0..3 {
        cluster.settle();
    }
    let first = &cluster.nodes[&members[0]];
    for r in members {
        let node = &cluster.nodes[r];
        assert_eq!(node.executed.len(), first.executed.len(), "r{r}");
        assert_eq!(node.cuts, first.cuts, "r{r}");
        assert_eq!(node.journals.keys().copied().collect::<Vec<_>>(), [Epoch(epoch)], "r{r}: the old ones are over");
        assert!(node.own.iter().all(|id| cluster.acked.contains(id) || cluster.voided.contains(id)), "r{r}");
        assert!(node.pending.is_empty(), "r{r}: {:?}", node.pending);
    }
}

fn reconfigured(from: &[u32], to: &[u32]) -> Cluster {
    let n = u32::try_from(from.len()).unwrap();
    let all = to.iter().chain(from).copied().max().unwrap();
    let mut cluster = cluster(n, epochs::failures(from.len()), all);
    cluster.submit(1, &slot(3)).unwrap();
    cluster.settle();
    cluster.reconfigure(1, &of(to)).unwrap();
    all_write(&mut cluster, 2, to);
    for r in from.iter().filter(|r| !to.contains(r)) {
        assert!(cluster.nodes[r].removed, "r{r} may stop");
    }
    cluster
}

#[test]
fn members_are_added_removed_and_replaced() {
    for (from, to) in [
        (&[1, 2, 3][..], &[1, 2, 3, 4][..]),
        (&[1, 2, 3], &[1, 2, 4]),
        (&[1, 2, 3, 4], &[1, 2, 3]),
        (&[1, 2, 3], &[2, 3]),
        (&[1, 2, 3], &[1, 2, 3]),
        (&[1, 2, 3], &[4, 5, 6]),
        (&[1], &[1, 2]),
        (&[1, 2], &[1]),
        (&[1], &[2]),
        (&[1, 2], &[1, 2, 3]),
    ] {
        eprintln!("{from:?} {to:?}");
        reconfigured(from, to);
    }
}
#[test]
fn debug() {
    let mut cluster = cluster(3, 1, 4);
    for r in 1..=4 {
        let rep = cluster.replica(r);
        eprintln!("{r} {:?} {:?}", rep.newest(), rep.epochs().count());
    }
    eprintln!("{:?}", cluster.reconfigure(1, &of(&[1, 2, 3, 4])));
    for _ in 0..6 {
        cluster.settle();
        for r in cluster.up() {
            let node = &cluster.nodes[&r];
            eprintln!(
                "{r} ex {} cuts {} stored {:?} j {:?} wants {:?} rem {}",
                node.executed.len(),
                node.cuts.len(),
                node.stored.as_ref().map(|s| (s.cut, s.membership.epoch)),
                node.journals.iter().map(|(e, j)| (e.0, j.last(), j.durable)).collect::<Vec<_>>(),
                node.wants,
                node.removed
            );
        }
    }
}
