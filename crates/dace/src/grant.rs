//! Leases, the grantor's side: what this replica has granted, and what it holds back meanwhile
//! (`consensus.md`, section 6).

use std::collections::BTreeMap;

use bytes::Bytes;
use types::journal::{RecordHeader, RecordKind};
use types::limits::{GRANTS_MAX, ZONE_LEN_MAX};
use types::{CommandId, Timestamp};

use crate::command::{Known, Stage, bit};
use crate::config::Member;
use crate::core::Core;
use crate::lease::Zone;
use crate::mutant::Mutant;
use crate::output::Record;
use crate::status::Phase;
use crate::timer::Timer;

/// What waits for a holder's attach, or for the end of its grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Withheld {
    /// An ack at ballot 0.
    Ack,
    /// `Accepted` at a ballot, and the value.
    Accepted(u64, Timestamp),
}

/// A grant given.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Grant {
    /// Its end on this replica's monotonic clock, in ns.
    until: u64,
    /// Its length in ns, for a base.
    len: u64,
    /// Hides the zone behind its hash, as in the holder's request.
    salt: [u8; 32],
    /// It was given in an earlier life.
    is_old: bool,
}

/// What this replica has granted. At most [`GRANTS_MAX`] run.
#[derive(Clone, Default)]
pub(crate) struct Grants {
    given: BTreeMap<(Member, Zone), Grant>,
    /// Who asked for a zone last, and when (ns of the monotonic clock): coordinators count on them.
    asked: BTreeMap<(Member, Zone), u64>,
    withheld: BTreeMap<CommandId, Withheld>,
}

impl Grants {
    fn forget_ended(&mut self, mono_ns: u64) {
        self.given.retain(|_, grant| grant.until > mono_ns);
    }

    /// Those that run, with what a base says of them: to whom, the zone, and for how long.
    pub(crate) fn running(&self, mono_ns: u64) -> impl Iterator<Item = (Member, &Zone, u64, [u8; 32])> {
        let running = self.given.iter().filter(move |(_, grant)| grant.until > mono_ns);
        running.map(|((to, zone), grant)| (*to, zone, grant.len, grant.salt))
    }

    /// A grant that a journal or a base remembers; when it ends is not known before the start.
    pub(crate) fn restored(&mut self, to: Member, zone: Zone, len: u64, salt: [u8; 32]) {
        let grant = self.given.entry((to, zone)).or_insert(Grant { until: 0, len, salt, is_old: true });
        grant.len = grant.len.max(len);
    }

    /// After a restart each runs a whole term again.
    pub(crate) fn restart(&mut self, mono_ns: u64) -> Option<u64> {
        for grant in self.given.values_mut() {
            grant.until = mono_ns.saturating_add(grant.len);
        }
        self.given.values().map(|grant| grant.until).max()
    }

    /// How many commands are held back.
    pub(crate) fn withheld(&self) -> usize {
        self.withheld.len()
    }
}

impl Core {
    /// A durable `LeaseRequest` of a member: granted, unless something is held back on its account.
    pub(crate) fn handle_lease_request(&mut self, member: Member, record: &Record) {
        let header = &record.header;
        let fits = record.body.len() <= ZONE_LEN_MAX;
        if member == self.me || self.phase != Phase::Running || header.epoch != self.config.epoch || !fits {
            return;
        }
        // A request of an earlier life asks for nothing.
        if header.id.incarnation != self.journals[member].incarnation {
            return;
        }
        if self.is_sealed() {
            return;
        }
        let now = self.clock.mono_ns();
        let zone = Zone(record.body.clone());
        self.grants.forget_ended(now);
        self.grants.asked.retain(|_, at| now.saturating_sub(*at) < 2 * self.lease_timing.term_ns);
        if self.grants.given.len() >= GRANTS_MAX || self.grants.asked.len() >= GRANTS_MAX {
            return;
        }
        self.grants.asked.insert((member, zone.clone()), now);
        if self.holds_back_for(member) && !self.mutates(Mutant::RenewsWhileHeldUp) {
            self.counters.grants_refused += 1;
            return;
        }
        let len = self.lease_timing.term_ns;
        let until = now.saturating_add(len);
        let salt = record.salt;
        let grant = self.grants.given.entry((member, zone)).or_insert(Grant { until, len, salt, is_old: false });
        (grant.until, grant.len) = (grant.until.max(until), grant.len.max(len));
        grant.is_old = false;
        self.counters.grants += 1;
        let (salt, body, body_hash) = (record.salt, record.body.clone(), header.body_hash);
        self.note_lease_mark();
        self.say(RecordKind::LeaseGrant, header.id, self.clock.reading(), |said| {
            said.header.aux = len;
            said.header.body_len = u32::try_from(body.len()).expect("a zone is bounded");
            said.header.body_hash = body_hash;
            said.salt = salt;
            said.body = body;
        });
    }

    /// Whether something is held back until `member` has attached it.
    fn holds_back_for(&self, member: Member) -> bool {
        self.grants.withheld.iter().any(|(id, withheld)| {
            let Some(known) = self.commands.at(*id) else { return false };
            self.holders(known, *withheld).any(|holder| holder == member)
        })
    }

