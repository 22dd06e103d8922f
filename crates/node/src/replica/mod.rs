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
use dace::{Entry, Kept, Membership, Message, Output, Reconfig, Record, ReplicaOutput, Submission, SubmitError, Zone};
use types::command::BeginEpoch;
use types::state::StateRead;
use types::{Command, CommandId, Epoch, Now, Op, ReplicaId, SlotSet, Timestamp};

use crate::write::apply;
use overlay::Overlay;

/// Everything that a cut closes: executed commands with timestamps in `(previous cut, cut]`, in
/// `(timestamp, id)` order.
#[derive(Debug)]
pub struct Block {
    /// The epoch of all of them.
    pub epoch: Epoch,
    /// The cut.
    pub cut: Timestamp,
    /// What was executed, at least one command.
    pub executed: Vec<Arc<Executed>>,
}

/// What the replica wants done, in this order. What names an epoch is about its journal, its streams, or its reads.
#[derive(Debug)]
pub enum Step {
    /// Append to the journal of an epoch; positions rise by one.
    Append(Epoch, Record),
    /// Append to the journal as a kept record: durable with the said record behind it, or before. Larger groups only,
    /// like all that follow behind the blocks.
    Keep(Epoch, Kept),
    /// A command was executed; the record at `durable` decided it, in a group of one. Its coordinator may answer.
    Executed(Arc<Executed>, u64),
    /// A Reconfig was executed, and this epoch begins with it.
    Changed(Membership),
    /// A block is complete and may be sealed.
    Block(Block),
    /// Give this to a peer, or lose it.
    Send(Epoch, ReplicaId, Message),
    /// The state may be read for this read: now, before the next step is taken.
    ReadReady(Epoch, u64),
    /// This read of several slots found no quiet instant.
    ReadContended(Epoch, u64),
    /// A write of these slots is pending from now on: to be published before the next step is taken.
    Pends(SlotSet),
    /// Such a write is in the state.
    Settles(SlotSet),
    /// The lease of a zone is held until then, in ns of the monotonic clock; 0: no more. To be published like that.
    Lease(Epoch, Zone, u64),
    /// This read was overtaken by the end of its epoch: it is to be asked anew.
    ReadAgain(Epoch, u64),
    /// The state here is too old to go on by journals: a peer's, at this cut or above, is wanted.
    WantSnapshot(Timestamp),
    /// A command that was submitted here is in a state that was installed: what came of it is not known here.
    Covered(CommandId),
    /// A command that was submitted here came to nothing with its epoch: to be submitted again. `None`: it was no
    /// command of a client.
    Void(CommandId, Option<Box<Command>>),
    /// See [`ReplicaOutput::Begin`].
    Begin(Membership),
    /// See [`ReplicaOutput::Over`].
    Over(Epoch),
    /// See [`ReplicaOutput::Closed`].
    Closed(Epoch),
    /// See [`ReplicaOutput::Removed`].
    Removed,
}

/// A replica. `S` is the stored state, always that of the last sealed cut.
pub struct Replica<S: ?Sized> {
    consensus: dace::Replica,
    overlay: Arc<Overlay>,
    state: Arc<S>,
    /// Commands that were submitted here, so that they need not be decoded again.
    submitted: HashMap<CommandId, (SlotSet, Command)>,
    /// Executed and in no block yet, in `(timestamp, id)` order.
    unsealed: VecDeque<Arc<Executed>>,
    /// The epoch that a Reconfig has made that was just executed.
    changed: Option<Membership>,
    /// The newest cut, of this life or of the state.
    cut: Timestamp,
}

impl<S: StateRead + ?Sized> Replica<S> {
    /// Joins a replica of the consensus to its state. The overlay is empty: what is above the state's cut is executed again.
    #[must_use]
    pub fn new(consensus: dace::Replica, (state, cut): (Arc<S>, Timestamp), overlay: Arc<Overlay>) -> Self {
        assert!(overlay.is_empty(), "a replica starts with nothing executed above its state");
        let (submitted, unsealed) = (HashMap::new(), VecDeque::new());
        Self { consensus, overlay, state, submitted, unsealed, changed: None, cut }
    }

    /// The replica of the consensus, for what goes on between replicas. [`Replica::poll_step`] has what it puts out.
    pub fn consensus(&mut self) -> &mut dace::Replica {
        &mut self.consensus
    }

    /// The account that the consensus core of the newest epoch gives of itself; `None` while this replica serves none.
    #[must_use]
    pub fn status(&self) -> Option<dace::Status> {
        let newest = self.consensus.epochs().last()?.epoch;
        self.consensus.core(newest).map(dace::Core::status)
    }

    /// The consensus core of an epoch that is served.
    #[must_use]
    pub fn core_of(&self, epoch: Epoch) -> Option<&dace::Core> {
        self.consensus.core(epoch)
    }

    /// Replays a record of the own journal of an epoch, in order, before the start.
    pub fn restore_record(&mut self, epoch: Epoch, record: Record) -> Result<(), dace::RestoreError> {
        self.consensus.restore_record(epoch, record)
    }

    /// The newest cut that was taken here, or that of the state.
    #[must_use]
    pub fn cut(&self) -> Timestamp {
        self.cut
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
        self.consensus.handle_start(now)
    }

