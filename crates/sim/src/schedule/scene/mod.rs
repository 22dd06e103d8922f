//! Scenes: small cases of which every interleaving is tried (`tests/scenes.rs`, with the checker of `stateright`).
//!
//! A replica is a function of its inputs, so that a state of the group is one local state per replica, and a step
//! is an input of one of them. Local states are made once and looked up ever after ([`Explored::next`]): two histories of a
//! replica that said the same, read the same, executed the same and have the same timers behind them are taken for
//! one. That this is right is checked wherever a path ends: the path is run as a schedule, and every replica must say
//! there, record by record, what its local state says.
//!
//! A reader takes what a writer said in one go (the records of one input) in one go. A promise is never given, so there
//! are no cuts; records are read when they are durable, unless a scene says otherwise. Promises are left to schedules by chance.
//!
//! Where leases are, time is one for all: it goes on in steps of the whole group ([`Scene::passes`]), and every clock by as
//! much as its drift allows, as in schedules. What a replica had done before each of them is a part of its local state. A
//! leased read must show what was executed anywhere when it began.

mod machine;
mod table;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use types::SlotSet;

use self::table::{Input, LocalId, Table};
use super::step::Step;
use super::world::World;
use super::{Setting, asserted};
use crate::group::{Violation, panics};

/// What happens in a scene.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The group.
    pub setting: Setting,
    /// Commands: who submits them, whom it prefers for the fast quorum, and on which slots.
    pub commands: Vec<(usize, usize, SlotSet)>,
    /// By replica: how often its clock goes on until its timers fire.
    pub fires: Vec<usize>,
    /// By replica: how often it may crash. A replica that may flushes in a step of its own.
    pub crashes: Vec<usize>,
    /// A reader reads all that there is, not batch by batch. What is lost by that: a reader that is told by a third
    /// replica of a batch which it has not read, and then reads that batch apart from one before it.
    pub reads_all: bool,
    /// A reader reads what is not durable yet, too, and learns later that it is.
    pub reads_tails: bool,
    /// By replica: in how many of its lives it wants the lease of everything, from some instant on.
    pub wants: Vec<usize>,
    /// Reads under that lease, at any instant at which it is held: at whom, and of which slots.
    pub reads: Vec<(usize, SlotSet)>,
    /// Time that goes by for the whole group, in ns, step by step, each at any instant after the first `want`. A timer fires
    /// only when it is due by then ([`Scene::fires`]).
    pub passes: Vec<u64>,
    /// What is executed anywhere counts as seen by somebody, and not only what its own replica has executed, whose client is
    /// answered then.
    pub is_strict: bool,
}

impl Scene {
    /// These commands, and nothing else that happens.
    #[must_use]
    pub fn new(setting: Setting, commands: Vec<(usize, usize, SlotSet)>) -> Self {
        let none = vec![0; setting.replicas];
        Self {
            setting,
            commands,
            fires: none.clone(),
            crashes: none.clone(),
            reads_all: false,
            reads_tails: false,
            wants: none,
            reads: Vec::new(),
            passes: Vec::new(),
            is_strict: true,
        }
    }

    /// Whether time is one for all.
    fn is_timed(&self) -> bool {
        !self.passes.is_empty() || self.wants.iter().any(|wants| *wants > 0)
    }
}

/// A leased read that shows less than was executed somewhere when it began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Stale {
    read: usize,
    shows: usize,
    seen: usize,
}

/// A state of the group.
#[derive(Clone)]
pub struct State {
    locals: Vec<LocalId>,
    /// By leased read that is under way: how much was executed somewhere when it began.
    seen: Vec<Option<usize>>,
    /// The first one that was stale.
    stale: Option<Stale>,
    /// How it was come by; two states are the same whatever that is.
    path: Option<Arc<Link>>,
}

/// The last step of a path, and what came before.
struct Link {
    action: Action,
    before: Option<Arc<Link>>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        (&self.locals, &self.seen, self.stale) == (&other.locals, &other.seen, other.stale)
    }
}

impl Eq for State {}

impl core::hash::Hash for State {
    fn hash<H: core::hash::Hasher>(&self, hasher: &mut H) {
        (&self.locals, &self.seen, self.stale).hash(hasher);
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.locals, self.seen, self.stale)
    }
}

/// An input of one replica, or of all: time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Action {
    at: usize,
    input: Input,
}

/// A scene that is being explored.
pub struct Explored {
    scene: Scene,
    table: Mutex<Table>,
    first: State,
    ends: AtomicUsize,
}

