//! What leases cost: reads at replicas that all hold the lease of everything, and a holder that dies.

use dace::{Output, Zone};
use types::{Slot, SlotSet};

use super::machine::replica;
use super::world::{BEGIN_AT, Event, World};

/// When zones are wanted: before the first command, by more than a round trip.
pub(super) const WANT_AT: u64 = BEGIN_AT / 4;
/// When the holder dies, if one does, and when the others suspect it.
pub(super) const DIE_AT: u64 = BEGIN_AT + 10_000_000_000;
pub(super) const SUSPECT_AT: u64 = DIE_AT + 400_000_000;

/// Every replica wants the lease of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leases {
    /// How long a grant runs.
    pub term_ns: u64,
    /// Reads of slots that are being written, at replicas drawn at random.
    pub reads: usize,
    /// Mean gap between two of them.
    pub read_gap_ns: u64,
    /// The region whose replica dies in the midst of it.
    pub dies: Option<usize>,
}

/// What reads under a lease took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeasedReads {
    /// Those answered at once.
    pub at_once: u64,
    /// How long the others waited for a pending write, in ns.
    pub waited_ns: Vec<u64>,
    /// Those that found no lease held.
    pub not_held: u64,
}

fn everything() -> Zone {
    Zone(bytes::Bytes::new())
}

impl World<'_> {
    /// Plans what a scenario has to do with leases.
    pub(super) fn plan_leases(&mut self) {
        let Some(leases) = self.scenario.leases else { return };
        self.after(WANT_AT, Event::Want);
        if leases.reads > 0 {
            self.after(BEGIN_AT, Event::Read);
        }
        if let Some(at) = leases.dies {
            self.after(DIE_AT, Event::Die { at });
            self.after(SUSPECT_AT, Event::Suspect { of: at });
        }
    }

    /// Everybody wants everything.
    pub(super) fn want(&mut self) {
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            let clock = machine.clock(self.now);
            machine.core.want_lease(clock, &everything(), [0; 32]).expect("one zone is not too many");
            self.drain(at);
        }
    }

    /// A client reads a slot that was just written somewhere.
    pub(super) fn leased_read(&mut self) {
        let Some(leases) = self.scenario.leases else { return };
        self.reads_begun += 1;
        if self.reads_begun < leases.reads && self.left > 0 {
            let gap = 1 + self.readers.below(2 * leases.read_gap_ns);
            self.after(gap, Event::Read);
        }
        let at = self.readers.index(self.machines.len());
        if self.dead == Some(at) {
            return;
        }
        let slots = SlotSet::of(vec![Slot(self.last_slot)]);
        let machine = &mut self.machines[at];
        let clock = machine.clock(self.now);
        match machine.core.handle_leased_read(clock, &everything(), slots) {
            Ok(read) => drop(self.reads.insert((at, read), self.now)),
            Err(_) => self.samples.reads.not_held += 1,
        }
        self.drain(at);
    }

    /// A leased read is answered.
    pub(super) fn leased_ready(&mut self, at: usize, output: &Output) {
        let Output::LeasedReady { read } = output else { return };
        let begun = self.reads.remove(&(at, *read)).unwrap_or(self.now);
        match self.now - begun {
            0 => self.samples.reads.at_once += 1,
            waited => self.samples.reads.waited_ns.push(waited),
        }
    }

    /// A replica is there no more.
    pub(super) fn die(&mut self, at: usize) {
        self.dead = Some(at);
        self.submitted_at.retain(|id, _| id.replica != replica(at));
        self.machines[at].uncut.clear();
    }

    /// The others notice.
    pub(super) fn suspect(&mut self, of: usize) {
        for at in (0..self.machines.len()).filter(|at| *at != of) {
            let machine = &mut self.machines[at];
            let clock = machine.clock(self.now);
            machine.core.suspect(clock, replica(of), true);
            self.drain(at);
        }
    }
}
