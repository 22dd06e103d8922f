//! Decisions: the fast path of a coordinator that is its own fast quorum.

use types::CommandId;
use types::journal::RecordKind;

use crate::core::Core;
use crate::execute::{Place, Stage};
use crate::output::Record;

impl Core {
    /// Decides a command at the timestamp of its `Propose`: the acks of all of `Q` are in, since `Q` is this
    /// replica alone. The `Commit` stands right behind what was appended before, so one flush makes both
    /// durable; nothing is shown before that.
    pub(crate) fn decide(&mut self, place: Place) {
        let (timestamp, id) = place;
        let record = Record::bare(RecordKind::Commit, self.config.epoch, self.next_position(), id, timestamp);
        self.mark_committed(place, record.header.position);
        self.append(record);
    }

    /// Notes the decision that stands at `position`.
    pub(crate) fn mark_committed(&mut self, place: Place, position: u64) {
        let known = self.commands.at_mut(place).expect("only a known command is decided");
        assert_eq!(known.stage, Stage::Proposed, "a command gets one timestamp, once: {:?}", place.1);
        known.stage = Stage::Committed { position };
    }

    /// Decides what earlier incarnations proposed and did not live to decide.
    pub(crate) fn decide_leftovers(&mut self) {
        let leftovers: Vec<Place> = self.commands.undecided().collect();
        for place in leftovers {
            assert!(place.1 < self.first_id(), "a leftover is of an earlier incarnation");
            self.decide(place);
        }
    }

    /// The smallest id of this incarnation.
    fn first_id(&self) -> CommandId {
        CommandId { replica: self.config.replica, incarnation: self.incarnation, counter: 0 }
    }
}
