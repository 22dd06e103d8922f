//! The core's loop.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use dace::SubmitError;
use store::journal::{Append, Base, Flushed, Kept, KeptKind, Record, Refused, Writer};
use store::state::FjallState;
use types::Timestamp;
use types::limits::{BATCH_LEN_MAX, BATCH_RECORDS_MAX};

use super::inbox::Inbox;
use super::waiting::Waiting;
use super::{Event, Neighbours, Reading, SealingMessage, Submitted};
use crate::clock;
use crate::error::WriteError;
use crate::node::Shared;
use crate::peer::wire::Frame;
use crate::replica::{Replica, Step};
use crate::write::apply::{ApplyError, Executed};
use crate::write::propose::Proposal;

/// The loop and what only it touches.
pub(crate) struct Loop {
    pub(crate) replica: Replica<FjallState>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox<Submitted, Event>>,
    pub(crate) journal: Arc<Writer>,
    pub(crate) sealing: Sender<SealingMessage>,
    /// Absent in a group of one.
    pub(crate) neighbours: Option<Neighbours>,
    /// When this replica looks again whether its group is founded; only before that.
    pub(crate) found_due_ns: u64,
    pub(crate) started_ns: u64,
    pub(crate) proposed_founding: bool,
    pub(crate) waiting: Waiting,
    /// Reads that wait, by the core's number of each, and those that are to be tried again.
    pub(crate) reads: HashMap<u64, Reading>,
    pub(crate) contended: Vec<Reading>,
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
    pieces: Vec<Append>,
    said: Vec<Record>,
    kept: Vec<Kept>,
    len: usize,
    executed: Vec<Arc<Executed>>,
}

/// How often a read of several slots looks for a quiet instant before it is refused.
const READ_TRIES_MAX: u32 = 16;

