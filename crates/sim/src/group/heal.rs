//! The phases of a run: founding, storm, healing, and the proof that everybody works.

use super::check::{Ask, Checked, ensure, violation};
use super::clock::WALL_NS;
use super::event::Event;
use super::machine::Fate;
use super::queue::{Instant, MS};
use super::world::{Phase, World};

/// Reads after disks were destroyed, at most.
const READS_MAX: usize = 12;

impl World {
    /// Makes the buckets, before anything breaks.
    pub(crate) fn found(&mut self) -> Checked {
        let mut index = 0;
        while let Some(ask) = self.mix.first(index) {
            self.ask_until_answered(0, &ask)?;
            index += 1;
        }
        Ok(())
    }

    /// Submits until a replica takes it, then waits for the answer.
    fn ask_until_answered(&mut self, machine: usize, ask: &Ask) -> Checked {
        let limit = self.limit();
        loop {
            // A Reconfig may come late, and remove it.
            if !self.reconf.newest().has(self.replica(machine)) {
                return Ok(());
            }
            let operation = self.visitor(machine, ask.clone())?;
            let is_taken = !self.judge.history.operations[operation].ids.is_empty();
            let until = if is_taken { limit } else { self.queue.now() + 50 * MS };
            let answered = |world: &Self| world.judge.history.operations[operation].outcome.is_some();
            // A replica that installs a snapshot does not learn the outcomes below it.
            let is_over = |world: &mut Self| answered(world) || (is_taken && !world.waits(machine, operation));
            self.play_until(until, is_over)?;
            if answered(self) {
                return Ok(());
            }
            ensure(self.queue.now() < limit, "liveness", || {
                let what = if is_taken { "does not answer" } else { "does not take" };
                format!("r{machine} {what} a write ({})", self.account(machine), machine = machine + 1)
            })?;
        }
    }

    /// Whether a replica owes an answer to an operation.
    fn waits(&self, machine: usize, operation: usize) -> bool {
        let life = self.machines[machine].life.as_ref();
        life.is_some_and(|life| life.waiting.values().any(|(_, waited)| *waited == operation))
    }

    /// How long anything may take without faults.
    fn limit(&self) -> Instant {
        let trip = 2 * self.net.longest() + 3 * self.plan.flush.1;
        self.queue.now()
            + 10_000 * MS
            + 200 * trip
            + 2 * self.plan.promise_lag
            + 5 * (self.plan.recover + self.plan.silence)
            + self.slewing_ns()
    }

    /// How long clocks need, slewed or not, until they show what was executed last: cuts wait for that.
    pub(crate) fn ahead_ns(&self) -> u64 {
        let shown = WALL_NS + self.queue.now();
        let last = self.judge.executed_last().0;
        let behind = last.saturating_sub(shown);
        behind + behind / 4
    }

    /// How long the slowest hybrid clock needs to be slewed forth to the truth, by an eighth.
    fn slewing_ns(&self) -> u64 {
        let shown = WALL_NS + self.queue.now();
        let lives = self.machines.iter().filter_map(|machine| machine.life.as_ref());
        let behind = lives
            .map(|life| shown.saturating_sub(life.core().map_or(u64::MAX, |core| core.status().clock.0)))
            .max()
            .unwrap_or(0);
        if behind > 100 * MS { 9 * behind.min(60_000 * MS) } else { 0 }
    }

    /// Clients ask and things break, until enough was asked or enough time has passed.
    pub(crate) fn storm(&mut self) -> Checked {
        self.enter(Phase::Storm);
        self.net.jitter = self.plan.jitter;
        self.net.loss = self.plan.loss;
        self.net.doubling = self.plan.doubling;
        for client in 0..self.plan.clients {
            self.turn_client(client, 0);
        }
        self.begin_leases()?;
        self.begin_reconfigs();
        let first = self.random.below(self.plan.calm + 1);
        self.queue.after(first, Event::Fault);
        let until = self.queue.now() + self.plan.storm;
        self.play_until(until, |world| world.is_done())?;
        Ok(())
    }

