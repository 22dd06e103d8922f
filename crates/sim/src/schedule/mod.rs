//! Schedules: a few real cores driven by hand, step by step, where nothing moves unless a line says so.
//!
//! A schedule is a list of small steps, one a line ([`Step`]). A step that does not apply is passed over, so every
//! subsequence of a schedule is a schedule: what was found by chance is made small by leaving lines out ([`shrink`]).
//! There is no network and no time but that of the steps; what is checked after every one of them is in `check`.
//!
//! [`Witness`] is a schedule that shows what a rule is for: it ends in a violation with the rule taken out, and in
//! none with it in place.

mod check;
mod draw;
mod node;
mod output;
mod reads;
mod rollback;
pub mod scene;
mod search;
mod settle;
mod shrink;
mod step;
mod witness;
mod world;

pub use crate::group::Violation;
pub use draw::{Profile, draw};
pub use search::{Found, search};
pub use shrink::shrink;
pub use step::{ParseError, Step, parse};
pub use witness::{Witness, WitnessError};

use crate::group::panics;

/// Slots that schedules touch: a command on all of them touches these.
pub const SLOTS: u16 = 6;

/// A group, and the rule that is taken out of every core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Replicas: 3 or more.
    pub replicas: usize,
    /// How many of them may fail for good.
    pub faults: usize,
    /// The rule taken out.
    pub mutant: Option<dace::Mutant>,
}

impl Setting {
    /// A group with every rule in place.
    #[must_use]
    pub fn new(replicas: usize, faults: usize) -> Self {
        Self { replicas, faults, mutant: None }
    }

    /// The same group, with a rule taken out or none.
    #[must_use]
    pub fn with(self, mutant: Option<dace::Mutant>) -> Self {
        Self { mutant, ..self }
    }
}

/// What a schedule did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Steps that applied.
    pub applied: usize,
    /// Commands executed somewhere.
    pub executed: usize,
    /// Cuts taken somewhere.
    pub cuts: usize,
    /// Quorum reads finished.
    pub reads: usize,
    /// Decisions by fast path, slow path, without a member; recoveries by rule 1 to 4.
    pub decided: [u64; 7],
}

impl Done {
    /// Adds what another schedule did.
    pub fn add(&mut self, other: &Self) {
        self.applied += other.applied;
        self.executed += other.executed;
        self.cuts += other.cuts;
        self.reads += other.reads;
        self.decided.iter_mut().zip(other.decided).for_each(|(sum, more)| *sum += more);
    }
}

/// Runs a schedule. A panic of the core (an assertion that stays on) is a violation like any other.
pub fn run(setting: Setting, steps: &[Step]) -> Result<Done, Box<Violation>> {
    panics::watch();
    let ran = panics::caught(|| {
        let mut world = world::World::new(setting);
        steps.iter().try_for_each(|step| world.apply(step).map(drop))?;
        world.finish()
    });
    ran.unwrap_or_else(asserted)
}

/// Runs a schedule, and shows every step, whether it applied, and what came of it.
pub fn trace(
    setting: Setting,
    steps: &[Step],
    show: &mut dyn FnMut(&Step, bool, &[String]),
) -> Result<Done, Box<Violation>> {
    panics::watch();
    let ran = panics::caught(|| {
        let mut world = world::World::new(setting);
        world.is_traced = true;
        for step in steps {
            let applied = world.apply(step);
            show(step, applied != Ok(false), &core::mem::take(&mut world.lines));
            applied?;
        }
        world.finish()
    });
    ran.unwrap_or_else(asserted)
}

/// A panic as a violation.
fn asserted<T>(said: String) -> Result<T, Box<Violation>> {
    Err(Box::new(Violation { check: "assertion", reason: said }))
}
