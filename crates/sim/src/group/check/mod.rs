//! The judge: sees from outside what every replica says, executes and seals, and what clients ask and are
//! told, and knows what must not happen.

mod blocks;
#[cfg(test)]
mod cross;
mod graph;
mod history;
mod order;
mod replay;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use types::{CommandId, Epoch, Outcome, SlotSet, Timestamp};

use super::queue::Instant;
use super::state::{Place, Sealed};
use super::world::EPOCH;
use blocks::Blocks;
pub(crate) use history::{Answer, Ask, History, Reading};
use order::Order;
pub(crate) use search::Searched;

/// What happened that must not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The check that noticed.
    pub check: &'static str,
    /// What it noticed.
    pub reason: String,
}

/// A check's verdict.
pub(crate) type Checked = Result<(), Box<Violation>>;

/// Fails `check` unless `holds`.
pub(crate) fn ensure(holds: bool, check: &'static str, reason: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { violation(check, reason()) }
}

/// Fails `check`.
pub(crate) fn violation<T>(check: &'static str, reason: String) -> Result<T, Box<Violation>> {
    Err(Box::new(Violation { check, reason }))
}

/// Everything that was seen.
pub(crate) struct Judge {
    decided: BTreeMap<CommandId, Timestamp>,
    order: Order,
    blocks: Blocks,
    pub(crate) history: History,
    /// How many members of each epoch may fail.
    faults: BTreeMap<Epoch, usize>,
    /// The epoch of each executed command.
    epochs: BTreeMap<CommandId, Epoch>,
    /// Commands that came to nothing with their epoch.
    voided: BTreeSet<CommandId>,
}

impl Judge {
    pub(crate) fn new(nodes: usize, faults: usize) -> Self {
        Self {
            decided: BTreeMap::new(),
            order: Order::new(nodes),
            blocks: Blocks::new(nodes),
            history: History::new(),
            faults: BTreeMap::from([(EPOCH, faults)]),
            epochs: BTreeMap::new(),
            voided: BTreeSet::new(),
        }
    }

    /// Someone says, or acts on, a decision.
    pub(crate) fn decided(&mut self, replica: usize, id: CommandId, timestamp: Timestamp) -> Checked {
        ensure(self.history.knows(id), "agreement", || {
            format!("r{replica} decides {id}, which nobody submitted", replica = replica + 1)
        })?;
        let first = *self.decided.entry(id).or_insert(timestamp);
        ensure(first == timestamp, "agreement", || {
            format!("r{replica} decides {id} at {timestamp}, and it is decided at {first}", replica = replica + 1)
        })
    }

    /// An epoch begins, of which so many members may fail.
    pub(crate) fn begins(&mut self, epoch: Epoch, faults: usize) {
        self.faults.insert(epoch, faults);
    }

    /// A replica executes a command in an epoch: the same one everywhere, and nowhere else was it void.
    pub(crate) fn of_epoch(&mut self, replica: usize, id: CommandId, epoch: Epoch) -> Checked {
        ensure(!self.voided.contains(&id), "void", || {
            format!("r{replica} executes {id}, which came to nothing with its epoch", replica = replica + 1)
        })?;
        let first = *self.epochs.entry(id).or_insert(epoch);
        ensure(first == epoch, "epochs", || {
            format!("r{replica} executes {id} in epoch {epoch}, and others in {first}", replica = replica + 1)
        })
    }

    /// A replica says that a command of its own came to nothing.
    pub(crate) fn voided(&mut self, replica: usize, id: CommandId) -> Checked {
        ensure(self.order.place(id).is_none(), "void", || {
            format!("r{replica} says that {id} came to nothing, and it was executed", replica = replica + 1)
        })?;
        self.voided.insert(id);
        Ok(())
    }

    /// A replica executed a command.
    pub(crate) fn executed(
        &mut self,
        replica: usize,
        place: Place,
        slots: &SlotSet,
        outcome: &Outcome,
        body: &[u8],
    ) -> Checked {
        self.decided(replica, place.1, place.0)?;
        ensure(self.history.body(place.1) == body, "integrity", || {
            format!("r{replica} executes {} with another body than was submitted", place.1, replica = replica + 1)
        })?;
        let cut = self.blocks.cut(replica);
        ensure(place.0 > cut, "cut", || {
            format!("r{replica} executes {} at {}, at or below its cut {cut}", place.1, place.0, replica = replica + 1)
        })?;
        self.order.executed(replica, place, slots, outcome)
    }

    /// A replica took a cut; `sealed` is the block, if it holds a command.
    pub(crate) fn cut(&mut self, replica: usize, cut: Timestamp, sealed: Option<Sealed>) -> Checked {
        self.blocks.cut_taken(replica, cut, sealed)
    }

    /// A replica goes on from a checkpoint: after a restart, or as a snapshot of another one.
    pub(crate) fn restored(&mut self, replica: usize, cut: Timestamp) -> Checked {
        self.blocks.restored(replica, cut);
        self.order.restored(replica, cut)
    }

