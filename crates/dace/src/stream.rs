//! The journals of the members, as streams: read in order, acted on when durable (`consensus.md`, section 2).

use types::journal::{LayoutError, RecordHeader, RecordKind, decode_proposal};
use types::{CommandId, Incarnation, Now, ReplicaId, Slot, SlotSet, Timestamp};

use crate::command::{Attach, By, Payload, Said, Stage, bit};
use crate::config::Member;
use crate::core::Core;
use crate::journal::{Opened, Stream};
use crate::mutant::Mutant;
use crate::output::Record;
use crate::readings::Verdict;
use crate::reconfig::check_body;
use crate::status::Phase;
use crate::timer::Timer;

/// What a writer says first on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The position of the `Open` that began it.
    pub opened: u64,
    /// The timestamp of that: two lives that begin at one place, on a disk rolled back to it, differ in it.
    pub opened_at: Timestamp,
}

/// What travels along with a journal: true of its records up to `appended`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// The writer's last position.
    pub appended: u64,
    /// Its last durable position.
    pub durable: u64,
    /// `T_j`: behind `appended`, it attaches nothing at or below this.
    pub promise: Timestamp,
    /// What its clock shows; not a promise.
    pub reading: Timestamp,
    /// The cut at which its durable state stands.
    pub stored: Timestamp,
}

/// Where a trimmed journal goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerBase {
    /// The last position of the prefix that is gone.
    pub position: u64,
    /// Every command of the prefix is executed in the state at this cut.
    pub cut: Timestamp,
    /// The incarnation open at that position.
    pub incarnation: Incarnation,
    /// Where that opened.
    pub opened: u64,
    /// When that opened.
    pub opened_at: Timestamp,
}

/// The writer's journal is shorter than, or another than, what was counted durable: its disk was rolled back
/// or replaced. It must stop, and be replaced by a new member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "replica {replica} opened incarnation {incarnation} at position {opened}{}, and its journal was known durable to \
     {durable} in incarnation {known}: its disk was rolled back or replaced; stop it and replace it by a new member",
    ends.map_or(String::new(), |ends| format!(" and ends at {ends}"))
)]
pub struct Refused {
    /// The writer.
    pub replica: ReplicaId,
    /// What it says.
    pub incarnation: Incarnation,
    /// Where it says that it opened.
    pub opened: u64,
    /// Where it says that its journal ends, if it said so.
    pub ends: Option<u64>,
    /// The incarnation known here.
    pub known: Incarnation,
    /// The position known durable here.
    pub durable: u64,
}

impl Refused {
    /// Of a replica of whose journal nothing is known, and nothing wanted.
    pub(crate) fn stranger(replica: ReplicaId, hello: Hello) -> Self {
        let Hello { incarnation, opened, .. } = hello;
        Self { replica, incarnation, opened, ends: None, known: Incarnation(0), durable: 0 }
    }
}

/// The state here is older than a base: a snapshot at `cut` or above must be installed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the journal was trimmed at cut {cut}, and the state here is older: a snapshot is needed")]
pub struct Behind {
    /// The cut of the base.
    pub cut: Timestamp,
}

