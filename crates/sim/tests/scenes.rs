//! Small scenes, every interleaving of them: nothing goes wrong on any path, and where nothing more can happen the
//! group settles. Larger ones: `cargo test --release -p sim --test scenes -- --ignored --nocapture`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use dace::Mutant;
use sim::schedule::scene::{Action, Explored, Scene, State};
use sim::schedule::{Setting, Step, run};
use stateright::{Checker, HasDiscoveries, Model, Property};
use types::{Slot, SlotSet};

/// A scene as `stateright` sees it.
struct Explorer(Explored);

impl Model for Explorer {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.0.first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // Behind a violation there is nothing to see.
        if self.0.holds(state).is_ok() {
            actions.extend(self.0.actions(state));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.0.next(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("holds", |explorer: &Self, state: &State| explorer.0.holds(state).is_ok()),
            Property::always("settles", |explorer: &Self, state: &State| {
                let explored = &explorer.0;
                let is_leaf = explored.holds(state).is_ok() && explored.actions(state).is_empty();
                !is_leaf || explored.settles(state).is_ok()
            }),
        ]
    }
}

fn slot() -> SlotSet {
    SlotSet::of(vec![Slot(0)])
}

/// Two commands cross on one slot.
fn crossing(fires: Vec<usize>) -> Scene {
    Scene { fires, ..Scene::new(Setting::new(3, 1), vec![(0, 1, slot()), (1, 0, slot())]) }
}

/// The same, where both coordinators have the third replica in their fast quorums.
fn crossing_at_the_third(fires: Vec<usize>) -> Scene {
    Scene { commands: vec![(0, 2, slot()), (1, 2, slot())], ..crossing(fires) }
}

/// One command, and whose timers fire.
fn duel(fires: Vec<usize>, crashes: Vec<usize>) -> Scene {
    Scene { fires, crashes, ..Scene::new(Setting::new(3, 1), vec![(0, 1, slot())]) }
}

/// Replica 1 writes with 2. These want the lease, in so many of their lives, and whoever does reads once under it.
fn leased(wants: Vec<usize>) -> Scene {
    let reads = (0..wants.len()).filter(|at| wants[*at] > 0).map(|at| (at, slot())).collect();
    Scene { wants, reads, ..duel(vec![0; 3], vec![0; 3]) }
}

/// Every grant that is counted by then has ended, at its holder and at the one grantor whose clock is fast.
const TERM: u64 = 280_000_000;
/// Recoveries are due, and no grant has ended.
const BEFORE: u64 = 230_000_000;

/// The same, where one replica may crash once, and the others read what it said before that is durable.
fn with_tails(scene: Scene, crashes: usize) -> Scene {
    let crashes = (0..scene.crashes.len()).map(|at| usize::from(at == crashes)).collect();
    Scene { crashes, reads_tails: true, ..scene }
}

/// What the checker found first, as a schedule, and what is wrong with it.
fn explore(name: &str, scene: Scene) -> Option<(Vec<Step>, String)> {
    let began = Instant::now();
    let checker =
        Explorer(Explored::new(scene)).checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let explored = &checker.model().0;
    println!(
        "{name}: {} states, {} transitions, {} local states, {} ends, in {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        explored.locals_len(),
        explored.ends_len(),
        began.elapsed().as_secs_f64()
    );
    let (what, path) = checker.discoveries().into_iter().next()?;
    let last = path.into_states().pop().unwrap();
    let why = explored.holds(&last).and_then(|()| explored.settles(&last)).unwrap_err();
    Some((explored.schedule(&last), format!("{what}: {}: {}", why.check, why.reason)))
}

fn holds(name: &str, scene: Scene) {
    if let Some((steps, why)) = explore(name, scene) {
        let steps: String = steps.iter().map(|step| format!("{step}\n")).collect();
        panic!("{name}: {why}\n{steps}");
    }
}

