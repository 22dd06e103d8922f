//! Leases, the holder's side: requests, activation, and reads without a message (`consensus.md`, section 6).
//!
//! A replica that holds a zone's lease knows every write of the zone before anyone can see it: the grantors wait
//! for its attach before they vote, and what they had voted on before the grant it has attached before the
//! grant counts. So it answers a read when all that it knows in the read's slots is executed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use types::journal::{RecordHeader, RecordKind, body_hash};
use types::limits::{LEASES_MAX, READS_MAX, ZONE_LEN_MAX};
use types::{CommandId, Incarnation, Now, SlotSet};

use crate::command::{Known, Stage};
use crate::config::Member;
use crate::core::Core;
use crate::mutant::Mutant;
use crate::output::Output;
use crate::reconfig::is_reconfig;
use crate::status::Phase;
use crate::timer::Timer;

/// A unit of policy: a bucket, or a prefix of one, as the driver writes it. The core compares zones only through
/// [`Zones`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Zone(pub Bytes);

/// Says which zones a command touches. Equal at all replicas.
pub trait Zones: Send + Sync {
    /// Whether the command with this payload (behind its slots) writes in `zone`.
    fn touches(&self, payload: &[u8], zone: &Zone) -> bool;
}

/// Every command is in every zone: right, and slow.
struct Everywhere;

impl Zones for Everywhere {
    fn touches(&self, _: &[u8], _: &Zone) -> bool {
        true
    }
}

pub(crate) fn everywhere() -> Arc<dyn Zones> {
    Arc::new(Everywhere)
}

/// How long leases are, and how far clocks are trusted. Equal at all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTiming {
    /// How long a grant runs, in ns of its grantor's monotonic clock.
    pub term_ns: u64,
    /// The bound on the error of any replica's clock rate, in parts per million. The only thing that safety asks of
    /// a clock.
    pub rate_error_ppm: u64,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self { term_ns: 2_000_000_000, rate_error_ppm: 1000 }
    }
}

impl LeaseTiming {
    /// For how long a holder counts on a grant of `term_ns`: `(1 - r) / (1 + r)` of it.
    fn counted_ns(self, term_ns: u64) -> u64 {
        const MILLION: u128 = 1_000_000;
        let error = u128::from(self.rate_error_ppm).min(MILLION);
        let counted = u128::from(term_ns) * (MILLION - error) / (MILLION + error);
        u64::try_from(counted).expect("it is a part of a u64")
    }
}

/// Why a leased read was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease of the zone is not held now: read by quorum.
    #[error("the lease of the zone is not held now")]
    NotHeld,
    /// Too many reads, or zones, at once.
    #[error("too many reads wait, or too many zones are leased")]
    Full,
    /// A zone over the limit.
    #[error("a zone has at most {ZONE_LEN_MAX} bytes")]
    TooLong,
}

/// A grant as its holder counts it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Counted {
    /// Until when, in ns of the own monotonic clock.
    until: u64,
    /// What its grantor had attached before it and this replica has not: until this is empty, it does not count.
    missing: BTreeSet<CommandId>,
}

/// A zone that this replica wants to hold.
#[derive(Clone, Default)]
struct Held {
    /// When each request was sent (ns of the monotonic clock), by its number. The last few.
    requests: BTreeMap<u64, u64>,
    /// Grants by member, those that are not over.
    grants: BTreeMap<Member, Vec<Counted>>,
    salt: [u8; 32],
}

/// Requests remembered per zone: an answer to an older one came too late.
const REQUESTS_MAX: usize = 8;
/// Times that a leased read of several slots looks for an instant without a pending write.
const ROUNDS_MAX: u32 = 4;

/// A leased read that waits for pending writes.
#[derive(Clone)]
struct Waiting {
    zone: Zone,
    slots: SlotSet,
    rounds: u32,
    pending: BTreeSet<CommandId>,
}

/// The zones wanted, and the reads that wait. At most [`LEASES_MAX`] and [`READS_MAX`].
#[derive(Clone, Default)]
pub(crate) struct Leases {
    held: BTreeMap<Zone, Held>,
    /// The number of the last request in this incarnation.
    number: u64,
    last_read: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Deadlines as they were put out last.
    published: BTreeMap<Zone, u64>,
}

impl Leases {
    /// Reads are numbered apart from those by quorum, and anew in every incarnation.
    pub(crate) fn begin(&mut self, incarnation: Incarnation) {
        self.last_read = 1 << 63 | u64::from(incarnation.0) << 31;
    }