impl Explored {
    /// The scene, with nothing explored.
    #[must_use]
    pub fn new(scene: Scene) -> Self {
        panics::watch();
        let mut table = Table::new(scene.clone());
        let locals = table.first();
        let first = State { locals, seen: vec![None; scene.reads.len()], stale: None, path: None };
        Self { scene, table: Mutex::new(table), first, ends: AtomicUsize::new(0) }
    }

    /// The state at the beginning.
    #[must_use]
    pub fn first(&self) -> State {
        self.first.clone()
    }

    /// How many local states were met.
    #[must_use]
    pub fn locals_len(&self) -> usize {
        self.table().len()
    }

    /// How many paths were followed to their end, where nothing more could happen.
    #[must_use]
    pub fn ends_len(&self) -> usize {
        self.ends.load(Ordering::Relaxed)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect("no thread panics while it holds the table")
    }

    /// What may happen next.
    #[must_use]
    pub fn actions(&self, state: &State) -> Vec<Action> {
        let table = self.table();
        let enabled = |at: usize| table.enabled(&state.locals, at).into_iter().map(move |input| Action { at, input });
        let mut actions: Vec<Action> = (0..state.locals.len()).flat_map(enabled).collect();
        actions.extend(table.passes(&state.locals).map(|input| Action { at: 0, input }));
        actions
    }

    /// The state after an action.
    #[must_use]
    pub fn next(&self, state: &State, action: Action) -> State {
        let mut table = self.table();
        let mut locals = state.locals.clone();
        let mut seen = state.seen.clone();
        let mut stale = state.stale;
        if let Input::Leased(read) = action.input {
            seen[read] = Some(table.shown(&locals));
        }
        let concerned = if let Input::Pass(_) = action.input { 0..locals.len() } else { action.at..action.at + 1 };
        for at in concerned {
            let before = locals[at];
            locals[at] = table.after(before, action.input);
            for (read, shows) in table.answers(before, action.input) {
                let begun = seen[*read].take().unwrap_or(0);
                if *shows < begun {
                    stale = stale.or(Some(Stale { read: *read, shows: *shows, seen: begun }));
                }
            }
            table.forget(locals[at], &mut seen);
        }
        State { locals, seen, stale, path: Some(Arc::new(Link { action, before: state.path.clone() })) }
    }

    /// One timestamp per command, one order, no stale read, and no assertion of a core.
    pub fn holds(&self, state: &State) -> Result<(), Violation> {
        if let Some(Stale { read, shows, seen }) = state.stale {
            let reason = format!("leased read {read} shows {shows} commands, and {seen} were executed before it began");
            return Err(Violation { check: "read", reason });
        }
        self.table().check(&state.locals)
    }

    /// The path to a state as a schedule.
    #[must_use]
    pub fn schedule(&self, state: &State) -> Vec<Step> {
        let mut actions = Vec::new();
        let mut link = state.path.as_ref();
        while let Some(Link { action, before }) = link.map(Arc::as_ref) {
            actions.push(*action);
            link = before.as_ref();
        }
        let table = self.table();
        let mut steps: Vec<Step> = self.preferences().collect();
        let mut read = table.read_first(&self.first.locals);
        steps.extend(actions.iter().rev().flat_map(|action| table.steps(action.at, action.input, &mut read)));
        steps
    }

    fn preferences(&self) -> impl Iterator<Item = Step> + '_ {
        self.scene.commands.iter().map(|(at, first, _)| Step::Prefer(*at, vec![*first]))
    }

    /// Where nothing more can happen: the schedule that leads there holds, says what the local states say, and settles,
    /// with everybody and without any one of them; where leases are, also with any one that speaks and never hears again.
    pub fn settles(&self, state: &State) -> Result<(), Violation> {
        self.ends.fetch_add(1, Ordering::Relaxed);
        let steps = self.schedule(state);
        let caught = panics::caught(|| {
            let mut world = World::new(self.scene.setting);
            for step in &steps {
                world.apply(step)?;
            }
            for (at, local) in state.locals.iter().enumerate() {
                self.table().compare(*local, &world.nodes[at])?;
            }
            for gone in core::iter::once(None).chain((0..state.locals.len()).map(Some)) {
                let mut end = world.clone();
                end.settle(&Vec::from_iter(gone), None)?;
                end.finish()?;
            }
            for deaf in (0..state.locals.len()).filter(|_| self.scene.is_timed()) {
                let mut end = world.clone();
                end.settle(&[], Some(deaf))?;
                end.finish()?;
            }
            Ok(())
        });
        caught.unwrap_or_else(asserted).map_err(|violation| *violation)
    }
}
