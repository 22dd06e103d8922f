//! Reconfigurations, one rule at a time: what each step of the change of an epoch does, and what a crash leaves of it.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test may be told by the environment what to do; the core may not")]

mod epochs;

use dace::{LeaseTiming, Zone};
use epochs::{Cluster, of};
use types::{Epoch, Incarnation, ReplicaId, Slot, SlotSet};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

fn cluster(n: u32, f: u32, all: u32) -> Cluster {
    let mut cluster = Cluster::new(n, f, all, |core| {
        core.set_lease_timing(LeaseTiming { term_ns: 1_000_000_000, rate_error_ppm: 1000 });
        core.publish_pending();
        #[cfg(feature = "mutants")]
        if let Ok(name) = std::env::var("MUTANT") {
            core.set_mutant(name.parse().unwrap());
        }
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
        reconfigured(from, to);
    }
}

#[test]
fn of_two_reconfigs_at_once_one_is_void_and_its_proposer_is_told() {
    let mut cluster = cluster(3, 1, 5);
    let one = cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    let other = cluster.reconfigure(3, &of(&[1, 2, 5])).unwrap();
    for _ in 0..3 {
        cluster.settle();
    }
    assert_eq!(cluster.newest().epoch, Epoch(2));
    let (won, lost) = if cluster.decided.contains_key(&one) { (one, other) } else { (other, one) };
    assert!(!cluster.decided.contains_key(&lost) && cluster.acked.contains(&won));
    assert_eq!(cluster.newest().entry.unwrap().reconfig, won, "an epoch is named by its Reconfig");
    assert!(cluster.nodes[&lost.replica.0].voids.contains(&lost));
    let members: Vec<u32> = cluster.newest().members.iter().map(|member| member.0).collect();
    all_write(&mut cluster, 2, &members);
}

/// The second is decided, and known to be, before the first, which is ordered before it: it is void all the same.
#[test]
fn a_reconfig_that_is_decided_may_be_void() {
    let mut cluster = cluster(3, 1, 5);
    for r in [1, 3] {
        cluster.replica(r).prefer(&[ReplicaId(2)]);
    }
    let first = cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    cluster.flush(1);
    cluster.deliver(1, 2);
    cluster.advance(3_000_000);
    let second = cluster.reconfigure(3, &of(&[1, 2, 3, 5])).unwrap();
    for (from, to) in [(3, 2), (2, 3), (3, 2)] {
        cluster.flush(from);
        cluster.deliver(from, to);
    }
    assert_eq!(cluster.replica(3).core(Epoch(1)).unwrap().status().committed, 1, "decided");
    assert_eq!(cluster.replica(3).epochs().count(), 1, "and not executed: nobody enters");
    for _ in 0..3 {
        cluster.settle();
    }
    assert!(cluster.decided.contains_key(&first) && cluster.nodes[&3].voids == [second]);
    all_write(&mut cluster, 2, &[1, 2, 3, 4]);
}

#[test]
fn a_void_command_is_tried_again_in_the_next_epoch() {
    let mut cluster = cluster(3, 1, 4);
    cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    cluster.flush(1);
    cluster.advance(5_000_000);
    let late = cluster.submit(3, &slot(3)).unwrap();
    cluster.settle();
    assert_eq!(cluster.nodes[&3].voids, [late], "it is ordered behind the Reconfig");
    let again = cluster.submit(3, &slot(3)).unwrap();
    assert_ne!(late, again, "under a new id");
    all_write(&mut cluster, 2, &[1, 2, 3, 4]);
    assert!(cluster.acked.contains(&again) && !cluster.decided.contains_key(&late));
}

#[test]
fn nothing_is_proposed_behind_an_attached_reconfig() {
    let mut cluster = cluster(3, 1, 4);
    cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    assert_eq!(cluster.submit(1, &slot(3)), Err(dace::SubmitError::Sealed));
    cluster.flush(1);
    cluster.deliver(1, 2);
    assert_eq!(cluster.submit(2, &slot(3)), Err(dace::SubmitError::Sealed));
    assert!(cluster.submit(3, &slot(3)).is_ok(), "it has not heard of it");
    all_write(&mut cluster, 2, &[1, 2, 3, 4]);
}

/// One has attached a command below the Reconfig, and its coordinator is gone: it must be decided before the Reconfig can be
/// executed, by votes of replicas that have attached that.
#[test]
fn who_has_attached_a_reconfig_goes_on_voting() {
    let mut cluster = cluster(3, 1, 4);
    let before = cluster.submit(3, &slot(3)).unwrap();
    cluster.flush(3);
    cluster.deliver(3, 1);
    cluster.flush(1);
    cluster.crash(3, true);
    cluster.advance(5_000_000);
    cluster.reconfigure(2, &of(&[1, 2, 4])).unwrap();
    for _ in 0..40 {
        cluster.advance(100_000_000);
        cluster.exchange();
    }
    assert_eq!(cluster.newest().epoch, Epoch(2), "the Reconfig is executed");
    cluster.start(3);
    for _ in 0..10 {
        cluster.settle();
    }
    all_write(&mut cluster, 2, &[1, 2, 4]);
    assert!(!cluster.acked.contains(&before));
}

#[test]
fn a_reconfig_outlives_its_proposer() {
    let mut cluster = cluster(3, 1, 4);
    cluster.reconfigure(1, &of(&[2, 3, 4])).unwrap();
    cluster.flush(1);
    cluster.deliver(1, 2);
    cluster.crash(1, true);
    for _ in 0..40 {
        cluster.advance(100_000_000);
        cluster.exchange();
    }
    all_write(&mut cluster, 2, &[2, 3, 4]);
    cluster.start(1);
    for _ in 0..3 {
        cluster.settle();
    }
    assert!(cluster.nodes[&1].removed, "it hears that it was removed, though nobody serves the old epoch any more");
}

#[test]
fn an_old_member_serves_until_enough_new_ones_have_the_state_durably() {
    let mut cluster = cluster(3, 1, 5);
    cluster.reconfigure(1, &of(&[3, 4, 5])).unwrap();
    for _ in 0..4 {
        cluster.exchange();
    }
    assert_eq!(cluster.nodes[&1].membership.as_ref().unwrap().epoch, Epoch(2), "the Reconfig is executed");
    assert_eq!(cluster.replica(4).epochs().count(), 1, "and the new members have entered");
    let serves = |cluster: &Cluster, r: u32| cluster.nodes[&r].journals.contains_key(&Epoch(1));
    assert!(serves(&cluster, 1) && serves(&cluster, 2) && serves(&cluster, 3));
    cluster.store(3);
    cluster.exchange();
    assert!(serves(&cluster, 1) && serves(&cluster, 2) && serves(&cluster, 3), "one is not enough");
    assert!(cluster.install(3, 4));
    cluster.exchange();
    assert!(cluster.nodes[&1].removed && cluster.nodes[&2].removed && !serves(&cluster, 3));
    cluster.stop_removed();
    all_write(&mut cluster, 2, &[3, 4, 5]);
}

#[test]
fn a_new_member_votes_before_it_has_the_state() {
    let mut cluster = cluster(3, 1, 5);
    cluster.reconfigure(1, &of(&[3, 4, 5])).unwrap();
    for _ in 0..4 {
        cluster.exchange();
    }
    let id = cluster.submit(3, &slot(3)).unwrap();
    cluster.talk(&[3, 4]);
    assert!(cluster.acked.contains(&id), "decided by one that has the state and one that has not");
    assert!(cluster.nodes[&4].executed.is_empty(), "which executes nothing yet");
    all_write(&mut cluster, 2, &[3, 4, 5]);
}

/// A replica with a fast clock gives the Reconfig its timestamp; in the next epoch one with a slow clock begins.
#[test]
fn everything_of_an_epoch_lies_above_its_beginning() {
    let mut cluster = cluster(3, 1, 4);
    cluster.node(1).now.wall_ns += 400_000_000;
    cluster.crash(1, false);
    cluster.start(1);
    for _ in 0..2 {
        cluster.exchange();
    }
    cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    cluster.talk(&[1, 2, 3]);
    assert_eq!(cluster.newest().epoch, Epoch(2), "the Reconfig is executed");
    cluster.submit(3, &slot(3)).unwrap();
    let begins = cluster.newest().entry.unwrap().at;
    let last = cluster.nodes[&3].journals[&Epoch(2)].said().last().unwrap().header;
    assert!(last.timestamp > begins, "{} {begins}", last.timestamp);
    all_write(&mut cluster, 2, &[1, 2, 3, 4]);
}

#[test]
fn a_reconfig_needs_its_members_and_an_end_of_the_one_before() {
    let mut cluster = cluster(3, 1, 6);
    cluster.crash(5, true);
    cluster.crash(6, true);
    assert!(cluster.reconfigure(1, &of(&[1, 5, 6])).is_err(), "no epoch could form");
    assert!(cluster.reconfigure(1, &of(&[])).is_err());
    cluster.reconfigure(1, &of(&[1, 2, 5])).unwrap();
    cluster.exchange();
    assert!(cluster.reconfigure(1, &of(&[1, 2])).unwrap_err().contains("still needed"));
    cluster.start(5);
    all_write(&mut cluster, 2, &[1, 2, 5]);
    cluster.reconfigure(1, &of(&[1, 2])).unwrap();
    all_write(&mut cluster, 3, &[1, 2]);
}

#[test]
fn a_member_that_slept_through_epochs_comes_back() {
    let mut cluster = cluster(3, 1, 5);
    let own = cluster.submit(3, &slot(3)).unwrap();
    cluster.crash(3, true);
    for (epoch, members) in [(2, vec![1, 2, 3, 4]), (3, vec![1, 2, 3, 4, 5]), (4, vec![2, 3, 4, 5])] {
        cluster.reconfigure(2, &of(&members)).unwrap();
        for _ in 0..12 {
            cluster.settle();
            cluster.advance(200_000_000);
        }
        assert_eq!(cluster.newest().epoch, Epoch(epoch));
    }
    cluster.start(3);
    all_write(&mut cluster, 4, &[2, 3, 4, 5]);
    assert!(!cluster.decided.contains_key(&own), "it was never heard of");
}

#[test]
fn a_member_that_slept_is_removed_when_it_comes_back() {
    let mut cluster = cluster(3, 1, 4);
    cluster.crash(3, true);
    cluster.reconfigure(1, &of(&[1, 2, 4])).unwrap();
    for _ in 0..6 {
        cluster.settle();
    }
    cluster.start(3);
    for _ in 0..2 {
        cluster.settle();
    }
    assert!(cluster.nodes[&3].removed);
    all_write(&mut cluster, 2, &[1, 2, 4]);
}

/// One of those who had the state is lost for good, and the other restarts: it still knows that the old epoch is over, so the
/// third does not wait there for votes that nobody can give. (Found by `reconfigs.rs`.)
#[test]
fn that_an_epoch_is_over_outlives_a_restart() {
    let mut cluster = cluster(3, 1, 4);
    cluster.crash(3, true);
    cluster.replica(1).prefer(&[ReplicaId(2)]);
    cluster.reconfigure(1, &of(&[2, 3, 4])).unwrap();
    for _ in 0..6 {
        cluster.settle();
    }
    assert!(cluster.nodes[&1].removed && cluster.nodes[&2].over == Epoch(1));
    cluster.crash(4, true);
    cluster.crash(2, true);
    cluster.start(2);
    cluster.start(3);
    for _ in 0..6 {
        cluster.settle();
    }
    assert_eq!(cluster.nodes[&3].membership.as_ref().unwrap().epoch, Epoch(2), "by a snapshot");
    cluster.replica(2).prefer(&[ReplicaId(3)]);
    cluster.replica(3).prefer(&[ReplicaId(2)]);
    all_write(&mut cluster, 2, &[2, 3]);
}

/// The numbers of incarnations go on from the newest journal: an older one stays until that is durable.
#[test]
fn a_journal_is_kept_until_the_next_one_has_begun_durably() {
    let mut cluster = cluster(3, 1, 3);
    cluster.replica(1).prefer(&[ReplicaId(2)]);
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    cluster.talk(&[1, 2]);
    cluster.store(1);
    cluster.store(2);
    cluster.talk(&[1, 2]);
    cluster.notify(1, 3);
    assert!(cluster.install(1, 3));
    assert_eq!(cluster.nodes[&3].over, Epoch(1));
    let epochs = |cluster: &Cluster| cluster.nodes[&3].journals.keys().copied().collect::<Vec<_>>();
    assert_eq!(epochs(&cluster), [Epoch(1), Epoch(2)]);
    cluster.crash(3, true);
    assert_eq!(epochs(&cluster), [Epoch(1)], "the new one is lost");
    cluster.start(3);
    cluster.flush(3);
    assert_eq!(epochs(&cluster), [Epoch(2)]);
    let opened = cluster.nodes[&3].journals[&Epoch(2)].said().next().unwrap().header.id.incarnation;
    assert!(opened > Incarnation(1), "{opened:?}");
    all_write(&mut cluster, 2, &[1, 2, 3]);
}

#[test]
fn a_read_that_a_reconfig_overtakes_is_asked_again() {
    let mut cluster = cluster(3, 1, 4);
    cluster.reconfigure(1, &of(&[1, 2, 3, 4])).unwrap();
    cluster.talk(&[1, 2]);
    let now = cluster.node(3).now;
    let read = cluster.replica(3).handle_read(now, slot(3)).unwrap();
    cluster.drain(3);
    cluster.exchange();
    assert_eq!(cluster.nodes[&3].again, [read], "its replies name the Reconfig");
    let read = cluster.replica(3).handle_read(now, slot(3)).unwrap();
    assert_eq!(read.0, Epoch(2));
    cluster.drain(3);
    cluster.settle();
    assert_eq!(cluster.nodes[&3].reads.last().unwrap().0, read);
}

fn zone() -> Zone {
    Zone(b"b/".to_vec().into())
}

/// Three replicas, of which the last holds the zone by a grant of the second; the first does not know of that.
fn leased() -> Cluster {
    let mut cluster = cluster(3, 1, 4);
    let now = cluster.node(3).now;
    cluster.replica(3).want_lease(now, &zone(), [1; 32]).unwrap();
    cluster.drain(3);
    cluster.talk(&[2, 3]);
    assert!(leased_read(&mut cluster).is_some(), "it holds the zone");
    cluster
}

/// A leased read at the last replica.
fn leased_read(cluster: &mut Cluster) -> Option<(Epoch, u64)> {
    let now = cluster.node(3).now;
    let read = cluster.replica(3).handle_leased_read(now, &zone(), &slot(3)).ok();
    cluster.drain(3);
    read
}

/// How many writes a leased read showed; `None`: it is not answered.
fn shown(cluster: &Cluster, read: (Epoch, u64)) -> Option<usize> {
    let answered = cluster.nodes[&3].reads.iter().find(|(other, _)| *other == read);
    answered.map(|(_, len)| cluster.count(3, 3, *len))
}

#[test]
fn a_holder_attaches_a_reconfig_before_it_is_decided() {
    let mut cluster = leased();
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    cluster.talk(&[1, 2]);
    assert_eq!(cluster.newest().epoch, Epoch(1), "the grantor waits");
    let read = leased_read(&mut cluster).unwrap();
    assert_eq!(shown(&cluster, read), Some(cluster.count(1, 3, cluster.nodes[&1].executed.len())));
    for _ in 0..30 {
        cluster.advance(50_000_000);
        cluster.talk(&[1, 2]);
    }
    assert_eq!(cluster.newest().epoch, Epoch(2), "its grant has ended");
    assert_eq!(leased_read(&mut cluster), None, "and so has the lease");
}

#[test]
fn a_holder_that_attached_a_reconfig_serves_no_leased_read() {
    let mut cluster = leased();
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    cluster.flush(1);
    cluster.deliver(1, 3);
    cluster.flush(3);
    cluster.deliver(3, 2);
    cluster.talk(&[1, 2]);
    assert_eq!(cluster.newest().epoch, Epoch(2), "the holder has attached it");
    cluster.submit(1, &slot(3)).unwrap();
    cluster.talk(&[1, 2]);
    let visible = cluster.count(1, 3, cluster.nodes[&1].executed.len());
    let read = leased_read(&mut cluster);
    // It hears of the end of the old epoch, and of nothing in the new one.
    let _ = (cluster.read(1, 3, Epoch(1)), cluster.read(2, 3, Epoch(1)));
    let shown = read.and_then(|read| shown(&cluster, read));
    assert!(shown.is_none_or(|shown| shown >= visible), "{shown:?} of {visible}");
    assert_eq!(read, None);
}

#[test]
fn a_lease_does_not_outlive_its_epoch() {
    let mut cluster = leased();
    cluster.reconfigure(1, &of(&[1, 2, 3])).unwrap();
    cluster.talk(&[1, 2, 3]);
    assert_eq!(cluster.nodes[&3].membership.as_ref().unwrap().epoch, Epoch(2), "it has executed the Reconfig");
    cluster.submit(1, &slot(3)).unwrap();
    cluster.talk(&[1, 2]);
    let visible = cluster.count(1, 3, cluster.nodes[&1].executed.len());
    let now = cluster.node(3).now;
    let core = cluster.replica(3).core(Epoch(1)).unwrap();
    assert_eq!(core.lease_until(&zone()), None);
    let read = cluster.replica(3).handle_leased_read(now, &zone(), &slot(3)).ok();
    cluster.drain(3);
    let shown = read.and_then(|read| shown(&cluster, read));
    assert!(shown.is_none_or(|shown| shown >= visible), "{shown:?} of {visible}");
    all_write(&mut cluster, 2, &[1, 2, 3]);
}

/// Every replica crashes at every step of a change of members; every second time with a new journal that is lost.
#[test]
fn a_crash_at_every_step_is_survived() {
    for to in [&[1, 2, 4][..], &[1, 2], &[3, 4, 5]] {
        for victim in 1..=4 {
            for at in 0..20 {
                crash_at(to, victim, at, (at + victim) % 2 == 0);
            }
        }
    }
}

fn crash_at(to: &[u32], victim: u32, at: u32, loses: bool) {
    let mut cluster = cluster(3, 1, 5);
    cluster.submit(2, &slot(3)).unwrap();
    cluster.exchange();
    let write = cluster.submit(3, &slot(3)).unwrap();
    let mut step = 0;
    // What happens, in the order in which it does: each replica in turn flushes, is read, and stores.
    let mut act = |cluster: &mut Cluster, act: &dyn Fn(&mut Cluster)| {
        if step == at && cluster.is_up(victim) {
            cluster.crash(victim, loses);
        }
        if step == at + 3 && !cluster.is_up(victim) && !cluster.nodes[&victim].removed {
            cluster.start(victim);
        }
        step += 1;
        act(cluster);
    };
    act(&mut cluster, &|cluster| {
        if cluster.is_up(1) {
            let _ = cluster.reconfigure(1, &of(to));
        }
    });
    let proposed = cluster.nodes[&1].own.len() == 1;
    for round in 0..6 {
        for r in 1..=5 {
            act(&mut cluster, &|cluster| {
                if cluster.is_up(r) {
                    cluster.flush(r);
                    for other in cluster.up() {
                        if other != r {
                            cluster.deliver(r, other);
                        }
                    }
                    cluster.advance(5_000_000);
                    cluster.tick(r);
                }
            });
        }
        if round >= 3 {
            for r in cluster.up() {
                cluster.store(r);
            }
        }
    }
    if !cluster.is_up(victim) && !cluster.nodes[&victim].removed {
        cluster.start(victim);
    }
    for _ in 0..20 {
        cluster.advance(200_000_000);
        cluster.settle();
    }
    let newest = cluster.newest();
    let members: Vec<u32> = newest.members.iter().map(|member| member.0).collect();
    all_write(&mut cluster, newest.epoch.0, &members);
    assert!(!cluster.acked.contains(&write) || cluster.nodes[&members[0]].executed.iter().any(|e| e.id == write));
    if proposed && !(victim == 1 && at < 2) {
        assert_eq!(newest.epoch, Epoch(2), "to {to:?}, r{victim} crashes at {at}");
    }
}
