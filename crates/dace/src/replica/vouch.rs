//! What a replica that restarts has vouched for: its journal of each epoch that it still serves (`docs/consensus.md`,
//! "Reading a journal"). Each core is vouched for by the members of its epoch, and by nobody else.
//!
//! The claims name all epochs that are not over and of which there are journals, so they also say of which there are none: a disk that was rolled
//! back behind the beginning of an epoch has forgotten the votes that it gave there, and whoever counted one refuses it.
//!
//! An epoch that is over is vouched for by nobody: those who could have may be gone. What is said in it is not needed either,
//! so its core stays silent, and the state comes from the epoch after it.

use types::{Epoch, ReplicaId};

use super::Replica;
use crate::reconfig::Entry;
use crate::stream::{Hello, Refused};
use crate::vouch::{Claim, Vouched};

/// What a replica that starts says of its journals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// Of each epoch of which there is one, rising.
    pub epochs: Vec<EpochClaim>,
    /// This epoch, and those before it, are over: their journals may be gone.
    pub over: Epoch,
}

/// What a replica that starts says of its journal of one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochClaim {
    /// The epoch.
    pub epoch: Epoch,
    /// How it began; `None`: it is the first.
    pub entry: Option<Entry>,
    /// What the journal holds.
    pub claim: Claim,
}

/// The answer to the claims of a life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vouch {
    /// The epochs whose claims hold, as far as is known here.
    pub epochs: Vec<Epoch>,
    /// This epoch, and those before it, are over; 0: none.
    pub over: Epoch,
}

/// What a journal says of which there is nothing.
const NOTHING: Claim = Claim {
    last: Hello { incarnation: types::Incarnation(0), opened: 0, opened_at: types::Timestamp::ZERO },
    position: 0,
};

impl Replica {
    /// What this replica says of its journals to the members of their epochs, once all of them are restored.
    ///
    /// Panics when it has started.
    #[must_use]
    pub fn claims(&self) -> Claims {
        assert!(!self.started, "a replica that has started claims nothing");
        let claim = |(epoch, served): (&Epoch, &super::Served)| EpochClaim {
            epoch: *epoch,
            entry: served.membership.entry,
            claim: served.core.claim(),
        };
        Claims { epochs: self.served.iter().map(claim).collect(), over: self.over }
    }

    /// A replica that starts asks whether this one, whatever its own phase, vouches for its journals
    /// ([`crate::Core::handle_claim`]). It does for those of epochs that both serve. Refused is whoever lacks what was counted
    /// in any of them.
    pub fn handle_claims(&mut self, from: ReplicaId, claims: &Claims) -> Result<Vouch, Refused> {
        let mut epochs = Vec::new();
        let judged = self.served.range_mut(Epoch(claims.over.0 + 1)..);
        for (epoch, served) in judged.filter(|(_, served)| served.membership.has(from)) {
            let named = claims.epochs.iter().find(|claim| claim.epoch == *epoch);
            if named.is_some_and(|named| named.entry != served.membership.entry) {
                continue;
            }
            served.core.handle_claim(from, named.map_or(NOTHING, |named| named.claim))?;
            if named.is_some() {
                epochs.push(*epoch);
            }
        }
        Ok(Vouch { epochs, over: self.over.max(self.told_over) })
    }

    /// A peer answers the claims of this life. Answers to an earlier one must not be given.
    pub fn handle_vouch(&mut self, from: ReplicaId, vouch: &Vouch) {
        if self.started {
            return;
        }
        self.told_over = self.told_over.max(vouch.over);
        for epoch in &vouch.epochs {
            if let Some(served) = self.served.get_mut(epoch) {
                served.core.handle_vouch(from);
            }
        }
    }

    /// How far the journals are vouched for: as far as the one that is least. One of an epoch that is over needs nobody, and
    /// neither does a replica that was in no group yet.
    #[must_use]
    pub fn vouched(&self) -> Vouched {
        let needed = self.served.iter().filter(|(epoch, _)| **epoch > self.told_over);
        needed.map(|(_, served)| served.core.vouched()).min().unwrap_or(Vouched::Fully)
    }
}
