//! Stability and execution (`consensus.md`, section 4).

use types::limits::SLOTS;
use types::{CommandId, Slot, SlotSet, Timestamp};

use crate::command::Stage;
use crate::config::Member;
use crate::core::Core;
use crate::index::Place;
use crate::mutant::Mutant;
use crate::output::Output;
use crate::reconfig::Reconfig;
use crate::status::Phase;

/// The last place executed per slot: what a snapshot and a quorum read compare with.
#[derive(Clone)]
pub(crate) struct Frontier {
    slots: Vec<Place>,
    /// The last `*` command.
    everywhere: Place,
}

/// Below every command.
const NOTHING: Place =
    (Timestamp::ZERO, CommandId { replica: types::ReplicaId(0), incarnation: types::Incarnation(0), counter: 0 });

impl Frontier {
    pub(crate) fn new() -> Self {
        Self { slots: vec![NOTHING; usize::from(SLOTS)], everywhere: NOTHING }
    }

    /// The last place executed in `slot`.
    pub(crate) fn at(&self, slot: Slot) -> Place {
        self.slots[usize::from(slot.0)].max(self.everywhere)
    }

    /// A command is executed: in each of its slots it is the last.
    fn raise(&mut self, slots: &SlotSet, place: Place) {
        match slots {
            SlotSet::All => {
                let last = self.slots.iter().copied().max().unwrap_or(NOTHING).max(self.everywhere);
                assert!(place > last, "a * command is executed in order: {place:?} after {last:?}");
                self.everywhere = place;
            }
            SlotSet::Some(slots) => {
                for slot in slots {
                    let last = self.at(*slot);
                    assert!(place > last, "each slot is executed in order: {place:?} after {last:?} in {slot:?}");
                    self.slots[usize::from(slot.0)] = place;
                }
            }
        }
    }

    /// The state holds everything at or below `cut`.
    pub(crate) fn raise_all(&mut self, cut: Timestamp) {
        self.everywhere = self.everywhere.max((cut, CommandId::MAX));
    }
}

impl Core {
    /// The first command in each of these slots may have become executable.
    pub(crate) fn wake_slots(&mut self, slots: &SlotSet) {
        match slots {
            SlotSet::All => self.wake_all(),
            SlotSet::Some(slots) => {
                for slot in slots {
                    self.wake.extend(self.committed.first_in(*slot));
                }
            }
        }
    }

    /// Anything may have become executable.
    pub(crate) fn wake_all(&mut self) {
        if self.committed.count() > 0 {
            self.wake.extend(self.committed.iter());
        }
    }

    /// What lies above `before` and at or below `promise` may have become executable: a member's promise has
    /// gone from the one to the other.
    pub(crate) fn wake_promised(&mut self, before: Timestamp, promise: Timestamp) {
        self.wake.extend(self.committed.between(before, promise));
    }

    /// What lies at or above `timestamp` may have become executable, in any slot.
    pub(crate) fn wake_from(&mut self, timestamp: Timestamp) {
        let before = Timestamp(timestamp.0.saturating_sub(1));
        self.wake.extend(self.committed.between(before, Timestamp(u64::MAX)));
    }

    /// Puts out the next command that may be executed. False when there is none.
    pub(crate) fn execute_next(&mut self) -> bool {
        while let Some(place) = self.wake.pop_first() {
            if self.is_executable(place) {
                self.execute(place);
                return true;
            }
        }
        false
    }

    /// Whether nothing that may be executed was left asleep. For tests: it looks at everything, while there is little.
    pub(crate) fn has_woken_all(&self) -> bool {
        self.committed.count() > 64 || !self.committed.iter().any(|place| self.is_executable(place))
    }

