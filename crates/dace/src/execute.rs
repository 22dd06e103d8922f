//! Execution: which commands are known, how far each has come, and which one is next.
//!
//! A command may be executed when it is committed, its decision is durable, and nothing smaller is
//! undecided in its slots. In a group of one every timestamp is attached here and above all before it, so
//! nothing smaller can still appear: the smallest known command is the only one that can be next.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::limits::{IN_FLIGHT_LEN_MAX, IN_FLIGHT_MAX};
use types::{CommandId, SlotSet, Timestamp};

use crate::core::Core;
use crate::floors::Floors;
use crate::output::Output;

/// How far a command has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Entered when its `Propose` is appended (or restored); left when it is decided.
    Proposed,
    /// Entered when its `Commit` is appended (or restored) at `position`; left when it is executed, which
    /// waits until that position is durable. An executed command is forgotten.
    Committed {
        /// Where the decision stands in the journal.
        position: u64,
    },
}

/// A command that is known and not executed.
pub(crate) struct Known {
    pub(crate) stage: Stage,
    pub(crate) slots: SlotSet,
    pub(crate) body: Bytes,
}

/// The place of a command in the order.
pub(crate) type Place = (Timestamp, CommandId);

/// The commands that are known and not executed, and how far execution has come.
pub(crate) struct Commands {
    known: BTreeMap<Place, Known>,
    /// Bytes of their bodies.
    len: usize,
    /// The highest timestamp executed in each slot: a check, not an input.
    executed: Floors,
    last: Option<Place>,
}

impl Commands {
    pub(crate) fn new() -> Self {
        Self { known: BTreeMap::new(), len: 0, executed: Floors::new(), last: None }
    }

    /// Number of known commands.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// Bytes of their bodies.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether one more command with a body of `len` bytes is within the limits.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.known.len() < IN_FLIGHT_MAX && (self.known.is_empty() || self.len + len <= IN_FLIGHT_LEN_MAX)
    }

    /// Takes in a command that was proposed.
    pub(crate) fn insert(&mut self, place: Place, slots: SlotSet, body: Bytes) {
        self.len += body.len();
        let known = Known { stage: Stage::Proposed, slots, body };
        assert!(self.known.insert(place, known).is_none(), "an id is proposed once");
    }

    /// The command at `place`, if it is known and not executed.
    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut Known> {
        self.known.get_mut(&place)
    }

    /// Whether the command at `place` is known and not decided.
    pub(crate) fn is_undecided(&self, place: Place) -> bool {
        self.known.get(&place).is_some_and(|known| known.stage == Stage::Proposed)
    }

    /// The timestamp of the smallest known command.
    pub(crate) fn smallest(&self) -> Option<Timestamp> {
        self.known.first_key_value().map(|((timestamp, _), _)| *timestamp)
    }

    /// The commands that are not decided, in order.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = Place> {
        self.known.iter().filter(|(_, known)| known.stage == Stage::Proposed).map(|(place, _)| *place)
    }

    /// The last command executed (or covered by the restored state).
    pub(crate) fn last(&self) -> Option<Place> {
        self.last
    }

    /// A restart begins with everything at or below `cut` executed.
    pub(crate) fn restored(&mut self, cut: Timestamp) {
        self.executed.raise_all(cut);
    }

    /// Takes the smallest command out if it is committed and its decision durable. Gives the position of
    /// the decision too.
    fn take_ready(&mut self, durable: u64) -> Option<(Place, Known, u64)> {
        let first = self.known.first_entry()?;
        let Stage::Committed { position } = first.get().stage else { return None };
        if position > durable {
            return None;
        }
        let (place, known) = first.remove_entry();
        self.len -= known.body.len();
        Some((place, known, position))
    }
}

impl Core {
    /// Puts out the next command that may be executed. False when there is none.
    pub(crate) fn execute_next(&mut self) -> bool {
        let Some((place, known, position)) = self.commands.take_ready(self.durable) else { return false };
        let (timestamp, id) = place;
        assert!(position <= self.durable, "nothing is executed before it is durable");
        assert!(self.commands.last < Some(place), "a group of one executes in the order of its timestamps");
        self.commands.last = Some(place);
        if timestamp <= self.executed_cut {
            // The restored state holds its effect already.
            return true;
        }
        self.commands.executed.raise(&known.slots, timestamp);
        self.cuts.handle_executed(timestamp);
        self.outputs.push_back(Output::Execute { timestamp, id, body: known.body, durable: position });
        true
    }
}
