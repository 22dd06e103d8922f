//! Equal order per slot: what each replica executed in a slot is a prefix of one chain.

use std::collections::BTreeMap;

use types::{CommandId, Outcome, Slot, SlotSet, Timestamp};

use super::{Checked, ensure, violation};
use crate::group::state::Place;

/// What is known of an executed command.
pub(crate) struct Executed {
    pub(crate) outcome: Outcome,
}

/// The chain of the commands that touch every slot, and of every slot that nothing else has touched.
const STARS: usize = 0;

/// The order of execution, as the replicas showed it.
pub(crate) struct Order {
    slots: BTreeMap<Slot, usize>,
    chains: Vec<Vec<Place>>,
    /// By replica and chain: how many commands it executed.
    at: Vec<Vec<usize>>,
    executed: BTreeMap<Place, Executed>,
    places: BTreeMap<CommandId, Timestamp>,
}

impl Order {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            chains: vec![Vec::new()],
            at: vec![vec![0]; nodes],
            executed: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// The chain of a slot.
    fn chain(&mut self, slot: Slot) -> usize {
        if let Some(chain) = self.slots.get(&slot) {
            return *chain;
        }
        let chain = self.chains.len();
        self.slots.insert(slot, chain);
        self.chains.push(self.chains[STARS].clone());
        for at in &mut self.at {
            at.push(at[STARS]);
        }
        chain
    }

    pub(crate) fn executed(&mut self, replica: usize, place: Place, slots: &SlotSet, outcome: &Outcome) -> Checked {
        if let SlotSet::Some(slots) = slots {
            for slot in slots {
                self.chain(*slot);
            }
        }
        let chains: Vec<usize> = match slots {
            SlotSet::All => (0..self.chains.len()).collect(),
            SlotSet::Some(slots) => slots.iter().map(|slot| self.slots[slot]).collect(),
        };
        for chain in &chains {
            self.step(replica, place, *chain)?;
        }
        self.places.insert(place.1, place.0);
        match self.executed.get(&place) {
            None => {
                let executed = Executed { outcome: outcome.clone() };
                self.executed.insert(place, executed);
                Ok(())
            }
            Some(first) => ensure(first.outcome == *outcome, "outcome", || {
                format!(
                    "{} gave {outcome:?} at r{replica}, and before {:?}",
                    place.1,
                    first.outcome,
                    replica = replica + 1
                )
            }),
        }
    }

    fn step(&mut self, replica: usize, place: Place, chain: usize) -> Checked {
        let at = &mut self.at[replica][chain];
        let places = &mut self.chains[chain];
        match places.get(*at) {
            Some(next) => ensure(*next == place, "order", || {
                format!(
                    "r{replica} executes {} at {} where others executed {} at {}",
                    place.1,
                    place.0,
                    next.1,
                    next.0,
                    replica = replica + 1
                )
            })?,
            None => {
                let last = places.last();
                ensure(last.is_none_or(|last| *last < place), "order", || {
                    format!(
                        "r{replica} executes {} at {} after {last:?} in the same slot",
                        place.1,
                        place.0,
                        replica = replica + 1
                    )
                })?;
                places.push(place);
            }
        }
        *at += 1;
        Ok(())
    }

    /// A replica goes on from the state at a cut.
    pub(crate) fn restored(&mut self, replica: usize, cut: Timestamp) -> Checked {
        for (at, places) in self.at[replica].iter_mut().zip(&self.chains) {
            *at = places.partition_point(|(timestamp, _)| *timestamp <= cut);
        }
        Ok(())
    }

    /// How many commands of each chain a replica executed.
    pub(crate) fn position(&self, replica: usize) -> &[usize] {
        &self.at[replica]
    }

    /// Whether a replica executed a command in every chain in which it stands.
    pub(crate) fn has_executed(&self, replica: usize, place: Place) -> bool {
        let mut standing = self.chains.iter().zip(&self.at[replica]).filter_map(|(places, at)| {
            let index = places.binary_search(&place).ok()?;
            Some(index < *at)
        });
        standing.next().is_some_and(|is_first| is_first && standing.all(|is_there| is_there))
    }

    pub(crate) fn place(&self, id: CommandId) -> Option<Place> {
        self.places.get(&id).map(|timestamp| (*timestamp, id))
    }

    pub(crate) fn chains(&self) -> &[Vec<Place>] {
        &self.chains
    }

    /// The chain of a slot, if a command touched it by itself; else that of the commands on all slots.
    pub(crate) fn chain_of(&self, slot: Slot) -> usize {
        self.slots.get(&slot).copied().unwrap_or(STARS)
    }

    /// All executed commands, in `(timestamp, id)` order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Place, &Executed)> {
        self.executed.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.executed.len()
    }

    /// The timestamp of the last executed command.
    pub(crate) fn last(&self) -> Timestamp {
        self.executed.last_key_value().map_or(Timestamp::ZERO, |((timestamp, _), _)| *timestamp)
    }

    pub(crate) fn converged(&self, replicas: &[usize]) -> Checked {
        for replica in replicas {
            for (at, places) in self.at[*replica].iter().zip(&self.chains) {
                if let Some(missing) = places.get(*at) {
                    return violation(
                        "liveness",
                        format!("r{replica} has not executed {}", missing.1, replica = replica + 1),
                    );
                }
            }
        }
        Ok(())
    }
}
