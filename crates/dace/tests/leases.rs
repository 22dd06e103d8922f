//! Random schedules with leases: a leased read shows every write that anybody could see before it began, whatever
//! crashes, and however clocks drift within their bound.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test may be told by the environment what to do; the core may not")]

mod group;
mod looks;

use std::collections::BTreeMap;

use dace::{LeaseTiming, Zone};
use group::Group;
use looks::{Look, Published};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestError, TestRunner};
use types::{CommandId, ReplicaId, Slot, SlotSet};

const MS: u64 = 1_000_000;
/// Clocks run up to a tenth too fast or too slow.
const RATE_ERROR_PPM: u64 = 100_000;

#[derive(Clone, Debug)]
enum Step {
    Submit(u32, u16, bool),
    Flush(u32),
    Deliver(u32, u32),
    Advance(u64),
    Tick(u32),
    Want(u32),
    Drop(u32),
    Read(u32, u16),
    Crash(u32),
    Restart(u32),
    Suspect(u32, u32),
    Prefer(u32, u32),
}

fn step(n: u32) -> impl Strategy<Value = Step> {
    let r = move || 1..=n;
    let spans =
        prop_oneof![6 => Just(MS), 4 => Just(30 * MS), 2 => Just(90 * MS), 1 => Just(200 * MS), 1 => Just(900 * MS)];
    // The last replica hears less and is read from more than the others.
    prop_oneof![
        6 => (r(), 0_u16..2, prop::bool::weighted(0.1)).prop_map(|(r, slot, star)| Step::Submit(r, slot, star)),
        16 => r().prop_map(Step::Flush),
        25 => (r(), r()).prop_map(|(from, to)| Step::Deliver(from, to)),
        25 => (r(), 1..n).prop_map(|(from, to)| Step::Deliver(from, to)),
        7 => spans.prop_map(Step::Advance),
        7 => r().prop_map(Step::Tick),
        4 => r().prop_map(Step::Want),
        1 => r().prop_map(Step::Drop),
        3 => (r(), 0_u16..2).prop_map(|(r, slot)| Step::Read(r, slot)),
        12 => (0_u16..2).prop_map(move |slot| Step::Read(n, slot)),
        1 => r().prop_map(Step::Crash),
        2 => r().prop_map(Step::Restart),
        1 => (r(), r()).prop_map(|(r, other)| Step::Suspect(r, other)),
        2 => (r(), r()).prop_map(|(r, other)| Step::Prefer(r, other)),
    ]
}

fn zone() -> Zone {
    Zone(b"b/".to_vec().into())
}

/// A read under way: where, of which slot, and how many writes of the slot could be seen when it began.
struct Read {
    at: u32,
    slot: u16,
    read: u64,
    visible: usize,
}

struct World {
    group: Group,
    n: u32,
    slots: BTreeMap<CommandId, SlotSet>,
    reads: Vec<Read>,
    /// The most writes of a slot that any replica ever had executed.
    visible: Vec<usize>,
    answered: usize,
    /// By replica: what readers beside its loop may look at.
    published: BTreeMap<u32, Published>,
    /// What those of earlier lives could.
    past: Vec<Published>,
}

/// Slots that are written and read.
const SLOTS: u16 = 2;

impl World {
    fn new(n: u32, f: u32, rates: &[i64]) -> Self {
        let mut group = Group::new(n, f);
        for (r, rate) in (1..=n).zip(rates.iter().cycle()) {
            group.node(r).rate_ppm = *rate;
            set_up(&mut group, r);
        }
        group.start_all();
        let published = (1..=n).map(|r| (r, Published::new(SLOTS, false))).collect();
        let visible = vec![0; usize::from(SLOTS)];
        Self { group, n, slots: BTreeMap::new(), reads: Vec::new(), visible, answered: 0, published, past: Vec::new() }
    }

    /// What readers beside the loops may have looked at since.
    fn publish(&mut self) {
        for (r, published) in &mut self.published {
            let node = self.group.nodes.get_mut(r).unwrap();
            for (mono_ns, output) in std::mem::take(&mut node.published) {
                published.publish(mono_ns, &output, &self.visible, &self.slots);
            }
        }
    }

