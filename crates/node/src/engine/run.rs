//! The loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use dace::{Membership, SubmitError};
use store::journal::{Append, Base, Flushed, Kept, KeptKind, Record};
use store::state::FjallState;
use types::limits::{BATCH_LEN_MAX, BATCH_RECORDS_MAX, SUBMIT_QUEUE_MAX};
use types::{Command, CommandId, Epoch, Timestamp};

use super::inbox::Inbox;
use super::journals::Journals;
use super::waiting::Waiting;
use super::{Event, Neighbours, Reading, SealingMessage, Submitted};
use crate::clock;
use crate::error::WriteError;
use crate::node::Shared;
use crate::peer::wire::Frame;
use crate::replica::{Block, Replica, Step};
use crate::write::apply::{ApplyError, Executed};
use crate::write::propose::Proposal;

/// The loop and what only it touches.
pub(crate) struct Loop {
    pub(crate) replica: Replica<FjallState>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox<Submitted, Event>>,
    pub(crate) journals: Journals,
    pub(crate) sealing: Sender<SealingMessage>,
    pub(crate) neighbours: Neighbours,
    /// When this replica looks again whether its group is founded; only before that.
    pub(crate) found_due_ns: u64,
    pub(crate) started_ns: u64,
    pub(crate) proposed_founding: bool,
    pub(crate) waiting: Waiting,
    /// Reads that wait, by epoch and the core's number of each, and those that are to be tried again.
    pub(crate) reads: HashMap<(Epoch, u64), Reading>,
    pub(crate) again: Vec<Reading>,
    /// Reads that were ordered among the writes, by the command that each became.
    pub(crate) barriers: HashMap<CommandId, (Epoch, Reading)>,
    /// Commands of clients that came to nothing with their epoch, by the id that they had.
    pub(crate) voided: Vec<(CommandId, Command)>,
    /// Proposals that wait for the next epoch, or for the clocks of others, and since when.
    pub(crate) held: Vec<(u64, Proposal)>,
    /// Heads to be kept, which wait for records to share a flush with; and until when, on the monotonic clock.
    pub(crate) heads: Vec<Kept>,
    pub(crate) heads_due_ns: Option<u64>,
    /// The journal that heads go to, and how many are on their way to the disk. One journal at a time: they become durable in
    /// the order in which they were formed.
    pub(crate) heads_under_way: (Epoch, usize),
    /// Whether the state of another member is being fetched, and the lowest cut that would do.
    pub(crate) fetching: bool,
    pub(crate) wanted: Option<Timestamp>,
    pub(crate) fetch_due_ns: u64,
    /// Where the epoch begins whose Reconfig was executed last, until the block is sealed that ends there.
    pub(crate) begins_at: Option<Timestamp>,
    /// Something else may be said of zones than what this replica goes by.
    pub(crate) zones_changed: bool,
}

/// How long a head waits for records to share a flush with, in ns: a client that writes one object after the
/// other does not wait behind flushes for heads alone.
const HEAD_WAIT_NS: u64 = 4_000_000;

/// How long what needs the clocks of others waits for them, in ns, before it is refused.
const CLOCK_PATIENCE_NS: u64 = 1_000_000_000;

/// What one drain of the replica gave for the journal of one epoch.
#[derive(Default)]
struct Drained {
    epoch: Epoch,
    said: Vec<Record>,
    kept: Vec<Kept>,
    len: usize,
}

/// How often a read of several slots looks for a quiet instant before it is ordered among the writes.
const READ_TRIES_MAX: u32 = 16;