/// A rule taken out is noticed in a scene, and the path that shows it shows it as a schedule, too.
fn shows(mutant: Mutant, scene: Scene) {
    let setting = scene.setting.with(Some(mutant));
    let scene = Scene { setting, is_strict: false, ..scene };
    let (mut steps, _) = explore(mutant.name(), scene).unwrap_or_else(|| panic!("{mutant} holds"));
    steps.push(Step::Settle(Vec::new()));
    run(setting, &steps).expect_err("what is wrong in a scene is wrong in a schedule");
    run(setting.with(None), &steps).unwrap();
}

#[test]
fn two_commands_cross() {
    holds("two commands cross", crossing(vec![0, 0, 0]));
}

#[test]
fn one_command_is_recovered() {
    holds("one command, recovery by 3", duel(vec![0, 0, 1], vec![0, 0, 0]));
    holds("one command, recovery by 2", duel(vec![0, 1, 0], vec![0, 0, 0]));
}

#[test]
fn two_commands_cross_and_one_is_recovered() {
    holds("two commands cross, recovery by 3", crossing(vec![0, 0, 1]));
}

#[test]
fn scenes_have_teeth() {
    for mutant in [Mutant::SmallFastQuorum, Mutant::ExecutesOverAttached, Mutant::SmallMajority] {
        shows(mutant, crossing(vec![0, 0, 0]));
    }
    for mutant in [Mutant::Rule4OverAll, Mutant::OverheardAcks, Mutant::SmallRecovery] {
        shows(mutant, crossing(vec![0, 0, 1]));
    }
    shows(Mutant::NoRule3Coordinator, crossing_at_the_third(vec![1, 0, 0]));
    let commands = vec![(0, 1, slot()), (2, 0, slot())];
    shows(Mutant::UndurablePropose, Scene { commands, ..with_tails(crossing(vec![0, 1, 0]), 0) });
}

/// A coordinator that reports "attached" though it has decided: whoever reads the report has read its commit before.
#[test]
fn a_commit_kept_from_a_report_changes_nothing() {
    let hides = |scene: Scene| Scene { setting: scene.setting.with(Some(Mutant::ReportsAttachedAfterCommit)), ..scene };
    holds("a hidden commit, recovery by 3", hides(duel(vec![0, 0, 1], vec![0, 0, 0])));
    holds("a hidden commit, recovery by 2", hides(duel(vec![0, 1, 0], vec![0, 0, 0])));
}

#[test]
#[ignore = "minutes and gigabytes: see docs/simulation.md"]
fn a_commit_kept_from_a_report_changes_nothing_in_duels() {
    let hides = |scene: Scene| Scene { setting: scene.setting.with(Some(Mutant::ReportsAttachedAfterCommit)), ..scene };
    holds("a hidden commit, recoveries by 2 and 3", hides(duel(vec![0, 1, 1], vec![0, 0, 0])));
    holds("a hidden commit, recovery by 3, crash of 1", hides(duel(vec![0, 0, 1], vec![1, 0, 0])));
    holds("a hidden commit, recovery by 3, crash of 1, tails", hides(with_tails(duel(vec![0, 0, 1], vec![0; 3]), 0)));
    holds("two commands cross, a hidden commit, recovery by 3", hides(crossing(vec![0, 0, 1])));
}

#[test]
#[ignore = "minutes and gigabytes: see docs/simulation.md"]
fn a_replica_crashes() {
    holds("one command, recovery by 3, crash of 1", duel(vec![0, 0, 1], vec![1, 0, 0]));
    holds("one command, recovery by 3, crash of 1, tails", with_tails(duel(vec![0, 0, 1], vec![0; 3]), 0));
    holds("one command, recovery by 3, crash of 2, tails", with_tails(duel(vec![0, 0, 1], vec![0; 3]), 1));
    holds("two commands cross, crash of 1, tails", with_tails(crossing(vec![0, 0, 0]), 0));
}

#[test]
#[ignore = "minutes and gigabytes: see docs/simulation.md"]
fn two_recoveries_duel() {
    holds("one command, recoveries by 2 and 3", duel(vec![0, 1, 1], vec![0, 0, 0]));
    holds("one command, recoveries by 2 and 3, crash of 1", duel(vec![0, 1, 1], vec![1, 0, 0]));
    holds("one command, recoveries by 1, 2 and 3", duel(vec![1, 1, 1], vec![0, 0, 0]));
}