    /// The members whose running grants hold back this vote on a command: those in whose zone it is, whose own
    /// attach was not read, and, for an ack, who are not in its fast quorum.
    fn holders<'a>(&'a self, known: &'a Known, vote: Withheld) -> impl Iterator<Item = Member> + 'a {
        let now = self.clock.mono_ns();
        let forgets_old = vote != Withheld::Ack && self.mutates(Mutant::RestartBindsAcksOnly);
        let (exempt, lifted) = match vote {
            Withheld::Ack => (known.quorum, self.mutates(Mutant::NoGrantorAck)),
            Withheld::Accepted(..) => (0, self.mutates(Mutant::NoGrantorAccept)),
        };
        self.grants
            .given
            .iter()
            .filter(move |((to, _), grant)| grant.until > now && exempt & bit(*to) == 0 && !lifted)
            .filter(move |(_, grant)| !(grant.is_old && forgets_old))
            .filter(|((to, _), _)| known.attaches[*to].is_none_or(|attach| !attach.durable))
            .filter(|((_, zone), _)| self.touches(known, zone))
            .map(|((to, _), _)| *to)
    }

    /// Whether a vote on a command has to wait for a holder. If so it is given as soon as it may.
    pub(crate) fn withholds(&mut self, id: CommandId, vote: Withheld) -> bool {
        if self.grants.given.is_empty() {
            return false;
        }
        let Some(known) = self.commands.at(id) else { return false };
        // An ack from outside the fast quorum decides nothing.
        let free = vote == Withheld::Ack && known.quorum & bit(self.me) == 0;
        if free || self.holders(known, vote).next().is_none() {
            self.grants.withheld.remove(&id);
            return false;
        }
        let ends = self.grants.given.values().map(|grant| grant.until).min();
        if self.grants.withheld.insert(id, vote).is_none() {
            self.counters.withheld += 1;
        }
        if let Some(until) = ends {
            self.timers.arm(until.max(self.clock.mono_ns() + 1), Timer::GrantEnds);
        }
        true
    }

    /// A holder's attach of `id` is durable: what was held back for it may go.
    pub(crate) fn release(&mut self, id: CommandId) {
        let Some(vote) = self.grants.withheld.get(&id).copied() else { return };
        let undecided = self.commands.at(id).is_some_and(|known| known.stage == Stage::Undecided);
        self.grants.withheld.remove(&id);
        match vote {
            _ if !undecided => {}
            Withheld::Ack => self.consider(id),
            Withheld::Accepted(ballot, timestamp) => {
                if self.commands.at(id).is_some_and(|known| known.joined == ballot) {
                    self.accept(id, ballot, timestamp);
                }
            }
        }
    }

    /// A grant has ended: what was held back for its holder may go.
    pub(crate) fn grant_ends(&mut self) {
        self.grants.forget_ended(self.clock.mono_ns());
        let ids: Vec<CommandId> = self.grants.withheld.keys().copied().collect();
        for id in &ids {
            self.release(*id);
        }
        self.counters.outwaited += (ids.len() - self.grants.withheld()) as u64;
        let next = self.grants.given.values().map(|grant| grant.until).min();
        if let Some(until) = next.filter(|_| self.grants.withheld() > 0) {
            self.timers.arm(until, Timer::GrantEnds);
        }
    }

    /// A decision counts: nothing is held back for that command any more.
    pub(crate) fn forget_withheld(&mut self, id: CommandId) {
        self.grants.withheld.remove(&id);
    }

    /// The members that a fast quorum must have for a command: those to whom an own grant runs, and those of
    /// whom it is known that they hold the zone, as a mask. Suspects among the latter are left out.
    pub(crate) fn quorum_holders(&self, known: &Known) -> u64 {
        let now = self.clock.mono_ns();
        let term = self.lease_timing.term_ns;
        let forgets = self.mutates(Mutant::QuorumIgnoresGrants);
        let forgets_old = self.mutates(Mutant::RestartBindsAcksOnly);
        let given = self.grants.given.iter().filter(|(_, grant)| grant.until > now && !forgets);
        let given = given.filter(|(_, grant)| !(grant.is_old && forgets_old));
        let given = given.map(|(key, _)| key);
        let asked = self.grants.asked.iter().filter(|((member, _), at)| {
            now.saturating_sub(**at) < term && self.suspects & bit(*member) == 0 && !forgets
        });
        // To say whether it touches a zone, the command has to be read: once for each zone, whoever holds it.
        let mut zones: BTreeMap<&Zone, bool> = BTreeMap::new();
        given.chain(asked.map(|(key, _)| key)).fold(0, |mask, (member, zone)| {
            let is_new = mask & bit(*member) == 0;
            let is_there = is_new && *zones.entry(zone).or_insert_with(|| self.touches(known, zone));
            if is_there { mask | bit(*member) } else { mask }
        })
    }

    /// After a restart each durable grant runs a whole term again.
    pub(crate) fn restart_grants(&mut self) {
        if self.mutates(Mutant::GrantsForgotten) {
            self.grants = Grants::default();
        }
        self.grants.restart(self.clock.mono_ns());
    }

    /// An own `LeaseGrant` in the journal.
    pub(crate) fn replay_grant(&mut self, header: &RecordHeader, zone: &Bytes, salt: [u8; 32]) {
        if let Some(member) = self.config.member(header.id.replica).filter(|member| *member != self.me) {
            self.grants.restored(member, Zone(zone.clone()), header.aux, salt);
        }
    }
}
