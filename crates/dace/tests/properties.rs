//! Random lives of a group of one: submissions, flushes that end anywhere, ticks, trims, crashes, clocks
//! that jump. What must hold is checked after every step.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use dace::{Output, SubmitError};
use proptest::prelude::*;
use types::journal::{RecordKind, decode_proposal};
use types::{CommandId, Slot, SlotSet, Timestamp};
use world::World;

#[derive(Clone, Debug)]
enum Step {
    Submit {
        slots: Vec<u16>,
    },
    SubmitStar,
    /// A flush ends after this share (of 256) of what is not durable.
    Flush(u8),
    FlushAll,
    Advance {
        ns: u64,
    },
    Wall {
        ns: i64,
    },
    Tick,
    Trim {
        cut: usize,
        left: usize,
    },
    /// A share of what was not reported durable is on disk all the same; the state is at some cut.
    Crash {
        survives: u8,
        cut: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let step = prop_oneof![
        8 => prop::collection::vec(0_u16..6, 1..4).prop_map(|slots| Step::Submit { slots }),
        1 => Just(Step::SubmitStar),
        3 => any::<u8>().prop_map(Step::Flush),
        4 => Just(Step::FlushAll),
        4 => prop_oneof![0_u64..20, 0..30_000_000_u64, 0..3_000_000_000_u64].prop_map(|ns| Step::Advance { ns }),
        1 => prop_oneof![-20_000_000_i64..20_000_000, -HOUR_NS..HOUR_NS].prop_map(|ns| Step::Wall { ns }),
        4 => Just(Step::Tick),
        1 => (any::<usize>(), 0_usize..6).prop_map(|(cut, left)| Step::Trim { cut, left }),
        2 => (any::<u8>(), any::<usize>()).prop_map(|(survives, cut)| Step::Crash { survives, cut }),
    ];
    prop::collection::vec(step, 1..120)
}

/// What was seen from outside, over all lives.
#[derive(Default)]
struct Seen {
    /// Every command ever executed: its timestamp and body.
    executed: BTreeMap<CommandId, (Timestamp, Vec<u8>)>,
    /// Every cut ever put out, and the commands at or below it.
    cuts: BTreeMap<Timestamp, BTreeSet<CommandId>>,
    /// Every id ever proposed: none is proposed twice.
    proposed: BTreeSet<CommandId>,
    /// Cuts that the state may be at: not below the base.
    base_cut: Timestamp,
    /// In this life: the cut that it began with, the last execution, the last cut, and what was executed.
    begin: Timestamp,
    last: Option<(Timestamp, CommandId)>,
    last_cut: Timestamp,
    life: BTreeSet<CommandId>,
}

impl Seen {
    fn new_life(&mut self, cut: Timestamp) {
        (self.begin, self.last, self.last_cut) = (cut, None, cut);
        self.life.clear();
    }

    fn take(&mut self, outputs: Vec<Output>, durable: u64) {
        for output in outputs {
            match output {
                Output::Append(record) if record.header.kind == RecordKind::Propose => {
                    let t = record.header.timestamp;
                    assert!(self.cuts.keys().next_back().is_none_or(|cut| t > *cut), "attached at or below a cut");
                    assert!(self.proposed.insert(record.header.id), "an id is proposed once");
                }
                Output::Append(_) => {}
                Output::Execute { timestamp, id, body, durable: position } => {
                    assert!(position <= durable, "executed before durable");
                    assert!(timestamp > self.begin, "executed though the state holds it");
                    assert!(timestamp > self.last_cut, "executed below a cut");
                    assert!(self.last < Some((timestamp, id)), "order keys rise");
                    self.last = Some((timestamp, id));
                    assert!(self.life.insert(id));
                    let first = self.executed.entry(id).or_insert_with(|| (timestamp, body.to_vec()));
                    assert_eq!((first.0, &first.1[..]), (timestamp, &body[..]), "the same in every life");
                }
                Output::Cut { timestamp } => {
                    assert!(timestamp > self.last_cut, "cuts rise");
                    assert_eq!(timestamp, timestamp.tick_end());
                    let held = self.executed.values().filter(|(t, _)| t.tick_end() == timestamp).count();
                    assert!(held > 0, "a cut ends a tick that holds commands");
                    let block: BTreeSet<CommandId> =
                        self.executed.iter().filter(|(_, (t, _))| *t <= timestamp).map(|(id, _)| *id).collect();
                    let first = self.cuts.entry(timestamp).or_insert_with(|| block.clone());
                    assert_eq!(*first, block, "a block is never amended");
                    self.last_cut = timestamp;
                }
                other => panic!("a group of one puts out no {other:?}"),
            }
        }
    }

