//! The lease of a holder that a snapshot takes into the next epoch, as readers beside the loop see it.
#![allow(clippy::unwrap_used)]

mod epochs;

use dace::{LeaseTiming, Output, ReplicaOutput, Zone};
use epochs::{Cluster, of};
use types::{Epoch, Slot, SlotSet};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

/// The holder has attached the Reconfig, and does not execute it: the others do, and write in the next epoch. What it put
/// out for readers beside the loop is taken back before the Reconfig pends no more: else they would take the state that
/// is installed for all that can be seen.
#[test]
fn a_lease_ends_before_a_snapshot_settles_the_reconfig() {
    let mut cluster = Cluster::new(3, 1, 3, |core| {
        core.set_lease_timing(LeaseTiming { term_ns: 1_000_000_000, rate_error_ppm: 1000 });
        core.publish_pending();
    });
    cluster.settle();
    let zone = Zone(b"b/".to_vec().into());
    let now = cluster.node(3).now;
    cluster.replica(3).want_lease(now, &zone, [1; 32]).unwrap();
    cluster.drain(3);
    cluster.exchange();
    cluster.trace = Some(Vec::new());
    let until = cluster.replica(3).core(Epoch(1)).unwrap().lease_until(&zone).unwrap();
    let change = cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    for (from, to) in [(1, 3), (3, 1), (3, 2)] {
        cluster.flush(from);
        cluster.deliver(from, to);
    }
    cluster.flush(3);
    cluster.deliver(3, 1);
    cluster.deliver(3, 2);
    cluster.talk(&[1, 2]);
    assert_eq!(cluster.newest().epoch, Epoch(2), "the others have executed it");
    cluster.submit(1, &slot(3)).unwrap();
    cluster.store(1);
    cluster.store(2);
    cluster.talk(&[1, 2]);
    assert!(cluster.nodes[&3].pending.contains(&(Epoch(1), change)), "the holder has not");
    cluster.notify(1, 3);
    assert!(cluster.install(1, 3));
    assert!(cluster.node(3).now.mono_ns < until, "it would hold the lease");
    let trace = cluster.trace.take().unwrap();
    let at = |wanted: &dyn Fn(&Output) -> bool| {
        let is = |(r, output): &(u32, ReplicaOutput)| match output {
            ReplicaOutput::Core { epoch: Epoch(1), output } => *r == 3 && wanted(output),
            _ => false,
        };
        trace.iter().rposition(is)
    };
    let ends = at(&|output| matches!(output, Output::Lease { until: 0, .. })).expect("the deadline is taken back");
    let settles = at(&|output| matches!(output, Output::Settles { id, .. } if *id == change)).unwrap();
    assert!(ends < settles);
    assert!(!trace[ends..].iter().any(|(r, output)| {
        *r == 3 && matches!(output, ReplicaOutput::Core { output: Output::Lease { until, .. }, .. } if *until > 0)
    }));
}
