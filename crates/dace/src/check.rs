//! Looks at what other members say before it is taken: a record that none of this version can have said, or one that
//! contradicts what was said before, closes its stream and changes nothing. This finds broken peers; it is no defence
//! against a member that lies in a plausible way.

use types::journal::{RecordHeader, RecordKind};
use types::limits::{SLOTS, ZONE_LEN_MAX};
use types::{CommandId, Incarnation, SlotSet, Timestamp};

use crate::base::POSITION_MAX;
use crate::clock::SAID_MAX;
use crate::command::{Said, bit};
use crate::config::Member;
use crate::core::Core;
use crate::journal::Stream;
use crate::message::Fetched;
use crate::stream::{PeerBase, Refused, StreamError, said};

/// No duel of recoveries gets here: ballots above this would overflow.
const BALLOT_MAX: u64 = u64::MAX / 2;

impl Core {
    /// Whether `member` can have said this next in its journal.
    pub(crate) fn check_record(&mut self, member: Member, header: &RecordHeader) -> Result<(), StreamError> {
        if header.kind == RecordKind::Open {
            return self.check_open(member, header);
        }
        match self.fault_of(member, header) {
            Some(fault) => Err(StreamError::Nonsense { position: header.position, fault }),
            None => Ok(()),
        }
    }

    /// Lives follow one another without a gap in a journal. On a disk that was rolled back, and restarted more than
    /// once since, the first `Open` lies where other records were counted durable, and only its absence shows.
    fn check_open(&mut self, member: Member, header: &RecordHeader) -> Result<(), StreamError> {
        let journal = &mut self.journals[member];
        let pending = journal.pending.iter().rev().find(|record| record.header.kind == RecordKind::Open);
        let known = pending.map_or(journal.incarnation, |record| record.header.id.incarnation);
        let replica = self.config.members[member];
        // The journals of a replica go on with its numbers from epoch to epoch.
        let begins = known == Incarnation(0) && !self.span.is_first();
        let follows = known.0.checked_add(1) == Some(header.id.incarnation.0) || begins;
        if follows && header.id.replica == replica {
            return Ok(());
        }
        journal.stream = Stream::Refused;
        let (incarnation, opened, durable) = (header.id.incarnation, header.position, journal.durable);
        Err(Refused { replica, incarnation, opened, ends: None, known, durable }.into())
    }