    /// No read of this epoch is answered any more: those that wait.
    pub(crate) fn end_reads(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }

    /// How many reads wait for pending writes.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Core {
    /// How long leases are and how far clocks are trusted.
    pub fn set_lease_timing(&mut self, timing: LeaseTiming) {
        self.lease_timing = timing;
    }

    /// Says which zones commands touch. Without it every command touches all.
    pub fn set_zones(&mut self, zones: Arc<dyn Zones>) {
        self.zones = zones;
    }

    /// Puts out [`Output::Pends`] and [`Output::Settles`] from now on, for readers beside the loop. To be called before
    /// the start.
    pub fn publish_pending(&mut self) {
        self.publishes = true;
    }

    /// Whether a known command touches a zone. One whose keys are not known may touch any.
    pub(crate) fn touches(&self, known: &Known, zone: &Zone) -> bool {
        let Some(payload) = &known.payload else { return true };
        let Some(at) = slots_len(&payload.body) else { return true };
        if self.mutates(Mutant::ReconfigInNoZone) && is_reconfig(&payload.body) {
            return false;
        }
        *payload.slots == SlotSet::All || self.zones.touches(&payload.body[at..], zone)
    }

    /// Wants the lease of a zone from now on, and renews it, until [`Core::drop_lease`]. `salt` is fresh and random.
    pub fn want_lease(&mut self, now: Now, zone: &Zone, salt: [u8; 32]) -> Result<(), LeaseError> {
        if zone.0.len() > ZONE_LEN_MAX {
            return Err(LeaseError::TooLong);
        }
        if self.leases.held.len() >= LEASES_MAX && !self.leases.held.contains_key(zone) {
            return Err(LeaseError::Full);
        }
        self.clock.advance(now);
        let fresh = !self.leases.held.contains_key(zone);
        self.leases.held.entry(zone.clone()).or_default().salt = salt;
        if fresh {
            self.request_lease(zone);
        }
        self.advance();
        Ok(())
    }

    /// Does not want it any more. What is granted runs out.
    pub fn drop_lease(&mut self, now: Now, zone: &Zone) {
        self.clock.advance(now);
        self.leases.held.remove(zone);
        self.advance();
    }

    /// Until when the lease of a zone is held, in ns of the monotonic clock; `None` if it is not held now.
    #[must_use]
    pub fn lease_until(&self, zone: &Zone) -> Option<u64> {
        // A Reconfig writes every key, and what comes behind it is not of this epoch.
        let sealed = self.is_sealed() && !self.mutates(Mutant::LeasedReadAfterSeal);
        if !self.has_state() || (sealed && !self.mutates(Mutant::LeaseOutlivesEpoch)) {
            return None;
        }
        let now = self.clock.mono_ns();
        let held = self.leases.held.get(zone)?;
        let mut until: Vec<u64> = held
            .grants
            .values()
            .filter_map(|grants| {
                let counted = grants.iter().filter(|grant| {
                    grant.until > now && (grant.missing.is_empty() || self.mutates(Mutant::NoActivation))
                });
                counted.map(|grant| grant.until).max()
            })
            .collect();
        until.sort_unstable_by(|a, b| b.cmp(a));
        let size = self.config.recovery_size() - usize::from(self.mutates(Mutant::SmallLease));
        // The own grant is always there.
        match size - 1 {
            0 => Some(u64::MAX),
            others => until.get(others - 1).copied(),
        }
    }

    /// Appends a request for the zone, and has it renewed in time.
    fn request_lease(&mut self, zone: &Zone) {
        if matches!(self.phase, Phase::Opening { .. }) {
            // Asked for when the `Open` is durable.
            return;
        }
        if self.phase == Phase::Running && !self.is_alone() {
            let sent = self.clock.mono_ns();
            self.leases.number += 1;
            let number = self.leases.number;
            let Some(held) = self.leases.held.get_mut(zone) else { return };
            held.requests.insert(number, sent);
            while held.requests.len() > REQUESTS_MAX {
                held.requests.pop_first();
            }
            let salt = held.salt;
            let id = CommandId { replica: self.config.replica, incarnation: self.incarnation, counter: number };
            let body = zone.0.clone();
            self.note_lease_mark();
            self.say(RecordKind::LeaseRequest, id, self.clock.reading(), |said| {
                said.header.body_len = u32::try_from(body.len()).expect("a zone is bounded");
                said.header.body_hash = body_hash(&salt, &body);
                said.salt = salt;
                said.body = body;
            });
        }
        self.arm(self.lease_timing.term_ns / 3, Timer::Renew);
    }

