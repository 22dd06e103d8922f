//! Small scenes of reconfiguration, every interleaving of them: a Reconfig that crosses a command, one with a recovery, two at
//! once. Every output is checked as it comes (`epochs`), and where nothing more can happen the group comes to the
//! newest epoch, with everybody and without one.
//!
//! A step delivers all that one replica has said and knows to another one, submits, stores a state, or lets timers fire. What
//! is said is durable at once, and messages come at once. Two states are taken for one if every replica has said, read, heard,
//! executed and stored the same in both.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod epochs;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dace::{Core, Timing};
use epochs::{Cluster, of};
use types::{ReplicaId, Slot, SlotSet};

const MS: u64 = 1_000_000;
/// How far a clock goes on at once: every timer of a first attempt fires.
const FIRE_NS: u64 = 220 * MS;
const TIMING: Timing = Timing { give_up_ns: 50 * MS, recover_ns: 100 * MS, fetch_ns: 10 * MS, read_ns: 20 * MS };

/// What happens in a scene, in a group of three.
struct Scene {
    /// Who submits a command on slot 0.
    commands: Vec<u32>,
    /// Who proposes a Reconfig, and to whom.
    reconfigs: Vec<(u32, Vec<u32>)>,
    /// Whose timers fire, once.
    fires: Vec<u32>,
    /// A state becomes durable at any time, in a step of its own; else as soon as it is there.
    stores_late: bool,
    /// Replicas hear each other in one step, and where all have executed a Reconfig the path ends: what comes behind that is
    /// in the scenes of one.
    is_coarse: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Submit(usize),
    Reconfigure(usize),
    Fire(usize),
    Deliver(u32, u32),
    Meet(u32, u32),
    Store(u32),
    Install(u32, u32),
}