    fn fault_of(&self, member: Member, header: &RecordHeader) -> Option<&'static str> {
        use RecordKind as K;
        let (kind, id) = (header.kind, header.id);
        if header.epoch != self.config.epoch {
            return Some("another epoch");
        }
        if matches!(kind, K::Enter | K::Have) {
            return self.span.fault_of(header);
        }
        if kind == K::Clock {
            return None;
        }
        if header.timestamp > SAID_MAX {
            return Some("a timestamp out of range");
        }
        if self.config.member(id.replica).is_none() {
            return Some("a command of a stranger");
        }
        if matches!(kind, K::LeaseRequest | K::LeaseGrant) {
            return self.lease_fault(member, header);
        }
        if id.replica == self.config.replica && (id.incarnation, id.counter) > (self.incarnation, self.counter) {
            return Some("a command of this replica that it never proposed");
        }
        if kind == K::Propose && id.replica != self.config.members[member] {
            return Some("a proposal of another's command");
        }
        let members = u64::MAX >> (u64::BITS as usize - self.config.n());
        let names_quorum = matches!(kind, K::Propose | K::Prepare | K::Accept);
        if names_quorum && (header.aux & !members != 0 || (kind == K::Propose && header.aux & bit(member) == 0)) {
            return Some("a fast quorum of others than members");
        }
        self.ballot_fault(member, header).or_else(|| self.contradiction(member, header))
    }

    /// The ids of these name requests, not commands.
    fn lease_fault(&self, member: Member, header: &RecordHeader) -> Option<&'static str> {
        let own = header.id.replica == self.config.members[member];
        if own != (header.kind == RecordKind::LeaseRequest) {
            return Some("a lease asked for by another, or granted to itself");
        }
        let fits = usize::try_from(header.body_len).is_ok_and(|len| len <= ZONE_LEN_MAX);
        (!fits).then_some("a zone that is too long")
    }

    fn ballot_fault(&self, member: Member, header: &RecordHeader) -> Option<&'static str> {
        use RecordKind as K;
        let (n, ballot) = (self.config.n() as u64, header.ballot);
        if ballot > BALLOT_MAX {
            return Some("a ballot out of range");
        }
        let owns = ballot > 0 && (ballot - 1) % n == member as u64;
        let first = ballot == self.first_ballot(header.id);
        let fits = match header.kind {
            K::Prepare => owns && ballot > n,
            K::Accept => owns && (ballot > n || first),
            K::Accepted => ballot > n || first,
            K::Report => match said(header) {
                Some(Said::Accepted(accepted, _)) => accepted > 0 && accepted < ballot,
                Some(_) => ballot > 0,
                None => false,
            },
            _ => true,
        };
        (!fits).then_some("a ballot of another, or out of turn")
    }

    /// What was said before, and what this contradicts.
    fn contradiction(&self, member: Member, header: &RecordHeader) -> Option<&'static str> {
        use RecordKind as K;
        let attached =
            matches!((header.kind, said(header)), (K::Propose | K::Ack, _) | (K::Report, Some(Said::Attached(..))));
        let known = self.commands.at(header.id).filter(|_| !self.is_settled(header.id));
        let other = known.and_then(|known| known.attaches[member]).is_some_and(|at| at.timestamp != header.timestamp);
        if attached && other {
            return Some("a second attach of a command");
        }
        let decides = header.kind == K::Commit && !self.may_be_decided(header.id, header.timestamp);
        decides.then_some("a decision that contradicts another, or a cut")
    }

    /// Whether nothing known here says that `id` is not decided at `timestamp`.
    pub(crate) fn may_be_decided(&self, id: CommandId, timestamp: Timestamp) -> bool {
        if self.is_settled(id) {
            return true;
        }
        let known = self.commands.at(id);
        if let Some(decision) = known.and_then(|known| known.decision) {
            return decision.timestamp == timestamp;
        }
        if timestamp <= self.executed_cut {
            return true;
        }
        if self.ended().is_some_and(|end| (timestamp, id) > end) {
            // Void: no frontier and no cut speaks of it.
            return true;
        }
        let passed = |slots: &SlotSet| match slots {
            SlotSet::All => self.commands.last.is_some_and(|last| last >= (timestamp, id)),
            SlotSet::Some(slots) => slots.iter().any(|slot| self.frontier.at(*slot) >= (timestamp, id)),
        };
        timestamp > self.cuts.last() && !known.and_then(|known| known.slots()).is_some_and(passed)
    }

    /// What a member said cannot be: nothing more is read of it.
    pub(crate) fn distrust(&mut self, member: Member) {
        self.counters.contradictions += 1;
        if member != self.me {
            self.journals[member].stream = Stream::Refused;
        }
    }
}

impl PeerBase {
    /// Whether a journal can go on there.
    pub(crate) fn is_sensible(&self) -> bool {
        self.position <= POSITION_MAX && self.opened <= self.position && self.cut <= SAID_MAX
    }
}

impl Fetched {
    /// Whether its numbers can be those of a command.
    pub(crate) fn is_sensible(&self, n: usize) -> bool {
        let members = u64::MAX >> (u64::BITS as usize - n);
        let decision = self.decision.unwrap_or(Timestamp::ZERO);
        self.t0.max(decision) <= SAID_MAX && self.quorum & !members == 0
    }
}

/// Whether slots that a peer names exist.
pub(crate) fn are_slots(slots: &SlotSet) -> bool {
    match slots {
        SlotSet::All => true,
        SlotSet::Some(slots) => {
            slots.windows(2).all(|pair| pair[0] < pair[1]) && slots.iter().all(|slot| slot.0 < SLOTS)
        }
    }
}
