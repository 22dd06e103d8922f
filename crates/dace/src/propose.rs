//! Proposals: a submission gets an id, a timestamp and its place in the journal.

use bytes::Bytes;
use types::journal::RecordKind;
use types::limits::{COMMAND_LEN_MAX, IN_FLIGHT_LEN_MAX, IN_FLIGHT_MAX, KNOWN_MAX, SLOTS};
use types::{CommandId, Now, Slot, SlotSet, Timestamp};

use crate::command::{By, Lead, Payload, bit};
use crate::config::Member;
use crate::core::Core;
use crate::mutant::Mutant;
use crate::output::Record;
use crate::reconfig::{Reconfig, is_reconfig};
use crate::status::Phase;
use crate::timer::Timer;

/// Bytes of a proposal body: a command and the longest list of slots before it.
const BODY_LEN_MAX: usize = COMMAND_LEN_MAX + 2 + 2 * SLOTS as usize;

/// A command as the driver submits it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The slots that it touches.
    pub slots: SlotSet,
    /// Fresh and random: hides the body behind its hash.
    pub salt: [u8; 32],
    /// `types::journal::encode_proposal(slots, payload)`.
    pub body: Bytes,
    /// `types::journal::body_hash(salt, body)`.
    pub body_hash: [u8; 32],
}

/// Why a submission was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// As many commands or bytes as the limits allow wait for the disk.
    #[error("{IN_FLIGHT_MAX} commands or {IN_FLIGHT_LEN_MAX} bytes are in flight: try again when some are executed")]
    Full,
    /// The core is not started, or its `Open` record is not durable yet.
    #[error("the replica has not opened its incarnation yet")]
    NotStarted,
    /// Too few clock readings of other replicas are fresh, or the own clock is far ahead of them.
    #[error("the clock of this replica cannot be compared with enough others, or is too far ahead of them")]
    Clock,
    /// A Reconfig is under way: the next epoch takes it.
    #[error("the replica set of the group is changing: try again when it has changed")]
    Sealed,
    /// The body is over the limit.
    #[error("a proposal body of {0} bytes is over the limit of {BODY_LEN_MAX}")]
    TooLong(usize),
}

impl SubmitError {
    /// Whether the same submission may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full | Self::NotStarted | Self::Clock | Self::Sealed => true,
            Self::TooLong(_) => false,
        }
    }
}

impl Core {
    /// Proposes a command. Its `Execute` follows once it is decided and nothing smaller can come in its
    /// slots; in a group of one, once `Propose` and `Commit` are durable.
    ///
    /// Panics if `body` does not begin with the encoding of `slots`: a replay would order it otherwise.
    pub fn handle_submit(&mut self, now: Now, submission: Submission) -> Result<CommandId, SubmitError> {
        if self.phase != Phase::Running {
            return Err(SubmitError::NotStarted);
        }
        if self.is_sealed() {
            return Err(SubmitError::Sealed);
        }
        let len = submission.body.len();
        if len > BODY_LEN_MAX {
            return Err(SubmitError::TooLong(len));
        }
        let (count, held) = (self.commands.in_flight(), self.commands.in_flight_len());
        let has_room = count < IN_FLIGHT_MAX && (count == 0 || held + len <= IN_FLIGHT_LEN_MAX);
        if !has_room || self.commands.count() >= KNOWN_MAX {
            return Err(SubmitError::Full);
        }
        assert!(begins_with(&submission.body, &submission.slots), "the body says the slots of the submission");
        let names_group = !is_reconfig(&submission.body) || Reconfig::from_body(&submission.body).is_some();
        assert!(names_group, "a Reconfig names a group");
        self.clock.advance(now);
        if !self.verdict().speaks() {
            self.counters.muted += 1;
            return Err(SubmitError::Clock);
        }
        let counter = self.counter + 1;
        let id = CommandId { replica: self.config.replica, incarnation: self.incarnation, counter };
        let Submission { slots, salt, body, body_hash } = submission;
        let slots = self.ordered(slots);
        self.commands.entry(id).payload = Some(Payload { slots: slots.into(), salt, body, body_hash });
        let quorum = self.fast_quorum(id);
        self.commands.entry(id).quorum = quorum;
        self.commands.enters_flight(id);
        self.propose(id, quorum);
        self.advance();
        Ok(id)
    }

    /// The own replica, the holders of the command's zones, and the preferred others, those under suspicion last, up
    /// to `F`.
    fn fast_quorum(&self, id: CommandId) -> u64 {
        let holders = self.commands.at(id).map_or(0, |known| self.quorum_holders(known));
        let size = self.config.fast_size() - usize::from(self.mutates(Mutant::SmallFastQuorum));
        let (good, suspected): (Vec<Member>, Vec<Member>) =
            self.preference.iter().copied().partition(|member| self.suspects & bit(*member) == 0);
        let mut quorum = bit(self.me) | holders;
        for member in good.iter().chain(&suspected) {
            if quorum.count_ones() as usize >= size {
                break;
            }
            quorum |= bit(*member);
        }
        quorum
    }

