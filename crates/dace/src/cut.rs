//! Cuts: the ends of the ticks that hold commands. Every replica of a group takes the same ones.

use std::collections::VecDeque;

use types::Timestamp;

use crate::core::Core;
use crate::output::Output;

/// The cuts taken, and those that executed commands ask for.
pub(crate) struct Cuts {
    /// The last one put out, or the one at which the restored state stands.
    last: Timestamp,
    /// Tick ends with executed commands that are not cut yet, strictly rising.
    due: VecDeque<Timestamp>,
}

impl Cuts {
    /// Begins above `last`.
    pub(crate) fn new(last: Timestamp) -> Self {
        Self { last, due: VecDeque::new() }
    }

    /// The last cut.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// The next cut.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due.front().copied()
    }

    /// A command was executed at `timestamp`: its tick wants a cut.
    pub(crate) fn handle_executed(&mut self, timestamp: Timestamp) {
        assert!(timestamp > self.last, "nothing is executed at or below a cut: {timestamp:?} after {:?}", self.last);
        let end = timestamp.tick_end();
        if self.due.back().is_none_or(|back| *back < end) {
            self.due.push_back(end);
        }
    }
}

impl Core {
    /// Puts out the next cut if nothing at or below it is unexecuted or can still be attached. False when
    /// there is none.
    pub(crate) fn cut_next(&mut self) -> bool {
        let Some(cut) = self.cuts.due() else { return false };
        let executed = self.commands.smallest().is_none_or(|smallest| smallest > cut);
        if !executed || self.clock.reading() < cut || self.clock.ceiling_durable() < cut {
            return false;
        }
        assert!(cut > self.cuts.last, "a cut never regresses");
        self.clock.promise(cut);
        self.cuts.due.pop_front();
        self.cuts.last = cut;
        self.outputs.push_back(Output::Cut { timestamp: cut });
        true
    }

    /// When the clock reaches the next cut, in monotonic ns; `None` if none waits for the clock.
    pub(crate) fn cut_deadline(&self) -> Option<u64> {
        let cut = self.cuts.due()?;
        let executed = self.commands.smallest().is_none_or(|smallest| smallest > cut);
        (executed && self.clock.reading() < cut).then(|| self.clock.mono_at(cut))
    }
}
