//! What breaks, and when.

use std::collections::BTreeMap;

use types::Epoch;

use super::check::Checked;
use super::disk::Disk;
use super::event::Event;
use super::machine::Fate;
use super::plan::Fault;
use super::queue::MS;
use super::world::{Phase, World};

impl World {
    /// Something breaks; the next fault is on its way.
    pub(crate) fn fault(&mut self) -> Checked {
        if self.phase != Phase::Storm {
            return Ok(());
        }
        let delay = self.random.below(2 * self.plan.calm + 1);
        self.queue.after(delay + 1, Event::Fault);
        if self.plan.faults.iter().all(|weight| *weight == 0) || self.is_siege_quiet() {
            return Ok(());
        }
        let fault = Fault::ALL[self.random.weighted(&self.plan.faults)];
        let usual = self.random.index(self.machines.len());
        let at = self.victim(usual);
        let peer = (at + 1 + self.random.index(self.machines.len() - 1)) % self.machines.len();
        let is_holder = self.holds_a_lease(at);
        if self.break_it(fault, at, peer)? {
            self.did(fault);
            if is_holder {
                self.did_to_holder(fault);
            }
            let now = self.queue.now();
            self.trace.mark(&[14, now, fault as u64, at as u64]);
            self.trace.say(now, || format!("fault: {fault:?} r{at} (r{peer})", at = at + 1, peer = peer + 1));
        }
        Ok(())
    }

    /// Does it; false when it does not apply here and now.
    fn break_it(&mut self, fault: Fault, at: usize, peer: usize) -> Result<bool, Box<super::Violation>> {
        let now = self.queue.now();
        let until = now + 1 + self.random.below(2 * self.plan.fault_len);
        match fault {
            Fault::Crash => return self.crash_for_a_while(at),
            Fault::CrashAll => {
                for at in 0..self.machines.len() {
                    self.crash_for_a_while(at)?;
                }
            }
            Fault::Pause => {
                if !self.machines[at].is_awake() {
                    return Ok(false);
                }
                self.machines[at].is_paused = true;
                let life = self.machines[at].lives;
                self.queue.at(until, Event::Resume { at, life });
            }
            Fault::Break => {
                self.net.reset(at, peer);
            }
            Fault::OneWay => self.net.cut(at, peer, until),
            Fault::Partition => self.partition(until),
            Fault::HalfDeaf => {
                self.machines[at].deaf_until = until;
                (0..self.machines.len()).for_each(|from| {
                    self.net.reset(from, at);
                });
            }
            Fault::SlowLink => {
                let slowness = 2 + self.random.below(20);
                self.net.slow(at, peer, until, slowness);
            }
            Fault::SlowDisk => self.machines[at].disk.slow_until = until,
            Fault::FullDisk => self.machines[at].disk.full_until = until,
            Fault::Jump => self.jump(at),
            Fault::Drift => {
                let rate = i64::try_from(self.random.below(40_000_000)).expect("small") - 20_000_000;
                let rate = self.drifts_to(at, rate);
                self.machines[at].clock.drift(now, rate);
            }
            Fault::Gone => {
                let is_well = self.machines[at].fate == Fate::Well && !self.machines[at].is_rolled_back;
                if !self.may_lose(at) || !is_well || !self.may_forget(at) {
                    return Ok(false);
                }
                self.crash(at, 0)?;
                self.machines[at].fate = Fate::Gone;
            }
            Fault::RollBack => return self.roll_back(at),
            Fault::Prefer => return self.prefer_others(at),
            Fault::Suspect => {
                let (clock, replica) = (self.clock(at), self.replica(peer));
                let is_suspect = !self.random.one_in(4);
                let Some(life) = self.life(at) else { return Ok(false) };
                life.replica.suspect(clock, replica, is_suspect);
                self.drain(at)?;
            }
        }
        Ok(true)
    }

