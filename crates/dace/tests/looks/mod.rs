//! Readers of one key beside the loop: what a replica has published, output by output, and every way to look at it.

use std::collections::BTreeMap;

use dace::Output;
use types::{CommandId, Slot, SlotSet};

/// What such a reader looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Until when the lease is held.
    Deadline,
    /// Whether a write pends: if so it gives up.
    Pending,
    /// The clock: past the deadline it gives up.
    Clock,
    /// The state, which is the answer: always the last.
    State,
}

/// What is there at an instant, of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct View {
    mono_ns: u64,
    until: u64,
    pends: bool,
    /// Writes in the state, and writes that somebody could see anywhere.
    executed: usize,
    visible: usize,
}

/// All that was there, in order.
#[derive(Clone, Default, Debug)]
struct Views(Vec<View>);

impl Views {
    fn push(&mut self, view: View) {
        let is_news = self.0.last().is_none_or(|last| View { mono_ns: view.mono_ns, ..*last } != view);
        if is_news {
            self.0.push(view);
        }
    }

    /// The fewest writes that a reader shows which looks in this order, from the `from`-th view on, whenever it looks.
    fn fewest(&self, order: &[Look], from: usize, until: u64) -> Option<usize> {
        let [look, rest @ ..] = order else { return None };
        let here = self.0.get(from)?;
        // Clocks go on, and writes stay in the state: but for the deadline, the sooner it looks the less it shows.
        match look {
            Look::State => Some(here.executed),
            Look::Clock if here.mono_ns >= until => None,
            Look::Clock => self.fewest(rest, from, until),
            Look::Pending => {
                let clear = (from..self.0.len()).find(|at| !self.0[*at].pends)?;
                self.fewest(rest, clear, until)
            }
            Look::Deadline => {
                let ways = (from..self.0.len()).filter_map(|at| self.fewest(rest, at, self.0[at].until));
                ways.min()
            }
        }
    }

    /// How many reads can be answered, and one that shows less than could be seen before it began.
    fn judge(&self, order: &[Look]) -> (usize, Option<String>) {
        let mut answered = 0;
        for (from, begun) in self.0.iter().enumerate() {
            let Some(shows) = self.fewest(order, from, 0) else { continue };
            answered += 1;
            if shows < begun.visible {
                return (answered, Some(format!("from view {from} on, {order:?} shows {shows} writes: {self:?}")));
            }
        }
        (answered, None)
    }
}

/// What one replica publishes in one life.
#[derive(Clone, Default)]
pub(crate) struct Published {
    until: u64,
    pending: BTreeMap<CommandId, SlotSet>,
    executed: Vec<usize>,
    views: Vec<Views>,
    /// Pending writes are never published.
    pub(crate) is_blind: bool,
}

impl Published {
    /// Of so many slots.
    pub(crate) fn new(slots: u16, is_blind: bool) -> Self {
        let (executed, views) = (vec![0; usize::from(slots)], vec![Views::default(); usize::from(slots)]);
        Self { executed, views, is_blind, ..Self::default() }
    }

    /// A replica has put something out.
    pub(crate) fn publish(
        &mut self,
        mono_ns: u64,
        output: &Output,
        visible: &[usize],
        slots: &BTreeMap<CommandId, SlotSet>,
    ) {
        match output {
            Output::Pends { id, slots } if !self.is_blind => drop(self.pending.insert(*id, slots.clone())),
            Output::Settles { id, .. } => drop(self.pending.remove(id)),
            Output::Lease { until, .. } => self.until = *until,
            Output::Execute { id, .. } => {
                let touched = |at: &usize| slots[id].meets(&slot(*at));
                (0..self.executed.len()).filter(touched).for_each(|at| self.executed[at] += 1);
            }
            _ => return,
        }
        self.look(mono_ns, visible);
    }

    /// Time has passed, or something else could be seen.
    pub(crate) fn look(&mut self, mono_ns: u64, visible: &[usize]) {
        for (at, views) in self.views.iter_mut().enumerate() {
            let executed = self.executed[at];
            let pends = self.pending.values().any(|slots| slots.meets(&slot(at)));
            let visible = visible[at].max(executed);
            views.push(View { mono_ns, until: self.until, pends, executed, visible });
        }
    }

    /// Reads of every slot, begun at any instant: how many can be answered, and a stale one.
    pub(crate) fn judge(&self, order: &[Look]) -> (usize, Option<String>) {
        let judged: Vec<(usize, Option<String>)> = self.views.iter().map(|views| views.judge(order)).collect();
        (judged.iter().map(|(answered, _)| answered).sum(), judged.into_iter().find_map(|(_, stale)| stale))
    }
}

fn slot(at: usize) -> SlotSet {
    SlotSet::of(vec![Slot(u16::try_from(at).expect("few slots"))])
}
