//! What the protocol costs where nothing breaks: replicas in the regions of a round-trip matrix, exact links, disks
//! that flush in a millisecond, clocks that agree. Nothing is executed but the core; the world of faults is
//! [`crate::group`].
//!
//! `cargo run --release -p sim -- --latency` prints the tables of `docs/consensus.md`.

mod changes;
mod leases;
mod machine;
mod regions;
mod samples;
mod tables;
mod world;

pub use changes::{Change, Changing, Stall};
pub use leases::{LeasedReads, Leases};
pub use regions::{Regions, RegionsError};
pub use samples::{Costs, Samples};
pub use tables::tables;

/// How long a flush takes. What is appended meanwhile goes into the next one.
pub const FLUSH_NS: u64 = 1_000_000;

/// What is written, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Each region writes slots of its own, a command every `gap_ns` in the mean.
    Apart {
        /// Mean gap between two commands of one region.
        gap_ns: u64,
    },
    /// All regions write one slot, one of them a command every `gap_ns` in the mean.
    OneSlot {
        /// Mean gap between two commands of the group.
        gap_ns: u64,
    },
    /// One slot, and one region writes it: a home to which the others forward.
    Home {
        /// Mean gap between two commands.
        gap_ns: u64,
    },
}

/// How gaps are spread about their mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gaps {
    /// As those of many independent clients: exponentially.
    Exponential,
    /// Evenly between nothing and twice the mean.
    Uniform,
}

/// What to run. Only gaps, and who is next in one slot, are drawn at random; everything else is exact.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where the replicas are, and how far apart.
    pub regions: Regions,
    /// How many of them may fail.
    pub faults: usize,
    /// What is written.
    pub load: Load,
    /// Commands of the whole group.
    pub commands: usize,
    /// Clocks are wrong by this, every second one fast, the others slow.
    pub clock_error_ns: u64,
    /// How gaps are drawn.
    pub gaps: Gaps,
    /// Decides what is drawn.
    pub seed: u64,
    /// How far promises stay behind the clock, if not as far as the number of faults asks.
    pub promise_lag_ns: Option<u64>,
    /// Whether a coordinator that is alone in a slot proposes ahead of its clock, by the way to its quorum.
    pub is_ahead: bool,
    /// Leases, if anybody wants any.
    pub leases: Option<Leases>,
}

impl Scenario {
    /// Clocks that agree.
    #[must_use]
    pub fn new(regions: Regions, faults: usize, load: Load, commands: usize) -> Self {
        let (gaps, seed) = (Gaps::Exponential, 0);
        Self {
            regions,
            faults,
            load,
            commands,
            clock_error_ns: 0,
            gaps,
            seed,
            promise_lag_ns: None,
            is_ahead: true,
            leases: None,
        }
    }

    /// `F`, the size of a fast quorum.
    #[must_use]
    pub fn fast_size(&self) -> usize {
        let n = self.regions.count();
        (n / 2 + 1).max(n / 2 + self.faults)
    }

    /// How many replicas the quorums have on which coordinators count: all where everybody holds the lease of everything.
    pub(crate) fn quorum_size(&self) -> usize {
        if self.leases.is_some() { self.regions.count() } else { self.fast_size() }
    }

    /// What no answer in `region` can beat: the round trip to the nearest quorum and three flushes.
    #[must_use]
    pub fn limit_ns(&self, region: usize) -> u64 {
        self.regions.nearest_ns(region, self.fast_size() - 1) + 3 * FLUSH_NS
    }

    /// The same where every replica holds the lease of everything: the round trip to the farthest of them.
    #[must_use]
    pub fn leased_limit_ns(&self, region: usize) -> u64 {
        self.regions.nearest_ns(region, self.regions.count() - 1) + 3 * FLUSH_NS
    }

    /// Runs it to the last answer and the last cut.
    #[must_use]
    pub fn run(&self) -> Samples {
        world::World::new(self).run()
    }
}
