//! Losing `f` disks at once, those that hurt most, while every other process forgets what is not on its disk: what was
//! answered must be found in the journals that are left.

use types::CommandId;

use super::check::Checked;
use super::machine::Fate;
use super::queue::MS;
use super::world::World;
use crate::random::Random;

/// Who is to be destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aim {
    /// Whoever.
    Anyone,
    /// Those that hold the decision of an answered write, then those that hold the write.
    Decision,
    /// Those that hold an answered write that few hold.
    Write,
}

/// When disks are destroyed, and whose. Drawn apart from everything else.
pub(crate) struct Losses {
    random: Random,
    /// In the storm, right after that many further answers.
    answers_left: Option<u64>,
    /// It is time.
    is_due: bool,
    /// Once more when all is well again.
    is_at_end: bool,
}

impl Losses {
    pub(crate) fn new(seed: u64, is_calm: bool) -> Self {
        let mut random = Random::new(seed, "group losses");
        let is_sudden = random.one_in(6) && !is_calm;
        let answers_left = is_sudden.then(|| 5 + random.below(60));
        let is_at_end = random.one_in(2) && !is_calm;
        Self { random, answers_left, is_due: false, is_at_end }
    }
}

impl World {
    /// A write was answered: at times disks are destroyed right now, when least stands behind it.
    pub(crate) fn count_answer(&mut self) {
        if self.phase == super::world::Phase::Storm
            && let Some(left) = self.losses.answers_left.take()
        {
            self.losses.is_due = left == 0;
            self.losses.answers_left = left.checked_sub(1);
        }
    }

    /// Destroys disks if an answer has just asked for it.
    pub(crate) fn lose_if_due(&mut self) -> Checked {
        if !core::mem::take(&mut self.losses.is_due) {
            return Ok(());
        }
        // A rolled-back disk must be noticed by those who remember, before they forget.
        if self.machines.iter().any(|machine| machine.is_rolled_back && machine.fate == Fate::Well) {
            return Ok(());
        }
        if self.destroy()? {
            self.coverage.losses_sudden += 1;
            for at in 0..self.machines.len() {
                let delay = MS + self.losses.random.below(2 * self.plan.fault_len);
                let back = self.queue.now() + delay;
                self.restart_at(at, back);
            }
        }
        Ok(())
    }

    /// When all is well: destroys disks and starts the others again. False when there is nothing to destroy.
    pub(crate) fn lose_at_end(&mut self) -> Result<bool, Box<super::Violation>> {
        if !self.losses.is_at_end || !self.destroy()? {
            return Ok(false);
        }
        self.coverage.losses_at_end += 1;
        for at in 0..self.machines.len() {
            self.start(at)?;
        }
        Ok(true)
    }

    /// Ends every process and destroys as many disks as the group survives, if it survives any.
    fn destroy(&mut self) -> Result<bool, Box<super::Violation>> {
        let left = |at: &usize| self.is_needed(*at) && self.machines[*at].fate == Fate::Well && self.may_lose(*at);
        if !(0..self.machines.len()).any(|at| left(&at)) {
            return Ok(false);
        }
        let now = self.queue.now();
        let victims = self.victims();
        for at in 0..self.machines.len() {
            let survives = self.losses.random.below(1001);
            self.crash(at, survives)?;
        }
        for at in &victims {
            self.machines[*at].disk.destroy();
            self.coverage.disks_destroyed += 1;
        }
        self.trace.mark(&[16, now, victims.iter().fold(0, |mask, at| mask | 1 << at)]);
        self.trace.say(now, || format!("the disks of {victims:?} (from 0) are destroyed, and all processes end"));
        Ok(true)
    }

    /// The disks whose loss hurts most.
    fn victims(&mut self) -> Vec<usize> {
        let aim = [Aim::Anyone, Aim::Decision, Aim::Decision, Aim::Write][self.losses.random.index(4)];
        let is_left = |at: &usize| {
            let machine = &self.machines[*at];
            machine.fate == Fate::Well && !machine.is_lost() && !machine.is_deaf_for_good() && self.is_needed(*at)
        };
        let mut left: Vec<(u64, usize)> = Vec::new();
        let candidates: Vec<usize> = (0..self.machines.len()).filter(is_left).collect();
        for at in candidates {
            left.push((self.losses.random.word(), at));
        }
        left.sort_unstable();
        let mut left: Vec<usize> = left.into_iter().map(|(_, at)| at).collect();
        let target = if aim == Aim::Anyone { None } else { self.least_held(&left, aim) };
        if let Some(id) = target {
            let disk = |at: &usize| &self.machines[*at].disk;
            left.sort_by_key(|at| match aim {
                Aim::Decision => (!disk(at).says_decision(id), !disk(at).vouches(id)),
                Aim::Anyone | Aim::Write => (!disk(at).vouches(id), !disk(at).says_decision(id)),
            });
        }
        // As many as every epoch survives that is needed.
        let mut lost = Vec::new();
        for at in left.iter().copied() {
            if self.may_lose(at) {
                self.machines[at].fate = Fate::Gone;
                lost.push(at);
            }
        }
        if let Some(id) = target {
            let says = |at: &usize| self.machines[*at].disk.says_decision(id);
            let mut kept = left.iter().filter(|at| !lost.contains(at));
            self.coverage.losses_of_decision += u64::from(lost.iter().any(says) && !kept.any(says));
        }
        lost
    }

    /// The answered write of which the fewest disks know: its decision, or itself.
    fn least_held(&self, left: &[usize], aim: Aim) -> Option<CommandId> {
        let disks = || left.iter().map(|at| &self.machines[*at].disk);
        let held = |id: CommandId| match aim {
            Aim::Decision => disks().filter(|disk| disk.says_decision(id)).count(),
            Aim::Anyone | Aim::Write => disks().filter(|disk| disk.vouches(id)).count(),
        };
        // Not one that a checkpoint holds: it is settled.
        let settled = disks().map(super::disk::Disk::checkpoint_cut).max()?;
        let answered = self.judge.answered().filter(|id| !self.judge.is_below(*id, settled));
        answered.map(|id| (held(id), id)).filter(|(held, _)| *held > 0).min().map(|(_, id)| id)
    }
}