    /// The next phase, with its time-outs.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let timing = self.timing();
        for machine in &mut self.machines {
            if let Some(life) = &mut machine.life {
                life.replica.set_timing(timing);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.asked >= self.plan.operations
            && !self.is_siege_due()
            && !self.is_reconfig_due()
            && self.clients.iter().all(|client| client.waiting.is_none())
    }

    /// Everything is mended that can be; then all must come to the same end, and go on from there.
    pub(crate) fn heal(&mut self) -> Checked {
        self.enter(Phase::Healing);
        let now = self.queue.now();
        self.trace.say(now, || "everything is mended".to_owned());
        self.net.heal(now);
        if !self.options.is_calm && self.random.one_in(8) {
            let deaf = self.random.index(self.machines.len());
            if self.may_lose(deaf) {
                self.machines[deaf].deaf_until = Instant::MAX;
                self.coverage.deaf_for_good += 1;
            }
        }
        for at in 0..self.machines.len() {
            let error_ns = i64::try_from(self.random.below(10 * MS)).expect("small") - 5_000_000;
            let machine = &mut self.machines[at];
            machine.disk.full_until = machine.disk.full_until.min(now);
            machine.disk.slow_until = machine.disk.slow_until.min(now);
            machine.clock.drift(now, 0);
            machine.clock.set_right(now, error_ns);
            if !machine.is_deaf_for_good() {
                machine.deaf_until = machine.deaf_until.min(now);
            }
            if self.machines[at].is_paused {
                self.resume(at)?;
            }
            if self.machines[at].life.is_none() {
                self.start(at)?;
            }
        }
        self.end_leases()?;
        self.come_together()?;
        if self.lose_at_end()? {
            self.enter(Phase::Healing);
            self.come_together()?;
            self.look_again()?;
        }
        Ok(())
    }

    /// All that is left comes to the same end, takes new writes, and has lost nothing that was answered.
    fn come_together(&mut self) -> Checked {
        let settled = self.settle();
        // What was lost is told as that, before it is told as something that never ends.
        let is_told_otherwise = settled.as_ref().is_err_and(|violation| violation.check != "liveness");
        if self.coverage.disks_destroyed > 0 && !is_told_otherwise {
            let kept = self.judge.kept(&self.well())?;
            self.coverage.answers_kept += kept;
        }
        settled?;
        self.enter(Phase::Probing);
        for at in self.well() {
            let ask = self.mix.probe(at);
            self.ask_until_answered(at, &ask)?;
        }
        self.settle()?;
        self.same_state()
    }

    /// Reads everything that was written: the judge knows what must be there.
    fn look_again(&mut self) -> Checked {
        let left = self.well();
        let mut asks = self.judge.history.reads_of_all();
        asks.truncate(READS_MAX);
        for (at, ask) in left.iter().cycle().zip(asks) {
            self.read_until_answered(*at, &ask)?;
        }
        Ok(())
    }

    /// Reads until a replica answers: nothing breaks, so it has to.
    fn read_until_answered(&mut self, machine: usize, ask: &Ask) -> Checked {
        let limit = self.limit();
        loop {
            let operation = self.visitor(machine, ask.clone())?;
            let reads = |world: &Self| world.judge.history.operations[operation].read.is_some();
            let until = limit.min(self.queue.now() + self.plan.patience);
            if self.play_until(until, |world| reads(world))? {
                return Ok(());
            }
            ensure(self.queue.now() < limit, "liveness", || {
                format!("r{machine} does not answer a read ({})", self.account(machine), machine = machine + 1)
            })?;
        }
    }

    /// The machines that must come to the same end.
    fn well(&self) -> Vec<usize> {
        let is_well = |at: &usize| {
            let machine = &self.machines[*at];
            let is_member = self.reconf.newest().has(self.replica(*at));
            is_member && machine.fate == Fate::Well && !machine.is_rolled_back && !machine.is_deaf_for_good()
        };
        (0..self.machines.len()).filter(is_well).collect()
    }

    /// Waits until all is executed and cut everywhere.
    fn settle(&mut self) -> Checked {
        let mut limit = self.limit() + self.ahead_ns();
        let mut is_last = false;
        loop {
            if self.play_until(limit, |world| world.unsettled().is_ok())? {
                return Ok(());
            }
            if is_last {
                return self.unsettled();
            }
            // What was executed meanwhile may stand far ahead, too. When the clocks are there, beats still have to
            // tell of it: those of who has nothing to wait for come rarely.
            let ahead = self.ahead_ns();
            is_last = ahead <= 100 * MS;
            limit = self.queue.now() + ahead + 1_000 * MS;
        }
    }

    fn unsettled(&self) -> Checked {
        let well = self.well();
        for at in &well {
            let Some(life) = &self.machines[*at].life else {
                return violation("liveness", format!("r{at} does not run", at = at + 1));
            };
            ensure(life.is_idle(), "liveness", || {
                format!("r{at} does not come to an end ({})", self.account(*at), at = at + 1)
            })?;
            let newest = self.reconf.newest().epoch;
            let stands = life.image.membership.as_ref().map(|of| of.epoch);
            let served: Vec<_> = life.replica.epochs().map(|served| served.epoch).collect();
            ensure(stands == Some(newest) && served == [newest], "liveness", || {
                let account = self.account(*at);
                format!("r{at} stands in {stands:?} and serves {served:?} in epoch {newest} ({account})", at = at + 1)
            })?;
        }
        let told: Vec<String> = well.iter().map(|at| self.account(*at)).collect();
        self.judge.converged(&well).map_err(|mut violation| {
            violation.reason.push('\n');
            violation.reason.push_str(&told.join("\n"));
            violation
        })
    }

    /// What a replica is still busy with.
    fn account(&self, at: usize) -> String {
        let Some(life) = &self.machines[at].life else { return "not running".to_owned() };
        let status: Vec<_> = life.cores().map(dace::Core::status).collect();
        let waiting: Vec<_> = life.waiting.keys().take(5).collect();
        let reads: Vec<_> = life.reads.keys().take(5).collect();
        let blocking: Vec<_> = life.cores().flat_map(dace::Core::blocking).collect();
        let notice = life.replica.notice();
        format!("waiting {waiting:?}, reads {reads:?}, blocking {blocking:?}, {status:?}, {notice:?}")
    }

    /// After the last cut the rows as they are and those at the cut are the same, at every replica.
    fn same_state(&self) -> Checked {
        for at in self.well() {
            if let Some(life) = &self.machines[at].life {
                let is_same = life.unsealed.is_empty() && life.live == life.image.rows;
                ensure(is_same, "state", || format!("the rows of r{at} are not those of its last cut", at = at + 1))?;
            }
        }
        Ok(())
    }
}