    /// Asks for what was wanted before anything could be said: as a rule in a new epoch.
    pub(crate) fn request_wanted(&mut self) {
        if !self.leases.held.is_empty() {
            self.renew_leases();
        }
    }

    /// Asks for every zone wanted again.
    pub(crate) fn renew_leases(&mut self) {
        let zones: Vec<Zone> = self.leases.held.keys().cloned().collect();
        for zone in zones {
            self.request_lease(&zone);
        }
    }

    /// A durable `LeaseGrant` of a member, to this replica or another.
    pub(crate) fn handle_lease_grant(&mut self, member: Member, header: &RecordHeader) {
        let mine = header.id.replica == self.config.replica && header.epoch == self.config.epoch;
        let current = header.id.incarnation == self.incarnation || self.mutates(Mutant::GrantOfAnyIncarnation);
        if member == self.me || !mine || !current {
            return;
        }
        let asked = self.leases.held.iter().find_map(|(zone, held)| {
            let sent = held.requests.get(&header.id.counter)?;
            Some((zone.clone(), *sent))
        });
        let Some((zone, sent)) = asked else { return };
        let timing = self.lease_timing;
        let counted = if self.mutates(Mutant::DriftIgnored) { header.aux } else { timing.counted_ns(header.aux) };
        let from = if self.mutates(Mutant::LeaseFromReceipt) { self.clock.mono_ns() } else { sent };
        // What it had attached before the grant was read before it, and blocks here until it is decided.
        let missing: BTreeSet<CommandId> =
            self.journals[member].blocks.iter().map(|(_, id)| id).filter(|id| self.is_missing(*id, &zone)).collect();
        if !missing.is_empty() {
            self.counters.activations_waited += 1;
        }
        self.counters.activations += 1;
        let held = self.leases.held.get_mut(&zone).expect("it was just found");
        let now = self.clock.mono_ns();
        let grants = held.grants.entry(member).or_default();
        grants.retain(|grant| grant.until > now);
        grants.push(Counted { until: from.saturating_add(counted), missing });
    }

    /// Whether a command of the zone is one that this replica does not know of as it must: it has neither attached
    /// it nor read its decision.
    fn is_missing(&self, id: CommandId, zone: &Zone) -> bool {
        self.commands.at(id).is_some_and(|known| {
            known.attached.is_none() && known.stage == Stage::Undecided && self.touches(known, zone)
        })
    }

