//! Narrow schedules of starts that are vouched for, and of commands that others have settled.
#![allow(clippy::unwrap_used)]

mod group;

use dace::{Claim, Message, Vouched};
use group::Group;
use proptest::prelude::*;
use types::{CommandId, ReplicaId, Slot, SlotSet, Timestamp};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

fn settle(group: &mut Group) {
    for _ in 0..3 {
        group.exchange();
        group.advance(20_000_000);
    }
    group.exchange();
}

/// `n` replicas that have said something.
fn busy(n: u32, f: u32) -> Group {
    let mut group = Group::new(n, f);
    group.start_all();
    for r in 1..=n {
        group.submit(r, &slot(5), b"a").0.unwrap();
        settle(&mut group);
    }
    group
}

/// A claim overtaken by the life that it was made for: the other one was enough after a wait, and this one was asked over a
/// connection that stood still. Nothing is wrong with the disk.
#[test]
fn a_claim_that_comes_late_refuses_nobody() {
    for reads in [false, true] {
        let mut group = busy(3, 1);
        group.crash(3);
        group.restore(3).unwrap();
        let claim = group.core(3).claim();
        group.start(3);
        group.flush(3, None);
        group.connect(3, 1).unwrap();
        if reads {
            settle(&mut group);
        }
        let _ = group.core(1).handle_claim(ReplicaId(3), claim);
        group.streams.remove(&(3, 1));
        assert_eq!(group.connect(3, 1).err(), None, "read its new life: {reads}");
        group.advance(3_000_000_000);
        settle(&mut group);
        let id = group.submit(3, &slot(6), b"b").0.unwrap();
        settle(&mut group);
        assert!(group.nodes[&1].executed.iter().any(|(_, other)| *other == id), "read its new life: {reads}");
    }
}

/// The link of a dead life opens its stream again behind the claim of the next one: what it carries was vouched to be
/// uncounted.
#[test]
fn a_life_that_is_claimed_to_be_over_is_not_read_again() {
    let mut group = busy(3, 1);
    let old = group.core(3).hello().unwrap();
    group.submit(3, &slot(6), b"lost").0.unwrap();
    group.flush(3, None);
    let lost = group.core(3).status().durable;
    let (_, counted) = group.core(1).read_of(ReplicaId(3)).unwrap();
    assert!(counted < lost);
    let now = group.node(1).now;
    let beat = group.core(3).beat(now);
    let last = group.node(3).journal.clone();
    // The disk forgets what it called durable and nobody counted.
    group.node(3).durable = counted;
    group.crash(3);
    group.restore(3).unwrap();
    group.claim(3).unwrap();
    let core = group.core(1);
    if let Ok(read) = core.handle_hello(now, ReplicaId(3), old) {
        for item in last {
            if let group::Item::Said(record) = item
                && record.header.position > read
            {
                core.handle_record(now, ReplicaId(3), record).unwrap();
            }
        }
        core.handle_beat(now, ReplicaId(3), beat).unwrap();
    }
    let (_, after) = group.core(1).read_of(ReplicaId(3)).unwrap();
    assert_eq!(after, counted, "it has vouched that it counts nothing more of that life");
}

/// A disk rolled back behind the `Open` of a life that was read says what such a late claim says. It is refused again
/// by what it says next.
#[test]
fn a_disk_rolled_back_behind_its_open_is_refused_however_it_starts() {
    let mut group = busy(3, 1);
    let before = group.core(3).status().durable;
    group.crash(3);
    group.restore(3).unwrap();
    group.start(3);
    group.flush(3, None);
    group.advance(3_000_000_000);
    settle(&mut group);
    let (_, counted) = group.core(1).read_of(ReplicaId(3)).unwrap();
    assert!(counted > before);
    group.node(3).durable = before;
    group.crash(3);
    group.restore(3).unwrap();
    for _ in 0..2 {
        let claim = group.core(3).claim();
        assert!(group.core(1).handle_claim(ReplicaId(3), claim).is_err());
    }
    group.start_unasked(3);
    group.flush(3, None);
    assert!(group.connect(3, 1).is_err());
    let (_, after) = group.core(1).read_of(ReplicaId(3)).unwrap();
    assert_eq!(after, counted);
}

