//! What replicas tell each other of epochs, and when an epoch is over: its successor has been entered, and `n' - f'`
//! members of it hold the state at its beginning durably.

use types::{Epoch, Now, ReplicaId};

use super::{Replica, ReplicaOutput};
use crate::mutant::Mutant;
use crate::reconfig::Membership;

/// An epoch in a [`Notice`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The epoch. Who says so has executed the Reconfig that made it, or has heard of it from one who had.
    pub membership: Membership,
    /// The sender has entered it: its `Enter` is durable.
    pub entered: bool,
    /// The sender's `Have` is durable.
    pub have: bool,
}

/// What a replica tells every other one, of whatever epoch: on every new connection, and when it changes. All of it
/// stays true, so it may be lost, doubled or late.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The epochs that are not over, rising.
    pub epochs: Vec<Standing>,
    /// This epoch, and those before it, are over; 0: none.
    pub over: Epoch,
}

/// Epochs that a notice may name.
const EPOCHS_MAX: usize = 16;

impl Replica {
    /// What to tell every other replica.
    #[must_use]
    pub fn notice(&self) -> Notice {
        let standing = |membership: &Membership| {
            let core = self.served.get(&membership.epoch).map(|served| &served.core);
            Standing {
                membership: membership.clone(),
                entered: core.is_some_and(|core| core.has_entered()),
                have: core.is_some_and(|core| core.haves().any(|replica| replica == self.replica)),
            }
        };
        Notice { epochs: self.known.values().map(standing).collect(), over: self.over }
    }

    /// Whether an epoch has begun and the one before is not over yet.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.known.len() > 1
    }

    /// The other replicas that are to be told: the members of all epochs that are not over.
    pub fn peers(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let mut peers: Vec<ReplicaId> = self.known.values().flat_map(|known| known.members.iter().copied()).collect();
        peers.sort_unstable();
        peers.dedup();
        let own = self.replica;
        peers.into_iter().filter(move |peer| *peer != own)
    }

    /// A notice of another replica. One that makes no sense is passed over.
    pub fn handle_notice(&mut self, now: Now, from: ReplicaId, notice: &Notice) {
        if notice.epochs.len() > EPOCHS_MAX || !self.agrees(notice) {
            return;
        }
        if !self.started {
            self.told_over = self.told_over.max(notice.over);
            self.heard.insert(from, notice.clone());
            return;
        }
        self.now = now;
        for standing in &notice.epochs {
            let membership = &standing.membership;
            if membership.epoch <= self.over {
                continue;
            }
            self.known.entry(membership.epoch).or_insert_with(|| membership.clone());
            if standing.have && membership.has(from) {
                self.haves.entry(membership.epoch).or_default().insert(from);
            }
            if standing.entered && membership.has(from) {
                self.enters.entry(membership.epoch).or_default().insert(from);
            }
        }
        if notice.epochs.iter().any(|standing| standing.membership.epoch > notice.over) {
            self.note_over(notice.over);
        }
        self.settle();
    }

    /// Whether a notice speaks of epochs as this replica knows them.
    fn agrees(&self, notice: &Notice) -> bool {
        notice.epochs.iter().all(|standing| {
            let other = &standing.membership;
            let same = self.known.get(&other.epoch).is_none_or(|known| known == other);
            other.is_sound() && same
        })
    }

    /// Whether an epoch is not needed any more, by what is known here of the next one.
    fn is_over(&self, epoch: Epoch) -> bool {
        let Some(next) = self.known.get(&Epoch(epoch.0 + 1)) else { return false };
        let core = self.served.get(&next.epoch).map(|served| &served.core);
        let before = self.served.get(&epoch).map(|served| &served.core);
        if before.is_some_and(|before| before.mutates(Mutant::StopsOnExecution) && before.ended().is_some()) {
            return true;
        }
        let on_enter = before.is_some_and(|before| before.mutates(Mutant::StopsOnEnter));
        let mut holders = self.haves.get(&next.epoch).cloned().unwrap_or_default();
        holders.extend(core.iter().flat_map(|core| core.haves()));
        if on_enter {
            holders.extend(self.enters.get(&next.epoch).into_iter().flatten());
            holders.extend(core.iter().flat_map(|core| core.enters()));
        }
        holders.len() >= next.recovery_size()
    }

    /// An epoch is over.
    pub(super) fn note_over(&mut self, epoch: Epoch) {
        if epoch > self.over {
            self.over = epoch;
            self.outputs.push_back(ReplicaOutput::Over { epoch });
        }
    }

    /// Drops the cores that nobody needs.
    pub(super) fn finish_epochs(&mut self) {
        let over = self.known.keys().copied().filter(|epoch| self.is_over(*epoch)).max();
        self.note_over(over.unwrap_or(Epoch(0)));
        let newest = self.known.keys().next_back().copied().unwrap_or(Epoch(0));
        let leaves = self.known.get(&newest).is_some_and(|known| !known.has(self.replica))
            && newest.0 == self.over.0 + 1
            && self.joined;
        // A core that has not ended may still lead to the state, and costs nothing. Incarnations are numbered on from the
        // newest journal, so that must be durable before the others go.
        let entered = self.served.values().next_back().is_some_and(|newest| newest.core.has_entered());
        let done = |epoch: Epoch| epoch <= self.over && (leaves || (epoch < self.state && entered));
        let gone: Vec<Epoch> = self.served.keys().copied().filter(|epoch| done(*epoch)).collect();
        for epoch in gone {
            self.served.remove(&epoch);
            self.outputs.push_back(ReplicaOutput::Closed { epoch });
        }
        let over = self.over;
        self.known.retain(|epoch, _| *epoch > over);
        self.haves.retain(|epoch, _| *epoch > over);
        self.enters.retain(|epoch, _| *epoch > over);
        if leaves && self.served.is_empty() && !self.removed {
            self.removed = true;
            self.outputs.push_back(ReplicaOutput::Removed);
        }
    }
}
