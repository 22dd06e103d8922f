//! Restart: the replay of the replica's own journal over its base.
//!
//! Everything restored is durable. What lies above the executed cut is put out as `Execute` (and `Cut`) as
//! soon as its decision was read, so that a driver which drains the outputs between records needs no memory
//! for a long journal.

use types::journal::{LayoutError, RecordHeader, RecordKind, decode_proposal};
use types::{CommandId, Epoch, Incarnation, ReplicaId, SlotSet, Timestamp};

use crate::base::BaseState;
use crate::clock::TIMESTAMP_MAX;
use crate::command::{By, Decision, Payload, Said, bit};
use crate::core::Core;
use crate::journal::Opened;
use crate::lease::Zone;
use crate::output::{Kept, Record};
use crate::reconfig::check_body;
use crate::status::Phase;
use crate::stream::said;

/// A record of the journal contradicts what a replica like this one can have said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("journal record {position}: {fault}")]
pub struct RestoreError {
    /// Its position.
    pub position: u64,
    /// What is wrong.
    pub fault: RestoreFault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreFault {
    /// The core was started already.
    #[error("records are restored before the start only")]
    Started,
    /// A gap, a repetition, or a journal that begins behind its base.
    #[error("position {expected} must come next")]
    Position {
        /// The position that must come next (or the last one that may come first).
        expected: u64,
    },
    /// Said by another replica.
    #[error("it is said by replica {0}: this is not the journal of this replica")]
    Replica(ReplicaId),
    /// Said in another epoch.
    #[error("it is said in epoch {0}, which this replica was never in")]
    Epoch(Epoch),
    /// A kind that a group of this size never says, or that this version does not know.
    #[error("a record of kind {0:?} is not said by a group of this size in this version")]
    Kind(RecordKind),
    /// A field that must be zero in this kind, or a fast quorum that is not this replica alone.
    #[error("its {0} is not what a group of one says")]
    Field(&'static str),
    /// An incarnation opened out of turn, or a command of one that is not open.
    #[error("incarnation {found} is not the expected {expected}")]
    Incarnation {
        /// The one that must come.
        expected: Incarnation,
        /// The one that came.
        found: Incarnation,
    },
    /// Counters are dense within an incarnation.
    #[error("counter {found} is not the expected {expected}")]
    Counter {
        /// The one that must come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// A timestamp at or below one that was promised before it, or out of range.
    #[error("timestamp {found} must be above {floor} and at most {TIMESTAMP_MAX}")]
    Timestamp {
        /// What was promised before.
        floor: Timestamp,
        /// The timestamp that came.
        found: Timestamp,
    },
    /// A proposal without its body, or of another length.
    #[error("its body of {expected} bytes is missing or has another length, and the command is not executed yet")]
    Body {
        /// The length that the header says.
        expected: u32,
    },
    /// A proposal body that does not decode.
    #[error("its body: {0}")]
    Layout(#[from] LayoutError),
    /// A decision about a command that was not proposed, at another timestamp, or for the second time.
    #[error("it decides {id} at {timestamp}, which is not proposed there or decided already")]
    Decision {
        /// The command.
        id: CommandId,
        /// The timestamp.
        timestamp: Timestamp,
    },
}

impl Core {
    /// Takes the next record of this replica's own journal, in order. Records at or below the base's
    /// position are passed over. `Execute` and `Cut` may be polled in between, or all of them at the end.
    pub fn restore_record(&mut self, record: Record) -> Result<(), RestoreError> {
        let position = record.header.position;
        self.replay(record).map_err(|fault| RestoreError { position, fault })
    }

    /// Takes a kept record of this replica's own journal, in its place among the said ones.
    pub fn restore_kept(&mut self, kept: &Kept) -> Result<(), RestoreError> {
        if self.phase != Phase::Restoring {
            return Err(RestoreError { position: self.appended, fault: RestoreFault::Started });
        }
        if let Err(fault) = check_body(&kept.body) {
            return Err(RestoreError { position: self.appended, fault: fault.into() });
        }
        if self.settled.contains(kept.header.id) {
            return Ok(());
        }
        let record = Record { header: kept.header, salt: kept.salt, body: kept.body.clone() };
        self.learn_payload(&record);
        // It was kept because something durable stood behind it.
        self.endorse(kept.header.id);
        Ok(())
    }

    /// Begins from a base, which was checked.
    pub(crate) fn restore_base(&mut self, base: &BaseState) {
        assert!(base.cut <= self.executed_cut, "a base stands at or below the state");
        match (&base.more, &base.executed[..]) {
            (None, [executed]) => (self.incarnation, self.counter) = (executed.incarnation, executed.counter),
            (None, _) => unreachable!("check() demands one watermark"),
            (Some(more), executed) => {
                (self.incarnation, self.counter) = (more.incarnation, more.counter);
                self.opened = Opened { position: more.opened, at: more.opened_at };
                executed.iter().for_each(|id| self.settled.insert_through(*id));
                more.above.iter().for_each(|id| self.settled.insert(*id));
                for grant in more.grants.iter().flatten() {
                    if let Some(to) = self.config.member(grant.to) {
                        self.grants.restored(to, Zone(grant.zone.to_vec().into()), grant.len_ns, grant.salt);
                    }
                }
            }
        }
        let own = &mut self.journals[self.me];
        (own.read, own.durable, own.incarnation, own.opened) =
            (base.position, base.position, self.incarnation, self.opened);
        own.floors.raise_all(base.cut);
        own.stored = self.executed_cut;
        self.base_cut = base.cut;
        self.settled_cut = base.cut;
        self.base_opened = (self.incarnation, self.opened);
        self.appended = base.position;
        self.durable = base.position;
        self.base_position = base.position;
        self.floors.raise_all(base.cut);
        self.clock.observe(base.cut);
        self.clock.ceiling_restored(base.ceiling);
        self.marks.restored(base.position);
    }

    fn replay(&mut self, record: Record) -> Result<(), RestoreFault> {
        let header = record.header;
        if self.phase != Phase::Restoring {
            return Err(RestoreFault::Started);
        }
        if !self.takes_position(header.position)? {
            return Ok(());
        }
        self.check_header(&header)?;
        match header.kind {
            RecordKind::Open => self.replay_open(&header)?,
            RecordKind::Clock => self.replay_clock(&header)?,
            RecordKind::Propose => self.replay_propose(&record)?,
            RecordKind::Commit if self.is_alone() => self.replay_lone_commit(&header)?,
            RecordKind::Enter | RecordKind::Have => self.replay_epoch_record(&header)?,
            kind if self.is_alone() => return Err(RestoreFault::Kind(kind)),
            RecordKind::LeaseRequest => {}
            RecordKind::LeaseGrant => self.replay_grant(&header, &record.body, record.salt),
            _ => self.replay_vote(&header),
        }
        self.appended = header.position;
        self.durable = header.position;
        self.note(self.me, record);
        self.act_up_to(self.me, header.position);
        self.advance();
        Ok(())
    }

    /// Whether a record at `position` comes in turn and is to be replayed. Trimming goes by segments, so some
    /// of the prefix that the base covers may be left: it is passed over, and must lead up to the base
    /// without a gap.
    fn takes_position(&mut self, position: u64) -> Result<bool, RestoreFault> {
        let replayed = self.appended > self.base_position;
        let expected = match self.passed_over {
            _ if replayed => self.next_position(),
            Some(last) => last + 1,
            None => position.clamp(1, self.base_position + 1),
        };
        if position != expected {
            return Err(RestoreFault::Position { expected });
        }
        if position <= self.base_position {
            self.passed_over = Some(position);
        }
        Ok(position > self.base_position)
    }

    /// What holds of every kind.
    fn check_header(&self, header: &RecordHeader) -> Result<(), RestoreFault> {
        if header.epoch != self.config.epoch {
            return Err(RestoreFault::Epoch(header.epoch));
        }
        let own = self.is_alone() || matches!(header.kind, RecordKind::Open | RecordKind::Propose);
        let names_another = matches!(header.kind, RecordKind::Clock | RecordKind::Enter | RecordKind::Have);
        if own && !names_another && header.id.replica != self.config.replica {
            return Err(RestoreFault::Replica(header.id.replica));
        }
        if self.is_alone() { self.check_lone_header(header) } else { Ok(()) }
    }

    /// What holds of everything that a lone replica says.
    fn check_lone_header(&self, header: &RecordHeader) -> Result<(), RestoreFault> {
        if header.flags != 0 {
            return Err(RestoreFault::Field("flags"));
        }
        if header.ballot != 0 {
            return Err(RestoreFault::Field("ballot"));
        }
        if header.kind != RecordKind::Propose && header.body_len != 0 {
            return Err(RestoreFault::Field("body length"));
        }
        let aux = match header.kind {
            RecordKind::Clock => header.aux,
            RecordKind::Propose => bit(self.me),
            _ => 0,
        };
        if header.aux != aux {
            return Err(RestoreFault::Field("aux"));
        }
        Ok(())
    }

    fn replay_open(&mut self, header: &RecordHeader) -> Result<(), RestoreFault> {
        let follows = Incarnation(self.incarnation.0.saturating_add(1));
        // The journal of a later epoch goes on with the numbers of the one before.
        let begins = self.incarnation == Incarnation(0) && !self.span.is_first();
        let expected = if begins { header.id.incarnation.max(follows) } else { follows };
        if header.id.incarnation != expected {
            return Err(RestoreFault::Incarnation { expected, found: header.id.incarnation });
        }
        if header.id.counter != 0 {
            return Err(RestoreFault::Counter { expected: 0, found: header.id.counter });
        }
        if self.is_alone() {
            above(self.clock.ceiling_durable().max(self.floors.highest()), header.timestamp)?;
            self.clock.observe(header.timestamp);
        }
        self.incarnation = expected;
        self.opened = Opened { position: header.position, at: header.timestamp };
        self.counter = 0;
        Ok(())
    }

    /// Its core acts on it like on a peer's.
    fn replay_epoch_record(&self, header: &RecordHeader) -> Result<(), RestoreFault> {
        self.span.fault_of(header).map_or(Ok(()), |_| Err(RestoreFault::Field("epoch's beginning")))
    }

    fn replay_clock(&mut self, header: &RecordHeader) -> Result<(), RestoreFault> {
        if header.id != CommandId::default() {
            return Err(RestoreFault::Field("id"));
        }
        above(self.clock.ceiling_durable(), Timestamp(header.aux))?;
        if header.timestamp > Timestamp(header.aux) {
            return Err(RestoreFault::Field("promise"));
        }
        self.clock.ceiling_restored(Timestamp(header.aux));
        Ok(())
    }

    fn replay_propose(&mut self, record: &Record) -> Result<(), RestoreFault> {
        let Record { header, body, .. } = record;
        let (timestamp, id) = (header.timestamp, header.id);
        if id.incarnation != self.incarnation {
            return Err(RestoreFault::Incarnation { expected: self.incarnation, found: id.incarnation });
        }
        if id.counter != self.counter + 1 {
            return Err(RestoreFault::Counter { expected: self.counter + 1, found: id.counter });
        }
        if self.is_alone() {
            above(self.floors.highest().max(self.clock.promised()), timestamp)?;
            if timestamp.tick_end() > self.clock.ceiling_durable() {
                return Err(RestoreFault::Field("timestamp (no ceiling covers it)"));
            }
        }
        // An erased body of an executed command is no loss, but its slots are unknown: take it for all.
        let erased = body.is_empty() && (timestamp <= self.executed_cut || self.settled.contains(id));
        if usize::try_from(header.body_len) != Ok(body.len()) && !erased {
            return Err(RestoreFault::Body { expected: header.body_len });
        }
        let slots =
            if erased { SlotSet::All } else { self.ordered(check_body(body).and_then(|()| decode_proposal(body))?.0) };
        let settled = self.settled.contains(id);
        if !settled {
            self.note_mark(timestamp);
        }
        self.counter += 1;
        if settled {
            self.floors.raise_to(&slots, timestamp);
            return Ok(());
        }
        self.floors.raise_to(&slots, timestamp);
        if self.is_alone() {
            self.clock.observe(timestamp);
        }
        let known = self.commands.entry(id);
        (known.t0, known.quorum) = (timestamp, header.aux);
        known.attached = Some((timestamp, By::Ack));
        known.first_mention = header.position;
        let body_hash = header.body_hash;
        known.payload = Some(Payload { slots: slots.into(), salt: record.salt, body: body.clone(), body_hash });
        self.commands.enters_flight(id);
        Ok(())
    }

    fn replay_lone_commit(&mut self, header: &RecordHeader) -> Result<(), RestoreFault> {
        let (timestamp, id) = (header.timestamp, header.id);
        let undecided = self.commands.at_mut(id).filter(|known| known.decision.is_none() && known.t0 == timestamp);
        let Some(known) = undecided else { return Err(RestoreFault::Decision { id, timestamp }) };
        known.decision = Some(Decision { timestamp, position: header.position });
        Ok(())
    }

    /// What this replica said about a command of a larger group.
    fn replay_vote(&mut self, header: &RecordHeader) {
        let (id, timestamp, ballot) = (header.id, header.timestamp, header.ballot);
        if self.settled.contains(id) {
            return;
        }
        let attached = match (header.kind, said(header)) {
            (RecordKind::Ack, _) => Some(By::Ack),
            (RecordKind::Report, Some(Said::Attached(_, by))) => Some(by),
            _ => None,
        };
        if attached.is_some() {
            self.note_mark(timestamp);
        }
        let known = self.commands.entry(id);
        if known.first_mention == 0 {
            known.first_mention = header.position;
        }
        known.joined = known.joined.max(ballot);
        let mut raised = false;
        match header.kind {
            RecordKind::Ack | RecordKind::Report => {
                if let Some(by) = attached {
                    known.attached = known.attached.or(Some((timestamp, by)));
                    raised = true;
                }
            }
            // An `Accept` alone, its `Accepted` torn off, has fixed the value of its ballot too.
            RecordKind::Accept | RecordKind::Accepted => known.accepted = Some((ballot, timestamp)),
            RecordKind::Commit => {
                known.decision = known.decision.or(Some(Decision { timestamp, position: header.position }));
                raised = true;
            }
            RecordKind::Raise => raised = true,
            _ => {}
        }
        if raised {
            match known.shared_slots() {
                Some(slots) => self.floors.raise_to(&slots, timestamp),
                None => self.floors.raise_all(timestamp),
            }
        }
    }
}

/// Whether a restored timestamp is above `floor` and within what a journal holds.
fn above(floor: Timestamp, found: Timestamp) -> Result<(), RestoreFault> {
    if found > floor && found <= TIMESTAMP_MAX { Ok(()) } else { Err(RestoreFault::Timestamp { floor, found }) }
}