/// A vote was counted by the coordinator alone, which is slow when the voter's disk is rolled back. The others of the
/// quorum have nothing against it: they never counted that vote.
#[test]
fn a_quorum_whose_coordinator_was_not_asked_has_not_vouched() {
    let mut group = busy(5, 2);
    let before = group.core(2).status().durable;
    let id = group.submit(1, &slot(5), b"fast").0.unwrap();
    group.flush(1, None);
    for r in 2..=4 {
        group.deliver(1, r).unwrap();
        group.flush(r, None);
    }
    for r in 2..=4 {
        group.deliver(r, 1).unwrap();
    }
    group.flush(1, None);
    let executed = |group: &Group, r: u32| group.nodes[&r].executed.iter().find(|(_, other)| *other == id).copied();
    let first = executed(&group, 1).expect("it is decided on the fast path, and its client was told");
    group.node(2).durable = before;
    group.crash(2);
    group.restore(2).unwrap();
    let claim = group.core(2).claim();
    for r in 3..=5 {
        group.core(r).handle_claim(ReplicaId(2), claim).unwrap();
        group.core(2).handle_vouch(ReplicaId(r));
    }
    let vouched = group.core(2).vouched();
    // What would come of it.
    let now = group.node(2).now;
    group.core(2).handle_start(now).unwrap();
    group.drain(2);
    group.flush(2, None);
    group.streams.clear();
    // 1 and 4 are slow.
    let away: Vec<(u32, group::Node)> = [1, 4].map(|r| (r, group.nodes.remove(&r).unwrap())).into();
    let mut others = [2, 3, 5];
    for _ in 0..40 {
        for from in others {
            group.flush(from, None);
            for to in others.iter().filter(|to| **to != from) {
                let _ = group.deliver(from, *to);
            }
        }
        group.messages.retain(|(_, to, _)| ![1, 4].contains(to));
        while group.give().is_some() {}
        group.advance(300_000_000);
        others.iter().for_each(|r| drop(group.tick(*r)));
        others.rotate_left(1);
    }
    drop(away);
    let second = executed(&group, 3);
    assert!(second.is_some_and(|second| second != first), "otherwise nothing is lost with that vote: {second:?}");
    assert!(vouched < Vouched::Fully, "executed at {first:?} by 1, at {second:?} by 3");
}

/// Two peers tell of one command, and the second names a cut that the state here has reached.
#[test]
fn the_lowest_cut_that_was_told_counts() {
    let mut group = Group::new(3, 1);
    group.start_all();
    let (id, cut) = group.store_without_the_third(&slot(5));
    let blocks = |group: &mut Group, id: CommandId| {
        group.core(3).blocking().any(|(.., first)| first.is_some_and(|(_, by)| by == id))
    };
    let tell = |group: &mut Group, from: u32, cut: Timestamp| {
        let now = group.node(3).now;
        group.core(3).handle_message(now, ReplicaId(from), Message::Settled { id, cut });
        group.drain(3);
    };
    // 2 has settled more since, and names the cut of all of it.
    tell(&mut group, 2, cut.plus_ns(40_000_000));
    tell(&mut group, 1, cut);
    group.install(1, 3);
    assert!(!blocks(&mut group, id), "the state holds it, as 1 said");
}

/// How a coordinator comes to know that a state which it has installed holds its own command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    /// It had decided it.
    Before,
    /// By the journals that it reads afterwards.
    ByJournals,
    /// By one that has forgotten the votes.
    Settled,
}

