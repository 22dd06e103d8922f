//! The lease of a holder that goes into the next epoch, as readers beside the loop see it: by its own Reconfig, and by a
//! snapshot.
#![allow(clippy::unwrap_used)]

mod epochs;

use dace::{LeaseTiming, Output, ReplicaOutput, Zone};
use epochs::{Cluster, of};
use types::{CommandId, Epoch, Slot, SlotSet};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

fn zone() -> Zone {
    Zone(b"b/".to_vec().into())
}

/// What the loop of the holder has published, up to some output of it.
#[derive(Default)]
struct Published {
    until: u64,
    /// How often the deadline was taken back.
    ended: u64,
    pending: Vec<(Epoch, CommandId)>,
}

impl Published {
    fn publish(&mut self, output: &ReplicaOutput) {
        let ReplicaOutput::Core { epoch, output } = output else { return };
        match output {
            Output::Pends { id, .. } => self.pending.push((*epoch, *id)),
            Output::Settles { id, .. } => self.pending.retain(|pending| *pending != (*epoch, *id)),
            Output::Lease { until, .. } => {
                self.until = *until;
                self.ended += u64::from(*until == 0);
            }
            _ => {}
        }
    }
}

/// The third holds the zone, has attached the Reconfig, and does not execute it: the others have, and have written in the
/// next epoch, of which the holder has heard nothing. Gives what the holder has published, when its lease ends, the Reconfig, and
/// the write, which anybody can see at the first.
fn overtaken() -> (Cluster, Published, CommandId, CommandId) {
    let mut cluster = Cluster::new(3, 1, 3, |core| {
        core.set_lease_timing(LeaseTiming { term_ns: 1_000_000_000, rate_error_ppm: 1000 });
        core.publish_pending();
    });
    cluster.settle();
    cluster.trace = Some(Vec::new());
    let now = cluster.node(3).now;
    cluster.replica(3).want_lease(now, &zone(), [1; 32]).unwrap();
    cluster.drain(3);
    cluster.exchange();
    let until = cluster.replica(3).core(Epoch(1)).unwrap().lease_until(&zone()).unwrap();
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
    let write = cluster.submit(1, &slot(3)).unwrap();
    cluster.talk(&[1, 2]);
    assert!(cluster.acked.contains(&write), "anybody can see the write at r1");
    let mut published = Published::default();
    for (_, output) in cluster.trace.replace(Vec::new()).unwrap().iter().filter(|(r, _)| *r == 3) {
        published.publish(output);
    }
    // Only the Reconfig that pends keeps readers from the state.
    assert_eq!((published.until, published.pending.as_slice()), (until, &[(Epoch(1), change)][..]));
    (cluster, published, change, write)
}

/// The holder reads what decides the Reconfig, and executes it, between two looks of a reader: it has nothing pending then, its clock
/// shows less than the deadline that the reader found, and the state has not the write that anybody could see before the
/// read began. Only a second look at the deadline tells: it was taken back before the Reconfig settled.
#[test]
fn an_epoch_may_end_between_two_looks_of_a_reader() {
    let (mut cluster, mut published, change, write) = overtaken();
    // The first look, at the deadline.
    let (until, ended) = (published.until, published.ended);
    let _ = cluster.read(1, 3, Epoch(1));
    let outputs = cluster.trace.take().unwrap();
    let settles = |(r, output): &(u32, ReplicaOutput)| {
        let is_it = |output: &Output| matches!(output, Output::Settles { id, .. } if *id == change);
        *r == 3 && matches!(output, ReplicaOutput::Core { epoch: Epoch(1), output } if is_it(output))
    };
    let settled = outputs.iter().position(settles).expect("the holder has executed it");
    for (_, output) in outputs.iter().take(settled + 1).filter(|(r, _)| *r == 3) {
        published.publish(output);
    }
    // The second, at the pending writes, and the third, at the clock: whoever goes on to the state now is stale.
    assert!(published.pending.is_empty());
    assert!(cluster.node(3).now.mono_ns < until);
    assert!(!cluster.nodes[&3].executed.iter().any(|executed| executed.id == write));
    // Who looks at the deadline again is told.
    assert!(published.until == 0 && published.ended > ended);
}

/// The holder has attached the Reconfig, and does not execute it: the others do, and write in the next epoch. What it put
/// out for readers beside the loop is taken back before the Reconfig pends no more: else they would take the state that
/// is installed for all that can be seen.
#[test]
fn a_lease_ends_before_a_snapshot_settles_the_reconfig() {
    let (mut cluster, published, change, _) = overtaken();
    cluster.store(1);
    cluster.store(2);
    cluster.talk(&[1, 2]);
    cluster.notify(1, 3);
    assert!(cluster.install(1, 3));
    assert!(cluster.node(3).now.mono_ns < published.until, "it would hold the lease");
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
