//! One replica without threads and without IO of its own: the consensus core, the state machine over the
//! overlay, and the blocks that they give. The driver in `engine` runs it on real disks, the simulator on
//! simulated ones; both see the same code.

pub(crate) mod gate;
pub mod overlay;

pub use crate::write::apply::{ApplyError, Executed};
pub use crate::write::seal::{Head, SealError, SealMarker, Sealer};

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use dace::{Core, Kept, Message, Output, Record, Submission, SubmitError};
use types::state::StateRead;
use types::{Command, CommandId, Now, ReplicaId, SlotSet, Timestamp};

use crate::write::apply;
use overlay::Overlay;

/// Everything that a cut closes: executed commands with timestamps in `(previous cut, cut]`, in
/// `(timestamp, id)` order.
#[derive(Debug)]
pub struct Block {
    /// The cut.
    pub cut: Timestamp,
    /// What was executed, at least one command.
    pub executed: Vec<Arc<Executed>>,
}

/// What the replica wants done, in this order.
#[derive(Debug)]
pub enum Step {
    /// Append to the journal; positions rise by one.
    Append(Record),
    /// Append to the journal as a kept record: durable with the said record behind it, or before. Larger groups only,
    /// like all that follow behind the blocks.
    Keep(Kept),
    /// A command was executed; the record at `durable` decided it, in a group of one. Its coordinator may answer.
    Executed(Arc<Executed>, u64),
    /// A block is complete and may be sealed.
    Block(Block),
    /// Give this to a peer, or lose it.
    Send(ReplicaId, Message),
    /// The state may be read for this read: now, before the next step is taken.
    ReadReady(u64),
    /// This read of several slots found no quiet instant.
    ReadContended(u64),
    /// The state here is too old to go on by journals: a peer's, at this cut or above, is wanted.
    WantSnapshot(Timestamp),
    /// A command that was submitted here is in a state that was installed: what came of it is not known here.
    Covered(CommandId),
}

/// A replica. `S` is the stored state, always that of the last sealed cut.
pub struct Replica<S: ?Sized> {
    core: Core,
    overlay: Arc<Overlay>,
    state: Arc<S>,
    /// Commands that were submitted here, so that they need not be decoded again.
    submitted: HashMap<CommandId, (SlotSet, Command)>,
    /// Executed and in no block yet, in `(timestamp, id)` order.
    unsealed: VecDeque<Arc<Executed>>,
}

impl<S: StateRead + ?Sized> Replica<S> {
    /// Joins a restored core to its state. The overlay is empty: the core executes again what is above the
    /// state's cut.
    #[must_use]
    pub fn new(core: Core, state: Arc<S>, overlay: Arc<Overlay>) -> Self {
        assert!(overlay.is_empty(), "a replica starts with nothing executed above its state");
        Self { core, overlay, state, submitted: HashMap::new(), unsealed: VecDeque::new() }
    }

    /// The consensus core, for what goes on between replicas. [`Replica::poll_step`] has what it puts out.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The consensus core's own account of itself.
    #[must_use]
    pub fn status(&self) -> dace::Status {
        self.core.status()
    }

    /// The base that lets the journal be trimmed, for a cut whose block is sealed and durable. `None`: there
    /// is nothing to trim.
    pub fn base(&mut self, cut: Timestamp) -> Option<dace::Base> {
        self.core.base(cut)
    }

    /// Replays a record of the own journal, in order, before the start.
    pub fn restore_record(&mut self, record: Record) -> Result<(), dace::RestoreError> {
        self.core.restore_record(record)
    }

    /// The rows executed above the stored state.
    #[must_use]
    pub fn overlay(&self) -> &Arc<Overlay> {
        &self.overlay
    }

    /// Commands executed and in no block yet.
    #[must_use]
    pub fn unsealed_len(&self) -> usize {
        self.unsealed.len()
    }

    /// Opens a new incarnation. Submissions are taken once its `Open` record is durable.
    pub fn handle_start(&mut self, now: Now) -> Result<(), dace::StartError> {
        self.core.handle_start(now)
    }

    /// Proposes a command. `body` is its proposal (`types::journal::encode_proposal`), `body_hash` the hash
    /// of salt and body.
    pub fn handle_submit(
        &mut self,
        now: Now,
        command: Command,
        submission: Submission,
    ) -> Result<CommandId, SubmitError> {
        let slots = submission.slots.clone();
        let id = self.core.handle_submit(now, submission)?;
        self.submitted.insert(id, (slots, command));
        Ok(id)
    }

    /// The journal is durable up to `position`.
    pub fn handle_durable(&mut self, now: Now, position: u64) {
        self.core.handle_durable(now, position);
    }

    /// Time has passed: cuts may be due.
    pub fn handle_tick(&mut self, now: Now) {
        self.core.handle_tick(now);
    }

    /// When [`Replica::handle_tick`] is wanted, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.core.deadline()
    }

    /// The next thing to do. Call until `None` after every `handle_*`.
    pub fn poll_step(&mut self) -> Result<Option<Step>, ApplyError> {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Append(record) => return Ok(Some(Step::Append(record))),
                Output::Execute { timestamp, id, body, durable } => {
                    return self.execute(timestamp, id, &body).map(|executed| Some(Step::Executed(executed, durable)));
                }
                Output::Cut { timestamp } => {
                    if let Some(block) = self.cut(timestamp) {
                        return Ok(Some(Step::Block(block)));
                    }
                }
                Output::Keep(kept) => return Ok(Some(Step::Keep(kept))),
                Output::Send { to, message } => return Ok(Some(Step::Send(to, message))),
                Output::ReadReady { read } => return Ok(Some(Step::ReadReady(read))),
                Output::ReadContended { read } => return Ok(Some(Step::ReadContended(read))),
                Output::WantSnapshot { cut } => return Ok(Some(Step::WantSnapshot(cut))),
                Output::Covered { id } => return Ok(Some(Step::Covered(id))),
                Output::LeasedReady { .. }
                | Output::LeasedContended { .. }
                | Output::Pends { .. }
                | Output::Settles { .. }
                | Output::Lease { .. } => unreachable!("no lease was wanted, and nothing is published"),
                Output::Void { .. } | Output::ReadAgain { .. } | Output::Ended { .. } => {
                    unreachable!("nobody proposes a Reconfig")
                }
            }
        }
        Ok(None)
    }

    fn execute(&mut self, timestamp: Timestamp, id: CommandId, body: &Bytes) -> Result<Arc<Executed>, ApplyError> {
        let (slots, command) = match self.submitted.remove(&id) {
            Some(submitted) => submitted,
            None => apply::decode(id, body)?,
        };
        let executed = apply::apply(&self.overlay, self.state.as_ref(), (timestamp, id), slots, &command)?;
        let key = (timestamp, id);
        let at = self.unsealed.partition_point(|earlier| (earlier.timestamp, earlier.id) < key);
        self.unsealed.insert(at, executed.clone());
        Ok(executed)
    }

    fn cut(&mut self, cut: Timestamp) -> Option<Block> {
        let count = self.unsealed.partition_point(|executed| executed.timestamp <= cut);
        let executed: Vec<_> = self.unsealed.drain(..count).collect();
        (!executed.is_empty()).then_some(Block { cut, executed })
    }
}
