//! The core's loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use dace::SubmitError;
use store::journal::{Append, Flushed, Kept, Record, Writer};
use store::state::FjallState;
use tokio::sync::oneshot;
use types::{CommandId, Timestamp};

use super::inbox::Inbox;
use super::{Event, SealingMessage};
use crate::clock;
use crate::error::WriteError;
use crate::node::{KeptKind, Shared};
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
    pub(crate) writer: Writer,
    pub(crate) sealing: Sender<SealingMessage>,
    pub(crate) waiting: HashMap<CommandId, Reply>,
}

/// What one drain of the replica gave.
#[derive(Default)]
struct Drained {
    records: Vec<Record>,
    executed: Vec<(Arc<Executed>, u64)>,
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
        self.writer.close();
        let _ = self.sealing.send(SealingMessage::Stop);
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
                    Event::Stop => stopping = true,
                }
            }
            for proposal in proposals.drain(..) {
                self.propose(proposal);
            }
            self.replica.handle_tick(clock::now());
            self.drain(None)?;
        }
        Ok(())
    }

    /// How long to wait for something before the replica wants to hear of the time.
    fn patience(&self) -> Option<Duration> {
        let deadline = self.replica.deadline()?;
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
        if let Some(position) = flushed.last_position() {
            self.replica.handle_durable(clock::now(), position);
            self.drain(Some(flushed))?;
        }
        for kept in &flushed.kept {
            if kept.kind == KeptKind::Head as u8 {
                self.tell_sealing(SealingMessage::HeadDurable(kept.body.clone()));
            }
        }
        Ok(())
    }

    /// Does everything that the replica wants done. `flushed`: the batch that made it possible, whose commands
    /// are answered with receipts over it.
    fn drain(&mut self, flushed: Option<&Arc<Flushed>>) -> Result<(), String> {
        let mut drained = Drained::default();
        while let Some(step) = self.replica.poll_step().map_err(|error: ApplyError| error.to_string())? {
            match step {
                Step::Append(record) => drained.records.push(Record {
                    header: record.header,
                    salt: record.salt,
                    body: record.body,
                }),
                Step::Executed(executed, durable) => {
                    self.shared.gate.raise(&executed.slots);
                    drained.executed.push((executed, durable));
                }
                Step::Block(block) => self.tell_sealing(SealingMessage::Block(block)),
            }
        }
        if !drained.records.is_empty() {
            self.writer
                .append(Append { said: drained.records, kept: Vec::new() })
                .map_err(|error| format!("the journal takes no more: {error}"))?;
        }
        self.answer(drained.executed, flushed);
        Ok(())
    }

    fn answer(&mut self, executed: Vec<(Arc<Executed>, u64)>, flushed: Option<&Arc<Flushed>>) {
        self.shared.metrics.executed(executed.len());
        let replies: Vec<_> =
            executed.iter().map(|(executed, _)| self.waiting.remove(&executed.id)).collect();
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
        let kept = Kept { kind: KeptKind::Base as u8, group: self.shared.group, body: base.bytes.into() };
        if let Err(error) = self.writer.trim(base.position, kept) {
            tracing::warn!(%error, "the journal was not trimmed; it will be tried again");
        }
    }

    fn tell_sealing(&self, message: SealingMessage) {
        // The sealer ends only after the loop, or by a failure that it has reported itself.
        let _ = self.sealing.send(message);
    }
}
