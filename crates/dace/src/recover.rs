//! Ballots above 0: recovery, and phase two (`consensus.md`, section 5).

use types::journal::{RecordHeader, RecordKind};
use types::limits::CLOCK_AHEAD_NS_MAX;
use types::{CommandId, Timestamp};

use crate::command::{By, Known, Lead, Said, Stage, bit};
use crate::config::Member;
use crate::core::Core;
use crate::grant::Withheld;
use crate::mutant::Mutant;
use crate::output::Output;
use crate::status::Phase;
use crate::stream::{ACCEPTED, ATTACHED_BY_ACK, ATTACHED_BY_REPORT, COMMITTED, said};
use crate::timer::Timer;

/// What a recoverer makes of its reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    /// Rule 1: it is decided.
    Decided(Timestamp),
    /// Rules 2 to 4: the value for phase two, and which rule gave it.
    Value(Timestamp, u8),
}

/// Waiting times double up to this many times.
const BACK_OFF_MAX: u32 = 5;

impl Core {
    /// How long a replica waits before it recovers a command: staggered, so that one does and the others see
    /// it; twice as long after every ballot that was begun or joined, up to a bound. A recovery that is cut
    /// off needs no haste: its records are in a journal, and go on when that is read again.
    pub(crate) fn recovery_delay(&self, id: CommandId, suspected: bool) -> u64 {
        let n = self.config.n();
        let coordinator = self.config.member(id.replica).unwrap_or(0);
        let rank = ((self.me + n - coordinator) % n) as u64;
        let attempts = self.commands.at(id).map_or(0, |known| known.attempts.min(BACK_OFF_MAX));
        let unit = self.timing.recover_ns;
        let again = unit / 2 * ((1 << attempts) - 1);
        if suspected {
            // The time-out is over already: the first behind the coordinator begins at once, the next one soon.
            return unit / 8 * rank.saturating_sub(1) + again;
        }
        unit + unit / 2 * rank + again
    }

    /// A recovery is due in `ns`.
    pub(crate) fn recover_in(&mut self, ns: u64, id: CommandId) {
        self.arm_recovery(self.clock.mono_ns().saturating_add(ns), id);
    }

    /// Another replica's higher ballot was joined: it is given time to end what it began.
    fn yield_to(&mut self, id: CommandId) {
        let Some(known) = self.commands.at_mut(id) else { return };
        known.attempts = known.attempts.saturating_add(1);
        let until = self.clock.mono_ns().saturating_add(self.recovery_delay(id, false));
        let known = self.commands.at_mut(id).expect("it was just found");
        known.yields_until = until;
    }

    /// A member came under suspicion: what hangs on it goes another way.
    pub(crate) fn hasten(&mut self, member: Member) {
        let replica = self.config.members[member];
        let n = self.config.n() as u64;
        let leads = |id: CommandId, known: &Known| match known.joined {
            0 => id.replica == replica,
            ballot => (ballot - 1) % n == member as u64,
        };
        let ids: Vec<(CommandId, bool)> = self
            .commands
            .iter()
            .filter(|(_, known)| known.stage == Stage::Undecided && known.decision.is_none())
            .filter(|(id, known)| leads(*id, known) || known.quorum & bit(member) != 0)
            .map(|(id, known)| (id, leads(id, known)))
            .collect();
        for (id, leads) in ids {
            if leads {
                self.commands.at_mut(id).expect("it was just listed").yields_until = 0;
                self.recover_in(self.recovery_delay(id, true), id);
            } else if id.replica == self.config.replica {
                self.go_without(id);
            }
        }
    }

    /// Starts a recovery of a command that is known and not decided.
    pub(crate) fn recover(&mut self, id: CommandId) {
        let only_attached = self.mutates(Mutant::RecoversOnlyAttached);
        let Some(known) = self.commands.at_mut(id) else { return };
        if known.stage != Stage::Undecided || known.decision.is_some() {
            return;
        }
        known.recovers_at = None;
        if self.clock.mono_ns() < known.yields_until {
            let until = known.yields_until;
            self.arm_recovery(until, id);
            return;
        }
        let ready = known.payload.is_some() && known.endorsed && (known.attached.is_some() || !only_attached);
        if ready {
            // What cannot begin yet needs no back-off.
            known.attempts = known.attempts.saturating_add(1);
        }
        self.recover_in(self.recovery_delay(id, false), id);
        if !ready || self.phase != Phase::Running {
            return;
        }
        if !self.verdict().speaks() {
            self.counters.muted += 1;
            return;
        }
        self.prepare(id);
    }

