//! The executed watermark: ids whose votes are forgotten, because the state that holds their effect is
//! durable at `n - f` members (`consensus.md`, section 7).
//!
//! Per replica and incarnation the highest counter at or below which every id is settled, and the settled
//! ids above it. An incarnation that is closed and settled to its last id collapses into one number.

use std::collections::{BTreeMap, BTreeSet};

use types::{CommandId, Incarnation, ReplicaId};

/// See the file's documentation.
#[derive(Clone, Default)]
pub(crate) struct Settled {
    /// The highest counter of the settled prefix, by incarnation.
    prefix: BTreeMap<(ReplicaId, Incarnation), u64>,
    /// Settled ids above their prefix.
    above: BTreeSet<CommandId>,
}

impl Settled {
    /// Whether the votes on `id` are forgotten.
    pub(crate) fn contains(&self, id: CommandId) -> bool {
        let prefix = self.prefix.get(&(id.replica, id.incarnation)).copied().unwrap_or(0);
        id.counter <= prefix || self.above.contains(&id)
    }

    /// Settles one id.
    pub(crate) fn insert(&mut self, id: CommandId) {
        let prefix = self.prefix.entry((id.replica, id.incarnation)).or_insert(0);
        if id.counter != *prefix + 1 {
            if id.counter > *prefix {
                self.above.insert(id);
            }
            return;
        }
        *prefix += 1;
        while self.above.remove(&CommandId { counter: *prefix + 1, ..id }) {
            *prefix += 1;
        }
    }

    /// Settles `id` and every id of its incarnation with a smaller counter.
    pub(crate) fn insert_through(&mut self, id: CommandId) {
        let prefix = self.prefix.entry((id.replica, id.incarnation)).or_insert(0);
        *prefix = id.counter.max(*prefix);
        let through = *prefix;
        self.above.retain(|above| {
            (above.replica, above.incarnation) != (id.replica, id.incarnation) || above.counter > through
        });
    }

    /// The prefixes as ids, rising.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = CommandId> + '_ {
        self.prefix.iter().map(|((replica, incarnation), counter)| CommandId {
            replica: *replica,
            incarnation: *incarnation,
            counter: *counter,
        })
    }

    /// The settled ids above their prefixes, rising.
    pub(crate) fn above(&self) -> impl Iterator<Item = CommandId> + '_ {
        self.above.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u64) -> CommandId {
        CommandId { replica: ReplicaId(1), incarnation: Incarnation(2), counter }
    }

    #[test]
    fn the_prefix_grows_over_what_stood_above_it() {
        let mut settled = Settled::default();
        for counter in [1, 3, 4, 6] {
            settled.insert(id(counter));
        }
        assert!(!settled.contains(id(2)) && settled.contains(id(4)) && settled.contains(id(6)));
        assert_eq!(settled.above().count(), 3);
        settled.insert(id(2));
        assert_eq!(settled.prefixes().collect::<Vec<_>>(), [id(4)]);
        assert_eq!(settled.above().collect::<Vec<_>>(), [id(6)]);
        settled.insert_through(id(9));
        assert_eq!(settled.above().count(), 0);
        assert!(settled.contains(id(9)) && !settled.contains(id(10)));
        assert!(!settled.contains(CommandId { incarnation: Incarnation(1), ..id(1) }));
    }
}
