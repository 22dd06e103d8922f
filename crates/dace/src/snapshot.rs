//! Stored states: which cuts members hold, what may therefore be forgotten, and the installation of a peer's
//! state (`consensus.md`, section 7).

use types::{CommandId, Timestamp};

use crate::command::{Decision, Lead, Stage};
use crate::core::Core;
use crate::epoch::State;
use crate::execute::Frontier;
use crate::mutant::Mutant;
use crate::status::Phase;

impl Core {
    /// The state at `cut` is durable here.
    pub fn handle_stored(&mut self, cut: Timestamp) {
        assert!(cut <= self.cuts.last().max(self.executed_cut), "only what was cut is stored");
        let own = &mut self.journals[self.me];
        own.stored = own.stored.max(cut);
        self.say_have();
    }

    /// The highest cut that `n - f` members hold durably, this replica among them.
    #[must_use]
    pub fn trimmable(&self) -> Timestamp {
        let mut stored: Vec<Timestamp> = self.journals.iter().map(|journal| journal.stored).collect();
        stored.sort_unstable_by(|a, b| b.cmp(a));
        stored[self.config.recovery_size() - 1].min(self.journals[self.me].stored)
    }

    /// Whether the votes on `id` are forgotten: it is never voted on again.
    pub(crate) fn is_settled(&self, id: CommandId) -> bool {
        self.settled.contains(id) && !self.mutates(Mutant::VotesBelowWatermark)
    }

    /// Forgets the commands that are executed at or below `cut`.
    pub(crate) fn settle(&mut self, cut: Timestamp) {
        let settled: Vec<CommandId> = self
            .commands
            .iter()
            .filter(|(_, known)| known.stage == Stage::Executed)
            .filter(|(_, known)| known.decision.is_some_and(|decision| decision.timestamp <= cut))
            .map(|(id, _)| id)
            .collect();
        for id in settled {
            self.commands.remove(id);
            self.settled.insert(id);
        }
    }

    /// The driver has installed a peer's state: it is now exactly the state at `cut`. What is decided above it
    /// is executed (again).
    ///
    /// Panics when the state here is not older.
    pub fn handle_snapshot(&mut self, now: types::Now, cut: Timestamp) {
        assert!(cut > self.cuts.last() && cut > self.executed_cut, "a snapshot is ahead of the state");
        assert!(self.phase != Phase::Restoring, "a snapshot is installed after the start");
        self.clock.advance(now);
        self.counters.snapshots += 1;
        self.take_state(cut);
        self.journals[self.me].stored = cut;
        if self.mutates(Mutant::SnapshotDropsAttached) {
            self.drop_attached();
        }
        self.say_have();
        self.advance();
    }

    /// The state here is now exactly that at `cut`.
    pub(crate) fn take_state(&mut self, cut: Timestamp) {
        if !self.has_state() {
            self.span.state = State::Within;
        }
        self.executed_cut = cut;
        self.doubt_proposed();
        self.cuts.installed(cut);
        self.reads.handle_snapshot();
        self.frontier = Frontier::new();
        self.frontier.raise_all(cut);
        let decided: Vec<(CommandId, Decision, Stage)> = self
            .commands
            .iter()
            .filter(|(_, known)| known.stage != Stage::Undecided)
            .filter_map(|(id, known)| Some((id, known.decision?, known.stage)))
            .collect();
        for (id, decision, stage) in decided {
            let place = (decision.timestamp, id);
            match stage {
                Stage::Committed if decision.timestamp <= cut => {
                    let slots = self.commands.at(id).and_then(|known| known.shared_slots());
                    self.committed.remove(place, slots.as_deref());
                    self.mark_covered(id);
                }
                Stage::Executed if decision.timestamp > cut => self.execute_again(id, decision.timestamp),
                _ => {}
            }
        }
        self.settle_told();
        self.wake.clear();
        self.wake_all();
    }

    fn execute_again(&mut self, id: CommandId, timestamp: Timestamp) {
        let own = id.replica == self.config.replica;
        let known = self.commands.at_mut(id).expect("it was just listed");
        known.stage = Stage::Committed;
        let slots = known.shared_slots();
        self.committed.insert((timestamp, id), slots.as_deref());
        self.pend(id);
        if own {
            self.commands.enters_flight(id);
        }
    }

    /// A rule taken out: the snapshot replaces votes as well.
    fn drop_attached(&mut self) {
        let attached: Vec<CommandId> = self.blocks().iter().map(|(_, id)| id).collect();
        for id in attached {
            let Some(known) = self.commands.at_mut(id) else { continue };
            known.attached = None;
            known.accepted = None;
            known.joined = 0;
            known.lead = Lead::None;
            let (me, slots) = (self.me, known.shared_slots());
            if let Some(attach) = known.attaches[me].take() {
                self.journals[me].blocks.remove((attach.timestamp, id), slots.as_deref());
            }
        }
    }
}