    /// Proposes a command. `body` is its proposal (`types::journal::encode_proposal`), `body_hash` the hash
    /// of salt and body.
    pub fn handle_submit(
        &mut self,
        now: Now,
        command: Command,
        submission: Submission,
    ) -> Result<(Epoch, CommandId), SubmitError> {
        let slots = submission.slots.clone();
        let (epoch, id) = self.consensus.handle_submit(now, submission)?;
        self.submitted.insert(id, (slots, command));
        Ok((epoch, id))
    }

    /// The journal of an epoch is durable up to `position`.
    pub fn handle_durable(&mut self, now: Now, epoch: Epoch, position: u64) {
        self.consensus.handle_durable(now, epoch, position);
    }

    /// Time has passed: cuts may be due.
    pub fn handle_tick(&mut self, now: Now) {
        self.consensus.handle_tick(now);
    }

    /// When [`Replica::handle_tick`] is wanted, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.consensus.deadline()
    }

    /// Another member's state has been stored in place of this one's: `state` is now exactly that. What is decided above its
    /// cut is executed again.
    pub fn handle_snapshot(&mut self, now: Now, state: Arc<S>, stored: &dace::Stored) {
        self.state = state;
        self.overlay.clear();
        self.unsealed.clear();
        self.changed = None;
        self.cut = stored.cut;
        self.consensus.handle_snapshot(now, stored);
    }

    /// The next thing to do. Call until `None` after every `handle_*`.
    pub fn poll_step(&mut self) -> Result<Option<Step>, ApplyError> {
        if let Some(changed) = self.changed.take() {
            return Ok(Some(Step::Changed(changed)));
        }
        while let Some(output) = self.consensus.poll_output() {
            let (epoch, output) = match output {
                ReplicaOutput::Core { epoch, output } => (epoch, output),
                ReplicaOutput::Begin { membership } => return Ok(Some(Step::Begin(membership))),
                ReplicaOutput::Over { epoch } => return Ok(Some(Step::Over(epoch))),
                ReplicaOutput::Closed { epoch } => return Ok(Some(Step::Closed(epoch))),
                ReplicaOutput::Removed => return Ok(Some(Step::Removed)),
            };
            let step = match output {
                Output::Append(record) => Step::Append(epoch, record),
                Output::Execute { timestamp, id, body, durable } => {
                    return self
                        .execute(epoch, (timestamp, id), &body)
                        .map(|executed| Some(Step::Executed(executed, durable)));
                }
                Output::Cut { timestamp } => match self.close(epoch, timestamp) {
                    Some(block) => Step::Block(block),
                    None => continue,
                },
                Output::Keep(kept) => Step::Keep(epoch, kept),
                Output::Send { to, message } => Step::Send(epoch, to, message),
                Output::ReadReady { read } | Output::LeasedReady { read } => Step::ReadReady(epoch, read),
                Output::ReadContended { read } | Output::LeasedContended { read } => Step::ReadContended(epoch, read),
                Output::Pends { slots, .. } => Step::Pends(slots),
                Output::Settles { slots, .. } => Step::Settles(slots),
                Output::Lease { zone, until } => Step::Lease(epoch, zone, until),
                Output::ReadAgain { read } => Step::ReadAgain(epoch, read),
                Output::WantSnapshot { cut } => Step::WantSnapshot(cut),
                Output::Covered { id } => {
                    self.submitted.remove(&id);
                    Step::Covered(id)
                }
                Output::Void { id } => Step::Void(id, self.submitted.remove(&id).map(|(_, command)| Box::new(command))),
                Output::Ended { .. } => unreachable!("the replica of the consensus takes it"),
            };
            return Ok(Some(step));
        }
        Ok(None)
    }

    fn execute(
        &mut self,
        epoch: Epoch,
        (timestamp, id): (Timestamp, CommandId),
        body: &Bytes,
    ) -> Result<Arc<Executed>, ApplyError> {
        let (slots, command) = match self.submitted.remove(&id) {
            Some(submitted) => submitted,
            None => match Reconfig::from_body(body) {
                Some(next) => {
                    let made = Membership::after(epoch, Entry { reconfig: id, at: timestamp }, next);
                    let op = Op::BeginEpoch(BeginEpoch { membership: made.to_bytes(), members: made.members.clone() });
                    self.changed = Some(made);
                    let salt = apply::reconfig_salt(id, body);
                    (SlotSet::All, Command { salt, principal: String::new(), request: None, op })
                }
                None => apply::decode(id, body)?,
            },
        };
        let place = (timestamp, id);
        let executed = apply::apply(&self.overlay, self.state.as_ref(), epoch, place, slots, &command)?;
        let at = self.unsealed.partition_point(|earlier| (earlier.timestamp, earlier.id) < place);
        self.unsealed.insert(at, executed.clone());
        Ok(executed)
    }

    fn close(&mut self, epoch: Epoch, cut: Timestamp) -> Option<Block> {
        self.cut = self.cut.max(cut);
        let count = self.unsealed.partition_point(|executed| executed.timestamp <= cut);
        let executed: Vec<_> = self.unsealed.drain(..count).collect();
        (!executed.is_empty()).then_some(Block { epoch, cut, executed })
    }
}