/// Why a peer's record, beat or base was not taken. The link is to be closed and opened again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamError {
    /// Not a member of the group.
    #[error("replica {0} is not a member of the group")]
    Stranger(ReplicaId),
    /// No hello was taken, or the writer is refused.
    #[error("the stream of replica {0} is not open")]
    Closed(ReplicaId),
    /// A gap or a repetition.
    #[error("position {expected} must come next, and {found} came")]
    Position {
        /// What must come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A command that does not decode.
    #[error("the command of record {position}: {fault}")]
    Payload {
        /// The record.
        position: u64,
        /// What is wrong.
        fault: LayoutError,
    },
    /// A record that no member can have said, or that contradicts what was said before.
    #[error("record {position} makes no sense: {fault}")]
    Nonsense {
        /// The record.
        position: u64,
        /// What is wrong.
        fault: &'static str,
    },
    /// A base that no member can have.
    #[error("a base that makes no sense")]
    Base,
    /// The journal is not the one that was read before. The stream is never opened again.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The state is older than the base.
    #[error(transparent)]
    Behind(#[from] Behind),
}

impl Core {
    /// What this replica says first on a connection over which its journal is read; `None` until its `Open`
    /// is durable.
    #[must_use]
    pub fn hello(&self) -> Option<Hello> {
        let running = self.phase == Phase::Running;
        let Opened { position, at } = self.opened;
        running.then_some(Hello { incarnation: self.incarnation, opened: position, opened_at: at })
    }

    /// A peer opens its stream. Gives the position behind which its records are wanted.
    pub fn handle_hello(&mut self, now: Now, from: ReplicaId, hello: Hello) -> Result<u64, Refused> {
        let Some(member) = self.config.member(from).filter(|member| *member != self.me) else {
            return Err(Refused::stranger(from, hello));
        };
        self.clock.advance(now);
        let (known, durable) = (self.journals[member].incarnation, self.journals[member].durable);
        let opened = Opened { position: hello.opened, at: hello.opened_at };
        let same = hello.incarnation == known && opened == self.journals[member].opened;
        let later = hello.incarnation > known && hello.opened > durable;
        // Opened after what is read here, but in the very journal that is read here.
        let trusted = self.mutates(Mutant::RolledBackAccepted);
        if hello.incarnation <= self.journals[member].over {
            // The link of a life that is over: the writer says so itself.
            return Err(Refused { known, durable, ..Refused::stranger(from, hello) });
        }
        if self.journals[member].stream == Stream::Refused || !(same || later || trusted) {
            self.journals[member].stream = Stream::Refused;
            return Err(Refused { known, durable, ..Refused::stranger(from, hello) });
        }
        if !same {
            self.doubt_tail(member);
        }
        self.journals[member].stream = Stream::Open;
        self.advance();
        Ok(self.journals[member].read)
    }

    /// The base behind which this replica's journal goes on, for a peer that wants a trimmed position.
    #[must_use]
    pub fn peer_base(&self) -> PeerBase {
        let (incarnation, opened) = self.base_opened;
        PeerBase {
            position: self.base_position,
            cut: self.base_cut,
            incarnation,
            opened: opened.position,
            opened_at: opened.at,
        }
    }

    /// The writer has trimmed the position that is wanted: its records come from behind its base.
    pub fn handle_base(&mut self, now: Now, from: ReplicaId, base: PeerBase) -> Result<(), StreamError> {
        let member = self.writer(from)?;
        if !base.is_sensible() {
            return Err(StreamError::Base);
        }
        if base.position <= self.journals[member].read {
            return Ok(());
        }
        if base.cut > self.executed_cut.max(self.cuts.last()) {
            self.journals[member].stream = Stream::Behind;
            self.want_snapshot(base.cut);
            return Err(Behind { cut: base.cut }.into());
        }
        self.clock.advance(now);
        // All that the prefix attached is settled in the state here, or spoken of again behind the base.
        self.doubt_tail(member);
        let journal = &mut self.journals[member];
        (journal.read, journal.durable) = (base.position, base.position);
        if base.incarnation > journal.incarnation {
            journal.incarnation = base.incarnation;
            journal.opened = Opened { position: base.opened, at: base.opened_at };
        }
        journal.floors.raise_all(base.cut);
        journal.stream = Stream::Open;
        self.span.based(member);
        self.drop_doubtful(member);
        self.advance();
        Ok(())
    }

    /// The next record of a peer's journal. It may run ahead of the writer's durable position.
    pub fn handle_record(&mut self, now: Now, from: ReplicaId, record: Record) -> Result<(), StreamError> {
        let member = self.writer(from)?;
        let expected = self.journals[member].read + 1;
        let position = record.header.position;
        if position != expected {
            return Err(StreamError::Position { expected, found: position });
        }
        if carries_command(&record.header) {
            check_body(&record.body).map_err(|fault| StreamError::Payload { position, fault })?;
        }
        self.check_record(member, &record.header)?;
        self.clock.advance(now);
        self.note(member, record);
        self.advance();
        Ok(())
    }

    /// What holds of a peer's journal up to `beat.appended`, all of which was handed in.
    pub fn handle_beat(&mut self, now: Now, from: ReplicaId, beat: Beat) -> Result<(), StreamError> {
        let member = self.writer(from)?;
        let read = self.journals[member].read;
        if beat.appended != read {
            return Err(StreamError::Position { expected: read, found: beat.appended });
        }
        self.clock.advance(now);
        self.readings.handle(member, beat.reading, self.clock.mono_ns());
        self.journals[member].stored = beat.stored.max(self.journals[member].stored);
        let before = self.journals[member].promise;
        if beat.promise > before {
            self.journals[member].promise = beat.promise;
            self.wake_promised(before, beat.promise);
        }
        self.act_up_to(member, beat.durable.min(read));
        self.step_clock(now);
        self.advance();
        Ok(())
    }

    /// What holds of this replica's journal now; to be sent to every peer behind the records up to
    /// `appended`. Raises the promise as far as it goes.
    pub fn beat(&mut self, now: Now) -> Beat {
        self.clock.advance(now);
        self.step_clock(now);
        if self.phase == Phase::Running && self.verdict().speaks() {
            if self.is_unsettled() {
                self.renew_ceiling(self.clock.reading());
            }
            let wanted = self.clock.reading().minus_ns(self.promise_lag_ns).min(self.clock.ceiling_durable());
            self.raise_promise(wanted);
        }
        self.advance();
        Beat {
            appended: self.appended,
            durable: self.durable,
            promise: self.clock.promised(),
            reading: self.clock.reading(),
            stored: self.journals[self.me].stored,
        }
    }

    /// A clock that is far above the others and above its own wall clock is set back: promises are kept by
    /// `T` and the floors. One that is far below the others and below its own wall clock is set forward.
    fn step_clock(&mut self, now: Now) {
        if self.is_alone() {
            return;
        }
        match self.verdict() {
            Verdict::Ahead => self.clock.step_back(now),
            Verdict::Behind(reference) => {
                self.clock.step_forward(now, reference);
                // They were to be released by the clock as it was.
                self.release_held();
            }
            Verdict::Speaks | Verdict::Alone => {}
        }
    }

    /// Whether something waits for promises, here or at a replica that is behind: that one needs them up to the
    /// last cut.
    fn is_unsettled(&self) -> bool {
        self.clock.promised() < self.cuts.last()
            || self.cuts.due().is_some()
            || self.committed.count() > 0
            || self.journals.iter().any(|journal| journal.blocks.count() > 0)
    }

    /// Raises the own promise to `timestamp`, if it is not there yet.
    pub(crate) fn raise_promise(&mut self, timestamp: Timestamp) {
        if timestamp > self.clock.promised() {
            self.clock.promise(timestamp);
        }
        let (before, promise) = (self.journals[self.me].promise, self.clock.promised());
        self.journals[self.me].promise = promise;
        self.wake_promised(before, promise);
    }

    /// The member whose stream is open.
    fn writer(&self, from: ReplicaId) -> Result<Member, StreamError> {
        let member = self.config.member(from).ok_or(StreamError::Stranger(from))?;
        match self.journals[member].stream {
            Stream::Open | Stream::Behind if member != self.me => Ok(member),
            _ => Err(StreamError::Closed(from)),
        }
    }

    /// Reads a record: what it attaches blocks from now on. It is acted on when it is durable.
    pub(crate) fn note(&mut self, member: Member, record: Record) {
        let header = record.header;
        self.journals[member].read = header.position;
        match header.kind {
            RecordKind::Propose => {
                self.learn_payload(&record);
                self.note_attach(member, header.id, header.timestamp, By::Ack);
            }
            RecordKind::Ack => self.note_attach(member, header.id, header.timestamp, By::Ack),
            RecordKind::Open if member != self.me => self.drop_doubtful(member),
            RecordKind::Prepare => self.learn_payload(&record),
            RecordKind::Report => {
                if let Some(Said::Attached(timestamp, by)) = said(&header) {
                    self.note_attach(member, header.id, timestamp, by);
                }
            }
            _ => {}
        }
        self.journals[member].pending.push_back(record);
        if self.acts_early(&header) {
            self.act(member, &Record { header, salt: [0; 32], body: bytes::Bytes::new() });
        }
    }

    /// Rules taken out: acting on what is not durable.
    fn acts_early(&self, header: &RecordHeader) -> bool {
        match header.kind {
            RecordKind::Propose => self.mutates(Mutant::UndurablePropose),
            RecordKind::Ack => self.mutates(Mutant::UndurableAck),
            RecordKind::Report => self.mutates(Mutant::UndurableReport),
            RecordKind::Accepted => self.mutates(Mutant::UndurableAccepted),
            RecordKind::Accept => self.mutates(Mutant::UndurableAccept),
            RecordKind::Raise => self.mutates(Mutant::UndurableRaise),
            RecordKind::Commit => self.mutates(Mutant::UndurableCommit),
            _ => false,
        }
    }

    /// A member attached a command: the attach blocks until the command's decision counts here.
    fn note_attach(&mut self, member: Member, id: CommandId, timestamp: Timestamp, by: By) {
        if self.is_settled(id) {
            return;
        }
        self.journals[member].doubtful.remove(&id);
        let takes_late_ack = self.mutates(Mutant::AckAfterReport) && by == By::Ack;
        let known = self.commands.entry(id);
        match &mut known.attaches[member] {
            Some(attach) => {
                assert_eq!(attach.timestamp, timestamp, "a replica attaches a command once: {id}");
                if takes_late_ack {
                    attach.by = By::Ack;
                }
            }
            none => *none = Some(Attach { timestamp, by, durable: false }),
        }
        let known = self.commands.at(id).expect("it was just entered");
        if known.stage == Stage::Undecided && !(self.mutates(Mutant::PromiseIgnoresTail) && member != self.me) {
            self.journals[member].blocks.insert((timestamp, id), known.slots());
        }
        if known.payload.is_none() && !self.mutates(Mutant::NoFetch) {
            self.arm(self.timing.fetch_ns, Timer::Fetch(id));
        }
    }

    /// A command itself was read: its slots are known from now on. The body was checked.
    pub(crate) fn learn_payload(&mut self, record: &Record) {
        let header = &record.header;
        if self.is_settled(header.id) || record.body.is_empty() {
            return;
        }
        let (slots, _) = decode_proposal(&record.body).expect("handle_record has decoded it");
        let slots = self.ordered(slots);
        let known = self.commands.entry(header.id);
        if known.t0 == Timestamp::ZERO {
            (known.t0, known.quorum) = (header.timestamp, header.aux);
        }
        if known.payload.is_some() {
            return;
        }
        let payload =
            Payload { slots: slots.into(), salt: record.salt, body: record.body.clone(), body_hash: header.body_hash };
        self.set_payload(header.id, payload);
    }

    /// The slots in which a command is ordered: those that it says.
    pub(crate) fn ordered(&self, slots: SlotSet) -> SlotSet {
        if slots == SlotSet::All && self.mutates(Mutant::StarInOneSlot) {
            return SlotSet::of(vec![Slot(0)]);
        }
        slots
    }

    /// The slots of a command became known: what stood in every slot because of it stands in its own.
    pub(crate) fn set_payload(&mut self, id: CommandId, payload: Payload) {
        let slots = payload.slots.clone();
        let known = self.commands.entry(id);
        known.payload = Some(payload);
        // From where on it held up every slot; `None` when this is the first that is heard of it.
        let mut held_from: Option<Timestamp> = None;
        for (member, attach) in known.attaches.iter().enumerate() {
            let Some(attach) = attach else { continue };
            held_from = Some(held_from.map_or(attach.timestamp, |from| from.min(attach.timestamp)));
            let journal = &mut self.journals[member];
            journal.blocks.learn((attach.timestamp, id), &slots);
            if attach.durable {
                journal.floors.raise_to(&slots, attach.timestamp);
            }
        }
        if let (Stage::Committed, Some(decision)) = (known.stage, known.decision) {
            self.committed.learn((decision.timestamp, id), &slots);
            held_from = Some(held_from.map_or(decision.timestamp, |from| from.min(decision.timestamp)));
        }
        if let Some(timestamp) = held_from {
            self.wake_slots(&slots);
            self.wake_from(timestamp);
        }
    }

    /// The writer has restarted: what was read of its journal above its durable position is lost, or comes again.
    fn doubt_tail(&mut self, member: Member) {
        let journal = &mut self.journals[member];
        journal.read = journal.durable;
        let tail = std::mem::take(&mut journal.pending);
        if !tail.is_empty() {
            self.counters.tails_dropped += 1;
        }
        for record in tail {
            let id = record.header.id;
            let Some(known) = self.commands.at(id) else { continue };
            match known.attaches[member].filter(|attach| !attach.durable) {
                Some(attach) => drop(self.journals[member].doubtful.insert(id, attach.timestamp)),
                None if known.is_forlorn() => drop(self.commands.remove(id)),
                None => {}
            }
        }
    }

    /// The stream has passed the writer's restart: what did not come again is lost.
    fn drop_doubtful(&mut self, member: Member) {
        for (id, timestamp) in std::mem::take(&mut self.journals[member].doubtful) {
            let Some(known) = self.commands.at_mut(id) else { continue };
            known.attaches[member] = None;
            self.journals[member].blocks.remove((timestamp, id), known.slots());
            if known.is_forlorn() {
                self.commands.remove(id);
            }
        }
        self.wake_all();
    }

    /// Acts on a member's records up to `position`, which are durable.
    pub(crate) fn act_up_to(&mut self, member: Member, position: u64) {
        while let Some(record) = self.journals[member].take_durable(position) {
            if !self.acts_early(&record.header) || record.header.kind == RecordKind::Propose {
                self.act(member, &record);
            }
            if self.journals[member].stream == Stream::Refused {
                return;
            }
        }
    }

    /// Acts on one record.
    fn act(&mut self, member: Member, record: &Record) {
        let header = &record.header;
        let id = header.id;
        if header.kind == RecordKind::Open {
            self.journals[member].incarnation = id.incarnation;
            self.journals[member].opened = Opened { position: header.position, at: header.timestamp };
        }
        // The ids of these are not those of commands.
        match header.kind {
            RecordKind::Clock | RecordKind::Open => return,
            RecordKind::LeaseRequest => return self.handle_lease_request(member, record),
            RecordKind::LeaseGrant => return self.handle_lease_grant(member, header),
            RecordKind::Enter | RecordKind::Have => return self.handle_epoch_record(member, header),
            _ => {}
        }
        if self.is_settled(id) {
            self.answer_settled(member, header);
            return;
        }
        match header.kind {
            RecordKind::Propose => {
                self.count_attach(member, id);
                self.endorse(id);
                if member == self.me {
                    self.check_acks(id);
                } else {
                    self.consider(id);
                }
            }
            RecordKind::Ack => {
                self.count_attach(member, id);
                self.check_acks(id);
            }
            RecordKind::Commit => self.handle_commit(member, header),
            RecordKind::Raise => self.count_raise(member, id, header.timestamp),
            RecordKind::Prepare => self.handle_prepare(member, header),
            RecordKind::Report => self.handle_report(member, header),
            RecordKind::Accept => self.handle_accept(member, header),
            RecordKind::Accepted => self.handle_accepted(member, header),
            _ => {}
        }
    }

    /// A member's attach is durable: it is a vote and a floor.
    pub(crate) fn count_attach(&mut self, member: Member, id: CommandId) {
        let Some(known) = self.commands.at_mut(id) else { return };
        let Some(attach) = &mut known.attaches[member] else { return };
        attach.durable = true;
        let timestamp = attach.timestamp;
        let undecided = known.stage == Stage::Undecided;
        let slots = known.shared_slots();
        if undecided && self.mutates(Mutant::PromiseIgnoresTail) {
            self.journals[member].blocks.insert((timestamp, id), slots.as_deref());
        }
        if let Some(slots) = slots {
            self.journals[member].floors.raise_to(&slots, timestamp);
            self.wake_slots(&slots);
        }
        // An attach stands on a durable proposal.
        if member != self.me {
            self.endorse(id);
            self.release(id);
        }
    }

    /// Something durable stands behind a command: it is to be decided, whatever becomes of its coordinator.
    pub(crate) fn endorse(&mut self, id: CommandId) {
        let Some(known) = self.commands.at_mut(id) else { return };
        if known.endorsed {
            return;
        }
        known.endorsed = true;
        if known.stage == Stage::Undecided && !self.is_alone() && self.phase != Phase::Restoring {
            let suspected = self.config.member(id.replica).is_some_and(|member| self.suspects & bit(member) != 0);
            self.recover_in(self.recovery_delay(id, suspected), id);
        }
    }

    /// A member has raised its floors in the slots of a command.
    pub(crate) fn count_raise(&mut self, member: Member, id: CommandId, timestamp: Timestamp) {
        let Some(slots) = self.commands.at(id).and_then(|known| known.shared_slots()) else { return };
        self.journals[member].floors.raise_to(&slots, timestamp);
        self.wake_slots(&slots);
    }
}

/// Whether a record of this kind has the command as its body.
pub(crate) fn carries_command(header: &RecordHeader) -> bool {
    matches!(header.kind, RecordKind::Propose | RecordKind::Prepare)
}

/// `flags` of a `Report`: attached by `Ack`, attached by `Report`, accepted, committed.
pub(crate) const ATTACHED_BY_ACK: u16 = 1;
pub(crate) const ATTACHED_BY_REPORT: u16 = 2;
pub(crate) const ACCEPTED: u16 = 3;
pub(crate) const COMMITTED: u16 = 4;

/// What a `Report` says.
pub(crate) fn said(header: &RecordHeader) -> Option<Said> {
    match header.flags {
        ATTACHED_BY_ACK => Some(Said::Attached(header.timestamp, By::Ack)),
        ATTACHED_BY_REPORT => Some(Said::Attached(header.timestamp, By::Report)),
        ACCEPTED => Some(Said::Accepted(header.aux, header.timestamp)),
        COMMITTED => Some(Said::Committed(header.timestamp)),
        _ => None,
    }
}