    /// The smallest ballot of this replica for recovery that is above `joined`.
    fn next_ballot(&self, joined: u64) -> u64 {
        let (n, own) = (self.config.n() as u64, self.me as u64 + 1);
        let rounds = joined.saturating_sub(own) / n + 1;
        own + rounds.max(1) * n
    }

    fn prepare(&mut self, id: CommandId) {
        let known = self.commands.at(id).expect("recover() found it");
        let ballot = self.next_ballot(known.joined.max(known.heard));
        assert!(ballot > known.joined && ballot > self.config.n() as u64, "a recovery has a ballot of its own");
        let payload = known.payload.clone().expect("recover() checked it");
        let (t0, quorum) = (known.t0, known.quorum);
        let known = self.commands.at_mut(id).expect("recover() found it");
        known.joined = ballot;
        known.lead = Lead::Preparing { ballot, reports: Vec::new(), waited: false };
        self.counters.prepares += 1;
        self.say(RecordKind::Prepare, id, t0, |record| {
            record.header.ballot = ballot;
            record.header.aux = quorum;
            record.header.body_len = u32::try_from(payload.body.len()).expect("a proposal body is bounded");
            record.header.body_hash = payload.body_hash;
            record.salt = payload.salt;
            record.body = payload.body;
        });
        self.report(id, ballot);
    }

    /// A durable `Prepare` of a member: joins its ballot, and reports.
    pub(crate) fn handle_prepare(&mut self, member: Member, header: &RecordHeader) {
        let (id, ballot) = (header.id, header.ballot);
        self.endorse(id);
        if member == self.me || self.phase == Phase::Restoring {
            return;
        }
        let Some(known) = self.commands.at(id) else { return };
        if ballot <= known.joined || known.payload.is_none() || self.refuses(id) {
            return;
        }
        let Some(known) = self.commands.at_mut(id) else { return };
        known.joined = ballot;
        if known.lead != Lead::None {
            self.counters.duels += 1;
            known.lead = Lead::None;
        }
        self.yield_to(id);
        self.report(id, ballot);
    }

    /// Says how the command stands here, attaching it if it is not: it will never be acked here.
    fn report(&mut self, id: CommandId, ballot: u64) {
        let known = self.commands.at(id).expect("only a known command is reported");
        let hides_commit = self.mutates(Mutant::ReportsAttachedAfterCommit);
        let hides_accepted = self.mutates(Mutant::ReportHidesAccepted);
        let decision = known.decision.filter(|_| !hides_commit);
        let accepted = known.accepted.filter(|_| !hides_accepted);
        let (flags, timestamp, aux) = if let Some(decision) = decision {
            (COMMITTED, decision.timestamp, 0)
        } else if let Some((ballot, timestamp)) = accepted {
            (ACCEPTED, timestamp, ballot)
        } else {
            match known.attached {
                Some((timestamp, By::Ack)) => (ATTACHED_BY_ACK, timestamp, 0),
                Some((timestamp, By::Report)) => (ATTACHED_BY_REPORT, timestamp, 0),
                None => (ATTACHED_BY_REPORT, self.attach(id, By::Report, Timestamp::ZERO), 0),
            }
        };
        self.say(RecordKind::Report, id, timestamp, |record| {
            record.header.flags = flags;
            record.header.ballot = ballot;
            record.header.aux = aux;
        });
    }

