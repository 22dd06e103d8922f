//! Decisions: the fast path, the coordinator's slow paths, and what a decision changes here
//! (`consensus.md`, section 3, steps 3 and 4).

use types::journal::{RecordHeader, RecordKind};
use types::limits::CLOCK_AHEAD_NS_MAX;
use types::{CommandId, Timestamp};

use crate::command::{Decision, Lead, Stage, bit};
use crate::config::Member;
use crate::core::Core;
use crate::mutant::Mutant;
use crate::timer::Timer;

impl Core {
    /// The ballot that the first coordinator of `id` owns.
    pub(crate) fn first_ballot(&self, id: CommandId) -> u64 {
        self.config.member(id.replica).map_or(0, |member| member as u64 + 1)
    }

    /// As the first coordinator: decides, or begins phase two, if the acks of all of `Q` are in.
    pub(crate) fn check_acks(&mut self, id: CommandId) {
        let overhears = self.mutates(Mutant::OverheardAcks);
        let Some(known) = self.commands.at(id) else { return };
        let mine = id.replica == self.config.replica || overhears;
        if !mine || known.quorum == 0 || known.decision.is_some() {
            return;
        }
        let joined = known.joined > self.first_ballot(id) && !self.mutates(Mutant::DecidesAfterJoining);
        let collecting = known.lead == Lead::Collecting
            || self.mutates(Mutant::DecidesAfterJoining)
            || (overhears && id.replica != self.config.replica);
        if !collecting || joined {
            return;
        }
        if known.gave_up {
            self.decide_without(id);
            return;
        }
        let quorum = known.quorum;
        let acks: Vec<Timestamp> = known.acks(quorum).map(|(_, timestamp)| timestamp).collect();
        if acks.len() < quorum.count_ones() as usize {
            return;
        }
        let timestamp = acks.iter().copied().max().expect("a fast quorum has members");
        if self.is_far_ahead(timestamp) && !known.impatient {
            // Where it can, it goes on without who is so far ahead; after a time-out it decides anyway.
            self.arm(self.timing.give_up_ns, Timer::GiveUp(id));
            return;
        }
        let equal = acks.iter().filter(|ack| **ack == timestamp).count();
        if equal >= self.config.f() || self.mutates(Mutant::UnequalFastPath) {
            self.counters.fast += 1;
            self.decide(id, timestamp, 0);
        } else {
            self.counters.slow += 1;
            self.begin_accept(id, self.first_ballot(id), timestamp);
        }
    }

    fn is_far_ahead(&self, timestamp: Timestamp) -> bool {
        !self.is_alone() && timestamp > self.clock.reading().plus_ns(CLOCK_AHEAD_NS_MAX)
    }

    /// A time-out: as the first coordinator, goes on without the members of `Q` that did not answer, or whose
    /// answer is too far ahead.
    pub(crate) fn give_up(&mut self, id: CommandId) {
        let Some(known) = self.commands.at_mut(id) else { return };
        if known.lead != Lead::Collecting || known.decision.is_some() {
            return;
        }
        known.impatient = known.gave_up;
        self.go_without(id);
        if self.commands.at(id).is_some_and(|known| known.lead == Lead::Collecting) {
            self.arm(self.timing.give_up_ns, Timer::GiveUp(id));
        }
    }

    /// As the first coordinator, waits no longer for all of `Q`.
    pub(crate) fn go_without(&mut self, id: CommandId) {
        let Some(known) = self.commands.at_mut(id).filter(|known| known.lead == Lead::Collecting) else { return };
        known.gave_up = true;
        self.check_acks(id);
    }

    /// The n-f slow path: the maximum of any `n - f` acks, the own one among them.
    fn decide_without(&mut self, id: CommandId) {
        let Some(known) = self.commands.at(id) else { return };
        let mut acks: Vec<(Timestamp, Member)> =
            known.acks(u64::MAX).filter(|(member, _)| *member != self.me).map(|(m, t)| (t, m)).collect();
        let Some((own, _)) = known.acks(bit(self.me)).map(|(_, t)| (t, self.me)).next() else { return };
        let needed = self.config.recovery_size() - 1;
        if acks.len() < needed {
            return;
        }
        acks.sort_unstable();
        let timestamp = acks[..needed].iter().map(|(t, _)| *t).max().unwrap_or(own).max(own);
        if self.is_far_ahead(timestamp) && !known.impatient {
            return;
        }
        self.counters.slow_given_up += 1;
        self.begin_accept(id, self.first_ballot(id), timestamp);
    }