    pub(crate) fn crash_for_a_while(&mut self, at: usize) -> Result<bool, Box<super::Violation>> {
        if self.machines[at].life.is_none() || !self.may_forget(at) {
            return Ok(false);
        }
        let survives = self.random.below(1001);
        self.crash(at, survives)?;
        let back = self.queue.now() + MS + self.random.below(2 * self.plan.fault_len);
        self.restart_at(at, back);
        Ok(true)
    }

    /// The machine starts its process again at `back`, if nothing else has by then.
    pub(crate) fn restart_at(&mut self, at: usize, back: u64) {
        let lives = self.machines[at].lives;
        self.queue.at(back, Event::Restart { at, lives });
    }

    /// A wall clock is set: far ahead at times, back by little, since it takes eight times as long to catch up.
    fn jump(&mut self, at: usize) {
        let extents = [50 * MS, 400 * MS, 3_000 * MS, 60_000 * MS, 3_600_000 * MS];
        let extent = extents[self.random.weighted(&[8, 8, 8, 2, 1])];
        let back = extent.min(3_000 * MS);
        let by = i64::try_from(self.random.below(back + extent)).expect("hours") - back.cast_signed();
        self.machines[at].clock.jump(by);
    }

    /// Another quorum is the nearest.
    fn prefer_others(&mut self, at: usize) -> Result<bool, Box<super::Violation>> {
        let mut order: Vec<_> = (0..self.machines.len()).map(|index| self.replica(index)).collect();
        for index in (1..order.len()).rev() {
            let other = self.random.index(index + 1);
            order.swap(index, other);
        }
        let Some(life) = self.life(at) else { return Ok(false) };
        life.replica.prefer(&order);
        self.drain(at)?;
        Ok(true)
    }

    fn partition(&mut self, until: u64) {
        let side: Vec<bool> = (0..self.machines.len()).map(|_| self.random.one_in(2)).collect();
        for from in 0..side.len() {
            for to in 0..side.len() {
                if side[from] != side[to] {
                    self.net.cut(from, to, until);
                }
            }
        }
    }

    /// A copy of a disk is made; later the disk is replaced by it. Nothing can help when nobody remembers how
    /// long the journal was, so all peers must be there and have counted more of it than is left.
    fn roll_back(&mut self, at: usize) -> Result<bool, Box<super::Violation>> {
        let now = self.queue.now();
        if self.machines[at].life.is_none() {
            return Ok(false);
        }
        let Some(older) = self.machines[at].backup.take() else {
            let mut copy = self.machines[at].disk.clone();
            copy.tear(0);
            self.machines[at].backup = Some(copy);
            return Ok(false);
        };
        let left = self.left_by(at, &older);
        if !self.is_known(at, &left) || !self.may_lose(at) {
            return Ok(false);
        }
        self.crash(at, 0)?;
        self.trace.say(now, || format!("the disk of r{at} is rolled back to {left:?}", at = at + 1));
        self.machines[at].disk.roll_back(older);
        self.machines[at].is_rolled_back = true;
        self.machines[at].rolled_back_to = left;
        self.machines[at].rolled_back_in = self.machines[at].lives + 1;
        self.start(at)?;
        Ok(true)
    }

    /// What an older copy holds of the journals that there are now.
    fn left_by(&self, at: usize, older: &Disk) -> BTreeMap<Epoch, u64> {
        let epochs = self.machines[at].disk.epochs().chain(older.epochs());
        epochs.map(|epoch| (epoch, older.durable_position(epoch))).collect()
    }

    /// Whether all other members of the newest epoch of a replica are there and have counted more than is left.
    fn is_known(&self, at: usize, left: &BTreeMap<Epoch, u64>) -> bool {
        let Some((epoch, left)) = left.last_key_value() else { return false };
        let Some(membership) = self.reconf.epochs.get(epoch) else { return false };
        membership.members.iter().map(|member| self.index(*member)).filter(|peer| *peer != at).all(|peer| {
            let machine = &self.machines[peer];
            let counted = machine.life.as_ref().map_or(0, |life| life.counted(*epoch, at));
            let is_connected = self.hears(at, peer) && self.hears(peer, at) && !machine.is_paused;
            machine.fate == Fate::Well && is_connected && counted > left + 1
        })
    }
}
