//! Disks at work: flushes, checkpoints, bases, snapshots of peers.

use std::sync::Arc;

use types::Timestamp;

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
        let before = machine.disk.durable_position();
        machine.disk.finish_flush();
        let position = machine.disk.durable_position();
        let decided = machine.disk.take_decided();
        self.coverage.flushes += 1;
        self.trace.mark(&[10, now, at as u64, position]);
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        if position > before {
            life.core.handle_durable(clock, position);
        }
        if life.is_trimming && machine.disk.base_cut() >= life.trimmed {
            life.is_trimming = false;
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
        let now = self.queue.now();
        let cut = image.cut;
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        life.is_checkpointing = false;
        if cut <= machine.disk.checkpoint_cut() {
            return Ok(());
        }
        machine.disk.checkpoint = Some(image);
        life.core.handle_stored(cut);
        self.coverage.checkpoints += 1;
        self.trace.say(now, || format!("r{at} has stored the state at {cut}", at = at + 1));
        self.drain(at)?;
        self.trim(at)
    }

    fn trim(&mut self, at: usize) -> Checked {
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let cut = life.core.trimmable();
        let is_new = cut > life.trimmed || (self.leases.is_on && cut == life.trimmed && cut > Timestamp::ZERO);
        if life.is_trimming || !is_new {
            return Ok(());
        }
        let Some(base) = life.core.base(cut) else { return Ok(()) };
        life.is_trimming = true;
        life.trimmed = base.cut;
        self.coverage.trims += 1;
        self.trace.mark(&[11, now, at as u64, base.position]);
        self.trace.say(now, || format!("r{at} trims up to #{} at {cut}", base.position, at = at + 1));
        machine.disk.append(Item::Base { position: base.position, cut: base.cut, bytes: base.bytes });
        self.drain(at)
    }

    /// A replica needs a checkpoint of a peer.
    pub(crate) fn want_snapshot(&mut self, at: usize, cut: Timestamp) {
        if let Some(life) = self.life(at) {
            life.wants = life.wants.max(Some(cut));
        }
        self.ask_snapshot(at);
    }

    /// Asks anyone for it.
    pub(crate) fn ask_snapshot(&mut self, at: usize) {
        let Some(life) = self.life(at) else { return };
        if life.wants.is_some_and(|cut| cut <= life.image.cut) {
            life.wants = None;
        }
        let Some(cut) = life.wants.filter(|_| !life.is_installing) else { return };
        let peer = self.random.index(self.options.nodes);
        if peer != at {
            self.send(at, peer, Note::AskSnapshot { cut });
        }
    }

    /// A peer's checkpoint has come: it is made durable first.
    pub(crate) fn install(&mut self, at: usize, image: Arc<Image>) {
        let Some(life) = self.life(at) else { return };
        let is_wanted = life.wants.is_some_and(|cut| image.cut >= cut);
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
        life.wants = life.wants.filter(|wanted| *wanted > cut);
        life.live = image.rows.clone();
        life.image = Arc::clone(&image);
        life.unsealed.clear();
        life.leased.installs += 1;
        machine.disk.checkpoint = Some(image);
        self.coverage.snapshots += 1;
        self.trace.mark(&[12, now, at as u64, cut.0]);
        self.trace.say(now, || format!("r{at} installs a snapshot at {cut}", at = at + 1));
        self.judge.restored(at, cut)?;
        if let Some(life) = self.life(at) {
            life.core.handle_snapshot(clock, cut);
        }
        self.drain(at)
    }
}