impl Loop {
    /// Runs until it is told to stop and nothing is in flight, or until something fails for good.
    pub(crate) fn run(mut self) {
        if let Err(reason) = self.serve() {
            tracing::error!(%reason, "the node stops");
            self.shared.fail(&reason);
        }
        let end = self.shared.running().err().unwrap_or(WriteError::Stopping);
        for submitted in self.inbox.close() {
            submitted.refuse(end.clone());
        }
        for (_, reading) in self.reads.drain() {
            Submitted::Read(reading).refuse(end.clone());
        }
        self.waiting.clear();
        self.tell_sealing(SealingMessage::Stop);
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut submitted = Vec::new();
        let mut events = Vec::new();
        let mut stopping = false;
        self.drain(None)?;
        while !(stopping && self.waiting.is_empty()) {
            let patience = self.patience();
            self.inbox.take(&mut submitted, &mut events, patience);
            for event in events.drain(..) {
                match event {
                    Event::Durable(flushed) => self.durable(&flushed)?,
                    Event::JournalFailed(reason) => return Err(reason),
                    Event::Trim(cut) => self.trim(cut),
                    Event::Keep(head) => self.keep(head),
                    Event::Peer(peer, heard) => self.hear(peer, heard)?,
                    Event::SealingFailed => return Err("the sealer has ended".to_owned()),
                    Event::Stop => stopping = true,
                }
            }
            for submitted in submitted.drain(..) {
                match submitted {
                    Submitted::Write(proposal) => self.propose(*proposal),
                    Submitted::Read(reading) => self.begin_read(reading),
                }
                if self.neighbours.is_some() {
                    self.drain(None)?;
                }
            }
            self.replica.handle_tick(clock::now());
            self.drain(None)?;
            self.look_after_peers()?;
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
        self.queue(Vec::new(), Vec::new());
        self.append_backlog()
    }

    /// How long to wait for something before the replica wants to hear of the time.
    fn patience(&mut self) -> Option<Duration> {
        let is_busy = self.neighbours.is_some() && self.is_busy();
        let peers = self.neighbours.as_ref().map(|neighbours| neighbours.due_ns(is_busy));
        let deadline = self.replica.deadline().into_iter().chain(self.heads_due_ns).chain(peers).min()?;
        Some(Duration::from_nanos(deadline.saturating_sub(clock::now().mono_ns).max(1)))
    }

    fn propose(&mut self, proposal: Proposal) {
        let Proposal { command, submission, answer } = proposal;
        match self.replica.handle_submit(clock::now(), command, submission) {
            Ok(id) => self.waiting.insert(id, answer),
            Err(error) => {
                // The receiver may be gone: its client went away.
                let _ = answer.send(Err(refused(error)));
            }
        }
    }

    fn begin_read(&mut self, reading: Reading) {
        match self.replica.core().handle_read(clock::now(), reading.slots.clone()) {
            Ok(read) => {
                self.reads.insert(read, reading);
            }
            Err(error) => Submitted::Read(reading).refuse(refused(error)),
        }
    }

    /// The state has all that a read must see.
    fn answer_read(&mut self, read: u64) {
        let Some(reading) = self.reads.remove(&read) else { return };
        let view = reading.whole.then(|| self.shared.view());
        // The receiver may be gone: its client went away.
        let _ = reading.answer.send(Ok(view));
    }

    fn contend(&mut self, read: u64) {
        let Some(mut reading) = self.reads.remove(&read) else { return };
        reading.contended += 1;
        if reading.contended < READ_TRIES_MAX {
            self.contended.push(reading);
        } else {
            Submitted::Read(reading).refuse(WriteError::SlowDown("what is to be listed changes without a pause"));
        }
    }

    fn durable(&mut self, flushed: &Arc<Flushed>) -> Result<(), String> {
        let last = flushed.batches.iter().map(|batch| &batch.head).rfind(|head| head.group == self.shared.group);
        if let Some(head) = last {
            self.waiting.flushed(head.position + u64::from(head.count) - 1, flushed);
            self.replica.handle_durable(clock::now(), head.position + u64::from(head.count) - 1);
            self.drain(Some(flushed))?;
        }
        if flushed.latest > 0 {
            self.tell_sealing(SealingMessage::HeadsDurable(flushed.latest));
        }
        self.append_backlog()
    }

    /// Does everything that the replica wants done. `flushed`: the batch that made it possible, over which a lone
    /// replica answers with receipts.
    pub(crate) fn drain(&mut self, flushed: Option<&Arc<Flushed>>) -> Result<(), String> {
        loop {
            let mut drained = Drained::default();
            while let Some(step) = self.replica.poll_step().map_err(|error: ApplyError| error.to_string())? {
                match step {
                    Step::Append(record) => self.said(&mut drained, record),
                    Step::Keep(kept) => self.kept(&mut drained, &kept),
                    Step::Executed(executed, _) => drained.executed.push(executed),
                    Step::Block(block) => self.tell_sealing(SealingMessage::Block(block)),
                    Step::Send(to, message) => {
                        if let Some(neighbours) = &self.neighbours {
                            neighbours.send(to, &Frame::Message(message));
                        }
                    }
                    Step::ReadReady(read) => self.answer_read(read),
                    Step::ReadContended(read) => self.contend(read),
                    Step::WantSnapshot(cut) => self.want_snapshot(cut),
                    Step::Covered(id) => self.waiting.refuse(id, WriteError::TimedOut),
                }
            }
            self.append(drained.pieces, drained.said, drained.kept)?;
            self.shared.metrics.executed(drained.executed.len());
            self.waiting.executed(drained.executed, flushed, self.neighbours.is_none());
            if self.contended.is_empty() {
                return Ok(());
            }
            for reading in core::mem::take(&mut self.contended) {
                self.begin_read(reading);
            }
        }
    }

    /// A record to be said: to the journal, in pieces that fit a flush, and to the peers.
    fn said(&mut self, drained: &mut Drained, record: dace::Record) {
        self.waiting.said(&record);
        if let Some(neighbours) = &self.neighbours {
            neighbours.tail().push(record.clone());
        }
        drained.len += record.body.len();
        drained.said.push(Record { header: record.header, salt: record.salt, body: record.body });
        let is_full = drained.said.len() >= BATCH_RECORDS_MAX / 2 || drained.len > BATCH_LEN_MAX / 4;
        if is_full {
            let (said, kept) = (core::mem::take(&mut drained.said), core::mem::take(&mut drained.kept));
            drained.pieces.push(self.append_of(said, kept));
            drained.len = 0;
        }
    }

    /// The own copy of a peer's command: it shares the flush of the record behind it, which vouches for it.
    fn kept(&self, drained: &mut Drained, kept: &dace::Kept) {
        drained.len += kept.body.len();
        let bytes = [&kept.header.to_bytes()[..], &kept.salt, &kept.body].concat();
        drained.kept.push(Kept { group: self.shared.group, kind: KeptKind::COMMAND, bytes: bytes.into() });
    }

    fn append(&mut self, pieces: Vec<Append>, said: Vec<Record>, kept: Vec<Kept>) -> Result<(), String> {
        self.backlog.extend(pieces);
        if !said.is_empty() || !kept.is_empty() {
            self.queue(said, kept);
        }
        self.append_backlog()
    }

    fn append_of(&self, said: Vec<Record>, kept: Vec<Kept>) -> Append {
        Append { group: self.shared.group, incarnation: self.replica.status().incarnation, said, kept }
    }

    fn queue(&mut self, said: Vec<Record>, mut kept: Vec<Kept>) {
        self.heads_due_ns = None;
        kept.append(&mut self.heads);
        let piece = self.append_of(said, kept);
        self.backlog.push_back(piece);
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

    /// This replica is too far behind to go on by journals.
    fn want_snapshot(&mut self, cut: Timestamp) {
        tracing::warn!(%cut, "this replica is so far behind that it needs the state of another one");
    }

    /// The state at `cut` is durable here.
    fn trim(&mut self, cut: Timestamp) {
        let mut cut = cut;
        if self.neighbours.is_some() {
            let core = self.replica.core();
            core.handle_stored(cut);
            cut = core.trimmable();
        }
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

fn refused(error: SubmitError) -> WriteError {
    match error {
        SubmitError::Full => WriteError::SlowDown("too many commands are in flight"),
        SubmitError::NotStarted | SubmitError::Clock | SubmitError::Sealed => WriteError::NotReady(error.to_string()),
        SubmitError::TooLong(_) => WriteError::Failed(error.to_string()),
    }
}