    /// A durable `Report` of a member: an attach counts, and a recovery at that ballot goes on.
    pub(crate) fn handle_report(&mut self, member: Member, header: &RecordHeader) {
        let (id, ballot) = (header.id, header.ballot);
        let Some(said) = said(header) else { return };
        match said {
            Said::Attached(..) => self.count_attach(member, id),
            Said::Committed(timestamp) if member != self.me && !self.may_be_decided(id, timestamp) => {
                return self.distrust(member);
            }
            _ => {}
        }
        let Some(known) = self.commands.at_mut(id) else { return };
        known.heard = known.heard.max(ballot);
        let Lead::Preparing { ballot: current, reports, .. } = &mut known.lead else { return };
        if *current != ballot || reports.iter().any(|(other, _)| *other == member) {
            return;
        }
        reports.push((member, said));
        self.choose(id, false);
    }

    /// With `n - f` reports, the own one among them: decides at once, or begins phase two.
    pub(crate) fn choose(&mut self, id: CommandId, timed_out: bool) {
        let Some(known) = self.commands.at(id) else { return };
        let Lead::Preparing { ballot, reports, waited } = &known.lead else { return };
        let needed = self.config.recovery_size() - usize::from(self.mutates(Mutant::SmallRecovery));
        if reports.len() < needed || !reports.iter().any(|(member, _)| *member == self.me) {
            return;
        }
        let (ballot, waited) = (*ballot, *waited || timed_out);
        match self.choice(id, known, reports) {
            Choice::Decided(timestamp) => {
                self.counters.rules[0] += 1;
                self.decide(id, timestamp, ballot);
            }
            Choice::Value(timestamp, 3)
                if timestamp > self.clock.reading().plus_ns(CLOCK_AHEAD_NS_MAX)
                    && !waited
                    && reports.len() < self.config.n() =>
            {
                let known = self.commands.at_mut(id).expect("it was found above");
                if let Lead::Preparing { waited, .. } = &mut known.lead {
                    *waited = true;
                }
                self.arm(self.timing.give_up_ns, Timer::Choose(id));
            }
            Choice::Value(timestamp, rule) => {
                self.counters.rules[usize::from(rule) - 1] += 1;
                self.begin_accept(id, ballot, timestamp);
            }
        }
    }

    /// The four rules.
    fn choice(&self, id: CommandId, known: &Known, reports: &[(Member, Said)]) -> Choice {
        // 1. Someone knows the decision.
        let decided = reports.iter().find_map(|(_, said)| match said {
            Said::Committed(timestamp) => Some(*timestamp),
            _ => None,
        });
        if let Some(timestamp) = decided {
            return Choice::Decided(timestamp);
        }
        // 2. Someone accepted: the value of the highest ballot.
        let accepted = reports.iter().filter_map(|(_, said)| match said {
            Said::Accepted(ballot, timestamp) => Some((*ballot, *timestamp)),
            _ => None,
        });
        let accepted = if self.mutates(Mutant::LowestBallot) { accepted.min() } else { accepted.max() };
        if let Some((_, timestamp)) = accepted {
            return Choice::Value(timestamp, 2);
        }
        let attached: Vec<(Member, Timestamp, By)> = reports
            .iter()
            .filter_map(|(member, said)| match said {
                Said::Attached(timestamp, by) => Some((*member, *timestamp, *by)),
                _ => None,
            })
            .collect();
        // 3. The fast path can no longer happen: its coordinator says that it has not decided and joined a
        // ballot, or a member of `Q` will never ack.
        let coordinator = self.config.member(id.replica);
        let mut excluded = attached.iter().any(|(member, _, _)| Some(*member) == coordinator)
            && !self.mutates(Mutant::NoRule3Coordinator);
        excluded |= attached.iter().any(|(member, _, by)| *by == By::Report && known.quorum & bit(*member) != 0)
            && !self.mutates(Mutant::NoRule3Report);
        if excluded && !self.mutates(Mutant::NoRule3) {
            let mut timestamps: Vec<Timestamp> = attached.iter().map(|(_, timestamp, _)| *timestamp).collect();
            timestamps.sort_unstable();
            timestamps.truncate(self.config.recovery_size());
            return Choice::Value(timestamps.last().copied().expect("n - f reports are at least one"), 3);
        }
        // 4. It may have happened: then its maximum is among these.
        let over_all = self.mutates(Mutant::Rule4OverAll);
        let largest = attached
            .iter()
            .filter(|(member, _, _)| over_all || known.quorum & bit(*member) != 0)
            .map(|(_, timestamp, _)| *timestamp)
            .max();
        let largest = largest.or_else(|| attached.iter().map(|(_, timestamp, _)| *timestamp).max());
        Choice::Value(largest.expect("n - f reports are at least one"), 4)
    }