    fn count(&self, r: u32, slot: u16, len: usize) -> usize {
        let executed = &self.group.nodes[&r].executed[..len];
        executed.iter().filter(|(_, id)| self.slots[id].meets(&SlotSet::of(vec![Slot(slot)]))).count()
    }

    /// What is executed anywhere can be seen; and reads that are answered must show what could be seen before.
    fn look(&mut self) {
        self.publish();
        let mut reads = std::mem::take(&mut self.reads);
        reads.retain(|read| {
            let leased = &self.group.nodes[&read.at].leased;
            let Some((_, len)) = leased.iter().find(|(number, _)| *number == read.read) else { return true };
            let shown = self.count(read.at, read.slot, *len);
            assert!(
                shown >= read.visible,
                "a leased read at r{} of slot {} shows {shown} writes; {} could be seen before it began",
                read.at,
                read.slot,
                read.visible
            );
            self.answered += 1;
            false
        });
        self.reads = reads;
        for r in 1..=self.n {
            for slot in 0..SLOTS {
                let count = self.count(r, slot, self.group.nodes[&r].executed.len());
                let most = &mut self.visible[usize::from(slot)];
                *most = count.max(*most);
            }
        }
        for (r, published) in &mut self.published {
            published.look(self.group.nodes[r].now.mono_ns, &self.visible);
        }
    }

    fn step(&mut self, step: &Step) {
        let group = &mut self.group;
        match *step {
            Step::Submit(r, number, star) if group.is_up(r) => {
                let slots = if star { SlotSet::All } else { SlotSet::of(vec![Slot(number)]) };
                if let Ok(id) = group.submit(r, &slots, b"x").0 {
                    self.slots.insert(id, slots);
                }
            }
            Step::Flush(r) if group.is_up(r) => drop(group.flush(r, None)),
            Step::Deliver(from, to) if from != to && group.is_up(from) && group.is_up(to) => {
                let _ = group.deliver(from, to);
            }
            Step::Advance(ns) => group.advance(ns),
            Step::Tick(r) if group.is_up(r) => drop(group.tick(r)),
            Step::Want(r) if group.is_up(r) => {
                let now = group.node(r).now;
                group.core(r).want_lease(now, &zone(), [1; 32]).unwrap();
                group.drain(r);
            }
            Step::Drop(r) if group.is_up(r) => {
                let now = group.node(r).now;
                group.core(r).drop_lease(now, &zone());
                group.drain(r);
            }
            Step::Read(r, slot) if group.is_up(r) => {
                let now = group.node(r).now;
                let visible = self.visible[usize::from(slot)];
                if let Ok(read) = group.core(r).handle_leased_read(now, &zone(), SlotSet::of(vec![Slot(slot)])) {
                    self.reads.push(Read { at: r, slot, read, visible });
                }
                group.drain(r);
            }
            Step::Crash(r) if group.is_up(r) => {
                group.crash(r);
                self.reads.retain(|read| read.at != r);
                let fresh = Published::new(SLOTS, self.published[&r].is_blind);
                self.past.extend(self.published.insert(r, fresh));
            }
            Step::Restart(r) if !group.is_up(r) => self.restart(r),
            Step::Suspect(r, other) if group.is_up(r) => {
                let now = group.node(r).now;
                group.core(r).suspect(now, ReplicaId(other), true);
                group.drain(r);
            }
            Step::Prefer(r, other) if group.is_up(r) => group.core(r).prefer(&[ReplicaId(other)]),
            _ => {}
        }
        self.look();
    }

    fn restart(&mut self, r: u32) {
        self.group.restore(r).unwrap();
        set_up(&mut self.group, r);
        self.group.start(r);
    }

    /// Reads beside the loops that look in this order, begun at any instant, each look at any instant behind the one
    /// before: how many can be answered. None is stale.
    fn judge(&self, order: &[Look; 4]) -> Result<usize, String> {
        let mut answered = 0;
        for published in self.past.iter().chain(self.published.values()) {
            let (count, stale) = published.judge(order);
            answered += count;
            stale.map_or(Ok(()), Err)?;
        }
        Ok(answered)
    }