    /// Attaches and appends the `Propose`: this is the coordinator's own ack.
    fn propose(&mut self, id: CommandId, quorum: u64) {
        let timestamp = self.attach(id, By::Ack, self.earliest(id));
        // A mark before this attach does not count it.
        self.counter = id.counter;
        assert!(timestamp > self.cuts.last() || !self.is_alone(), "nothing is attached at or below a cut");
        if self.is_alone() {
            self.clock.observe(timestamp);
        }
        let known = self.commands.at_mut(id).expect("it was just entered");
        known.t0 = timestamp;
        known.lead = Lead::Collecting;
        let payload = known.payload.clone().expect("it was just entered");
        self.say(RecordKind::Propose, id, timestamp, |record| {
            record.header.aux = quorum;
            record.header.body_len = u32::try_from(payload.body.len()).expect("body.len() <= BODY_LEN_MAX");
            record.header.body_hash = payload.body_hash;
            record.salt = payload.salt;
            record.body = payload.body;
        });
        if self.is_alone() {
            // The fast quorum is this replica alone, and its Propose is its ack: the Commit shares its flush.
            self.decide(id, timestamp, 0);
        } else {
            self.arm(self.timing.give_up_ns, Timer::GiveUp(id));
        }
    }

    /// Where a proposal begins, if the floors allow it: at what the clock shows. A replica that has its slots to
    /// itself, as far as it knows, and is busy there begins where the members of its quorum will be when the proposal comes, since they
    /// attach it above their promises: from there its own attaches do not hold up the commands before them.
    fn earliest(&self, id: CommandId) -> Timestamp {
        let next = self.clock.next();
        let Some(SlotSet::Some(slots)) = self.commands.at(id).and_then(|known| known.slots()) else { return next };
        let own = |slot: &Slot| {
            let standing = self.blocks().listed_in(*slot).iter();
            let last = self.frontier.at(*slot);
            standing.chain([&last]).all(|(_, other)| other.replica == self.config.replica)
        };
        let busy = slots.iter().any(|slot| self.blocks().first_in(*slot).is_some());
        if self.ahead_ns == 0 || !busy || !slots.iter().all(own) {
            return next;
        }
        next.max(self.clock.reading().plus_ns(self.ahead_ns))
    }

    /// Appends a `Clock` record if the ceiling is soon too low for an attach at `timestamp`. It rides on the
    /// batch of the command that needs it.
    pub(crate) fn renew_ceiling(&mut self, timestamp: Timestamp) {
        if let Some(ceiling) = self.clock.ceiling_wanted(timestamp) {
            let position = self.next_position();
            let promise = self.clock.promised();
            let mut record =
                Record::bare(RecordKind::Clock, self.config.epoch, position, CommandId::default(), promise);
            record.header.aux = ceiling.0;
            self.clock.ceiling_appended(position, ceiling);
            self.append(record);
        }
        assert!(self.clock.ceiling() >= timestamp.tick_end(), "the ceiling covers the tick of every attach");
    }
}

/// Whether a proposal body begins with the encoding of `slots`, checked without building one.
fn begins_with(body: &[u8], slots: &SlotSet) -> bool {
    let Some((count, rest)) = body.split_first_chunk::<2>() else { return false };
    let count = u16::from_be_bytes(*count);
    match slots {
        SlotSet::All => count >= u16::MAX - 1,
        SlotSet::Some(slots) => {
            usize::from(count) == slots.len()
                && rest.len() >= 2 * slots.len()
                && rest.chunks_exact(2).zip(slots).all(|(pair, slot)| *pair == slot.0.to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use types::journal::encode_proposal;

    use super::*;

    #[test]
    fn the_body_must_say_the_slots() {
        let some = SlotSet::of(vec![Slot(3), Slot(300)]);
        assert!(begins_with(&encode_proposal(&some, b"x"), &some));
        assert!(begins_with(&encode_proposal(&SlotSet::All, b""), &SlotSet::All));
        assert!(!begins_with(&encode_proposal(&SlotSet::All, b""), &some));
        assert!(!begins_with(&encode_proposal(&some, b"x"), &SlotSet::of(vec![Slot(3)])));
        assert!(!begins_with(&encode_proposal(&some, b"x"), &SlotSet::of(vec![Slot(3), Slot(301)])));
        assert!(!begins_with(&[0, 2, 0, 3, 1], &some));
        assert!(!begins_with(&[0], &some));
    }
}