    /// Stability, and order within each slot.
    fn is_executable(&self, place: Place) -> bool {
        let Some(known) = self.commands.at(place.1).filter(|known| known.stage == Stage::Committed) else {
            return false;
        };
        let Some(slots) = known.slots() else { return false };
        if self.committed.first_of(slots) != Some(place) {
            return false;
        }
        let needed = self.config.majority() - usize::from(self.mutates(Mutant::SmallMajority));
        let vouched = |slot: Option<Slot>| {
            (0..self.config.n()).filter(|member| self.vouches(*member, slot, place.0)).count() >= needed
        };
        match slots {
            SlotSet::All => vouched(None),
            SlotSet::Some(slots) => slots.iter().all(|slot| vouched(Some(*slot))),
        }
    }

    /// Whether a member has promised to attach nothing more at or below `timestamp` in a slot (`None`: in any),
    /// and everything that it attached there is decided.
    fn vouches(&self, member: Member, slot: Option<Slot>, timestamp: Timestamp) -> bool {
        let journal = &self.journals[member];
        let (floor, blocking) = match slot {
            Some(slot) => (journal.floors.at(slot), journal.blocks.first_in(slot)),
            None => (journal.floors.everywhere(), journal.blocks.first()),
        };
        let clear = blocking.is_none_or(|(attached, _)| attached > timestamp);
        floor.max(journal.promise) >= timestamp && (clear || self.mutates(Mutant::ExecutesOverAttached))
    }

    fn execute(&mut self, place: Place) {
        let (timestamp, id) = place;
        let known = self.commands.at(id).expect("is_executable() found it");
        let payload = known.payload.clone().expect("is_executable() found it");
        let position = known.decision.map_or(0, |decision| decision.position);
        assert!(timestamp > self.executed_cut, "the restored state holds what lies at or below its cut");
        assert!(timestamp > self.cuts.last(), "nothing is executed at or below a cut: {place:?}");
        let was = self.committed.remove(place, Some(&payload.slots));
        assert!(was, "a command is executed once: {id}");
        let next = Reconfig::from_body(&payload.body).filter(|_| self.ended().is_none());
        if next.is_some() {
            self.close_ticks(place);
        }
        self.frontier.raise(&payload.slots, place);
        self.reads.handle_executed(&payload.slots);
        let pended = self.commands.at_mut(id).and_then(|known| known.pended.take());
        self.mark_executed(id);
        self.commands.last = self.commands.last.max(Some(place));
        self.cuts.handle_executed(timestamp);
        self.wake_slots(&payload.slots);
        let durable = if position > 0 && self.is_alone() { position } else { self.durable };
        self.outputs.push_back(Output::Execute { timestamp, id, body: payload.body, durable });
        if let Some(next) = next {
            self.end_epoch(place, next);
        }
        self.settles(id, pended);
    }

    /// A command's effect is in the state here, which was installed or restored with it.
    pub(crate) fn mark_covered(&mut self, id: CommandId) {
        let flies = self.commands.at(id).is_some_and(|known| known.flying.is_some());
        self.mark_executed(id);
        if flies {
            self.cover(id);
        }
    }

    /// An own command that was in flight is not executed here any more.
    pub(crate) fn cover(&mut self, id: CommandId) {
        // Nobody waits for what is restored.
        if self.phase != Phase::Restoring {
            self.counters.covered += 1;
            self.outputs.push_back(Output::Covered { id });
        }
    }

    /// A command's effect is in the state here. Its votes stay until they may be forgotten; alone in its group
    /// a replica needs none.
    pub(crate) fn mark_executed(&mut self, id: CommandId) {
        let alone = self.is_alone();
        let Some(known) = self.commands.at_mut(id) else { return };
        known.stage = Stage::Executed;
        let decided = known.decision.map(|decision| (decision.timestamp, id));
        let (flying, pended) = (known.flying.take(), known.pended.take());
        self.commands.leaves_flight(flying);
        self.settles(id, pended);
        self.commands.last = self.commands.last.max(decided);
        if alone {
            self.commands.remove(id);
        }
    }
}