#[derive(Clone)]
struct State {
    cluster: Cluster,
    done: Vec<Action>,
    /// What a reader was told last, by writer and reader.
    heard: BTreeMap<(u32, u32), u64>,
    /// Who has installed a snapshot: it does not say what became of own commands below it.
    skipped: BTreeSet<u32>,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl State {
    fn new(set_up: impl Fn(&mut Core) + Send + Sync + 'static) -> Self {
        let cluster = Cluster::new(3, 1, 3, move |core| {
            core.set_timing(TIMING);
            set_up(core);
        });
        let mut state = Self { cluster, done: Vec::new(), heard: BTreeMap::new(), skipped: BTreeSet::new() };
        for _ in 0..3 {
            state.harden();
            for (from, to) in state.links() {
                state.deliver(from, to);
            }
        }
        state
    }

    fn links(&self) -> Vec<(u32, u32)> {
        let up = self.cluster.up();
        up.iter().flat_map(|from| up.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to).collect()
    }

    /// All that is said becomes durable, messages come, and who is removed stops.
    fn harden(&mut self) {
        for _ in 0..4 {
            for r in self.cluster.up() {
                self.cluster.flush(r);
            }
            while self.cluster.give() {}
        }
        self.cluster.stop_removed();
    }

    /// What a replica has to tell.
    fn told(&self, from: u32) -> u64 {
        let node = &self.cluster.nodes[&from];
        let notice = node.replica.as_ref().map(|replica| format!("{:?}", replica.notice()));
        let journals: Vec<(u64, u64, u64)> = node
            .journals
            .iter()
            .map(|(epoch, journal)| (u64::from(epoch.0), journal.last(), journal.durable))
            .collect();
        hash((notice, journals, node.now.mono_ns, node.stored.as_ref().map(|stored| stored.cut)))
    }

    fn deliver(&mut self, from: u32, to: u32) {
        let told = self.told(from);
        self.heard.insert((from, to), told);
        self.cluster.deliver(from, to);
        self.harden();
    }

    fn install(&mut self, from: u32, to: u32) {
        if self.cluster.install(from, to) {
            self.skipped.insert(to);
        }
    }

    fn actions(&self, scene: &Scene) -> Vec<Action> {
        let has_ended = |r: &u32| self.cluster.nodes[r].membership.as_ref().is_none_or(|of| of.entry.is_some());
        if scene.is_coarse && self.cluster.up().iter().all(has_ended) {
            return Vec::new();
        }
        let submits = (0..scene.commands.len()).map(Action::Submit);
        let reconfigs = (0..scene.reconfigs.len()).map(Action::Reconfigure);
        let fires = (0..scene.fires.len()).map(Action::Fire);
        let mut actions: Vec<Action> =
            submits.chain(reconfigs).chain(fires).filter(|action| !self.done.contains(action)).collect();
        for (from, to) in self.links() {
            let is_news = |from: u32, to: u32| self.heard.get(&(from, to)) != Some(&self.told(from));
            if scene.is_coarse && from < to && (is_news(from, to) || is_news(to, from)) {
                actions.push(Action::Meet(from, to));
            } else if !scene.is_coarse && is_news(from, to) {
                actions.push(Action::Deliver(from, to));
            }
            let node = &self.cluster.nodes[&to];
            if node.wants.is_some() {
                actions.push(Action::Install(from, to));
            }
        }
        let is_new = |r: &u32| {
            let node = &self.cluster.nodes[r];
            node.cuts.last().copied() > node.stored.as_ref().map(|stored| stored.cut)
        };
        actions.extend(self.cluster.up().into_iter().filter(|r| scene.stores_late && is_new(r)).map(Action::Store));
        actions
    }

    fn apply(&mut self, scene: &Scene, action: Action) {
        let is_done = match action {
            Action::Submit(at) => self.cluster.submit(scene.commands[at], &SlotSet::of(vec![Slot(0)])).is_ok(),
            Action::Reconfigure(at) => {
                let (by, members) = &scene.reconfigs[at];
                self.cluster.reconfigure(*by, &of(members)).is_ok()
            }
            Action::Fire(at) => {
                let r = scene.fires[at];
                let node = self.cluster.node(r);
                node.now.mono_ns += FIRE_NS;
                node.now.wall_ns += FIRE_NS;
                self.cluster.tick(r);
                true
            }
            Action::Deliver(from, to) => {
                self.deliver(from, to);
                false
            }
            Action::Meet(one, other) => {
                self.deliver(one, other);
                self.deliver(other, one);
                false
            }
            Action::Store(r) => {
                self.cluster.store(r);
                false
            }
            Action::Install(from, to) => {
                self.install(from, to);
                false
            }
        };
        if is_done {
            self.done.push(action);
        }
        self.harden();
        if !scene.stores_late {
            self.cluster.up().into_iter().for_each(|r| self.cluster.store(r));
            self.harden();
        }
    }

    /// By what states are told apart.
    fn print(&self) -> u128 {
        let mut parts = Vec::new();
        for (r, node) in &self.cluster.nodes {
            for (epoch, journal) in &node.journals {
                let said: Vec<_> = journal.said().map(|record| format!("{:?}", record.header)).collect();
                let core = node.replica.as_ref().and_then(|replica| replica.core(*epoch));
                let read: Vec<_> = core.map_or_else(Vec::new, |core| {
                    let others = self.cluster.nodes.keys().map(|other| core.read_of(ReplicaId(*other)));
                    others.collect()
                });
                parts.push(hash((r, epoch.0, said, format!("{read:?}"))));
            }
            let replica = node.replica.as_ref().map(|replica| replica.notice());
            let state =
                (&node.executed, &node.cuts, &node.membership, &node.stored, node.wants, node.removed, node.over);
            parts.push(hash((r, format!("{replica:?} {state:?} {:?}", node.voids), node.now.mono_ns)));
        }
        let mut done: Vec<String> = self.done.iter().map(|action| format!("{action:?}")).collect();
        done.sort();
        let heard: Vec<_> = self.heard.iter().collect();
        let all = (parts, done, heard);
        u128::from(hash((&all, 1))) << 64 | u128::from(hash((&all, 2)))
    }

    /// Everybody, or all but one, come to the newest epoch, with all that was acknowledged.
    fn settles(mut self, gone: Option<u32>) {
        if let Some(gone) = gone.filter(|gone| self.cluster.is_up(*gone)) {
            self.cluster.crash(gone, true);
        }
        for _ in 0..25 {
            self.cluster.exchange();
            if self.is_settled(gone).is_ok() {
                return;
            }
            self.cluster.advance(2500 * MS);
            self.cluster.exchange();
            for r in self.cluster.up() {
                self.cluster.store(r);
            }
            for (from, to) in self.links() {
                self.install(from, to);
            }
            self.cluster.stop_removed();
        }
        self.is_settled(gone).unwrap();
    }

    fn is_settled(&self, gone: Option<u32>) -> Result<(), String> {
        let newest = self.cluster.newest();
        let members: Vec<u32> = newest.members.iter().map(|member| member.0).filter(|r| gone != Some(*r)).collect();
        let reference = &self.cluster.nodes[&members[0]];
        for r in &members {
            let node = &self.cluster.nodes[r];
            if node.membership.as_ref() != Some(&newest) {
                return Err(format!("r{r} is not in the newest epoch"));
            }
            if node.executed.len() != reference.executed.len() {
                return Err(format!("r{r} has executed other commands: {:?}", node.executed));
            }
            if node.journals.keys().any(|epoch| *epoch != newest.epoch) {
                return Err(format!("r{r} does not know that old epochs are over"));
            }
            let answered = |id| self.cluster.voided.contains(id) || self.cluster.decided.contains_key(id);
            if let Some(id) = node.own.iter().find(|id| !self.skipped.contains(r) && !answered(*id)) {
                return Err(format!("r{r}: {id} is not answered"));
            }
        }
        let lost = self.cluster.acked.iter().find(|id| reference.executed.iter().all(|executed| executed.id != **id));
        lost.map_or(Ok(()), |id| Err(format!("acknowledged and lost: {id}")))
    }
}

/// What an exploration met.
#[derive(Default)]
struct Explored {
    seen: HashSet<u128>,
    transitions: usize,
    ends: usize,
}

impl Explored {
    /// Follows every path from a state that was not met before.
    fn explore(&mut self, scene: &Scene, state: &State, path: &mut Vec<Action>) -> Result<(), String> {
        let mut is_end = true;
        let here = state.print();
        for action in state.actions(scene) {
            let mut next = state.clone();
            path.push(action);
            self.transitions += 1;
            caught(|| next.apply(scene, action)).map_err(|why| format!("{why}\nafter {path:?}"))?;
            let print = next.print();
            is_end &= print == here;
            if self.seen.insert(print) {
                self.explore(scene, &next, path)?;
            }
            path.pop();
        }
        if is_end {
            self.ends += 1;
            // Who is gone is one of those whom every epoch survives.
            let smallest = scene.reconfigs.iter().map(|(_, members)| members.len()).min().unwrap_or(3);
            let gone = u32::try_from(self.ends % 4).unwrap();
            let gone = Some(gone).filter(|gone| *gone > 0 && smallest > 2);
            caught(|| state.clone().settles(None)).map_err(|why| format!("{why}\nat the end of {path:?}"))?;
            caught(|| state.clone().settles(gone)).map_err(|why| format!("{why}\nwithout {gone:?} behind {path:?}"))?;
        }
        Ok(())
    }
}

fn caught(run: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn explore(name: &str, scene: &Scene, set_up: impl Fn(&mut Core) + Send + Sync + 'static) -> Result<(), String> {
    let mut explored = Explored::default();
    let first = State::new(set_up);
    explored.seen.insert(first.print());
    let outcome = explored.explore(scene, &first, &mut Vec::new());
    println!("{name}: {} states, {} transitions, {} ends", explored.seen.len(), explored.transitions, explored.ends);
    outcome
}

fn holds(name: &str, scene: &Scene) {
    if let Err(why) = explore(name, scene, |_| {}) {
        panic!("{name}: {why}");
    }
}

/// The same members, in a new epoch: what crosses ρ is what is looked for.
fn crossing(commands: Vec<u32>, by: Vec<u32>, fires: Vec<u32>) -> Scene {
    Scene {
        commands,
        reconfigs: by.into_iter().map(|r| (r, vec![1, 2, 3])).collect(),
        fires,
        stores_late: false,
        is_coarse: false,
    }
}

/// Two at once, by 1 and 2.
fn two() -> Scene {
    Scene { is_coarse: true, ..crossing(vec![], vec![1, 2], vec![]) }
}

#[test]
fn a_reconfig_alone() {
    holds("a Reconfig", &crossing(vec![], vec![2], vec![]));
}

#[test]
#[ignore = "minutes: see docs/simulation.md"]
fn a_reconfig_and_late_stores() {
    holds("a Reconfig, states stored late", &Scene { stores_late: true, ..crossing(vec![], vec![2], vec![]) });
}

#[test]
#[ignore = "minutes: see docs/simulation.md"]
fn two_reconfigs() {
    holds("two Reconfigs", &two());
}

#[test]
#[ignore = "minutes: see docs/simulation.md"]
fn a_reconfig_is_recovered() {
    holds("a Reconfig, recovery by 3", &crossing(vec![], vec![2], vec![3]));
}

#[test]
#[ignore = "minutes: see docs/simulation.md"]
fn a_reconfig_crosses_a_command() {
    holds("a command crosses a Reconfig", &crossing(vec![1], vec![2], vec![]));
}

/// The clocks are the same, so that who has the smaller id comes first where two cross.
#[test]
#[ignore = "minutes: see docs/simulation.md"]
fn a_reconfig_makes_a_command_void() {
    holds("a command crosses a Reconfig, and is void", &crossing(vec![2], vec![1], vec![]));
}

/// A rule that is taken out is noticed in a scene.
#[cfg(feature = "mutants")]
fn shows(mutant: dace::Mutant, scene: &Scene) {
    let found = explore(mutant.name(), scene, move |core| core.set_mutant(mutant));
    assert!(found.is_err(), "nothing is noticed without {mutant}");
}

#[cfg(feature = "mutants")]
#[test]
fn scenes_of_reconfigurations_have_teeth() {
    use dace::Mutant;

    shows(Mutant::SealedRefuses, &crossing(vec![1], vec![2], vec![]));
    shows(Mutant::NothingVoid, &crossing(vec![2], vec![1], vec![]));
    shows(Mutant::VoidBlocks, &crossing(vec![2], vec![1], vec![]));
}

#[cfg(feature = "mutants")]
#[test]
#[ignore = "minutes: see docs/simulation.md"]
fn two_reconfigs_have_teeth() {
    // Where replicas hear each other in one step, none is executed late enough.
    shows(dace::Mutant::EntersOnDecided, &Scene { is_coarse: false, ..two() });
}
