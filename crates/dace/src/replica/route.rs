//! Which core a call goes to. What the driver asks goes to the newest epoch, what peers say to the epoch that they
//! name.

use bytes::Bytes;
use types::journal::body_hash;
use types::{CommandId, Epoch, Now, ReplicaId, SlotSet, Timestamp};

use super::{Replica, Stored};
use crate::base::Base;
use crate::core::Core;
use crate::lease::{LeaseError, Zone};
use crate::message::Message;
use crate::mutant::Mutant;
use crate::output::Record;
use crate::propose::{Submission, SubmitError};
use crate::reconfig::{Entry, Membership, Reconfig};
use crate::status::Phase;
use crate::stream::{Beat, Hello, PeerBase, Refused, StreamError};
use crate::timer::Timing;

/// Why the stream of a peer's epoch is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    /// This replica does not serve the epoch: not yet, no more, or never. Notices tell.
    #[error("epoch {0} is not served here")]
    Unknown(Epoch),
    /// See [`Refused`].
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Why a Reconfig was not proposed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReconfigError {
    /// No group can be like this.
    #[error("the next epoch: {0}")]
    Malformed(#[from] crate::ConfigError),
    /// Were the old epoch to end, no new one could form.
    #[error("{needed} members of the next epoch must be connected, and {connected} are")]
    Connected {
        /// `n' - f'`.
        needed: usize,
        /// How many are.
        connected: usize,
    },
    /// The epoch before this one is still needed.
    #[error("epoch {0} is still needed: too few members of the present epoch hold its state durably")]
    Unfinished(Epoch),
    /// See [`SubmitError`].
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Replica {
    /// The core of an epoch that is served.
    #[must_use]
    pub fn core(&self, epoch: Epoch) -> Option<&Core> {
        self.served.get(&epoch).map(|served| &served.core)
    }

    /// The epochs that are served, rising.
    pub fn epochs(&self) -> impl Iterator<Item = &Membership> {
        self.served.values().map(|served| &served.membership)
    }

    /// The newest epoch that is known here, whether this replica is a member or not.
    #[must_use]
    pub fn newest(&self) -> Option<&Membership> {
        self.known.values().next_back()
    }

    /// Whether the newest epoch that is known here runs here, on its state. Else what others have executed may be missing
    /// here, even where this replica is the only member of that epoch.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let newest = self.known.keys().next_back().and_then(|newest| self.served.get(newest));
        newest.is_some_and(|served| served.core.has_state() && served.core.status().phase == Phase::Running)
    }

    /// Whether this replica may stop for good.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// The newest epoch, if this replica serves it.
    fn present(&mut self) -> Option<(Epoch, &mut Core)> {
        let newest = self.known.keys().next_back().copied()?;
        let served = self.served.get_mut(&newest).filter(|_| self.started)?;
        Some((newest, &mut served.core))
    }

    /// Why nothing is taken where the newest epoch is not served.
    fn absent(&self) -> SubmitError {
        if self.started { SubmitError::Sealed } else { SubmitError::NotStarted }
    }

    /// Runs a handler of the core of an epoch, and what follows from it.
    fn with<T>(&mut self, now: Now, epoch: Epoch, handle: impl FnOnce(&mut Core) -> T) -> Option<T> {
        self.now = now;
        let core = &mut self.served.get_mut(&epoch)?.core;
        if core.status().phase == Phase::Restoring {
            return None;
        }
        let result = handle(core);
        self.settle();
        Some(result)
    }

    /// Runs a handler of the core of the newest epoch.
    fn at_present<T>(&mut self, now: Now, handle: impl FnOnce(&mut Core) -> T) -> Option<(Epoch, T)> {
        let epoch = self.present()?.0;
        Some((epoch, self.with(now, epoch, handle)?))
    }

    /// Proposes a command in the newest epoch ([`Core::handle_submit`]).
    pub fn handle_submit(&mut self, now: Now, submission: Submission) -> Result<(Epoch, CommandId), SubmitError> {
        let (epoch, result) = self.at_present(now, |core| core.handle_submit(now, submission)).ok_or(self.absent())?;
        Ok((epoch, result?))
    }

    /// Proposes that the newest epoch ends and `next` begins. `connected`: the replicas that are, without this one;
    /// `salt` is fresh and random. Its id is not answered with `Execute` where another Reconfig came first: then it is void.
    pub fn handle_reconfig(
        &mut self,
        now: Now,
        next: &Reconfig,
        connected: &[ReplicaId],
        salt: [u8; 32],
    ) -> Result<(Epoch, CommandId), ReconfigError> {
        next.check()?;
        let is_there = |member: &&ReplicaId| **member == self.replica || connected.contains(*member);
        let there = next.members.iter().filter(is_there).count();
        let needed = next.members.len() - usize::try_from(next.f).unwrap_or(0);
        if there < needed {
            return Err(ReconfigError::Connected { needed, connected: there });
        }
        let oldest = self.known.keys().next().copied();
        if let Some(oldest) = oldest.filter(|oldest| self.known.range(oldest..).count() > 1) {
            return Err(ReconfigError::Unfinished(oldest));
        }
        let body = Bytes::from(next.to_body());
        let body_hash = body_hash(&salt, &body);
        Ok(self.handle_submit(now, Submission { slots: SlotSet::All, salt, body, body_hash })?)
    }

    /// Begins a linearizable read in the newest epoch ([`Core::handle_read`]). Reads are numbered per epoch.
    pub fn handle_read(&mut self, now: Now, slots: SlotSet) -> Result<(Epoch, u64), SubmitError> {
        let (epoch, result) = self.at_present(now, |core| core.handle_read(now, slots)).ok_or(self.absent())?;
        Ok((epoch, result?))
    }

    /// Begins a read under a lease of the newest epoch ([`Core::handle_leased_read`]).
    pub fn handle_leased_read(&mut self, now: Now, zone: &Zone, slots: &SlotSet) -> Result<(Epoch, u64), LeaseError> {
        let outlives = |core: &Core| core.mutates(Mutant::LeaseOutlivesEpoch) && core.lease_until(zone).is_some();
        let held = self.served.iter().find(|(_, served)| outlives(&served.core)).map(|(epoch, _)| *epoch);
        let Some(epoch) = held.or(self.present().map(|(epoch, _)| epoch)) else { return Err(LeaseError::NotHeld) };
        let read = self.with(now, epoch, |core| core.handle_leased_read(now, zone, slots.clone()));
        Ok((epoch, read.unwrap_or(Err(LeaseError::NotHeld))?))
    }

    /// Wants the lease of a zone, in this epoch and all later ones ([`Core::want_lease`]).
    pub fn want_lease(&mut self, now: Now, zone: &Zone, salt: [u8; 32]) -> Result<(), LeaseError> {
        if let Some((_, result)) = self.at_present(now, |core| core.want_lease(now, zone, salt)) {
            result?;
        }
        self.zones.insert(zone.clone(), salt);
        Ok(())
    }

    /// Does not want it any more ([`Core::drop_lease`]).
    pub fn drop_lease(&mut self, now: Now, zone: &Zone) {
        self.zones.remove(zone);
        let _ = self.at_present(now, |core| core.drop_lease(now, zone));
    }

    /// Every record of an epoch's journal up to `position` is durable ([`Core::handle_durable`]).
    pub fn handle_durable(&mut self, now: Now, epoch: Epoch, position: u64) {
        let _ = self.with(now, epoch, |core| core.handle_durable(now, position));
    }

    /// Time has passed ([`Core::handle_tick`]).
    pub fn handle_tick(&mut self, now: Now) {
        self.now = now;
        for served in self.served.values_mut().filter(|_| self.started) {
            served.core.handle_tick(now);
        }
        self.settle();
    }

    /// When [`Replica::handle_tick`] is wanted ([`Core::deadline`]).
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.served.values().filter_map(|served| served.core.deadline()).min()
    }

    /// What this replica says first on a connection over which its journal of an epoch is read, and how the epoch
    /// began; `None` until its `Enter` is durable.
    #[must_use]
    pub fn hello(&self, epoch: Epoch) -> Option<(Option<Entry>, Hello)> {
        let served = self.served.get(&epoch).filter(|served| served.core.has_entered())?;
        Some((served.membership.entry, served.core.hello()?))
    }

    /// A peer opens the stream of its journal of an epoch ([`Core::handle_hello`]).
    pub fn handle_hello(
        &mut self,
        now: Now,
        from: ReplicaId,
        epoch: Epoch,
        entry: Option<Entry>,
        hello: Hello,
    ) -> Result<u64, HelloError> {
        if self.served.get(&epoch).is_none_or(|served| served.membership.entry != entry) {
            return Err(HelloError::Unknown(epoch));
        }
        let read = self.with(now, epoch, |core| core.handle_hello(now, from, hello));
        Ok(read.ok_or(HelloError::Unknown(epoch))??)
    }

    /// The next record of a peer's journal of an epoch ([`Core::handle_record`]).
    pub fn handle_record(
        &mut self,
        now: Now,
        from: ReplicaId,
        epoch: Epoch,
        record: Record,
    ) -> Result<(), StreamError> {
        self.with(now, epoch, |core| core.handle_record(now, from, record)).ok_or(StreamError::Closed(from))?
    }

    /// See [`Core::handle_beat`].
    pub fn handle_beat(&mut self, now: Now, from: ReplicaId, epoch: Epoch, beat: Beat) -> Result<(), StreamError> {
        self.with(now, epoch, |core| core.handle_beat(now, from, beat)).ok_or(StreamError::Closed(from))?
    }

    /// See [`Core::handle_base`].
    pub fn handle_base(&mut self, now: Now, from: ReplicaId, epoch: Epoch, base: PeerBase) -> Result<(), StreamError> {
        self.with(now, epoch, |core| core.handle_base(now, from, base)).ok_or(StreamError::Closed(from))?
    }

    /// A message of a peer's core of an epoch ([`Core::handle_message`]).
    pub fn handle_message(&mut self, now: Now, from: ReplicaId, epoch: Epoch, message: Message) {
        let _ = self.with(now, epoch, |core| core.handle_message(now, from, message));
    }

    /// What holds of this replica's journal of an epoch now ([`Core::beat`]).
    pub fn beat(&mut self, now: Now, epoch: Epoch) -> Option<Beat> {
        self.with(now, epoch, |core| core.beat(now))
    }

    /// The base behind which this replica's journal of an epoch goes on ([`Core::peer_base`]).
    #[must_use]
    pub fn peer_base(&self, epoch: Epoch) -> Option<PeerBase> {
        self.core(epoch).map(Core::peer_base)
    }

    /// Sets the time-outs of all cores, those of epochs to come too ([`Core::set_timing`]).
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = Some(timing);
        self.served.values_mut().for_each(|served| served.core.set_timing(timing));
    }

    /// See [`Core::prefer`].
    pub fn prefer(&mut self, nearest_first: &[ReplicaId]) {
        self.preference = nearest_first.to_vec();
        self.served.values_mut().for_each(|served| served.core.prefer(nearest_first));
    }

    /// See [`Core::set_ahead`] and [`Core::set_promise_lag`].
    pub fn set_distances(&mut self, ahead_ns: u64, promise_lag_ns: u64) {
        for served in self.served.values_mut() {
            served.core.set_ahead(ahead_ns);
            served.core.set_promise_lag(promise_lag_ns);
        }
    }

    /// See [`Core::suspect`].
    pub fn suspect(&mut self, now: Now, replica: ReplicaId, suspected: bool) {
        self.now = now;
        if suspected {
            self.suspects.insert(replica);
        } else {
            self.suspects.remove(&replica);
        }
        self.served.values_mut().for_each(|served| served.core.suspect(now, replica, suspected));
        self.settle();
    }

    /// The state at `cut` is durable here ([`Core::handle_stored`]).
    pub fn handle_stored(&mut self, now: Now, cut: Timestamp) {
        let epochs: Vec<Epoch> = self.served.keys().copied().filter(|epoch| *epoch <= self.state).collect();
        for epoch in epochs {
            let served = &self.served[&epoch];
            let begins = served.membership.entry.map_or(Timestamp::ZERO, |entry| entry.at);
            let reached = served.core.cuts.last().max(served.core.executed_cut);
            let ends = served.core.ended().map_or(cut, |_| reached.min(cut));
            if cut >= begins && served.core.has_state() {
                let _ = self.with(now, epoch, |core| core.handle_stored(ends));
            }
        }
    }

    /// The driver has installed a peer's state, durably: it is now exactly the state at `stored.cut`
    /// ([`Core::handle_snapshot`]).
    ///
    /// Panics when the state here is not older.
    pub fn handle_snapshot(&mut self, now: Now, stored: &Stored) {
        let epoch = stored.membership.epoch;
        assert!(epoch >= self.state, "a snapshot is ahead of the state");
        self.now = now;
        self.known.entry(epoch).or_insert_with(|| stored.membership.clone());
        self.state = epoch;
        for (older, served) in self.served.range_mut(..epoch) {
            let next = self.known.get(&Epoch(older.0 + 1)).unwrap_or(&stored.membership);
            let entry = next.entry.expect("a later epoch has a beginning");
            served.core.pass((entry.at, entry.reconfig));
        }
        self.enter_known();
        if let Some(served) = self.served.get_mut(&epoch).filter(|served| !served.is_silent()) {
            served.core.handle_snapshot(now, stored.cut);
        }
        self.settle();
    }

    /// The highest cut of an epoch that `n - f` of its members hold durably ([`Core::trimmable`]).
    #[must_use]
    pub fn trimmable(&self, epoch: Epoch) -> Option<Timestamp> {
        self.core(epoch).map(Core::trimmable)
    }

    /// What replaces the prefix of an epoch's journal up to `cut` ([`Core::base`]).
    pub fn base(&mut self, epoch: Epoch, cut: Timestamp) -> Option<Base> {
        self.served.get_mut(&epoch)?.core.base(cut)
    }
}
