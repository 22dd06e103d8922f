//! The world of a group: several replicas, each the real `dace`, `catalog` and `ledger`, under a network, disks,
//! clocks and processes that break, with clients that ask all of them, and a judge that sees everything.
//!
//! One thread, one queue of events, one seed: the same seed gives the same run, byte for byte.

mod asks;
pub(crate) mod check;
mod client;
mod clock;
mod coverage;
mod defect;
mod disk;
mod event;
mod faults;
mod heal;
mod lease;
mod loss;
mod machine;
mod net;
mod ordered;
pub(crate) mod panics;
mod peers;
mod plan;
mod queue;
mod reader;
mod reconf;
mod replica;
mod returns;
mod siege;
mod state;
mod storage;
mod trace;
mod turnover;
mod vouch;
mod world;
mod zones;

pub use check::Violation;
pub use coverage::Coverage;
pub use defect::Defect;

/// How far clocks go astray where there are leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Drift {
    /// As far as leases allow, and no farther.
    #[default]
    Within,
    /// One runs at half its rate: its leases are not safe, and a check must notice.
    Beyond,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Replicas: at least 2.
    pub nodes: usize,
    /// How many of them may fail for good.
    pub faults: usize,
    /// A rule of the protocol taken out of every core.
    pub mutant: Option<dace::Mutant>,
    /// A rule of execution taken out of every driver.
    pub defect: Option<Defect>,
    /// How far clocks go astray.
    pub drift: Drift,
    /// There are leases whatever the seed says: else in half of the runs.
    pub is_leased: bool,
    /// Whether the group changes; `None`: the seed decides.
    pub is_reconfigured: Option<bool>,
    /// Nothing breaks.
    pub is_calm: bool,
    /// Whether to keep the lines of the trace.
    pub trace: bool,
}

impl Options {
    /// A run of a group of `nodes` that survives `faults`.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, faults: usize) -> Self {
        Self {
            seed,
            nodes,
            faults,
            mutant: None,
            defect: None,
            drift: Drift::Within,
            is_leased: false,
            is_reconfigured: None,
            is_calm: false,
            trace: false,
        }
    }
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What was met.
    pub coverage: Coverage,
    /// Hash over the trace.
    pub digest: [u64; 2],
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

/// A run in which something happened that must not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What happened.
    pub violation: Violation,
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs one seed. A panic of the core (an assertion that stays on) is a violation like any other.
pub fn run(options: Options) -> Result<Report, Box<Failure>> {
    panics::watch();
    world::World::new(options).run()
}

/// Looks for a rule that was taken out: the first of `seeds`, spread over `groups` (replicas, faults), in which a check
/// notices that notices nothing with the rule in place, and what it says.
#[must_use]
pub fn catch(
    mutant: dace::Mutant,
    groups: &[(usize, usize)],
    seeds: core::ops::Range<u64>,
) -> Option<(Options, Violation)> {
    // Rules of leases in reconfigurations need both.
    let of_both = [dace::Mutant::LeasedReadAfterSeal, dace::Mutant::LeaseOutlivesEpoch, dace::Mutant::ReconfigInNoZone];
    let is_leased = dace::Mutant::OF_LEASES.contains(&mutant) || of_both.contains(&mutant);
    let is_reconfigured = dace::Mutant::OF_RECONFIG.contains(&mutant);
    first_caught((is_leased, is_reconfigured), |options| Options { mutant: Some(mutant), ..options }, groups, seeds)
}

/// The same for a rule of execution.
#[must_use]
pub fn catch_defect(
    defect: Defect,
    groups: &[(usize, usize)],
    seeds: core::ops::Range<u64>,
) -> Option<(Options, Violation)> {
    let is_leased = Defect::OF_READERS.contains(&defect);
    let kind = (is_leased, defect.is_of_epochs());
    first_caught(kind, |options| Options { defect: Some(defect), ..options }, groups, seeds)
}

/// The same for clocks that run beyond the bound on which leases rest.
#[must_use]
pub fn catch_drift(groups: &[(usize, usize)], seeds: core::ops::Range<u64>) -> Option<(Options, Violation)> {
    first_caught((true, false), |options| Options { drift: Drift::Beyond, ..options }, groups, seeds)
}

fn first_caught(
    (is_leased, is_reconfigured): (bool, bool),
    spoil: impl Fn(Options) -> Options,
    groups: &[(usize, usize)],
    seeds: core::ops::Range<u64>,
) -> Option<(Options, Violation)> {
    seeds.zip(groups.iter().cycle()).find_map(|(seed, (nodes, faults))| {
        let is_reconfigured = Some(is_reconfigured);
        let right = Options { is_leased, is_reconfigured, ..Options::new(seed, *nodes, *faults) };
        let spoilt = spoil(right);
        let failure = run(spoilt).err()?;
        run(right).is_ok().then_some((spoilt, failure.violation))
    })
}