    /// Everyone is up and connected: all is executed, leases or not.
    fn heal(&mut self) {
        for r in 1..=self.n {
            if !self.group.is_up(r) {
                self.restart(r);
            }
            for other in 1..=self.n {
                let now = self.group.node(r).now;
                self.group.core(r).suspect(now, ReplicaId(other), false);
            }
        }
        for _ in 0..60 {
            self.group.exchange();
            self.group.advance(300 * MS);
            self.look();
        }
        self.group.exchange();
        let reference = self.group.node(1).executed.len();
        for r in 1..=self.n {
            let status = self.group.core(r).status();
            assert_eq!((status.committed, self.group.node(r).executed.len()), (0, reference), "r{r}: {status:?}");
            assert_eq!(status.in_flight, 0, "r{r}: {status:?}");
            assert_eq!(self.group.node(r).pending.len(), 0, "what pends settles");
        }
    }
}

fn set_up(group: &mut Group, r: u32) {
    let core = group.core(r);
    core.set_lease_timing(LeaseTiming { term_ns: 1000 * MS, rate_error_ppm: RATE_ERROR_PPM });
    core.publish_pending();
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("MUTANT") {
        core.set_mutant(name.parse().unwrap());
    }
}

/// How the last replica comes to hold the zone: by grants of as few others as it takes. The rest do not know of it.
fn prelude(n: u32, f: u32) -> Vec<Step> {
    let holder = n;
    let mut steps = vec![Step::Want(holder), Step::Flush(holder)];
    for grantor in 1..n - f {
        steps.extend([Step::Deliver(holder, grantor), Step::Flush(grantor), Step::Deliver(grantor, holder)]);
        // Who counts on its grantors to be asked.
        steps.extend((n - f..n).map(|other| Step::Prefer(other, grantor)));
    }
    steps
}

fn run(n: u32, f: u32, turn: usize, guided: bool, steps: &[Step]) -> usize {
    let world = play(n, f, turn, guided, steps, false);
    // The order of docs/consensus.md, and that of the design, for which the lease goes before the pending writes.
    for order in [DEADLINE_FIRST, CLOCK_FIRST] {
        world.judge(&order).unwrap();
    }
    world.answered
}

const DEADLINE_FIRST: [Look; 4] = [Look::Deadline, Look::Pending, Look::Clock, Look::State];
const CLOCK_FIRST: [Look; 4] = [Look::Deadline, Look::Clock, Look::Pending, Look::State];
const PENDING_FIRST: [Look; 4] = [Look::Pending, Look::Deadline, Look::Clock, Look::State];

/// Runs a schedule to its end; `blind`: pending writes are not published.
fn play(n: u32, f: u32, turn: usize, guided: bool, steps: &[Step], blind: bool) -> World {
    let error = i64::try_from(RATE_ERROR_PPM).unwrap();
    let mut rates = [-error, error, 0];
    rates.rotate_left(turn % 3);
    let mut world = World::new(n, f, &rates);
    world.published.values_mut().for_each(|published| published.is_blind = blind);
    if guided {
        prelude(n, f).iter().for_each(|step| world.step(step));
    }
    steps.iter().for_each(|step| world.step(step));
    world.heal();
    world
}

/// Schedules of a default run; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(200, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn leased_reads_of_three_replicas_are_linearizable(
        turn in 0_usize..3, guided in prop::bool::weighted(0.8), steps in prop::collection::vec(step(3), 0..160),
    ) {
        run(3, 1, turn, guided, &steps);
    }

    #[test]
    fn leased_reads_of_five_replicas_are_linearizable(
        turn in 0_usize..3, guided in prop::bool::weighted(0.8), steps in prop::collection::vec(step(5), 0..240),
    ) {
        run(5, 2, turn, guided, &steps);
    }
}