impl Loop {
    /// Runs until it is told to stop and nothing is in flight, or until something fails for good.
    pub(crate) fn run(mut self) {
        if let Err(reason) = self.serve() {
            if reason != REMOVED {
                tracing::error!(%reason, "the node stops");
            }
            self.shared.fail(&reason);
        }
        let end = self.shared.running().err().unwrap_or(WriteError::Stopping);
        for submitted in self.inbox.close() {
            submitted.refuse(end.clone());
        }
        for (_, reading) in self.reads.drain() {
            Submitted::Read(reading).refuse(end.clone());
        }
        for reading in self.again.drain(..).chain(self.barriers.drain().map(|(_, (_, reading))| reading)) {
            Submitted::Read(reading).refuse(end.clone());
        }
        for (_, proposal) in self.held.drain(..) {
            Submitted::Write(Box::new(proposal)).refuse(end.clone());
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
                    Event::Durable(epoch, flushed) => self.durable(epoch, &flushed)?,
                    Event::JournalFailed(reason) => return Err(reason),
                    Event::Trim(cut) => self.trim(cut),
                    Event::Keep(head) => self.keep(head),
                    Event::Peer(peer, heard) => self.hear(peer, heard)?,
                    Event::Fetched(incoming) => self.install(incoming)?,
                    Event::SealingFailed => return Err("the sealer has ended".to_owned()),
                    Event::Stop => stopping = true,
                }
                self.tell_in_time()?;
            }
            for submitted in submitted.drain(..) {
                match submitted {
                    Submitted::Write(proposal) => self.propose(*proposal, None),
                    Submitted::Read(reading) => self.begin_read(reading),
                    Submitted::Change(changing) => self.change(changing),
                }
                if !self.is_alone() {
                    self.drain(None)?;
                }
            }
            self.replica.handle_tick(clock::now());
            self.drain(None)?;
            self.look_after_peers()?;
            self.note_alone();
            self.append_heads_due()?;
        }
        Ok(())
    }

    /// The only member of an epoch has what was executed in the one before.
    pub(crate) fn note_alone(&mut self) {
        let is_only = self.shared.membership().members == [self.shared.replica];
        if is_only && !self.is_alone() && self.replica.consensus().is_current() {
            self.shared.is_alone.store(true, Ordering::Relaxed);
        }
    }

    /// Whether this replica decides alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.shared.is_alone.load(Ordering::Relaxed)
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
        let Some(epoch) = self.journals.newest().map(|newest| newest.membership.epoch) else { return Ok(()) };
        self.queue(Drained { epoch, ..Drained::default() })
    }

    /// How long to wait for something before the replica wants to hear of the time.
    fn patience(&mut self) -> Option<Duration> {
        let is_busy = !self.is_alone() && self.is_busy();
        let peers = self.neighbours.due_ns(is_busy);
        let heads = self.heads_due_ns.filter(|_| self.heads_may_go());
        let deadline = self.replica.deadline().into_iter().chain(heads).chain([peers]).min()?;
        Some(Duration::from_nanos(deadline.saturating_sub(clock::now().mono_ns).max(1)))
    }

    /// `since`: when it was first held, in ns of the monotonic clock.
    fn propose(&mut self, proposal: Proposal, since: Option<u64>) {
        let Proposal { command, submission, answer } = proposal;
        let now = clock::now();
        let since = since.unwrap_or(now.mono_ns);
        match self.replica.handle_submit(now, command.clone(), submission.clone()) {
            Ok((epoch, id)) => self.waiting.insert(epoch, id, answer),
            Err(error) if self.passes(error, since) && self.held.len() < SUBMIT_QUEUE_MAX => {
                self.held.push((since, Proposal { command, submission, answer }));
            }
            Err(error) => {
                // The receiver may be gone: its client went away.
                let _ = answer.send(Err(refused(error)));
            }
        }
    }

    /// Commands that came to nothing with their epoch go into the next one, under new ids.
    fn propose_again(&mut self) -> Result<(), String> {
        for (id, command) in core::mem::take(&mut self.voided) {
            let again = match crate::write::accept::submission(&command) {
                Ok(submission) => self.replica.handle_submit(clock::now(), command.clone(), submission),
                Err(error) => {
                    self.waiting.refuse(id, error);
                    continue;
                }
            };
            match again {
                Ok((epoch, new)) => self.waiting.rename(id, epoch, new),
                Err(error) if self.passes(error, clock::now().mono_ns) => self.voided.push((id, command)),
                Err(error) => self.waiting.refuse(id, refused(error)),
            }
        }
        for (since, proposal) in core::mem::take(&mut self.held) {
            self.propose(proposal, Some(since));
        }
        self.drain(None)
    }

    /// Whether what was refused can be taken soon: the next epoch is under way, and this replica is a member of it; or
    /// the others have been silent for a moment only.
    pub(crate) fn passes(&mut self, error: SubmitError, since_ns: u64) -> bool {
        let is_between = match error {
            SubmitError::Sealed => true,
            // The epoch before may be over already while this replica opens the next one.
            SubmitError::NotStarted | SubmitError::Clock => {
                let is_recent = clock::now().mono_ns < since_ns + CLOCK_PATIENCE_NS;
                (is_recent && self.neighbours.is_started()) || self.replica.consensus().is_changing()
            }
            SubmitError::Full | SubmitError::TooLong(_) => false,
        };
        is_between && self.shared.membership().has(self.shared.replica)
    }

    fn begin_read(&mut self, mut reading: Reading) {
        if let Some(zone) = &reading.zone {
            if let Ok(read) = self.replica.consensus().handle_leased_read(clock::now(), zone, &reading.slots) {
                self.reads.insert(read, reading);
                return;
            }
            reading.zone = None;
        }
        match self.replica.consensus().handle_read(clock::now(), reading.slots.clone()) {
            Ok(read) => {
                self.reads.insert(read, reading);
            }
            Err(error) if self.passes(error, reading.since_ns) && self.again.len() < SUBMIT_QUEUE_MAX => {
                self.again.push(reading);
            }
            Err(error) => Submitted::Read(reading).refuse(refused(error)),
        }
    }

    /// The state has all that a read must see.
    fn answer_read(&mut self, read: (Epoch, u64)) {
        let Some(reading) = self.reads.remove(&read) else { return };
        self.shared.metrics.read(reading.zone.is_some());
        let view = reading.whole.then(|| self.shared.view_now());
        // The receiver may be gone: its client went away.
        let _ = reading.answer.send(Ok(view));
    }

    fn contend(&mut self, read: (Epoch, u64)) {
        let Some(mut reading) = self.reads.remove(&read) else { return };
        // It looked for a quiet instant often enough, or the lease has ended.
        reading.zone = None;
        reading.contended += 1;
        if reading.contended < READ_TRIES_MAX {
            self.again.push(reading);
        } else {
            self.order(reading);
        }
    }

    fn durable(&mut self, epoch: Epoch, flushed: &Arc<Flushed>) -> Result<(), String> {
        let is_served = self.journals.by_epoch.contains_key(&epoch);
        if let Some(head) = flushed.batches.last().map(|batch| &batch.head).filter(|_| is_served) {
            let last = head.position + u64::from(head.count) - 1;
            self.waiting.flushed(epoch, last, flushed);
            self.replica.handle_durable(clock::now(), epoch, last);
            self.drain(Some(flushed))?;
        }
        if flushed.latest > 0 {
            self.heads_under_way.1 = self.heads_under_way.1.saturating_sub(flushed.latest);
            self.tell_sealing(SealingMessage::HeadsDurable(flushed.latest));
        }
        self.journals.by_epoch.get_mut(&epoch).map_or(Ok(()), |journal| journal.append_backlog())
    }

    /// Does everything that the replica wants done. `flushed`: the batch that made it possible, over which a lone
    /// replica answers with receipts.
    pub(crate) fn drain(&mut self, flushed: Option<&Arc<Flushed>>) -> Result<(), String> {
        loop {
            let mut drained = Drained::default();
            let mut executed: Vec<Arc<Executed>> = Vec::new();
            let is_alone = self.is_alone();
            while let Some(step) = self.replica.poll_step().map_err(|error: ApplyError| error.to_string())? {
                match step {
                    Step::Append(epoch, record) => self.said(&mut drained, epoch, record)?,
                    Step::Keep(epoch, kept) => self.kept(&mut drained, epoch, &kept)?,
                    Step::Executed(done, _) => {
                        self.notes_zones(&done);
                        self.passed(done.id);
                        executed.push(done);
                    }
                    Step::Block(block) => self.seal(block),
                    Step::Send(epoch, to, message) => self.neighbours.send(to, &Frame::Message(epoch, message)),
                    Step::ReadReady(epoch, read) => self.answer_read((epoch, read)),
                    Step::ReadContended(epoch, read) => self.contend((epoch, read)),
                    Step::Pends(slots) => self.shared.leased.pends(&slots),
                    Step::Settles(slots) => self.shared.leased.settles(&slots),
                    Step::Lease(epoch, zone, until) => self.shared.leased.lease(epoch, &zone, until),
                    Step::ReadAgain(epoch, read) => self.again.extend(self.reads.remove(&(epoch, read))),
                    Step::WantSnapshot(cut) => self.want_snapshot(cut),
                    Step::Covered(id) | Step::Void(id, _) if self.read_again(id) => {}
                    Step::Covered(id) => self.waiting.refuse(id, WriteError::TimedOut),
                    Step::Void(id, Some(command)) => self.voided.push((id, *command)),
                    Step::Void(_, None) => {}
                    Step::Changed(membership) if membership.logic > catalog::LOGIC_VERSION => {
                        return Err(OUTDATED.to_owned());
                    }
                    Step::Changed(membership) => {
                        self.begins_at = membership.entry.map(|entry| entry.at);
                        self.changed(membership);
                    }
                    Step::Begin(membership) => self.begin(membership)?,
                    Step::Over(epoch) => {
                        self.journals.opener.folders.set_over(epoch).map_err(|error| error.to_string())?;
                        self.neighbours.look_again();
                    }
                    Step::Closed(epoch) => {
                        self.shared.metrics.executed(executed.len());
                        self.waiting.executed(core::mem::take(&mut executed), flushed, is_alone);
                        self.closed(&mut drained, epoch)?;
                    }
                    Step::Removed => return Err(REMOVED.to_owned()),
                }
            }
            self.flush_drained(&mut drained)?;
            self.shared.metrics.executed(executed.len());
            self.waiting.executed(executed, flushed, is_alone);
            if self.again.is_empty() {
                return Ok(());
            }
            for reading in core::mem::take(&mut self.again) {
                self.begin_read(reading);
            }
            // What waits for the next epoch is tried again at the next turn.
            if !self.again.is_empty() {
                return Ok(());
            }
        }
    }

    /// Seals a block. The state at the beginning of an epoch is made durable at once: the epoch before is over only when
    /// members hold it, and this replica may have entered the epoch long before it got there.
    fn seal(&mut self, block: Block) {
        let begins = self.begins_at.take_if(|at| *at <= block.cut).is_some();
        self.tell_sealing(SealingMessage::Block(block));
        if begins {
            self.tell_sealing(SealingMessage::Checkpoint);
        }
    }

    /// The members have changed: who reads and writes beside the loop is to know before anything else is said.
    fn changed(&mut self, membership: Membership) {
        tracing::info!(epoch = membership.epoch.0, members = ?membership.members, f = membership.f, "an epoch begins");
        self.shared.set_membership(membership);
    }

    fn begin(&mut self, membership: Membership) -> Result<(), String> {
        if membership.epoch > self.shared.membership().epoch {
            self.changed(membership.clone());
        }
        self.journals.begin(membership).map_err(|error| error.to_string())?;
        // The epoch before is over once members hold the state durably. The newest journal holds the newest head, too.
        self.tell_sealing(SealingMessage::Checkpoint);
        self.tell_sealing(SealingMessage::KeepHead);
        self.neighbours.look_again();
        Ok(())
    }

    fn closed(&mut self, drained: &mut Drained, epoch: Epoch) -> Result<(), String> {
        self.flush_drained(drained)?;
        self.neighbours.end(epoch);
        let void = self.voided.iter().map(|(id, _)| *id).collect();
        self.waiting.close(epoch, &void);
        self.read_again_after(epoch);
        for read in self.reads.extract_if(|(of, _), _| *of == epoch).map(|(_, reading)| reading) {
            Submitted::Read(read).refuse(WriteError::NotReady("the members have changed".to_owned()));
        }
        if self.heads_under_way.0 == epoch {
            self.heads_under_way.1 = 0;
        }
        self.journals.end(epoch).map_err(|error| error.to_string())
    }

    /// A record to be said: to the journal, in pieces that fit a flush, and to the peers.
    fn said(&mut self, drained: &mut Drained, epoch: Epoch, record: dace::Record) -> Result<(), String> {
        self.waiting.said(&record);
        if let Some(journal) = self.journals.by_epoch.get(&epoch).filter(|journal| journal.membership.members.len() > 1)
        {
            journal.tail.push(record.clone());
        }
        self.switch(drained, epoch)?;
        drained.len += record.body.len();
        drained.said.push(Record { header: record.header, salt: record.salt, body: record.body });
        let is_full = drained.said.len() >= BATCH_RECORDS_MAX / 2 || drained.len > BATCH_LEN_MAX / 4;
        if is_full { self.flush_drained(drained) } else { Ok(()) }
    }

    /// The own copy of a peer's command: it shares the flush of the record behind it, which vouches for it.
    fn kept(&mut self, drained: &mut Drained, epoch: Epoch, kept: &dace::Kept) -> Result<(), String> {
        self.switch(drained, epoch)?;
        drained.len += kept.body.len();
        let bytes = [&kept.header.to_bytes()[..], &kept.salt, &kept.body].concat();
        drained.kept.push(Kept { group: self.shared.group, kind: KeptKind::COMMAND, bytes: bytes.into() });
        Ok(())
    }

    /// What is gathered goes to one journal.
    fn switch(&mut self, drained: &mut Drained, epoch: Epoch) -> Result<(), String> {
        if drained.epoch != epoch {
            self.flush_drained(drained)?;
            drained.epoch = epoch;
        }
        Ok(())
    }

    fn flush_drained(&mut self, drained: &mut Drained) -> Result<(), String> {
        if drained.said.is_empty() && drained.kept.is_empty() {
            return Ok(());
        }
        let epoch = drained.epoch;
        self.queue(core::mem::replace(drained, Drained { epoch, ..Drained::default() }))
    }

    /// Whether heads may go to the newest journal: those before them do not lie in another one's queue.
    fn heads_may_go(&mut self) -> bool {
        let (epoch, count) = self.heads_under_way;
        count == 0 || self.journals.newest().is_some_and(|newest| newest.membership.epoch == epoch)
    }

    fn queue(&mut self, drained: Drained) -> Result<(), String> {
        let Drained { epoch, said, mut kept, .. } = drained;
        let is_newest = self.journals.newest().is_some_and(|newest| newest.membership.epoch == epoch);
        if is_newest && self.heads_may_go() {
            self.heads_due_ns = None;
            let under_way = if self.heads_under_way.0 == epoch { self.heads_under_way.1 } else { 0 };
            self.heads_under_way = (epoch, under_way + self.heads.len());
            kept.append(&mut self.heads);
        }
        if said.is_empty() && kept.is_empty() {
            return Ok(());
        }
        let incarnation = self.replica.consensus().core(epoch).map(|core| core.status().incarnation);
        let incarnation = incarnation.unwrap_or_default();
        let Some(journal) = self.journals.by_epoch.get_mut(&epoch) else { return Ok(()) };
        journal.queue(Append { group: self.shared.group, incarnation, said, kept });
        journal.append_backlog()
    }

    /// The state at `cut` is durable here.
    fn trim(&mut self, cut: Timestamp) {
        let now = clock::now();
        self.replica.consensus().handle_stored(now, cut);
        if let Err(reason) = self.drain(None) {
            tracing::error!(%reason, "the node stops");
            return self.shared.fail(&reason);
        }
        let epochs: Vec<Epoch> = self.journals.by_epoch.keys().copied().collect();
        for epoch in epochs {
            let consensus = self.replica.consensus();
            let Some(trimmable) = consensus.trimmable(epoch) else { continue };
            let Some(base) = consensus.base(epoch, trimmable.min(cut)) else { continue };
            let base = Base { below: base.position + 1, bytes: base.bytes.into() };
            let Some(journal) = self.journals.by_epoch.get(&epoch) else { continue };
            if let Err(error) = journal.writer.trim(self.shared.group, base) {
                tracing::warn!(%error, "the journal was not trimmed; it will be tried again");
            }
        }
    }

    /// Goes on with what waited for the next epoch, and fetches the state that is wanted.
    pub(crate) fn take_turns(&mut self) -> Result<(), String> {
        self.propose_again()?;
        self.fetch_wanted();
        Ok(())
    }

    pub(crate) fn tell_sealing(&self, message: SealingMessage) {
        // The sealer ends only after the loop, or by a failure that it has reported itself.
        let _ = self.sealing.send(message);
    }
}

/// Why a node ends that was removed ([`crate::Node::failed`]).
pub const REMOVED: &str = "this node was removed from its group, and nothing of it is needed any more: it may be switched off, \
                       and its data folder deleted";

/// Why a node ends whose build is older than what the group executes by.
const OUTDATED: &str = "the group goes on with a newer version of the logic than this build has: start the newer build here; nothing \
                        is lost";

pub(crate) fn refused(error: SubmitError) -> WriteError {
    match error {
        SubmitError::Full => WriteError::SlowDown("too many commands are in flight"),
        SubmitError::NotStarted | SubmitError::Clock | SubmitError::Sealed => WriteError::NotReady(error.to_string()),
        SubmitError::TooLong(_) => WriteError::Failed(error.to_string()),
    }
}