/// The client of a command that an installed state covers is told that its outcome is not known here, instead of waiting
/// for ever.
#[test]
fn own_commands_that_a_state_covers_are_put_out() {
    for told in [Told::Before, Told::ByJournals, Told::Settled] {
        let mut group = Group::new(3, 1);
        group.start_all();
        // What 1 has proposed, 3 has attached and knows undecided: nothing behind it is executed there.
        group.submit(1, &slot(5), b"a").0.unwrap();
        group.flush(1, None);
        group.deliver(1, 3).unwrap();
        group.core(3).prefer(&[3, 2, 1].map(ReplicaId));
        let id = group.submit(3, &slot(5), b"b").0.unwrap();
        group.flush(3, None);
        group.deliver(3, 2).unwrap();
        group.flush(2, None);
        if told == Told::Before {
            group.deliver(2, 3).unwrap();
            group.flush(3, None);
        }
        // 3 hears nothing more until it is given a state.
        for _ in 0..100 {
            for (from, to) in [(1, 2), (2, 1)] {
                group.flush(from, None);
                group.deliver(from, to).unwrap();
            }
            group.messages.retain(|(from, to, _)| *from != 3 && *to != 3);
            while group.give().is_some() {}
            group.advance(100_000_000);
            (1..=2).for_each(|r| drop(group.tick(r)));
        }
        let cut = group.store(1).unwrap();
        assert!(group.nodes[&1].executed.iter().any(|(at, other)| *other == id && *at <= cut), "{told:?}");
        group.install(1, 3);
        assert_eq!(
            !group.nodes[&3].covered.is_empty(),
            told == Told::Before,
            "{told:?}: it may only say what it knows"
        );
        if told == Told::Settled {
            let now = group.node(3).now;
            group.core(3).handle_message(now, ReplicaId(1), Message::Settled { id, cut });
            group.drain(3);
        } else {
            settle(&mut group);
        }
        assert_eq!(group.nodes[&3].covered, [id], "{told:?}");
        assert_eq!(group.core(3).status().in_flight, 0, "{told:?}");
    }
}

/// What may happen to honest disks.
#[derive(Clone, Debug)]
enum Step {
    Submit(u32, u16),
    Flush(u32, u64),
    Deliver(u32, u32, u64),
    Exchange,
    Crash(u32),
    /// Restarts, if it is down; the others by the mask are asked before it starts, the rest when it has started.
    Start(u32, u8),
    LateClaim(usize),
    Store(u32),
    Trim(u32),
    Advance(u64),
    Give,
}

fn step(n: u32) -> impl Strategy<Value = Step> {
    let r = || 1..=n;
    prop_oneof![
        4 => (r(), 0..3_u16).prop_map(|(r, s)| Step::Submit(r, s)),
        6 => (r(), 0..4_u64).prop_map(|(r, back)| Step::Flush(r, back)),
        12 => (r(), r(), prop_oneof![0..4_u64, Just(u64::MAX)]).prop_map(|(a, b, k)| Step::Deliver(a, b, k)),
        2 => Just(Step::Exchange),
        3 => r().prop_map(Step::Crash),
        6 => (r(), any::<u8>()).prop_map(|(r, mask)| Step::Start(r, mask)),
        2 => (0..8_usize).prop_map(Step::LateClaim),
        2 => r().prop_map(Step::Store),
        2 => r().prop_map(Step::Trim),
        3 => prop::sample::select(vec![5_000_000, 700_000_000, 3_000_000_000]).prop_map(Step::Advance),
        4 => Just(Step::Give),
    ]
}

struct Honest {
    group: Group,
    n: u32,
    f: u32,
    late: Vec<(u32, u32, Claim)>,
    first: std::collections::BTreeMap<CommandId, Timestamp>,
}

impl Honest {
    fn deliver(&mut self, from: u32, to: u32, more: u64) {
        let group = &mut self.group;
        if from == to || !group.is_up(from) || !group.is_up(to) || group.core(from).hello().is_none() {
            return;
        }
        let (read, _) = group.core(to).read_of(ReplicaId(from)).unwrap();
        let Err(error) = group.deliver_up_to(from, to, read.saturating_add(more)) else { return };
        assert!(!error.contains("rolled back"), "{from} to {to}: {error}");
        group.streams.remove(&(from, to));
        group.drain(to);
        if error.contains("snapshot") {
            self.install(to);
        }
    }

    fn install(&mut self, to: u32) {
        let stored = |r: &u32| self.group.nodes[r].stored;
        let best = (1..=self.n).filter(|r| *r != to).max_by_key(stored).unwrap();
        let (cut, at) = (self.group.nodes[&best].stored, self.group.core(to).status().cut);
        if cut > at {
            self.group.install(best, to);
        }
    }

