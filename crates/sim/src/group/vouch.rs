//! How a life is vouched for before it starts.

use dace::{Claims, Vouched};
use types::Epoch;

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
        let (life, claims, peers) = (life.number, life.replica.claims(), life.replica.peers());
        for peer in peers.map(|peer| self.index(peer)).collect::<Vec<_>>() {
            self.send(at, peer, Note::Claims { life, claims: claims.clone() });
        }
        // Who has not entered an epoch yet cannot vouch for a journal of it, and enters when it hears of it.
        self.tell_all(at);
        Ok(())
    }

    /// A peer asks. It may have started since, or be over: who is asked cannot know.
    pub(crate) fn claimed(&mut self, from: usize, to: usize, number: u64, claims: &Claims) -> Checked {
        let (replica, now) = (self.replica(from), self.queue.now());
        let claimant = &self.machines[from];
        let is_late = !claimant.waits_in(number);
        let is_rolled_back = claimant.is_rolled_back;
        // What was claimed of a disk before it was rolled back was true then, and helps only a life that is over.
        let is_of_rest = number >= claimant.rolled_back_in;
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        let answer = life.replica.handle_claims(replica, claims);
        self.trace.say(now, || {
            let late = if is_late { ", late" } else { "" };
            format!("r{to} is asked by r{from}: {claims:?}{late}: {answer:?}", to = to + 1, from = from + 1)
        });
        self.trace.mark(&[15, now, from as u64, to as u64, u64::from(answer.is_ok())]);
        let newest = claims.epochs.last().map(|claim| claim.epoch);
        let knows_more = life.replica.newest().map(|known| known.epoch) > newest;
        match answer {
            Ok(vouch) => {
                let counted = life.counted.iter().filter(|((_, peer), _)| *peer == from);
                let counted: Vec<(Epoch, u64)> = counted.map(|((epoch, _), counted)| (*epoch, *counted)).collect();
                for (epoch, counted) in counted.into_iter().filter(|(epoch, _)| vouch.epochs.contains(epoch)) {
                    let left = if is_of_rest { self.machines[from].left(epoch) } else { u64::MAX };
                    ensure(counted <= left, "refusal", || {
                        format!(
                            "r{to} vouches for r{from}, whose journal was rolled back to #{left}, though it counted #{counted} durable",
                            to = to + 1,
                            from = from + 1
                        )
                    })?;
                }
                self.coverage.vouches += 1;
                self.coverage.vouches_late += u64::from(is_late);
                self.send(to, from, Note::Vouch { life: number, vouch });
                if knows_more {
                    self.answer_notice(from, to);
                }
            }
            Err(refused) => {
                // The life that it was made for is read here already. Should this peer be refused from now on, what it
                // says next shows it.
                let is_overtaken = is_late && refused.known > refused.incarnation;
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
    pub(crate) fn vouched(&mut self, from: usize, at: usize, number: u64, vouch: &dace::Vouch) -> Checked {
        let replica = self.replica(from);
        let Some(life) = self.life(at).filter(|life| life.number == number) else { return Ok(()) };
        life.replica.handle_vouch(replica, vouch);
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
        let is_barely = match life.replica.vouched() {
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
        if let Err(error) = life.replica.handle_start(clock) {
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
            let epochs: Vec<Epoch> = self.machines[from].rolled_back_to.keys().copied().collect();
            let knows = |to: &usize| {
                let life = self.machines[*to].life.as_ref();
                let counted = |epoch: &Epoch| life.map_or(0, |life| life.counted(*epoch, from));
                *to != at && *to != from && epochs.iter().any(|epoch| counted(epoch) > self.machines[from].left(*epoch))
            };
            (0..self.machines.len()).filter(knows).count()
        };
        let unrefused = (0..self.machines.len()).filter(|from| self.is_unrefused(*from));
        unrefused.into_iter().all(|from| from == at || remembers(from) >= self.faults_of(from))
    }
}