    /// Grants whose missing commands are there now count.
    pub(crate) fn activate_leases(&mut self) {
        if self.leases.held.is_empty() && self.leases.published.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.leases.held);
        for (zone, held) in &mut held {
            for grant in held.grants.values_mut().flatten() {
                grant.missing.retain(|id| self.is_missing(*id, zone));
            }
        }
        self.leases.held = held;
        if self.publishes {
            self.publish_leases();
        }
    }

    /// The epoch has ended: its leases are over, whatever deadline was put out.
    pub(crate) fn end_leases(&mut self) {
        if self.mutates(Mutant::LeaseOutlivesEpoch) {
            return;
        }
        self.leases.held.clear();
        for zone in std::mem::take(&mut self.leases.published).into_keys() {
            self.outputs.push_back(Output::Lease { zone, until: 0 });
        }
    }

    /// Puts out the deadlines that have changed.
    fn publish_leases(&mut self) {
        let zones: Vec<Zone> = self.leases.held.keys().cloned().collect();
        let gone: Vec<Zone> =
            self.leases.published.keys().filter(|zone| !self.leases.held.contains_key(*zone)).cloned().collect();
        for zone in gone {
            self.leases.published.remove(&zone);
            self.outputs.push_back(Output::Lease { zone, until: 0 });
        }
        for zone in zones {
            let until = self.lease_until(&zone).unwrap_or(0);
            let before = self.leases.published.insert(zone.clone(), until).unwrap_or(0);
            if until > before {
                self.outputs.push_back(Output::Lease { zone, until });
            }
        }
    }

    /// Begins a read of `slots` in a leased zone; [`Output::LeasedReady`] names the number given here when the local
    /// state may be read, which is at once when nothing is pending there.
    pub fn handle_leased_read(&mut self, now: Now, zone: &Zone, slots: SlotSet) -> Result<u64, LeaseError> {
        self.clock.advance(now);
        self.activate_leases();
        if self.lease_until(zone).is_none() {
            return Err(LeaseError::NotHeld);
        }
        if self.leases.waiting() >= READS_MAX {
            return Err(LeaseError::Full);
        }
        self.leases.last_read += 1;
        let read = self.leases.last_read;
        let pending = self.pending_under(zone, &slots);
        // With a rule taken out a lease outlives its epoch, in which nothing is executed any more.
        let waits = !pending.is_empty() && self.ended().is_none();
        if !waits || self.mutates(Mutant::LeasedReadNoWait) {
            self.counters.leased_reads += 1;
            self.outputs.push_back(Output::LeasedReady { read });
        } else {
            self.counters.leased_reads_waited += 1;
            self.leases.waiting.insert(read, Waiting { zone: zone.clone(), slots, rounds: 1, pending });
        }
        self.advance();
        Ok(read)
    }

    /// What this replica has attached, or knows to be decided, in these slots, and has not executed.
    fn pending_in(&self, slots: &SlotSet) -> BTreeSet<CommandId> {
        let attached = self.blocks().standing_in(slots).map(|(_, id)| id);
        let committed = self.committed.standing_in(slots).map(|(_, id)| id);
        attached.chain(committed).collect()
    }

    /// Those of them that write in the zone: a read under its lease shows nothing of the others.
    fn pending_under(&self, zone: &Zone, slots: &SlotSet) -> BTreeSet<CommandId> {
        let mut pending = self.pending_in(slots);
        pending.retain(|id| self.commands.at(*id).is_none_or(|known| self.touches(known, zone)));
        pending
    }

    /// Puts out the leased reads whose pending writes are executed. One of several slots must find an instant at
    /// which nothing is pending in them, and the lease held.
    pub(crate) fn finish_leased_reads(&mut self) {
        if self.leases.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.leases.waiting);
        waiting.retain(|read, open| {
            open.pending.retain(|id| !self.is_executed(*id));
            if !open.pending.is_empty() {
                return true;
            }
            let single = matches!(&open.slots, SlotSet::Some(slots) if slots.len() == 1);
            let pending = if single { BTreeSet::new() } else { self.pending_under(&open.zone, &open.slots) };
            let held = single || self.lease_until(&open.zone).is_some();
            if pending.is_empty() && held {
                self.counters.leased_reads += 1;
                self.outputs.push_back(Output::LeasedReady { read: *read });
                return false;
            }
            if open.rounds >= ROUNDS_MAX || !held {
                self.counters.contended_reads += 1;
                self.outputs.push_back(Output::LeasedContended { read: *read });
                return false;
            }
            open.rounds += 1;
            open.pending = pending;
            true
        });
        self.leases.waiting = waiting;
    }

    /// A command is attached, or known to be decided, from now on: readers beside the loop wait for it. Goes before
    /// the record that says so.
    pub(crate) fn pend(&mut self, id: CommandId) {
        if !self.publishes || self.ended().is_some() {
            return;
        }
        let Some(known) = self.commands.at_mut(id) else { return };
        if known.pended.is_some() || known.stage == Stage::Executed {
            return;
        }
        let slots = known.slots().cloned().unwrap_or(SlotSet::All);
        known.pended = Some(slots.clone());
        self.outputs.push_back(Output::Pends { id, slots });
    }

    /// What the journal says of commands that are not executed.
    pub(crate) fn pend_restored(&mut self) {
        if self.publishes {
            let pending: Vec<CommandId> = self.pending_in(&SlotSet::All).into_iter().collect();
            pending.into_iter().for_each(|id| self.pend(id));
        }
    }

    /// Its effect is in the state, or it was never anything.
    pub(crate) fn settles(&mut self, id: CommandId, pended: Option<SlotSet>) {
        if let Some(slots) = pended {
            self.outputs.push_back(Output::Settles { id, slots });
        }
    }
}

/// Bytes of the slots at the head of a proposal body.
fn slots_len(body: &[u8]) -> Option<usize> {
    let count = u16::from_be_bytes(*body.first_chunk::<2>()?);
    let len = if count >= u16::MAX - 1 { 2 } else { 2 + 2 * usize::from(count) };
    (len <= body.len()).then_some(len)
}
