//! How a life is vouched for before it starts.

use dace::{Claim, Vouched};

use super::check::{Checked, ensure, violation};
use super::event::Note;
use super::machine::Fate;
use super::queue::MS;
use super::world::World;

/// How long a life asks for more vouchers, when it has as many as any quorum needs.
const PATIENCE: u64 = 500 * MS;

impl World {
    /// Asks the others to vouch for a life that has not started.
    pub(crate) fn claim(&mut self, at: usize) -> Checked {
        self.start_vouched(at)?;
        let Some(life) = self.machines[at].life.as_ref().filter(|life| life.waits_since.is_some()) else {
            return Ok(());
        };
        let (life, claim) = (life.number, life.core.claim());
        for peer in (0..self.options.nodes).filter(|peer| *peer != at) {
            self.send(at, peer, Note::Claim { life, claim });
        }
        Ok(())
    }

    /// A peer asks. It may have started since, or be over: who is asked cannot know.
    pub(crate) fn claimed(&mut self, from: usize, to: usize, number: u64, claim: Claim) -> Checked {
        let (replica, now) = (self.replica(from), self.queue.now());
        let claimant = &self.machines[from];
        let is_late = !claimant.waits_in(number);
        let is_rolled_back = claimant.is_rolled_back;
        // What was claimed of a disk before it was rolled back was true then, and helps only a life that is over.
        let left = if number >= claimant.rolled_back_in { claimant.rolled_back_to } else { u64::MAX };
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        let answer = life.core.handle_claim(replica, claim);
        let counted = life.counted[from];
        self.trace.say(now, || {
            let late = if is_late { ", late" } else { "" };
            format!("r{to} is asked by r{from}: {claim:?}{late}: {answer:?}", to = to + 1, from = from + 1)
        });
        self.trace.mark(&[15, now, from as u64, to as u64, u64::from(answer.is_ok())]);
        match answer {
            Ok(()) => {
                ensure(counted <= left, "refusal", || {
                    format!(
                        "r{to} vouches for r{from}, whose journal was rolled back to #{left}, though it counted #{counted} durable",
                        to = to + 1,
                        from = from + 1
                    )
                })?;
                self.coverage.vouches += 1;
                self.coverage.vouches_late += u64::from(is_late);
                self.send(to, from, Note::Vouch { life: number });
            }
            Err(refused) => {
                // The life that it was made for is read here already. Should this peer be refused from now on, what it
                // says next shows it.
                let is_overtaken = is_late && refused.known > claim.last.incarnation;
                ensure(is_rolled_back || is_overtaken, "refusal", || {
                    format!(
                        "r{to} refuses r{from}, whose disk was never rolled back: {refused}",
                        to = to + 1,
                        from = from + 1
                    )
                })?;
                self.coverage.refusals += u64::from(is_rolled_back);
                self.coverage.claims_overtaken += u64::from(!is_rolled_back);
                self.send(to, from, Note::Doubt { life: number });
            }
        }
        Ok(())
    }

    /// A peer vouches.
    pub(crate) fn vouched(&mut self, from: usize, at: usize, number: u64) -> Checked {
        let replica = self.replica(from);
        let Some(life) = self.life(at).filter(|life| life.number == number) else { return Ok(()) };
        life.core.handle_vouch(replica);
        self.start_vouched(at)
    }

    /// A peer doubts the claim of a life: if that has not started, its disk was rolled back.
    pub(crate) fn doubted(&mut self, at: usize, number: u64) -> Checked {
        if self.machines[at].waits_in(number) { self.refused(at) } else { Ok(()) }
    }

    /// A restored life starts once its journal is vouched for, or barely so for long.
    pub(crate) fn start_vouched(&mut self, at: usize) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let Some(since) = life.waits_since else { return Ok(()) };
        let is_barely = match life.core.vouched() {
            Vouched::Fully => false,
            Vouched::Barely if now >= since + PATIENCE => true,
            _ => return Ok(()),
        };
        if self.machines[at].is_rolled_back && self.options.mutant != Some(dace::Mutant::StartsUnvouched) {
            // A peer that is away for as long as that is one failure too many, and so is a group in which nobody
            // remembers: nothing can help then.
            return Ok(());
        }
        self.coverage.barely_vouched += u64::from(is_barely);
        let Some(life) = self.life(at) else { return Ok(()) };
        life.waits_since = None;
        if let Err(error) = life.core.handle_start(clock) {
            return violation("restart", format!("r{at} cannot start: {error}", at = at + 1));
        }
        self.drain(at)?;
        self.want_again(at)
    }

    /// Whether the disk of a machine was rolled back and nobody has told it yet.
    pub(crate) fn is_unrefused(&self, at: usize) -> bool {
        self.machines[at].is_rolled_back && self.machines[at].fate == Fate::Well
    }

    /// Whether so many remember how long the rolled-back journals were that those who are asked cannot all have
    /// forgotten, even when `at` restarts.
    pub(crate) fn may_forget(&self, at: usize) -> bool {
        let remembers = |from: usize| {
            let left = self.machines[from].rolled_back_to;
            let knows = |to: &usize| {
                let life = self.machines[*to].life.as_ref();
                *to != at && *to != from && life.is_some_and(|life| life.counted[from] > left)
            };
            (0..self.options.nodes).filter(knows).count()
        };
        let unrefused = (0..self.options.nodes).filter(|from| self.is_unrefused(*from));
        unrefused.into_iter().all(|from| from == at || remembers(from) >= self.options.faults)
    }
}
