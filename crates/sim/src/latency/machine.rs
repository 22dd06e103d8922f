//! A replica: its core, its disk, and what it has not sent yet.

use std::rc::Rc;

use dace::{Config, Core, LeaseTiming, Record, Restore};
use types::{Epoch, GroupId, Now, ReplicaId, Timestamp};

use super::{FLUSH_NS, Scenario};

/// The wall clock at which every run begins (ns since the Unix epoch).
const WALL_NS: u64 = 1_700_000_000_000_000_000;

pub(super) struct Machine {
    pub(super) core: Core,
    /// Wall clock when the run begins.
    wall_ns: u64,
    /// The last position appended, and the last one durable.
    pub(super) appended: u64,
    pub(super) durable: u64,
    /// What the flush in progress makes durable.
    pub(super) flushing: Option<u64>,
    /// Appended since the last send.
    pub(super) unsent: Vec<Record>,
    /// Appended and durable position at the last send.
    pub(super) sent: (u64, u64),
    pub(super) sent_at: u64,
    pub(super) has_beat: bool,
    pub(super) tick_at: Option<u64>,
    /// Own commands that are answered and not cut: timestamp, and when they were answered.
    pub(super) uncut: Vec<(Timestamp, u64)>,
    pub(super) trimmed_at: u64,
}

impl Machine {
    pub(super) fn new(scenario: &Scenario, at: usize) -> Self {
        let regions = &scenario.regions;
        let members: Vec<ReplicaId> = (0..regions.count()).map(replica).collect();
        let f = u32::try_from(scenario.faults).expect("few faults");
        let config = Config { group: GroupId(1), replica: members[at], members, f, epoch: Epoch(1) };
        let mut core = Core::new(config, Restore::default()).expect("a group of regions is a group");
        let nearest: Vec<ReplicaId> = regions.nearest(at).into_iter().map(replica).collect();
        core.prefer(&nearest);
        let others = scenario.quorum_size() - 1;
        core.set_promise_lag(scenario.promise_lag_ns.unwrap_or_else(|| promise_lag_ns(scenario, at)));
        if let Some(leases) = scenario.leases {
            core.set_lease_timing(LeaseTiming { term_ns: leases.term_ns, ..LeaseTiming::default() });
        }
        if scenario.is_ahead {
            core.set_ahead(regions.nearest_ns(at, others) / 2 + FLUSH_NS);
        }
        let error_ns = scenario.clock_error_ns;
        let wall_ns = if at.is_multiple_of(2) { WALL_NS + error_ns } else { WALL_NS - error_ns };
        Self {
            core,
            wall_ns,
            appended: 0,
            durable: 0,
            flushing: None,
            unsent: Vec::new(),
            sent: (0, 0),
            sent_at: 0,
            has_beat: false,
            tick_at: None,
            uncut: Vec::new(),
            trimmed_at: 0,
        }
    }

    /// Its clocks at `at`.
    pub(super) fn clock(&self, at: u64) -> Now {
        Now { mono_ns: at, wall_ns: self.wall_ns + at }
    }

    /// Whether something it knows of is not in a block yet.
    pub(super) fn is_unsettled(&self) -> bool {
        let status = self.core.status();
        status.committed > 0
            || status.executed.is_some_and(|(timestamp, _)| timestamp > status.cut)
            || self.core.blocking().any(|(_, _, undecided)| undecided.is_some())
    }

    /// What is to be sent now.
    pub(super) fn take_unsent(&mut self) -> Rc<[Record]> {
        std::mem::take(&mut self.unsent).into()
    }
}

/// The replica in a region.
pub(super) fn replica(region: usize) -> ReplicaId {
    ReplicaId(u32::try_from(region + 1).expect("few regions"))
}

/// None for `f = 1`. Above that a promise must not overtake the proposals of those who count on this replica, or
/// the acks differ: it stays behind by the way from the farthest of them, the flush before a proposal counts, and
/// one more that it may have to wait for.
fn promise_lag_ns(scenario: &Scenario, at: usize) -> u64 {
    if scenario.faults < 2 {
        return 0;
    }
    let regions = &scenario.regions;
    let counts = |coordinator: &usize| {
        let quorum = regions.nearest(*coordinator);
        *coordinator != at && quorum[..scenario.quorum_size() - 1].contains(&at)
    };
    let farthest = (0..regions.count()).filter(counts).map(|coordinator| regions.one_way_ns(coordinator, at)).max();
    farthest.map_or(0, |way| way + 2 * FLUSH_NS + 2 * scenario.clock_error_ns)
}
