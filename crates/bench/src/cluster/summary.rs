//! What a run was, in figures.

use std::collections::BTreeMap;
use std::fmt;

use super::history::{Micros, Tally};
use super::worker::Shared;
use super::{Suffered, seconds};

/// What was done, and what was found.
#[derive(Debug, Default)]
pub struct Summary {
    /// How long the run was, in seconds, from the first call to the last.
    pub seconds: f64,
    tally: Tally,
    kinds: BTreeMap<&'static str, Kind>,
    /// Keys whose history was searched and is linearizable.
    pub keys: usize,
    /// Keys of which nothing was found out.
    pub undecided: usize,
    /// Size of the log that all members agreed on in the end.
    pub log: u64,
    /// Sizes at which roots were seen.
    pub roots: usize,
    /// What must not be.
    pub violations: Vec<String>,
}

/// The faults of one kind: the longest spans of any of them.
#[derive(Debug, Default)]
struct Kind {
    count: u64,
    /// Without an acknowledged write anywhere.
    anywhere: Micros,
    /// Without one at a node that was not struck.
    spared: Option<Micros>,
    /// Without one at any node.
    any: Micros,
    /// From its end until all nodes served.
    back: Micros,
}

impl Summary {
    pub(super) fn of(shared: &Shared, suffered: &[Suffered]) -> Self {
        let mut kinds: BTreeMap<&'static str, Kind> = BTreeMap::new();
        for Suffered { fault, begin, healed, back } in suffered {
            let kind = kinds.entry(fault.kind()).or_default();
            let places = shared.history.acknowledged(*begin..=*back, shared.places());
            let mut all: Vec<Micros> = places.iter().flatten().copied().collect();
            all.sort_unstable();
            kind.count += 1;
            kind.anywhere = kind.anywhere.max(gap(*begin, &all, *back));
            kind.back = kind.back.max(*back - *healed);
            let struck = fault.struck(shared.places());
            for (place, at) in places.iter().enumerate() {
                let gap = gap(*begin, at, *back);
                kind.any = kind.any.max(gap);
                if !struck.contains(&place) {
                    kind.spared = kind.spared.max(Some(gap));
                }
            }
        }
        let seconds = seconds(shared.now());
        Self { seconds, tally: shared.history.tally(), kinds, ..Self::default() }
    }

    /// All calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.tally.values().sum()
    }
}

/// The longest span without any of these.
fn gap(begin: Micros, at: &[Micros], end: Micros) -> Micros {
    let (mut longest, mut last) = (0, begin);
    for next in at.iter().copied().chain([end]) {
        longest = longest.max(next.saturating_sub(last));
        last = next;
    }
    longest
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes = ["acknowledged", "refused", "declined", "unknown"];
        writeln!(f, "{:.0} s, {} calls:\n", self.seconds, self.calls())?;
        writeln!(f, "| call | {} |\n| --- | ---: | ---: | ---: | ---: |", outcomes.join(" | "))?;
        let mut actions: Vec<&str> = self.tally.keys().map(|(action, _)| *action).collect();
        actions.dedup();
        for action in actions {
            let count = |outcome| self.tally.get(&(action, outcome)).copied().unwrap_or(0).to_string();
            writeln!(f, "| {action} | {} |", outcomes.map(count).join(" | "))?;
        }
        self.write_faults(f)?;
        let (keys, undecided) = (self.keys, self.undecided);
        writeln!(f, "\n{keys} keys have linearizable histories, {undecided} were given up.")?;
        writeln!(f, "Roots were compared at {} sizes of the log; all members agree at {}.", self.roots, self.log)
    }
}

impl Summary {
    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let total: u64 = self.kinds.values().map(|kind| kind.count).sum();
        writeln!(f, "\n{total} faults. The longest spans of any of a kind, in seconds: without an acknowledged write")?;
        writeln!(f, "anywhere, at a node that was not struck, at any node; from its end until all nodes served.\n")?;
        writeln!(f, "| fault | times | anywhere | not struck | any node | back |")?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: |")?;
        for (name, kind) in &self.kinds {
            let spared = kind.spared.map_or("-".to_owned(), |gap| format!("{:.2}", seconds(gap)));
            let (anywhere, any, back) = (seconds(kind.anywhere), seconds(kind.any), seconds(kind.back));
            writeln!(f, "| {name} | {} | {anywhere:.2} | {spared} | {any:.2} | {back:.2} |", kind.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_may_be_at_an_end() {
        assert_eq!(gap(10, &[], 50), 40);
        assert_eq!(gap(10, &[15, 20], 50), 30);
        assert_eq!(gap(10, &[40, 45], 50), 30);
        assert_eq!(gap(10, &[15, 45], 50), 30);
    }
}
