//! Cuts: the ends of the ticks that hold commands. Every replica of a group takes the same ones
//! (`consensus.md`, section 9).

use std::collections::BTreeSet;

use types::Timestamp;

use crate::core::Core;
use crate::mutant::Mutant;
use crate::output::Output;

/// The cuts taken, and those that executed commands ask for.
#[derive(Clone)]
pub(crate) struct Cuts {
    /// The last one put out, or the one at which the restored state stands.
    last: Timestamp,
    /// Tick ends with executed commands that are not cut yet. Slots run ahead of cuts, so they come in any
    /// order; at most one per tick of the commands that are kept.
    due: BTreeSet<Timestamp>,
}

impl Cuts {
    /// Begins above `last`.
    pub(crate) fn new(last: Timestamp) -> Self {
        Self { last, due: BTreeSet::new() }
    }

    /// The last cut.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// The next cut.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due.first().copied()
    }

    /// A command was executed at `timestamp`: its tick wants a cut.
    pub(crate) fn handle_executed(&mut self, timestamp: Timestamp) {
        assert!(timestamp > self.last, "nothing is executed at or below a cut: {timestamp:?} after {:?}", self.last);
        self.due.insert(timestamp.tick_end());
    }

    /// A cut was put out.
    pub(crate) fn take(&mut self, cut: Timestamp) {
        assert!(cut > self.last && self.due.first() == Some(&cut), "cuts are taken in order");
        self.due.pop_first();
        self.last = cut;
    }

    /// The epoch ends at `cut`: no cut of it comes behind that.
    pub(crate) fn force(&mut self, cut: Timestamp) {
        assert!(cut > self.last && self.due.first().is_none_or(|due| *due >= cut), "the last cut comes last");
        self.last = cut;
        self.due.clear();
    }

    /// No more cuts are taken.
    pub(crate) fn stop(&mut self) {
        self.due.clear();
    }

    /// A snapshot at `cut` took the place of the state.
    pub(crate) fn installed(&mut self, cut: Timestamp) {
        assert!(cut > self.last, "a snapshot is ahead of the state");
        self.last = cut;
        self.due.clear();
    }
}

impl Core {
    /// Puts out the next cut if a majority vouches for it: all that they attached at or below it is decided,
    /// what is decided at or below it is executed here, and nothing more can be. False when there is none.
    pub(crate) fn cut_next(&mut self) -> bool {
        let Some(cut) = self.cuts.due() else { return false };
        if self.committed.first().is_some_and(|(timestamp, _)| timestamp <= cut) {
            return false;
        }
        self.promise_cut(cut);
        let early = self.mutates(Mutant::EarlyCut);
        let vouched = self.journals.iter().filter(|journal| {
            let clear = journal.blocks.first().is_none_or(|(attached, _)| attached > cut);
            journal.promise >= cut && (clear || early)
        });
        if vouched.count() < self.config.majority() {
            return false;
        }
        assert!(cut > self.cuts.last, "a cut never regresses");
        self.cuts.due.pop_first();
        self.cuts.last = cut;
        self.settle_told();
        self.outputs.push_back(Output::Cut { timestamp: cut });
        true
    }

    /// Raises the own promise to a cut, if the clock is there.
    fn promise_cut(&mut self, cut: Timestamp) {
        let reached = self.clock.reading().minus_ns(self.promise_lag_ns) >= cut;
        if self.clock.promised() < cut && reached && self.clock.ceiling_durable() >= cut && self.verdict().speaks() {
            self.raise_promise(cut);
        }
    }

    /// When the clock reaches the next cut, in monotonic ns; `None` if none waits for the clock.
    pub(crate) fn cut_deadline(&self) -> Option<u64> {
        let cut = self.cuts.due()?;
        let executed = self.committed.first().is_none_or(|(timestamp, _)| timestamp > cut)
            && self.blocks().first().is_none_or(|(attached, _)| attached > cut);
        let at = cut.plus_ns(self.promise_lag_ns);
        (executed && self.clock.reading() < at).then(|| self.clock.mono_at(at))
    }
}
