//! Executing a command: check it, look for it in the retry window, do it, say what happened.

use types::command::{Command, Op};
use types::fact::Fact;
use types::state::{ReadError, StateRead, Write};
use types::{CommandId, OrderKey, Outcome, Refusal, Timestamp};

use crate::draft::Draft;
use crate::retry::{Recall, Window, WindowItem};
use crate::{check, fact, ops};

/// What a command gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Execution {
    /// The answer for the client.
    pub outcome: Outcome,
    /// The rows to change, at most one change per row, in order of table and key.
    pub writes: Vec<Write>,
    /// What the ledger is told: at least one fact, with rising items from 0.
    pub facts: Vec<Fact>,
}

impl Execution {
    /// For a retry: the order key of the command that it repeats, whose outcome this is.
    #[must_use]
    pub fn original(&self) -> Option<OrderKey> {
        self.facts.first().and_then(|fact| fact.detail.original)
    }
}

/// Executes a command on a state. The command may be anything: what breaks a rule is refused.
///
/// # Errors
///
/// When the state cannot be read, or holds what no replica writes. Nothing can be concluded then, and the
/// replica has to stop.
pub fn execute(
    state: &dyn StateRead,
    timestamp: Timestamp,
    id: CommandId,
    command: &Command,
) -> Result<Execution, ReadError> {
    let mut run = Run { draft: Draft::new(state), timestamp, id, command, facts: Vec::new() };
    let outcome = run.outcome()?;
    debug_assert!(!run.facts.is_empty(), "a command tells the ledger something");
    Ok(Execution { outcome, writes: run.draft.into_writes(), facts: run.facts })
}

/// Why an operation ends early.
pub(crate) enum Stop {
    /// The state could not be read.
    Read(ReadError),
    /// The operation is refused.
    Refused(Refusal),
    /// It is refused because a condition does not hold.
    Condition(Refusal),
    /// It repeats what is kept.
    Replay(Box<WindowItem>),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The execution of one command.
pub(crate) struct Run<'a> {
    pub(crate) draft: Draft<'a>,
    pub(crate) timestamp: Timestamp,
    id: CommandId,
    pub(crate) command: &'a Command,
    pub(crate) facts: Vec<Fact>,
}

impl Run<'_> {
    /// The order key of one of the command's items.
    pub(crate) fn order(&self, item: usize) -> OrderKey {
        let item = u32::try_from(item).expect("a command has at most 1,000 items");
        OrderKey { timestamp: self.timestamp, id: self.id, item }
    }

    fn outcome(&mut self) -> Result<Outcome, ReadError> {
        let command = self.command;
        let mut fact = fact::of(command, self.order(0));
        let checked = named_bucket(&command.op).and_then(|()| check::command(command));
        if let Err(refusal) = checked {
            return Ok(self.refuse(fact, refusal));
        }
        let window = Window::open(&self.draft, command, self.timestamp)?;
        match window.as_ref().map_or(Recall::Fresh, Window::recall) {
            Recall::Fresh => {}
            Recall::Replay(item) => return Ok(self.replay(fact, *item)),
            Recall::Reused => return Ok(self.refuse(fact, Refusal::RequestIdReused)),
        }
        let outcome = match ops::apply(self, &mut fact) {
            Ok(outcome) => {
                // A multi-delete has told one fact per item already.
                if self.facts.is_empty() {
                    self.facts.push(fact);
                }
                outcome
            }
            Err(Stop::Read(error)) => return Err(error),
            Err(Stop::Refused(refusal)) => self.refuse(fact, refusal),
            Err(Stop::Condition(refusal)) => {
                fact::fail(&mut fact, &refusal);
                self.nothing_but(fact);
                Outcome::Refused(refusal)
            }
            Err(Stop::Replay(item)) => self.replay(fact, *item),
        };
        let order = self.order(0);
        if let Some(window) = window {
            window.remember(&mut self.draft, order, &outcome);
        }
        Ok(outcome)
    }

    fn refuse(&mut self, mut fact: Fact, refusal: Refusal) -> Outcome {
        fact::refuse(&mut fact, &refusal);
        self.nothing_but(fact);
        Outcome::Refused(refusal)
    }

    fn replay(&mut self, mut fact: Fact, item: WindowItem) -> Outcome {
        fact::replay(&mut fact, item.order);
        self.nothing_but(fact);
        item.outcome
    }

    /// The command changes nothing, and tells this alone.
    fn nothing_but(&mut self, fact: Fact) {
        self.draft.discard();
        self.facts = vec![fact];
    }
}

/// Row keys hold bucket names, so a name that no bucket can have is looked up nowhere.
fn named_bucket(op: &Op) -> Result<(), Refusal> {
    let possible = match op {
        // Its own check says more of a name.
        Op::Genesis(_)
        | Op::CreateBucket(_)
        | Op::PutAccessKey(_)
        | Op::DeleteAccessKey(_)
        | Op::PutNode(_)
        | Op::AdmitNode(_)
        | Op::Barrier
        | Op::BeginEpoch(_)
        | Op::PutZone(_) => true,
        Op::DeleteBucket(op) => check::is_bucket_name(&op.bucket),
        Op::SetVersioning(op) => check::is_bucket_name(&op.bucket),
        Op::PutObject(op) => check::is_bucket_name(&op.bucket),
        Op::DeleteObjects(op) => check::is_bucket_name(&op.bucket),
        Op::CopyObject(op) => check::is_bucket_name(&op.bucket) && check::is_bucket_name(&op.source.bucket),
        Op::CreateUpload(op) => check::is_bucket_name(&op.bucket),
        Op::UploadPart(op) => check::is_bucket_name(&op.bucket),
        Op::CompleteUpload(op) => check::is_bucket_name(&op.bucket),
        Op::AbortUpload(op) => check::is_bucket_name(&op.bucket),
    };
    if possible { Ok(()) } else { Err(Refusal::NoSuchBucket) }
}
