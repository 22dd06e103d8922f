//! The core's loop.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use dace::SubmitError;
use store::journal::{Append, Base, Flushed, Kept, Record, Refused, Writer};
use store::state::FjallState;
use tokio::sync::oneshot;
use types::limits::{BATCH_LEN_MAX, BATCH_RECORDS_MAX};
use types::{CommandId, Timestamp};

use super::inbox::Inbox;
use super::{Event, SealingMessage};
use crate::clock;
use crate::error::WriteError;
use crate::node::Shared;
use crate::replica::{Replica, Step};
use crate::write::ack::{Answer, AnswerBatch};
use crate::write::apply::{ApplyError, Executed};
use crate::write::propose::Proposal;

type Reply = oneshot::Sender<Result<Answer, WriteError>>;

/// The loop and what only it touches.
pub(crate) struct Loop {
    pub(crate) replica: Replica<FjallState>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox<Proposal, Event>>,
    pub(crate) journal: Arc<Writer>,
    pub(crate) sealing: Sender<SealingMessage>,
    pub(crate) waiting: HashMap<CommandId, Reply>,
    /// What the journal's queue had no room for; bounded by what the core lets be in flight.
    pub(crate) backlog: VecDeque<Append>,
    /// Heads to be kept, which wait for records to share a flush with; and until when, on the monotonic clock.
    pub(crate) heads: Vec<Kept>,
    pub(crate) heads_due_ns: Option<u64>,
}

/// How long a head waits for records to share a flush with, in ns: a client that writes one object after the
/// other does not wait behind flushes for heads alone.
const HEAD_WAIT_NS: u64 = 4_000_000;

/// What one drain of the replica gave.
#[derive(Default)]
struct Drained {
    records: Vec<Record>,
    executed: Vec<Arc<Executed>>,
}

impl Loop {
    /// Runs until it is told to stop and nothing is in flight, or until something fails for good.
    pub(crate) fn run(mut self) {
        if let Err(reason) = self.serve() {
            tracing::error!(%reason, "the node stops");
            self.shared.fail(&reason);
        }
        for proposal in self.inbox.close() {
            // The receiver may be gone: its client went away.
            let _ = proposal.answer.send(Err(self.shared.running().err().unwrap_or(WriteError::Stopping)));
        }
        self.waiting.clear();
        self.tell_sealing(SealingMessage::Stop);
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut proposals = Vec::new();
        let mut events = Vec::new();
        let mut stopping = false;
        self.drain(None)?;
        while !(stopping && self.waiting.is_empty()) {
            self.inbox.take(&mut proposals, &mut events, self.patience());
            for event in events.drain(..) {
                match event {
                    Event::Durable(flushed) => self.durable(&flushed)?,
                    Event::JournalFailed(reason) => return Err(reason),
                    Event::Trim(cut) => self.trim(cut),
                    Event::Keep(head) => self.keep(head),
                    Event::SealingFailed => return Err("the sealer has ended".to_owned()),
                    Event::Stop => stopping = true,
                }
            }
            for proposal in proposals.drain(..) {
                self.propose(proposal);
            }
            self.replica.handle_tick(clock::now());
            self.drain(None)?;
            self.append_heads_due()?;
        }
        Ok(())
    }

    fn keep(&mut self, head: Kept) {
        self.heads.push(head);
        self.heads_due_ns.get_or_insert(clock::now().mono_ns + HEAD_WAIT_NS);
    }

    /// Heads that no record came along with go alone.
    fn append_heads_due(&mut self) -> Result<(), String> {
        if self.heads_due_ns.is_none_or(|due| clock::now().mono_ns < due) {
            return Ok(());
        }
        self.queue(Vec::new());
        self.append_backlog()
    }

    /// How long to wait for something before the replica wants to hear of the time.
    fn patience(&self) -> Option<Duration> {
        let deadline = self.replica.deadline().into_iter().chain(self.heads_due_ns).min()?;
        Some(Duration::from_nanos(deadline.saturating_sub(clock::now().mono_ns).max(1)))
    }

