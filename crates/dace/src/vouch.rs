//! Before it says anything, a replica that starts has its journal vouched for: others confirm that it is no shorter than
//! what they counted durable of it.
//!
//! A disk that was rolled back has forgotten votes and promises. A peer that counted them refuses the writer, but only
//! that peer does: one that counted less, or has restarted since and forgotten, would take it, and decide with it what
//! contradicts what the lost votes decided. So the writer asks first, and is silent until enough have answered.
//!
//! All others are enough: who counted a lost vote is among them. It may be one alone, the coordinator of the command: the
//! other members of its quorum voted, and need not have counted. When no more than some can be reached for long, and at
//! least `n - f - 1`, those are enough too, so that a clean restart never waits for the dead: a rolled-back disk is then
//! a failure beside theirs.

use types::ReplicaId;

use crate::command::bit;
use crate::config::Config;
use crate::core::Core;
use crate::journal::{Opened, Stream};
use crate::mutant::Mutant;
use crate::status::Phase;
use crate::stream::{Hello, Refused};

/// What a replica that starts says of its journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its last life; all zero before the first.
    pub last: Hello,
    /// Its last position, durable.
    pub position: u64,
}

/// How far a journal is vouched for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Vouched {
    /// By too few: nothing may be said yet.
    Lacking,
    /// By as many as any quorum needs. To be acted on when no other answered for long (seconds): those who counted may be
    /// the ones that are away.
    Barely,
    /// By all others: nobody who remembers has counted more.
    Fully,
}

impl Config {
    /// Others that must vouch for a journal, when members are away and when none is.
    fn vouchers(&self) -> (usize, usize) {
        let (n, f) = (self.n(), self.f());
        (n - f - 1, n - 1)
    }
}

impl Core {
    /// What this replica says of its journal to those who shall vouch for it, once all of it is restored.
    ///
    /// Panics when it has started: what it says now is not over.
    #[must_use]
    pub fn claim(&self) -> Claim {
        assert!(self.phase == Phase::Restoring, "a replica that has started claims nothing");
        let Opened { position, at } = self.opened;
        Claim {
            last: Hello { incarnation: self.incarnation, opened: position, opened_at: at },
            position: self.appended,
        }
    }

    /// A peer that starts asks whether this replica vouches for its journal. `Ok` if it does, whatever its own phase:
    /// it has counted nothing that is missing there. Whatever still comes of the peer's last life is dropped from now
    /// on, so that nothing more of it is counted.
    ///
    /// The answer is to the life that asked and to no other: a claim that comes when its life has started may be refused.
    pub fn handle_claim(&mut self, from: ReplicaId, claim: Claim) -> Result<(), Refused> {
        let Claim { last, position } = claim;
        let Some(member) = self.config.member(from).filter(|member| *member != self.me) else {
            return Err(Refused::stranger(from, last));
        };
        let trusted = self.mutates(Mutant::RolledBackAccepted);
        let journal = &mut self.journals[member];
        let opened = Opened { position: last.opened, at: last.opened_at };
        let same = last.incarnation == journal.incarnation && opened == journal.opened && position >= journal.durable;
        let later = last.incarnation > journal.incarnation && last.opened > journal.durable;
        if journal.stream == Stream::Refused || !(same || later || trusted) {
            // Of an earlier life than the one that is read: rolled back behind that, or made for that and overtaken by
            // it. What says hello shows which.
            let stale = last.incarnation < journal.incarnation && journal.stream != Stream::Refused;
            journal.stream = if stale { Stream::Closed } else { Stream::Refused };
            let (known, durable) = (journal.incarnation, journal.durable);
            return Err(Refused { ends: Some(position), known, durable, ..Refused::stranger(from, last) });
        }
        journal.stream = Stream::Closed;
        journal.over = journal.over.max(last.incarnation);
        Ok(())
    }

    /// A peer vouches for the claim of this life. Answers to an earlier one must not be given.
    pub fn handle_vouch(&mut self, from: ReplicaId) {
        let Some(member) = self.config.member(from).filter(|member| *member != self.me) else { return };
        if self.phase == Phase::Restoring {
            self.vouchers |= bit(member);
        }
    }

    /// Takes the own journal on trust: it is that of an epoch which is entered anew (`docs/consensus.md`, "Reading a journal").
    pub(crate) fn take_on_trust(&mut self) {
        self.vouchers = u64::MAX;
    }

    /// How far the journal is vouched for. A group of one needs nobody.
    #[must_use]
    pub fn vouched(&self) -> Vouched {
        let (few, enough) = self.config.vouchers();
        match self.vouchers.count_ones() as usize {
            _ if self.mutates(Mutant::StartsUnvouched) => Vouched::Fully,
            count if count >= enough => Vouched::Fully,
            count if count >= few => Vouched::Barely,
            _ => Vouched::Lacking,
        }
    }
}