/// The first of 3,000 schedules, the same ones every time, in which a reader beside the loop is stale.
fn stale_beside(order: [Look; 4], blind: bool) -> Option<String> {
    let rng_seed = RngSeed::Fixed(8);
    let config =
        ProptestConfig { cases: 3000, max_shrink_iters: 0, failure_persistence: None, rng_seed, ..Default::default() };
    let mut runner = TestRunner::new(config);
    let drawn = (0_usize..3, prop::bool::weighted(0.8), prop::collection::vec(step(3), 0..120));
    let found = runner.run(&drawn, |(turn, guided, steps)| {
        play(3, 1, turn, guided, &steps, blind).judge(&order).map(drop).map_err(TestCaseError::fail)
    });
    match found {
        Ok(()) => None,
        Err(TestError::Fail(why, _)) => Some(why.to_string()),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// The looks have teeth: who looks at the deadline behind the pending writes is stale in some schedule, and so is who is not
/// told of them.
#[test]
fn a_reader_that_looks_in_a_wrong_order_is_stale() {
    assert!(stale_beside(PENDING_FIRST, false).is_some(), "the lease begins in between");
    assert!(stale_beside(DEADLINE_FIRST, true).is_some(), "pending writes are not published");
}

/// Nothing is written, and leases are renewed: the journals do not grow for ever.
#[test]
fn an_idle_group_with_leases_trims() {
    let mut group = Group::new(3, 1);
    (1..=3).for_each(|r| set_up(&mut group, r));
    group.start_all();
    group.exchange();
    group.submit(1, &SlotSet::of(vec![Slot(0)]), b"x").0.unwrap();
    for _ in 0..20 {
        group.exchange();
        group.advance(50 * MS);
    }
    for r in 1..=3 {
        group.store(r).expect("its command is cut");
        let now = group.node(r).now;
        group.core(r).want_lease(now, &zone(), [1; 32]).unwrap();
        group.drain(r);
    }
    for _ in 0..100 {
        group.exchange();
        group.advance(350 * MS);
    }
    group.exchange();
    for r in 1..=3 {
        let appended = group.core(r).status().appended;
        assert!(appended > 200, "each asks and grants twice in every turn: {appended}");
        let trimmed = group.trim(r).expect("there is something to trim");
        assert!(appended - trimmed < 40, "r{r} keeps {} of {appended} records", appended - trimmed);
        assert_eq!(group.node(r).executed.len(), 1);
    }
    // What is left is a journal to start from, and the grants that ran are in it.
    group.crash(2);
    group.restore(2).unwrap();
    set_up(&mut group, 2);
    group.start(2);
    group.exchange();
    assert!(group.core(2).status().appended > 200);
}

/// Why a reader beside the loop looks at the deadline before the pending writes: behind them, the lease may begin in
/// between, with a write pending that was not, and that is not in the state yet though anybody could see it before.
#[test]
fn a_lease_may_begin_behind_a_look_at_the_pending_writes() {
    let mut group = Group::new(3, 1);
    (1..=3).for_each(|r| set_up(&mut group, r));
    group.start_all();
    group.core(1).prefer(&[ReplicaId(2)]);
    let write = group.submit(1, &SlotSet::of(vec![Slot(0)]), b"x").0.unwrap();
    for (from, to) in [(1, 2), (2, 1), (1, 2)] {
        group.flush(from, None);
        group.deliver(from, to).unwrap();
    }
    group.flush(1, None);
    let has = |group: &Group, r: u32| group.nodes[&r].executed.iter().any(|(_, id)| *id == write);
    assert!(has(&group, 1), "anybody can see the write at r1");
    // The first look of a reader at r3, which hears nothing of r1.
    assert!(group.node(3).pending.is_empty());
    let now = group.node(3).now;
    group.core(3).want_lease(now, &zone(), [1; 32]).unwrap();
    group.drain(3);
    group.flush(3, None);
    group.deliver(3, 2).unwrap();
    group.flush(2, None);
    group.deliver(2, 3).unwrap();
    assert_eq!(group.core(3).lease_until(&zone()), None, "the grant waits for the write that r2 has attached");
    group.advance(210 * MS);
    group.tick(3);
    for _ in 0..4 {
        group.messages.retain(|(from, to, _)| *from != 1 && *to != 1);
        if group.give().is_none() {
            break;
        }
    }
    assert!(group.core(3).lease_until(&zone()).is_some(), "the lease has begun");
    // The second look finds the lease held; who does not look at the pending writes again reads a state without it.
    assert!(!has(&group, 3) && group.node(3).pending.contains_key(&write));
}
