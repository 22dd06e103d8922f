//! The deterministic world: a node with its disks, clocks and clients, in which anything may break at any
//! moment, and everything that happens is a function of one seed.
//!
//! The node is the real one: `dace`, `catalog`, `ledger` and `store`, joined by `node::replica`. Simulated are the
//! machine under it ([`store::disk::MemDisk`], [`store::state::MemState`], clocks), the turns of its threads, and
//! its clients. [`checker::Checker`] judges from outside: what was acknowledged is there with its bytes, what
//! was not is whole or absent, outcomes are those of a plain [`model`] in an order that respects real time, and
//! what was signed is never taken back.
//!
//! That is the world of one node. [`group`] is the world of several replicas and of the protocol between them,
//! [`latency`] the one in which nothing breaks and only time is measured.
//!
//! `cargo run --release -p sim -- --seeds 1000` runs seeds; `--seed N --trace` replays one; `--nodes 3` is a group.

pub mod checker;
pub mod clock;
pub mod group;
mod inspect;
pub mod latency;
mod life;
mod machine;
pub mod model;
pub mod mutant;
pub mod random;
pub mod schedule;
pub mod trace;
pub mod workload;
mod world;

pub use mutant::Mutant;
pub use world::catch;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Turns that the scheduler gives.
    pub steps: u32,
    /// A defect to be found.
    pub mutant: Option<Mutant>,
    /// Whether to keep the lines of the trace.
    pub trace: bool,
}

impl Options {
    /// A run of the usual length.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, steps: 600, mutant: None, trace: false }
    }
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Commands handed to the node.
    pub commands: u64,
    /// Commands that were answered.
    pub acked: u64,
    /// Lives that ended.
    pub crashes: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Entries of the ledger at the end.
    pub entries: u64,
    /// Hash over the trace.
    pub digest: [u8; 32],
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

/// A run in which something happened that must not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What happened.
    pub reason: String,
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs one seed.
pub fn run(options: Options) -> Result<Report, Box<Failure>> {
    world::World::new(options).run()
}