    /// A coordinator answers a write; `durable` replicas hold it durably.
    pub(crate) fn acked(&mut self, now: Instant, id: CommandId, outcome: &Outcome, durable: usize) -> Checked {
        let place = self.order.place(id);
        ensure(place.is_some(), "answer", || format!("{id} is answered and was not executed"))?;
        let epoch = self.epochs.get(&id).copied().unwrap_or(EPOCH);
        let needed = self.faults.get(&epoch).copied().unwrap_or(0) + 1;
        ensure(durable >= needed, "durability", || {
            format!("{id} is answered while {durable} replicas hold it durably, and {needed} must")
        })?;
        self.history.answered_write(now, id, outcome);
        Ok(())
    }

    /// A read is answered by a replica: where it stands in the order.
    pub(crate) fn read(&mut self, now: Instant, replica: usize, operation: usize, answer: Answer) {
        let reading = Reading { at: self.order.position(replica).to_vec() };
        self.history.answered_read(now, operation, reading, answer);
    }

    /// Whether all of `replicas` have executed, and cut, the same.
    pub(crate) fn converged(&self, replicas: &[usize]) -> Checked {
        self.order.converged(replicas)?;
        self.blocks.converged(replicas, self.order.last())
    }

    /// The answered writes.
    pub(crate) fn answered(&self) -> impl Iterator<Item = CommandId> + '_ {
        let submitted = self.history.submitted.iter();
        submitted.filter(|(_, submitted)| submitted.answered.is_some()).map(|(id, _)| *id)
    }

    /// Every answered write is executed in its place by one of `replicas`, which are all that is left. Gives their number.
    pub(crate) fn kept(&self, replicas: &[usize]) -> Result<u64, Box<Violation>> {
        let mut kept = 0;
        for id in self.answered() {
            let place = self.order.place(id);
            let has_it = |replica: &usize| place.is_some_and(|place| self.order.has_executed(*replica, place));
            ensure(replicas.iter().any(has_it), "durability", || {
                format!("{id} was answered, and no replica that is left has it")
            })?;
            kept += 1;
        }
        Ok(kept)
    }

    /// How many commands were executed somewhere.
    pub(crate) fn executed_len(&self) -> usize {
        self.order.len()
    }

    /// The timestamp of the last executed command.
    pub(crate) fn executed_last(&self) -> Timestamp {
        self.order.last()
    }

    /// Whether what became of a command is in a state at a cut: it was executed at or below it, or came to nothing with its
    /// epoch, which had ended by then.
    pub(crate) fn is_passed(&self, id: CommandId, cut: Timestamp, epoch: Epoch) -> bool {
        let has_ended = self.history.submitted.get(&id).is_some_and(|submitted| submitted.epoch < epoch);
        has_ended || self.is_below(id, cut)
    }

    /// Whether a command was executed at or below a cut.
    pub(crate) fn is_below(&self, id: CommandId, cut: Timestamp) -> bool {
        self.order.place(id).is_some_and(|(timestamp, _)| timestamp <= cut)
    }

    /// What can be judged only when all is known.
    pub(crate) fn finish(&self) -> Result<Searched, Box<Violation>> {
        graph::serializable(&self.order, &self.history)?;
        replay::replay(&self.order, &self.history)?;
        search::linearizable(&self.history)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::command::{DeleteAccessKey, Op};
    use types::{Command, Incarnation, ReplicaId};

    use super::*;

    #[test]
    fn an_answered_write_that_no_replica_left_has_is_lost() {
        let mut judge = Judge::new(3, 1);
        let op = Op::DeleteAccessKey(DeleteAccessKey { access_key: "nobody".to_owned() });
        let command = Command { salt: [0; 32], principal: String::new(), request: None, op };
        let id = CommandId { replica: ReplicaId(1), incarnation: Incarnation(1), counter: 1 };
        let operation = judge.history.begin(1, Ask::Write(Box::new(command)), SlotSet::All);
        assert!(judge.history.submitted(1, operation, (EPOCH, id), Bytes::new()));
        assert_eq!(judge.kept(&[1, 2]), Ok(0), "what was not answered may be lost");
        judge.executed(0, (Timestamp(7), id), &SlotSet::All, &Outcome::Done, &[]).expect("the first of its slots");
        let refused = judge.acked(2, id, &Outcome::Done, 1).expect_err("one disk is too few");
        assert_eq!(refused.check, "durability");
        judge.acked(2, id, &Outcome::Done, 2).expect("two are enough");
        assert_eq!(judge.kept(&[1, 2]).expect_err("only the first has it").check, "durability");
        assert_eq!(judge.kept(&[0, 2]), Ok(1));
        judge.executed(2, (Timestamp(7), id), &SlotSet::All, &Outcome::Done, &[]).expect("the same again");
        assert_eq!(judge.kept(&[1, 2]), Ok(1));
    }
}