    /// Appends the decision of `timestamp` at `ballot`. At ballot 0 it counts once it is durable; above, the
    /// durable `Accepted` (or reports) behind it have fixed the value.
    pub(crate) fn decide(&mut self, id: CommandId, timestamp: Timestamp, ballot: u64) {
        let position = self.next_position();
        let known = self.commands.at_mut(id).expect("only a known command is decided");
        assert!(
            known.decision.is_none_or(|decision| decision.timestamp == timestamp),
            "one timestamp per command: {id}"
        );
        if known.decision.is_some() {
            return;
        }
        known.decision = Some(Decision { timestamp, position });
        known.lead = Lead::None;
        if let Some(slots) = known.shared_slots() {
            self.floors.raise_to(&slots, timestamp);
        }
        self.say(RecordKind::Commit, id, timestamp, |record| record.header.ballot = ballot);
        if ballot > 0 {
            self.learn_decision(id, timestamp);
        }
    }

    /// Decides what earlier incarnations of a lone replica proposed and did not live to decide.
    pub(crate) fn decide_leftovers(&mut self) {
        let leftovers: Vec<_> = self.blocks().iter().collect();
        for (timestamp, id) in leftovers {
            if self.commands.at(id).is_some_and(|known| known.decision.is_none()) {
                assert!(id.incarnation < self.incarnation, "a leftover is of an earlier incarnation");
                self.decide(id, timestamp, 0);
            }
        }
    }

    /// A durable `Commit` of a member.
    pub(crate) fn handle_commit(&mut self, member: Member, header: &RecordHeader) {
        if member != self.me && !self.may_be_decided(header.id, header.timestamp) {
            return self.distrust(member);
        }
        self.learn_decision(header.id, header.timestamp);
        // Who decides raises its floors with it.
        self.count_raise(member, header.id, header.timestamp);
    }

    /// A decision counts from now on: its attaches block no more, and it waits for its execution.
    pub(crate) fn learn_decision(&mut self, id: CommandId, timestamp: Timestamp) {
        if self.is_settled(id) {
            return;
        }
        let known = self.commands.entry(id);
        if let Some(decision) = known.decision {
            assert_eq!(decision.timestamp, timestamp, "one timestamp per command, ever: {id}");
        }
        if known.stage != Stage::Undecided {
            return;
        }
        known.decision = known.decision.or(Some(Decision { timestamp, position: 0 }));
        known.stage = Stage::Committed;
        known.lead = Lead::None;
        self.held.remove(&(known.t0, id));
        self.forget_withheld(id);
        self.pend(id);
        let known = self.commands.at(id).expect("it was just entered");
        let slots = known.shared_slots();
        for (member, attach) in known.attaches.iter().enumerate() {
            if let Some(attach) = attach {
                self.journals[member].blocks.remove((attach.timestamp, id), slots.as_deref());
            }
        }
        match &slots {
            Some(slots) => self.wake_slots(slots),
            None => self.wake_all(),
        }
        self.enter_on_decided(id, timestamp);
        if timestamp <= self.executed_cut {
            // The restored state holds its effect already.
            self.mark_covered(id);
            return;
        }
        self.committed.insert((timestamp, id), slots.as_deref());
        self.wake.insert((timestamp, id));
        if let Some(slots) = slots {
            self.raise(id, timestamp, &slots);
        }
    }

    /// Raises the floors to a decision above them, and says so.
    fn raise(&mut self, id: CommandId, timestamp: Timestamp, slots: &types::SlotSet) {
        if self.is_alone() || self.phase == crate::Phase::Restoring || self.floors.lowest(slots) >= timestamp {
            return;
        }
        self.floors.raise_to(slots, timestamp);
        self.counters.raises += 1;
        self.say(RecordKind::Raise, id, timestamp, |_| {});
    }

    /// Takes up what the last incarnation left: own proposals wait for acks again, or go on with the value
    /// that they had asked to accept.
    pub(crate) fn resume_commands(&mut self) {
        let ids: Vec<CommandId> = self.commands.iter().map(|(id, _)| id).collect();
        for id in ids {
            let first = self.first_ballot(id);
            let Some(known) = self.commands.at_mut(id).filter(|known| known.decision.is_none()) else { continue };
            if id.replica == self.config.replica && known.joined <= first {
                known.lead = Lead::Collecting;
                if let Some((ballot, timestamp)) = known.accepted {
                    // The value of the ballot is fixed; the own `Accepted` may have been lost, so it is said again.
                    known.lead = Lead::Accepting { ballot, timestamp, accepted: 0 };
                    self.accept(id, ballot, timestamp);
                }
                self.arm(self.timing.give_up_ns, Timer::GiveUp(id));
            }
            let known = self.commands.at(id).expect("it was found above");
            if known.payload.is_none() {
                // Said about, and never attached: no copy was kept. Who has forgotten it says so.
                self.arm(self.timing.fetch_ns, Timer::Fetch(id));
            }
            let known = self.commands.at(id).expect("it was found above");
            if known.endorsed {
                self.recover_in(self.recovery_delay(id, false), id);
            } else {
                self.endorse(id);
            }
        }
    }
}
