//! Disks at work: flushes, checkpoints, bases, snapshots of peers.

use std::sync::Arc;

use types::{Epoch, Timestamp};

use super::check::Checked;
use super::disk::Item;
use super::event::{Note, Turn};
use super::queue::MS;
use super::state::Image;
use super::world::World;

impl World {
    /// Starts a flush of what is queued, if none is running.
    pub(crate) fn start_flush(&mut self, at: usize) {
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        if machine.life.is_none() || !machine.disk.start_flush() {
            return;
        }
        let (least, most) = self.plan.flush;
        let factor = if machine.disk.slow_until > now { 20 } else { 1 };
        let latency = (least + self.random.below(most - least + 1)) * factor;
        self.turn_after(at, latency, Turn::Flushed);
    }

    /// A flush has ended: everything that was queued when it began is durable, or the process ends.
    pub(crate) fn flushed(&mut self, at: usize) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(at));
        if self.machines[at].disk.full_until > now {
            self.coverage.failed_flushes += 1;
            self.trace.say(now, || format!("r{at} cannot flush: its disk is full", at = at + 1));
            let survives = self.random.below(1000);
            self.crash(at, survives)?;
            let back = self.machines[at].disk.full_until;
            self.restart_at(at, back);
            return Ok(());
        }
        let machine = &mut self.machines[at];
        let grown = machine.disk.finish_flush();
        let decided = machine.disk.take_decided();
        self.coverage.flushes += 1;
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        life.trimming.retain(|epoch, cut| machine.disk.base_cut(*epoch) < *cut);
        life.may_tell = true;
        for (epoch, position) in grown {
            self.trace.mark(&[10, now, at as u64, position]);
            if let Some(life) = self.life(at) {
                life.replica.handle_durable(clock, epoch, position);
            }
        }
        self.decided(at, decided)?;
        self.drain(at)
    }

    /// Makes a checkpoint of the image of the last cut.
    pub(crate) fn checkpoint(&mut self, at: usize) -> Checked {
        let period = self.plan.checkpoint;
        let jitter = self.random.below(period + 1);
        self.turn_after(at, period / 2 + jitter, Turn::Checkpoint);
        let machine = &mut self.machines[at];
        let durable = machine.disk.checkpoint_cut();
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        if life.waits_since.is_some() || life.is_checkpointing || life.is_installing {
            return Ok(());
        }
        if life.image.cut <= durable {
            // An idle group that renews its leases has more to trim at the same cut.
            return if self.leases.is_on { self.trim(at) } else { Ok(()) };
        }
        life.is_checkpointing = true;
        let image = Arc::clone(&life.image);
        let latency = MS + self.random.below(20 * MS);
        self.turn_after(at, latency, Turn::Stored { image });
        Ok(())
    }

    /// A checkpoint is durable.
    pub(crate) fn stored(&mut self, at: usize, image: Arc<Image>) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let cut = image.cut;
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        life.is_checkpointing = false;
        if cut <= machine.disk.checkpoint_cut() {
            return Ok(());
        }
        machine.disk.checkpoint = Some(image);
        life.replica.handle_stored(clock, cut);
        self.coverage.checkpoints += 1;
        self.trace.say(now, || format!("r{at} has stored the state at {cut}", at = at + 1));
        self.drain(at)?;
        self.trim(at)
    }

    fn trim(&mut self, at: usize) -> Checked {
        let Some(life) = self.life(at) else { return Ok(()) };
        let epochs: Vec<Epoch> = life.replica.epochs().map(|served| served.epoch).collect();
        epochs.into_iter().try_for_each(|epoch| self.trim_epoch(at, epoch))
    }

    fn trim_epoch(&mut self, at: usize, epoch: Epoch) -> Checked {
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let Some(cut) = life.replica.trimmable(epoch) else { return Ok(()) };
        let trimmed = life.trimmed.get(&epoch).copied().unwrap_or(Timestamp::ZERO);
        let is_new = cut > trimmed || (self.leases.is_on && cut == trimmed);
        if life.trimming.contains_key(&epoch) || !is_new {
            return Ok(());
        }
        let Some(base) = life.replica.base(epoch, cut) else { return Ok(()) };
        life.trimming.insert(epoch, base.cut);
        life.trimmed.insert(epoch, base.cut);
        self.coverage.trims += 1;
        self.trace.mark(&[11, now, at as u64, base.position]);
        self.trace.say(now, || format!("r{at} trims up to #{} at {cut}", base.position, at = at + 1));
        machine.disk.append(epoch, Item::Base { position: base.position, cut: base.cut, bytes: base.bytes });
        self.drain(at)
    }

    /// A replica needs a checkpoint of a peer.
    pub(crate) fn want_snapshot(&mut self, at: usize, cut: Timestamp) {
        if let Some(life) = self.life(at) {
            life.wants.insert(cut);
        }
        self.ask_snapshot(at);
    }

    /// Asks anyone for it.
    pub(crate) fn ask_snapshot(&mut self, at: usize) {
        let Some(life) = self.life(at) else { return };
        let here = life.image.cut;
        life.wants.retain(|cut| *cut > here);
        let Some(cut) = life.wants.first().copied().filter(|_| !life.is_installing) else { return };
        let peer = self.random.index(self.machines.len());
        if peer != at {
            self.send(at, peer, Note::AskSnapshot { cut });
        }
    }

    /// A peer's checkpoint has come: it is made durable first.
    pub(crate) fn install(&mut self, at: usize, image: Arc<Image>) {
        let Some(life) = self.life(at) else { return };
        let is_wanted = life.wants.first().is_some_and(|cut| image.cut >= *cut);
        if life.is_installing || !is_wanted || image.cut <= life.image.cut {
            return;
        }
        life.is_installing = true;
        let latency = MS + self.random.below(10 * MS);
        self.turn_after(at, latency, Turn::Installed { image });
    }

    /// It is durable: the replica goes on from it.
    pub(crate) fn installed(&mut self, at: usize, image: Arc<Image>) -> Checked {
        let (now, clock, cut) = (self.queue.now(), self.clock(at), image.cut);
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        life.is_installing = false;
        if cut <= life.image.cut {
            return Ok(());
        }
        life.wants.retain(|wanted| *wanted > cut);
        let is_new = life.image.membership.is_none();
        let Some(stored) = image.stored() else { return Ok(()) };
        life.next = None;
        life.live = image.rows.clone();
        life.image = Arc::clone(&image);
        life.unsealed.clear();
        machine.disk.checkpoint = Some(image);
        self.coverage.snapshots += 1;
        self.coverage.snapshots_to_new += u64::from(is_new);
        self.trace.mark(&[12, now, at as u64, cut.0]);
        self.trace.say(now, || format!("r{at} installs a snapshot at {cut}", at = at + 1));
        self.judge.restored(at, cut)?;
        if let Some(life) = self.life(at) {
            life.replica.handle_snapshot(clock, &stored);
        }
        self.drain(at)?;
        // What was executed below the snapshot is never executed here: its clients are not told.
        let judge = &self.judge;
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let mut passed: Vec<_> =
            life.waiting.extract_if(.., |id, _| judge.is_passed(*id, cut, stored.membership.epoch)).collect();
        passed.extend(life.ordered.extract_if(.., |id, _| judge.is_passed(*id, cut, stored.membership.epoch)));
        passed.into_iter().for_each(|(_, owed)| self.never_answered(owed));
        Ok(())
    }
}