    fn start(&mut self, r: u32, mask: u8) {
        if self.group.is_up(r) {
            return;
        }
        self.group.restore(r).unwrap();
        let claim = self.group.core(r).claim();
        let needed = usize::try_from(self.n - self.f - 1).unwrap();
        let up: Vec<u32> = (1..=self.n).filter(|other| *other != r && self.group.is_up(*other)).collect();
        let mut asked = 0;
        for (at, other) in up.iter().enumerate() {
            let is_needed = up.len() - at + asked <= needed;
            if mask & 1 << other == 0 && !is_needed {
                self.late.push((r, *other, claim));
                continue;
            }
            let answer = self.group.core(*other).handle_claim(ReplicaId(r), claim);
            assert_eq!(answer, Ok(()), "{r} asks {other}");
            self.group.core(r).handle_vouch(ReplicaId(*other));
            self.group.streams.remove(&(r, *other));
            asked += 1;
        }
        if self.group.core(r).vouched() == Vouched::Lacking {
            self.group.node(r).core = None;
            return;
        }
        let now = self.group.node(r).now;
        self.group.core(r).handle_start(now).unwrap();
        self.group.drain(r);
    }

    fn apply(&mut self, step: &Step) {
        let group = &mut self.group;
        match *step {
            Step::Submit(r, s) if group.is_up(r) => drop(group.submit(r, &slot(s), b"x")),
            Step::Flush(r, back) if group.is_up(r) => {
                let appended = group.core(r).status().appended;
                group.flush(r, Some(appended.saturating_sub(back)));
            }
            Step::Deliver(from, to, more) => self.deliver(from, to, more),
            Step::Exchange => {
                for r in (1..=self.n).filter(|r| self.group.is_up(*r)).collect::<Vec<_>>() {
                    self.group.flush(r, None);
                    self.group.tick(r);
                }
                (1..=self.n).for_each(|from| (1..=self.n).for_each(|to| self.deliver(from, to, u64::MAX)));
            }
            Step::Crash(r) if group.is_up(r) => group.crash(r),
            Step::Start(r, mask) => self.start(r, mask),
            Step::LateClaim(at) if at < self.late.len() => {
                let (from, to, claim) = self.late.remove(at);
                if group.is_up(to) {
                    let _ = group.core(to).handle_claim(ReplicaId(from), claim);
                    group.streams.remove(&(from, to));
                }
            }
            Step::Store(r) if group.is_up(r) => drop(group.store(r)),
            Step::Trim(r) if group.is_up(r) => drop(group.trim(r)),
            Step::Advance(ns) => group.advance(ns),
            Step::Give => drop(group.give()),
            _ => {}
        }
        for node in self.group.nodes.values_mut() {
            for (timestamp, id) in &node.executed {
                assert_eq!(self.first.entry(*id).or_insert(*timestamp), timestamp, "{id}");
            }
        }
    }

    fn heal(&mut self) {
        // Those that start at the same time vouch for each other.
        let down: Vec<u32> = (1..=self.n).filter(|r| !self.group.is_up(*r)).collect();
        down.iter().for_each(|r| drop(self.group.restore(*r).unwrap()));
        for r in &down {
            self.group.claim(*r).unwrap();
            self.group.streams.retain(|(from, _)| from != r);
        }
        for r in &down {
            let now = self.group.node(*r).now;
            self.group.core(*r).handle_start(now).unwrap();
            self.group.drain(*r);
        }
        for round in 0..400 {
            self.apply(&Step::Exchange);
            while self.group.give().is_some() {}
            for r in 1..=self.n {
                if self.group.node(r).wants.take().is_some() {
                    self.install(r);
                }
            }
            self.group.advance(20_000_000);
            if round % 50 == 0 {
                (1..=self.n).for_each(|r| _ = self.group.store(r));
            }
        }
    }
}

fn honest(n: u32, f: u32, steps: &[Step]) {
    let mut honest =
        Honest { group: Group::new(n, f), n, f, late: Vec::new(), first: std::collections::BTreeMap::new() };
    honest.group.start_all();
    steps.iter().for_each(|step| honest.apply(step));
    honest.heal();
    for (from, to) in (1..=n).flat_map(|from| (1..=n).map(move |to| (from, to))).filter(|(from, to)| from != to) {
        assert_eq!(honest.group.connect(from, to).err(), None, "{from} to {to}");
    }
    assert!((1..=n).all(|r| honest.group.core(r).hello().is_some()), "all run");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is torn off, trimmed, replaced by a snapshot or asked late: who lost nothing durable is refused by nobody.
    #[test]
    fn honest_disks_are_never_refused(
        three in prop::collection::vec(step(3), 0..120),
        five in prop::collection::vec(step(5), 0..200),
    ) {
        honest(3, 1, &three);
        honest(5, 2, &five);
    }
}
