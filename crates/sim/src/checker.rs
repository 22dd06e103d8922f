//! What must hold, over all lives of the node: judged from outside, by what clients were told, by what the
//! node shows, and by what it signed.

use std::collections::BTreeMap;

use node::replica::Head;
use types::command::Command;
use types::{CommandId, Outcome, Timestamp};

use crate::model::Model;

/// A place in the order of commands.
pub type Place = (Timestamp, CommandId);

/// Something that must never happen has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

/// Shorthand for checks.
pub type Checked = Result<(), Violation>;

/// Fails with `reason` unless `holds`.
pub(crate) fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(reason())) }
}

/// A command that a client handed to the node.
#[derive(Clone, Debug)]
struct Submitted {
    command: Command,
    /// Everything acknowledged before it was handed over stands below it in the order.
    after: Option<Place>,
    /// What the client was told, if it was.
    acked: Option<Outcome>,
}

#[derive(Clone, Debug)]
struct Executed {
    command: CommandId,
    outcome: Outcome,
}

/// The judge.
#[derive(Default)]
pub struct Checker {
    submitted: BTreeMap<CommandId, Submitted>,
    /// What is executed, as far as this life knows.
    executed: BTreeMap<Place, Executed>,
    /// What earlier lives executed above the cut at which this one began: to be executed again.
    expected: BTreeMap<Place, Executed>,
    /// What every client may have seen.
    acked_last: Option<Place>,
    model: Model,
    signed: BTreeMap<u64, Head>,
}

impl Checker {
    /// A client hands over a command.
    pub fn submitted(&mut self, id: CommandId, command: Command) -> Checked {
        let submitted = Submitted { command, after: self.acked_last, acked: None };
        let again = self.submitted.insert(id, submitted);
        // An id may be given again only if its first command left no trace.
        let trace = again.is_some_and(|earlier| earlier.acked.is_some());
        ensure(!trace && !self.executed.values().any(|executed| executed.command == id), || {
            format!("{id} was given to two commands")
        })
    }

    /// The node executed a command.
    pub fn executed(&mut self, place: Place, outcome: &Outcome) -> Checked {
        let (timestamp, id) = place;
        let last = self.executed.last_key_value().map(|(last, _)| *last);
        ensure(last < Some(place), || format!("{id} at {timestamp} is executed after {last:?}"))?;
        let Some(submitted) = self.submitted.get(&id) else {
            return Err(Violation(format!("{id} was never submitted")));
        };
        ensure(submitted.after < Some(place), || {
            format!(
                "{id} at {timestamp} is ordered before {:?}, which was acknowledged before it began",
                submitted.after
            )
        })?;
        let right = self.model.execute(timestamp, id, &submitted.command);
        ensure(right == *outcome, || {
            format!("{id}: {:?}\n  gave {outcome:?}\n  must {right:?}", submitted.command.op)
        })?;
        if let Some(before) = self.expected.remove(&place) {
            ensure(before.outcome == *outcome, || format!("{id} gave {:?} before the crash", before.outcome))?;
        }
        ensure(self.expected.keys().next().is_none_or(|next| *next > place), || {
            format!("{:?} was executed before the crash and is passed over", self.expected.keys().next())
        })?;
        self.executed.insert(place, Executed { command: id, outcome: outcome.clone() });
        Ok(())
    }

    /// The node tells a client the outcome.
    pub fn acked(&mut self, place: Place, outcome: &Outcome) -> Checked {
        let executed = self.executed.get(&place);
        ensure(executed.is_some_and(|executed| executed.outcome == *outcome), || {
            format!("{} is answered with what it did not give", place.1)
        })?;
        self.acked_last = self.acked_last.max(Some(place));
        let submitted = self.submitted.get_mut(&place.1).expect("what is executed was submitted");
        let again = submitted.acked.replace(outcome.clone());
        ensure(again.is_none(), || format!("{} is answered twice", place.1))
    }

    /// The node starts again on a state that stands at `cut`: what is above must be executed again.
    pub fn restarted(&mut self, cut: Timestamp) -> Checked {
        self.expected.append(&mut self.executed.split_off(&(cut.next(), CommandId::default())));
        self.model = Model::default();
        for ((timestamp, id), executed) in &self.executed {
            let command = &self.submitted[id].command;
            let outcome = self.model.execute(*timestamp, *id, command);
            ensure(outcome == executed.outcome, || format!("{id}: the model gave something else before"))?;
        }
        let below = self.expected.keys().next().filter(|(timestamp, _)| *timestamp <= cut);
        ensure(below.is_none(), || format!("the state claims cut {cut}, but {below:?} was never stored in it"))
    }

    /// The node is up again: nothing that it had executed, and so nothing that it had answered, is missing.
    pub fn recovered(&mut self) -> Checked {
        let missing = self.expected.keys().next();
        ensure(missing.is_none(), || {
            let acked = missing.is_some_and(|(_, id)| self.submitted[id].acked.is_some());
            format!("{missing:?} was executed{} and is lost", if acked { " and acknowledged" } else { "" })
        })
    }

    /// The node signs a head.
    pub fn signed(&mut self, head: Head) -> Checked {
        let last = self.signed.last_key_value().map_or(0, |(size, _)| *size);
        ensure(head.size > last, || format!("a head of size {} is signed after one of size {last}", head.size))?;
        self.signed.insert(head.size, head);
        Ok(())
    }

    /// The node is up again and vouches for a log of `size`, of which `root` gives the root at any smaller size.
    pub fn vouches(&self, size: u64, mut root: impl FnMut(u64) -> Result<[u8; 32], Violation>) -> Checked {
        for (signed, head) in &self.signed {
            ensure(*signed <= size, || format!("a head of size {signed} was signed, and the log holds {size}"))?;
            ensure(root(*signed)? == head.root, || {
                format!("the log at size {signed} has not the root that was signed")
            })?;
        }
        Ok(())
    }

    /// The node is up again and finds the kept record of a head of `size`: what it signed must not be above.
    pub fn kept(&self, size: u64) -> Checked {
        let signed = self.signed.last_key_value().map_or(0, |(size, _)| *size);
        ensure(signed <= size, || format!("a head of size {signed} was signed, but only {size} was kept first"))
    }

    /// What must be stored, now that all known commands are executed.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The places executed at or below `cut`.
    pub fn executed_up_to(&self, cut: Timestamp) -> impl Iterator<Item = Place> {
        self.executed.keys().copied().take_while(move |(timestamp, _)| *timestamp <= cut)
    }

    /// The command at a place that was executed.
    #[must_use]
    pub fn command(&self, place: Place) -> Option<&Command> {
        self.executed.contains_key(&place).then(|| &self.submitted[&place.1].command)
    }
}