    /// Phase two: asks to accept `timestamp` at `ballot`, and accepts it.
    pub(crate) fn begin_accept(&mut self, id: CommandId, ballot: u64, timestamp: Timestamp) {
        let known = self.commands.at_mut(id).expect("only a known command is accepted");
        assert!(ballot >= known.joined, "a proposer has not joined a higher ballot");
        let quorum = known.quorum;
        known.lead = Lead::Accepting { ballot, timestamp, accepted: 0 };
        self.say(RecordKind::Accept, id, timestamp, |record| {
            record.header.ballot = ballot;
            record.header.aux = quorum;
        });
        self.accept(id, ballot, timestamp);
    }

    /// A durable `Accept` of a member.
    pub(crate) fn handle_accept(&mut self, member: Member, header: &RecordHeader) {
        let id = header.id;
        self.endorse(id);
        if member == self.me || self.phase == Phase::Restoring {
            return;
        }
        let Some(known) = self.commands.at(id) else { return };
        if header.ballot < known.joined || known.payload.is_none() || self.refuses(id) {
            return;
        }
        let Some(known) = self.commands.at_mut(id) else { return };
        if known.accepted.is_some_and(|(ballot, value)| ballot == header.ballot && value != header.timestamp) {
            return self.distrust(member);
        }
        if header.ballot > known.joined && known.lead != Lead::None {
            self.counters.duels += 1;
            known.lead = Lead::None;
        }
        self.yield_to(id);
        self.accept(id, header.ballot, header.timestamp);
    }

    /// Accepts, and says so; a replica that has not attached the command attaches it first.
    pub(crate) fn accept(&mut self, id: CommandId, ballot: u64, timestamp: Timestamp) {
        if self.commands.at(id).is_some_and(|known| known.attached.is_none() && known.decision.is_none()) {
            self.commands.at_mut(id).expect("it was just found").joined = ballot;
            let attached = self.attach(id, By::Report, Timestamp::ZERO);
            self.say(RecordKind::Report, id, attached, |record| {
                record.header.flags = ATTACHED_BY_REPORT;
                record.header.ballot = ballot;
            });
        }
        let known = self.commands.at_mut(id).expect("only a known command is accepted");
        known.joined = ballot;
        if self.withholds(id, Withheld::Accepted(ballot, timestamp)) {
            return;
        }
        let known = self.commands.at_mut(id).expect("only a known command is accepted");
        known.accepted = Some((ballot, timestamp));
        self.say(RecordKind::Accepted, id, timestamp, |record| record.header.ballot = ballot);
    }

    /// A durable `Accepted` of a member.
    pub(crate) fn handle_accepted(&mut self, member: Member, header: &RecordHeader) {
        let (id, me) = (header.id, self.me);
        let size = self.config.accept_size() - usize::from(self.mutates(Mutant::SmallAcceptQuorum));
        let Some(known) = self.commands.at_mut(id) else { return };
        known.heard = known.heard.max(header.ballot);
        let Lead::Accepting { ballot, timestamp, accepted } = &mut known.lead else { return };
        if *ballot != header.ballot {
            return;
        }
        if *timestamp != header.timestamp {
            return self.distrust(member);
        }
        *accepted |= bit(member);
        let (ballot, timestamp) = (*ballot, *timestamp);
        // The own one is among them.
        if accepted.count_ones() as usize >= size && *accepted & bit(me) != 0 {
            self.decide(id, timestamp, ballot);
        }
    }

    /// A vote was asked for on a command whose votes are forgotten.
    pub(crate) fn answer_settled(&mut self, member: Member, header: &RecordHeader) {
        if member == self.me || !matches!(header.kind, RecordKind::Prepare | RecordKind::Accept) {
            return;
        }
        self.counters.settled_answers += 1;
        let to = self.config.members[member];
        let message = crate::Message::Settled { id: header.id, cut: self.settled_cut };
        self.outputs.push_back(Output::Send { to, message });
    }
}