    /// What this life has executed is what its journal holds, durable and decided, above where it began.
    fn check_complete(&self, world: &World) {
        let durable = world.journal.iter().filter(|record| record.header.position <= world.durable);
        let decided: BTreeSet<CommandId> = durable
            .filter(|record| record.header.kind == RecordKind::Commit && record.header.timestamp > self.begin)
            .map(|record| record.header.id)
            .collect();
        assert!(decided.is_subset(&self.life), "all that is durable is executed");
        // What was trimmed meanwhile is executed, too.
        let others = self.life.difference(&decided).all(|id| self.executed[id].0 <= self.base_cut);
        assert!(others, "nothing else is");
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    let mut seen = Seen::default();
    let outputs = world.start().unwrap();
    seen.take(outputs, world.durable);
    for (number, step) in steps.iter().enumerate() {
        let outputs = match step {
            Step::Submit { slots } => {
                submit(&mut world, &SlotSet::of(slots.iter().map(|s| Slot(*s)).collect()), number)
            }
            Step::SubmitStar => submit(&mut world, &SlotSet::All, number),
            Step::Flush(share) => {
                let position = world.durable + (world.appended() - world.durable) * u64::from(*share) / 256;
                world.flush(position)
            }
            Step::FlushAll => world.flush(world.appended()),
            Step::Advance { ns } => {
                world.now.mono_ns += ns;
                world.now.wall_ns += ns;
                vec![]
            }
            Step::Wall { ns } => {
                world.now.wall_ns = world.now.wall_ns.saturating_add_signed(*ns);
                vec![]
            }
            Step::Tick => world.tick(),
            Step::Trim { cut, left } => {
                trim(&mut world, &mut seen, *cut, *left);
                vec![]
            }
            Step::Crash { survives, cut } => {
                world.durable += (world.appended() - world.durable) * u64::from(*survives) / 256;
                let cuts: Vec<Timestamp> = seen.cuts.keys().copied().filter(|cut| *cut >= seen.base_cut).collect();
                let cut = if cuts.is_empty() { seen.base_cut } else { cuts[cut % cuts.len()] };
                seen.new_life(cut);
                let outputs = world.crash(cut).unwrap();
                seen.take(outputs, world.durable);
                world.start().unwrap()
            }
        };
        seen.take(outputs, world.durable);
        seen.check_complete(&world);
    }
    settle(&mut world, &mut seen);
}

fn submit(world: &mut World, slots: &SlotSet, number: usize) -> Vec<Output> {
    let (result, outputs) = world.submit(slots, &number.to_be_bytes());
    match result {
        Ok(id) => {
            let last = world.journal.len();
            let (propose, commit) = (&world.journal[last - 2].header, &world.journal[last - 1].header);
            assert_eq!((propose.kind, propose.id), (RecordKind::Propose, id));
            assert_eq!((commit.kind, commit.id, commit.timestamp), (RecordKind::Commit, id, propose.timestamp));
            assert_eq!(decode_proposal(&world.journal[last - 2].body).unwrap().0, *slots);
        }
        Err(error) => assert_eq!(error, SubmitError::NotStarted),
    }
    outputs
}

fn trim(world: &mut World, seen: &mut Seen, choice: usize, left: usize) {
    let cuts: Vec<Timestamp> =
        seen.cuts.keys().copied().filter(|cut| *cut >= seen.base_cut && *cut <= seen.last_cut).collect();
    if cuts.is_empty() {
        return;
    }
    let cut = cuts[choice % cuts.len()];
    if world.trim(cut, left).is_some() {
        seen.base_cut = cut;
    }
}

/// With time and flushes, everything is executed and every tick with commands is cut.
fn settle(world: &mut World, seen: &mut Seen) {
    let outputs = world.flush(world.appended());
    seen.take(outputs, world.durable);
    let mut rounds = 0;
    while let Some(deadline) = world.core.deadline() {
        let wait = deadline.saturating_sub(world.now.mono_ns);
        world.now.mono_ns += wait;
        world.now.wall_ns += wait;
        let outputs = world.tick();
        seen.take(outputs, world.durable);
        rounds += 1;
        assert!(rounds < 10, "a deadline that is met brings a cut");
    }
    seen.check_complete(world);
    assert_eq!(world.core.status().in_flight, 0);
    for (timestamp, _) in seen.life.iter().map(|id| &seen.executed[id]) {
        assert!(seen.cuts.contains_key(&timestamp.tick_end()), "every tick with commands is cut");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_lives_keep_order(steps in steps()) {
        run(&steps);
    }
}