#[test]
#[ignore = "minutes and gigabytes: see docs/simulation.md"]
fn two_commands_cross_and_any_one_recovers() {
    holds("two commands cross, recovery by 1", crossing(vec![1, 0, 0]));
    holds("two commands cross, recovery by 2", crossing(vec![0, 1, 0]));
    holds("two commands cross at 3, recovery by 1", crossing_at_the_third(vec![1, 0, 0]));
    holds("two commands cross at 3, recovery by 3", crossing_at_the_third(vec![0, 0, 1]));
    shows(Mutant::AttachAtFloor, crossing(vec![0, 0, 1]));
    shows(Mutant::DecidesAfterJoining, crossing(vec![0, 0, 1]));
}

#[test]
fn leased_reads_are_never_stale() {
    let one = || leased(vec![0, 0, 1]);
    holds("holder 3, a write", one());
    holds("holder 3, a write, the lease ends", Scene { passes: vec![TERM], ..one() });
    holds("the same, and what 2 withheld goes", Scene { fires: vec![0, 1, 0], passes: vec![TERM], ..one() });
    holds("holders 1 and 3, a write", leased(vec![1, 0, 1]));
    holds("holder 3, a write, crash of 2, which grants", Scene { crashes: vec![0, 1, 0], ..one() });
}

#[test]
#[ignore = "minutes and gigabytes: see docs/simulation.md"]
fn leased_reads_are_never_stale_in_larger_scenes() {
    let (one, two, lives) = (|| leased(vec![0, 0, 1]), || leased(vec![1, 0, 1]), || leased(vec![0, 0, 2]));
    let recovers = |by: usize, scene: Scene| {
        let fires = (0..3).map(|at| usize::from(at == by)).collect();
        Scene { fires, passes: vec![BEFORE], ..scene }
    };
    holds("holders 2 and 3, a write", leased(vec![0, 1, 1]));
    holds("holder 3, a write, recovery by 1", recovers(0, one()));
    holds("holder 3, a write, recovery by 2", recovers(1, one()));
    holds("holder 3, a write, recovery by 3", recovers(2, one()));
    holds("holder 3, a write, crash of 3", Scene { crashes: vec![0, 0, 1], ..lives() });
    holds("holders 1 and 3, a write, the leases end", Scene { passes: vec![TERM], ..two() });
    holds(
        "holder 3, a write, crash of 2, the lease ends",
        Scene { crashes: vec![0, 1, 0], passes: vec![TERM], ..one() },
    );
    holds(
        "holder 3, a write, crash of 3, the lease ends",
        Scene { crashes: vec![0, 0, 1], passes: vec![TERM], ..lives() },
    );
}

/// The rules of leases, each taken out in the smallest scene that shows it.
#[test]
fn scenes_of_leases_have_teeth() {
    let one = || leased(vec![0, 0, 1]);
    for mutant in [Mutant::SmallLease, Mutant::NoGrantorAck, Mutant::NoActivation, Mutant::LeasedReadNoWait] {
        shows(mutant, one());
    }
    shows(Mutant::QuorumIgnoresGrants, one());
    for mutant in [Mutant::LeaseFromReceipt, Mutant::DriftIgnored] {
        shows(mutant, Scene { passes: vec![TERM], ..one() });
    }
    shows(Mutant::NoGrantorAccept, Scene { fires: vec![1, 0, 0], passes: vec![BEFORE], ..one() });
    shows(Mutant::GrantsForgotten, Scene { crashes: vec![0, 1, 0], ..one() });
    let by_grantor = Scene { commands: vec![(1, 0, slot())], ..one() };
    shows(Mutant::RestartBindsAcksOnly, Scene { crashes: vec![0, 1, 0], ..by_grantor });
}

#[test]
#[ignore = "minutes and gigabytes: see docs/simulation.md"]
fn a_grant_to_an_earlier_life_is_noticed_in_a_scene() {
    let lives = leased(vec![0, 0, 2]);
    shows(Mutant::GrantOfAnyIncarnation, Scene { crashes: vec![0, 0, 1], passes: vec![TERM], ..lives });
}