    fn propose(&mut self, proposal: Proposal) {
        let Proposal { command, submission, answer } = proposal;
        match self.replica.handle_submit(clock::now(), command, submission) {
            Ok(id) => {
                self.waiting.insert(id, answer);
            }
            Err(error) => {
                // The receiver may be gone: its client went away.
                let _ = answer.send(Err(match error {
                    SubmitError::Full => WriteError::SlowDown("too many commands are in flight"),
                    other => WriteError::Failed(other.to_string()),
                }));
            }
        }
    }

    fn durable(&mut self, flushed: &Arc<Flushed>) -> Result<(), String> {
        let last = flushed.batches.iter().map(|batch| &batch.head).rfind(|head| head.group == self.shared.group);
        if let Some(head) = last {
            self.replica.handle_durable(clock::now(), head.position + u64::from(head.count) - 1);
            self.drain(Some(flushed))?;
        }
        if flushed.kept > 0 {
            self.tell_sealing(SealingMessage::HeadsDurable(flushed.kept));
        }
        self.append_backlog()
    }

    /// Does everything that the replica wants done. `flushed`: the batch that made it possible, whose commands
    /// are answered with receipts over it.
    fn drain(&mut self, flushed: Option<&Arc<Flushed>>) -> Result<(), String> {
        let mut drained = Drained::default();
        while let Some(step) = self.replica.poll_step().map_err(|error: ApplyError| error.to_string())? {
            match step {
                Step::Append(record) => {
                    drained.records.push(Record { header: record.header, salt: record.salt, body: record.body });
                }
                Step::Executed(executed, _) => drained.executed.push(executed),
                Step::Block(block) => self.tell_sealing(SealingMessage::Block(block)),
            }
        }
        self.append(drained.records)?;
        self.answer(drained.executed, flushed);
        Ok(())
    }

    /// Hands records to the journal, in pieces that fit a flush.
    fn append(&mut self, records: Vec<Record>) -> Result<(), String> {
        let mut piece = Vec::new();
        let mut len = 0;
        for record in records {
            if piece.len() >= BATCH_RECORDS_MAX / 2 || len + record.body.len() > BATCH_LEN_MAX / 2 {
                self.queue(core::mem::take(&mut piece));
                len = 0;
            }
            len += record.body.len();
            piece.push(record);
        }
        if !piece.is_empty() {
            self.queue(piece);
        }
        self.append_backlog()
    }

    fn queue(&mut self, said: Vec<Record>) {
        let (group, incarnation) = (self.shared.group, self.shared.incarnation);
        self.heads_due_ns = None;
        let kept = core::mem::take(&mut self.heads);
        self.backlog.push_back(Append { group, incarnation, said, kept });
    }

    /// Gives the journal what its queue has room for; the rest follows when something was flushed.
    fn append_backlog(&mut self) -> Result<(), String> {
        while let Some(append) = self.backlog.pop_front() {
            match self.journal.append(append) {
                Ok(()) => {}
                Err(Refused::Full(append)) => {
                    self.backlog.push_front(append);
                    return Ok(());
                }
                Err(refused) => return Err(refused.to_string()),
            }
        }
        Ok(())
    }

    fn answer(&mut self, executed: Vec<Arc<Executed>>, flushed: Option<&Arc<Flushed>>) {
        self.shared.metrics.executed(executed.len());
        let replies: Vec<_> = executed.iter().map(|executed| self.waiting.remove(&executed.id)).collect();
        if replies.iter().all(Option::is_none) {
            return;
        }
        let batch = Arc::new(AnswerBatch::new(executed, flushed.cloned()));
        for (index, reply) in replies.into_iter().enumerate() {
            if let Some(reply) = reply {
                // The receiver may be gone: its client went away. The write stands all the same.
                let _ = reply.send(Ok(Answer::new(batch.clone(), index)));
            }
        }
    }

    fn trim(&mut self, cut: Timestamp) {
        let Some(base) = self.replica.base(cut) else { return };
        let base = Base { below: base.position + 1, bytes: base.bytes.into() };
        if let Err(error) = self.journal.trim(self.shared.group, base) {
            tracing::warn!(%error, "the journal was not trimmed; it will be tried again");
        }
    }

    fn tell_sealing(&self, message: SealingMessage) {
        // The sealer ends only after the loop, or by a failure that it has reported itself.
        let _ = self.sealing.send(message);
    }
}
