//! Sieges in which the epoch ends under a lease: a Reconfig is proposed while the lease is held, the holder is cut off at
//! one stage of it, the others write in the next epoch, and the holder is asked what it still would answer. What each
//! rule about leases and Reconfigs is for takes all of that within one term, which chance does not bring about.

use dace::Membership;

use super::check::Checked;
use super::reader::Look;
use super::reconf::{Change, Stage};
use super::siege::{CALMS_MAX, Plot, Siege};
use super::world::World;

/// Steps in the next epoch.
const STEPS: u64 = 60;

/// The plots.
pub(crate) const TURNOVERS: [Plot; 3] = [Plot::Unaware, Plot::Attached, Plot::Executed];

impl Plot {
    /// Whether the epoch ends in it.
    pub(crate) fn is_turnover(self) -> bool {
        TURNOVERS.contains(&self)
    }
}

impl World {
    /// Draws a plot in which the epoch ends, if there may be one here, and who proposes that and writes.
    pub(crate) fn draw_turnover(&mut self, holder: usize) -> Option<(Plot, usize)> {
        if !self.reconf.is_on || !self.is_term_long() || self.leases.random.one_in(4) {
            return None;
        }
        let newest: Vec<usize> = self.reconf.newest().members.iter().map(|member| self.index(*member)).collect();
        let others: Vec<usize> = newest.iter().copied().filter(|at| *at != holder && self.is_in_newest(*at)).collect();
        if !newest.contains(&holder) || others.is_empty() {
            return None;
        }
        let writer = *self.leases.random.pick(&others);
        Some((*self.leases.random.pick(&TURNOVERS), writer))
    }

    /// Whether all that a plot is about can happen within one term.
    pub(super) fn is_term_long(&self) -> bool {
        self.leases.term_ns() >= 12 * self.trip()
    }

    /// It is time for a change: in half of the cases one under a lease. False if there may be none here and now.
    pub(crate) fn besiege_for_change(&mut self) -> Result<bool, Box<super::Violation>> {
        if !self.leases.is_on || self.leases.siege.is_some() || self.leases.random.one_in(2) {
            return Ok(false);
        }
        let zone = self.leases.any_zone();
        let members: Vec<usize> = self.reconf.newest().members.iter().map(|member| self.index(*member)).collect();
        let holders: Vec<usize> = members.iter().copied().filter(|at| self.holds(*at, &zone)).collect();
        let at = *self.leases.random.pick(if holders.is_empty() { &members } else { &holders });
        let Some((plot, writer)) = self.draw_turnover(at) else { return Ok(false) };
        self.begin_siege(at, &zone, plot, writer)?;
        if self.leases.siege.is_some() && !self.is_wanted(at, &zone) {
            self.want_zone(at, &zone)?;
        }
        Ok(self.leases.siege.is_some())
    }

    /// The next stage of such a plot.
    pub(crate) fn plot_turnover(&mut self, siege: &mut Siege) -> Checked {
        let now = self.queue.now();
        match siege.stage {
            0 if siege.age > CALMS_MAX => siege.left = 0,
            0 if self.is_calm() && self.holds(siege.holder, &siege.zone) && self.end_epoch_at(siege.writer)? => {
                (siege.stage, siege.left) = (1, STEPS);
                if siege.plot == Plot::Unaware {
                    self.silence(siege.holder);
                    self.deafen(siege.holder);
                    siege.stage = 2;
                }
            }
            // The others go on without the holder.
            2 if self.is_in_newest(siege.writer) && self.reconf.newest().epoch > siege.epoch => siege.stage = 3,
            3 if self.is_answered(siege) => siege.stage = 4,
            4 if siege.plot == Plot::Attached && now >= siege.since + self.trip() * self.patience(siege.holder) => {
                (0..self.options.nodes).for_each(|peer| self.net.mend(peer, siege.holder, now));
            }
            _ => {}
        }
        Ok(())
    }

    /// The holder comes to a stage of the Reconfig: it may be the one at which it is cut off.
    pub(crate) fn turns_over(&mut self, at: usize, stage: Stage) {
        let Some(mut siege) = self.leases.siege.take() else { return };
        let is_due = match siege.plot {
            Plot::Attached => stage == Stage::Attached,
            Plot::Executed => stage == Stage::Executed,
            _ => false,
        };
        if is_due && siege.stage == 1 && siege.holder == at {
            // What it has attached must be heard, else nothing comes of the Reconfig.
            if siege.plot == Plot::Executed {
                self.silence(at);
            }
            self.deafen(at);
            (siege.stage, siege.since) = (2, self.queue.now());
            self.trace.say(siege.since, || format!("r{at} is cut off: {stage:?}", at = at + 1));
        }
        self.leases.siege = Some(siege);
    }

    /// For how many round trips a holder that has attached the Reconfig is cut off yet: not for long, if a reader there has had its
    /// first look.
    fn patience(&self, holder: usize) -> u64 {
        let life = self.machines[holder].life.as_ref();
        if life.is_some_and(|life| life.leased.looks.values().any(Look::is_kept)) { 1 } else { 4 }
    }

    /// Whether a reader at the holder is kept off its processor: until the holder takes its deadline back, since it has executed
    /// the Reconfig; by then the others have written in the next epoch.
    pub(super) fn is_kept_waiting(&self, at: usize) -> bool {
        let is_it = |siege: &&Siege| siege.plot == Plot::Attached && siege.stage == 4 && siege.holder == at;
        let Some(siege) = self.leases.siege.as_ref().filter(is_it) else { return false };
        let life = self.machines[at].life.as_ref();
        life.is_some_and(|life| life.leased.deadlines.get(&siege.zone).is_some_and(|until| *until > 0))
    }

    /// Whether a machine serves the newest epoch, and no older one of which it knows.
    fn is_in_newest(&self, at: usize) -> bool {
        let newest = &self.reconf.newest();
        let of = |life: &super::machine::Life| life.replica.epochs().last().map(|of: &Membership| of.epoch);
        self.machines[at].is_awake() && self.machines[at].life.as_ref().and_then(of) == Some(newest.epoch)
    }

    /// The epoch is to end, and the next one to have the same members.
    fn end_epoch_at(&mut self, at: usize) -> Result<bool, Box<super::Violation>> {
        let newest = self.reconf.newest().clone();
        match self.next_of(&newest, Change::Version) {
            Some(next) if self.is_in_newest(at) => self.propose_at(at, Change::Version, next),
            _ => Ok(false),
        }
    }
}
