//! Attaching: a replica's own vote on a command (`consensus.md`, section 3, step 2).

use types::journal::RecordKind;
use types::limits::CLOCK_AHEAD_NS_MAX;
use types::{CommandId, Timestamp};

use crate::command::{By, Stage};
use crate::core::Core;
use crate::grant::Withheld;
use crate::mutant::Mutant;
use crate::output::{Kept, Output, Record};
use crate::status::Phase;
use crate::timer::Timer;

impl Core {
    /// Acks a peer's durable proposal, unless a ballot above 0 was joined for it. One that is too far ahead of
    /// the clock is held until it is not.
    pub(crate) fn consider(&mut self, id: CommandId) {
        let Some(known) = self.commands.at(id) else { return };
        let voted = known.attached.is_some() && !self.mutates(Mutant::AckAfterReport);
        let joined = known.joined > 0 && !self.mutates(Mutant::AckAfterReport);
        let undurable = self.mutates(Mutant::UndurablePropose);
        if voted || joined || known.stage != Stage::Undecided || !(known.endorsed || undurable) {
            return;
        }
        if known.payload.is_none() || known.t0 == Timestamp::ZERO || self.phase == Phase::Restoring {
            return;
        }
        if self.refuses(id) {
            return;
        }
        let t0 = known.t0;
        let bound = self.clock.reading().plus_ns(CLOCK_AHEAD_NS_MAX);
        if t0 > bound {
            if self.held.insert((t0, id)) {
                self.counters.held += 1;
            }
            let at = self.clock.mono_at(t0.minus_ns(CLOCK_AHEAD_NS_MAX));
            self.timers.arm(at, Timer::Held);
            return;
        }
        if self.withholds(id, Withheld::Ack) {
            return;
        }
        self.ack(id, t0);
    }

    /// Proposals that have come near enough to the clock.
    pub(crate) fn release_held(&mut self) {
        let bound = self.clock.reading().plus_ns(CLOCK_AHEAD_NS_MAX);
        while let Some((t0, id)) = self.held.first().copied().filter(|(t0, _)| *t0 <= bound) {
            self.held.remove(&(t0, id));
            self.consider(id);
        }
        if let Some((t0, _)) = self.held.first().copied() {
            let at = self.clock.mono_at(t0.minus_ns(CLOCK_AHEAD_NS_MAX));
            self.timers.arm(at, Timer::Held);
        }
    }

    fn ack(&mut self, id: CommandId, t0: Timestamp) {
        if let Some((timestamp, _)) = self.commands.at(id).and_then(|known| known.attached) {
            // Only with a rule taken out: a second vote at ballot 0.
            debug_assert!(self.mutates(Mutant::AckAfterReport));
            self.say(RecordKind::Ack, id, timestamp, |_| {});
            return;
        }
        let timestamp = self.attach(id, By::Ack, t0);
        self.say(RecordKind::Ack, id, timestamp, |_| {});
    }

    /// Attaches a command whose payload is known, above the floors of its slots and the promise. The record
    /// that says so must be appended next: an `Ack`, a `Report`, or the `Propose` itself.
    pub(crate) fn attach(&mut self, id: CommandId, by: By, at_least: Timestamp) -> Timestamp {
        let known = self.commands.at(id).expect("only a known command is attached");
        assert!(known.attached.is_none(), "a replica attaches a command once: {id}");
        let payload = known.payload.clone().expect("only a command whose slots are known is attached");
        let floor = self.floors.floor(&payload.slots);
        let above = if self.mutates(Mutant::AttachAtFloor) { floor } else { floor.next() };
        let timestamp = at_least.max(above).max(self.clock.promised().next());
        self.note_mark(timestamp);
        self.renew_ceiling(timestamp);
        assert!(timestamp > floor || self.mutates(Mutant::AttachAtFloor), "an attach is above the floors of its slots");
        assert!(timestamp > self.clock.promised(), "nothing is attached at or below the clock promise");
        self.floors.raise_to(&payload.slots, timestamp);
        let position = self.next_position();
        let known = self.commands.at_mut(id).expect("it was found above");
        known.attached = Some((timestamp, by));
        if known.first_mention == 0 {
            known.first_mention = position;
        }
        self.pend(id);
        let known = self.commands.at(id).expect("it was found above");
        if id.replica != self.config.replica {
            let (t0, quorum) = (known.t0, known.quorum);
            let mut header = Record::bare(RecordKind::Propose, self.config.epoch, 0, id, t0).header;
            header.aux = quorum;
            header.body_len = u32::try_from(payload.body.len()).expect("a proposal body is bounded");
            header.body_hash = payload.body_hash;
            self.outputs.push_back(Output::Keep(Kept { header, salt: payload.salt, body: payload.body }));
        }
        timestamp
    }

    /// Appends a record about a command.
    pub(crate) fn say(
        &mut self,
        kind: RecordKind,
        id: CommandId,
        timestamp: Timestamp,
        fill: impl FnOnce(&mut Record),
    ) {
        let position = self.next_position();
        let mut record = Record::bare(kind, self.config.epoch, position, id, timestamp);
        fill(&mut record);
        if let Some(known) = self.commands.at_mut(id)
            && known.first_mention == 0
        {
            known.first_mention = position;
        }
        self.append(record);
    }
}
