//! Proposals: a submission gets an id, a timestamp and its place in the journal.

use bytes::Bytes;
use types::journal::RecordKind;
use types::limits::{COMMAND_LEN_MAX, IN_FLIGHT_LEN_MAX, IN_FLIGHT_MAX, SLOTS};
use types::{CommandId, Now, SlotSet, Timestamp};

use crate::core::Core;
use crate::output::Record;
use crate::status::Phase;

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
    /// The body is over the limit.
    #[error("a proposal body of {0} bytes is over the limit of {BODY_LEN_MAX}")]
    TooLong(usize),
}

impl SubmitError {
    /// Whether the same submission may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full | Self::NotStarted => true,
            Self::TooLong(_) => false,
        }
    }
}

impl Core {
    /// Proposes a command. Its `Propose` and `Commit` are in the outputs, and its `Execute` follows once
    /// both are durable.
    ///
    /// Panics if `body` does not begin with the encoding of `slots`: a replay would order it otherwise.
    pub fn handle_submit(&mut self, now: Now, submission: Submission) -> Result<CommandId, SubmitError> {
        if self.phase != Phase::Running {
            return Err(SubmitError::NotStarted);
        }
        if submission.body.len() > BODY_LEN_MAX {
            return Err(SubmitError::TooLong(submission.body.len()));
        }
        if !self.commands.has_room(submission.body.len()) {
            return Err(SubmitError::Full);
        }
        assert!(begins_with(&submission.body, &submission.slots), "the body says the slots of the submission");
        self.clock.advance(now);
        let timestamp = self.clock.next().max(self.floors.floor(&submission.slots).next());
        let mark = self.mark();
        self.marks.handle_attach(timestamp, mark);
        self.renew_ceiling(timestamp);
        self.counter += 1;
        let id = CommandId { replica: self.config.replica, incarnation: self.incarnation, counter: self.counter };
        self.propose((timestamp, id), submission);
        // The fast quorum is this replica alone, and its Propose is its ack.
        self.decide((timestamp, id));
        self.advance();
        Ok(id)
    }

    /// Attaches and appends the `Propose`.
    fn propose(&mut self, place: (Timestamp, CommandId), submission: Submission) {
        let (timestamp, id) = place;
        let Submission { slots, salt, body, body_hash } = submission;
        assert!(timestamp > self.clock.promised(), "nothing is attached at or below the clock promise");
        assert!(timestamp > self.cuts.last(), "nothing is attached at or below a cut");
        self.floors.raise(&slots, timestamp);
        self.clock.observe(timestamp);
        let mut record = Record::bare(RecordKind::Propose, self.config.epoch, self.next_position(), id, timestamp);
        record.header.aux = self.config.quorum_mask();
        record.header.body_len = u32::try_from(body.len()).expect("body.len() <= BODY_LEN_MAX");
        record.header.body_hash = body_hash;
        record.salt = salt;
        record.body = body.clone();
        self.append(record);
        self.commands.insert(place, slots, body);
    }

    /// Appends a `Clock` record if the ceiling is soon too low for an attach at `timestamp`. It rides on the
    /// batch of the command that needs it.
    fn renew_ceiling(&mut self, timestamp: Timestamp) {
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
        SlotSet::All => count == u16::MAX,
        SlotSet::Some(slots) => {
            usize::from(count) == slots.len()
                && rest.len() >= 2 * slots.len()
                && rest.chunks_exact(2).zip(slots).all(|(pair, slot)| *pair == slot.0.to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Slot;
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
