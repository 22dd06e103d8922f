//! The life of a process: start, what its core puts out, end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dace::{Config, Core, Mutant, Output, Restore, Timing};
use types::journal::decode_proposal;
use types::{Command, CommandId, ReplicaId, Timestamp};

use super::check::{Checked, ensure, violation};
use super::defect::{self, Defect};
use super::disk::Item;
use super::event::{Note, Turn};
use super::machine::{Fate, Life};
use super::queue::MS;
use super::state::{Done, Image};
use super::world::{EPOCH, GROUP, Phase, World};

impl World {
    /// A machine starts its process.
    pub(crate) fn start(&mut self, at: usize) -> Checked {
        if self.machines[at].fate != Fate::Well {
            return Ok(());
        }
        let now = self.queue.now();
        let disk = &self.machines[at].disk;
        let image = disk.checkpoint.clone().unwrap_or_else(|| Arc::new(Image::new()));
        let (base, items) = disk.recover();
        let items: Vec<Item> = items.cloned().collect();
        let members: Vec<ReplicaId> = (0..self.options.nodes).map(|index| self.replica(index)).collect();
        let f = u32::try_from(self.options.faults).expect("few faults");
        let config = Config { group: GROUP, replica: members[at], members, f, epoch: EPOCH };
        let mut core = match Core::new(config, Restore { base, executed_cut: image.cut }) {
            Ok(core) => core,
            Err(error) => return violation("restart", format!("r{at} cannot be restored: {error}", at = at + 1)),
        };
        core.set_timing(self.timing());
        core.set_promise_lag(self.plan.promise_lag);
        core.set_ahead(self.plan.ahead);
        self.leases.set_up(&mut core);
        if let Some(mutant) = self.options.mutant {
            core.set_mutant(mutant);
        }
        self.judge.restored(at, image.cut)?;
        let cut = image.cut;
        let machine = &mut self.machines[at];
        machine.lives += 1;
        let number = machine.lives;
        machine.life = Some(Life::new(number, core, image, self.options.nodes, now));
        self.trace.mark(&[1, now, at as u64, number]);
        self.trace
            .say(now, || format!("r{at} starts life {number} at cut {cut} with {} items", items.len(), at = at + 1));
        self.coverage.starts += 1;
        self.restore(at, items)?;
        self.schedule(at);
        self.start_vouched(at)
    }

    /// The time-outs of the cores: in the storm they may be far too short.
    pub(crate) fn timing(&self) -> Timing {
        let plan = &self.plan;
        let is_storm = self.phase == Phase::Storm;
        Timing {
            give_up_ns: if is_storm { plan.give_up } else { plan.calm_give_up },
            recover_ns: if is_storm { plan.recover } else { plan.calm_recover },
            fetch_ns: plan.fetch,
            read_ns: plan.read,
        }
    }

    fn restore(&mut self, at: usize, items: Vec<Item>) -> Checked {
        for item in items {
            let Some(life) = self.life(at) else { return Ok(()) };
            let restored = match item {
                Item::Said(record) => life.core.restore_record(record),
                Item::Kept(kept) => life.core.restore_kept(&kept),
                Item::Base { .. } => Ok(()),
            };
            if let Err(error) = restored {
                return violation("restart", format!("r{at} cannot replay its journal: {error}", at = at + 1));
            }
            self.outputs(at)?;
        }
        Ok(())
    }

    /// The timers of a new life.
    fn schedule(&mut self, at: usize) {
        for (turn, period) in [
            (Turn::Connect, 2 * MS),
            (Turn::Beat, self.plan.beat),
            (Turn::Hints, self.plan.hints),
            (Turn::Checkpoint, self.plan.checkpoint),
        ] {
            let delay = self.random.below(period + 1);
            self.turn_after(at, delay, turn);
        }
    }

    /// A process ends. `survives`, of 1000: how much of a flush in progress is on the disk.
    pub(crate) fn crash(&mut self, at: usize, survives: u64) -> Checked {
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.take() else { return Ok(()) };
        machine.is_paused = false;
        machine.inbox.clear();
        let lost = machine.disk.tear(survives);
        let decided = machine.disk.take_decided();
        self.coverage.crashes += 1;
        self.coverage.count(&life.core.counters());
        self.coverage.items_lost += lost;
        self.trace.mark(&[2, now, at as u64, lost]);
        self.trace.say(now, || format!("r{at} ends, {lost} items lost", at = at + 1));
        for peer in 0..self.options.nodes {
            self.net.reset(at, peer);
            self.net.reset(peer, at);
        }
        self.forget_clients(at);
        self.decided(at, decided)
    }

    /// Decisions that are durable now.
    pub(crate) fn decided(&mut self, at: usize, decided: Vec<(CommandId, Timestamp)>) -> Checked {
        if self.machines[at].is_rolled_back {
            return Ok(());
        }
        for (id, timestamp) in decided {
            self.judge.decided(at, id, timestamp)?;
            if self.options.mutant == Some(Mutant::AnswersBeforeExecution) {
                self.answer_early(at, id, timestamp)?;
            }
        }
        Ok(())
    }

    /// A rule taken out: the client of a command is told what comes of it now, though it is only decided.
    fn answer_early(&mut self, at: usize, id: CommandId, timestamp: Timestamp) -> Checked {
        let now = self.queue.now();
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let Some(client) = life.waiting.remove(&id) else { return Ok(()) };
        let body = self.judge.history.body(id);
        let command = decode_proposal(body).ok().and_then(|(_, start)| Command::from_bytes(&body[start..]).ok());
        let execution = command.and_then(|command| catalog::execute(&life.live, timestamp, id, &command).ok());
        let Some(execution) = execution else { return Ok(()) };
        let durable = self.holders(timestamp, id);
        self.judge.acked(now, id, &execution.outcome, durable)?;
        self.answered(client, Some(&execution.outcome));
        Ok(())
    }

    /// Does what the core puts out, then starts what follows from it.
    pub(crate) fn drain(&mut self, at: usize) -> Checked {
        self.outputs(at)?;
        self.start_flush(at);
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let news = (machine.disk.appended(), machine.disk.durable_position());
        if news != life.shipped && !life.is_shipping {
            life.is_shipping = true;
            let delay = if self.plan.ship == 0 { 0 } else { self.random.below(self.plan.ship) };
            self.turn_after(at, delay, Turn::Ship);
        }
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        if let Some(deadline) = life.core.deadline() {
            let due = machine.clock.instant_of(deadline, now);
            if life.tick_at.is_none_or(|tick| due < tick) {
                life.tick_at = Some(due);
                self.turn_after(at, due - now, Turn::Tick);
            }
        }
        Ok(())
    }

    /// The core's deadline has come.
    pub(crate) fn tick(&mut self, at: usize) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let Some(life) = self.life(at) else { return Ok(()) };
        if life.tick_at.is_none_or(|tick| tick > now) {
            return Ok(());
        }
        life.tick_at = None;
        life.core.handle_tick(clock);
        self.coverage.ticks += 1;
        self.drain(at)
    }

    /// Does what the core puts out.
    pub(crate) fn outputs(&mut self, at: usize) -> Checked {
        loop {
            let Some(output) = self.life(at).and_then(|life| life.core.poll_output()) else {
                if self.order_read(at)? {
                    continue;
                }
                return Ok(());
            };
            match output {
                Output::Append(record) => self.appended(at, record)?,
                Output::Keep(kept) => self.machines[at].disk.append(Item::Kept(kept)),
                Output::Execute { timestamp, id, body, .. } => self.execute(at, timestamp, id, &body)?,
                Output::Cut { timestamp } => self.cut(at, timestamp)?,
                Output::Send { to, message } => {
                    let to = self.index(to);
                    self.send(at, to, Note::Message(message));
                }
                Output::ReadReady { read } => self.read_ready(at, read)?,
                Output::ReadContended { read } => self.read_contended(at, read)?,
                Output::WantSnapshot { cut } => self.want_snapshot(at, cut),
                Output::LeasedReady { read } => self.leased_ready(at, read)?,
                Output::LeasedContended { read } => self.leased_contended(at, read),
                Output::Covered { id } => self.covered(at, id)?,
                Output::Void { .. } | Output::ReadAgain { .. } | Output::Ended { .. } => {
                    unreachable!("nobody proposes a Reconfig")
                }
                output @ (Output::Pends { .. } | Output::Settles { .. } | Output::Lease { .. }) => {
                    let is_late = self.options.defect == Some(Defect::PublishesLate);
                    self.life(at).into_iter().for_each(|life| life.publish(output.clone(), is_late));
                }
            }
        }
    }

    fn appended(&mut self, at: usize, record: dace::Record) -> Checked {
        let header = &record.header;
        let now = self.queue.now();
        let kind = header.kind;
        self.trace.mark(&[3, now, at as u64, kind as u64, header.id.counter, header.timestamp.0]);
        self.trace.say(now, || {
            let (id, timestamp, ballot) = (header.id, header.timestamp, header.ballot);
            format!(
                "r{at} says #{} {kind:?} {id} at {timestamp} ballot {ballot} aux {:x}",
                header.position,
                header.aux,
                at = at + 1
            )
        });
        *self.coverage.records.entry(kind).or_default() += 1;
        self.machines[at].disk.append(Item::Said(record));
        Ok(())
    }

    fn execute(&mut self, at: usize, timestamp: Timestamp, id: CommandId, body: &Bytes) -> Checked {
        let now = self.queue.now();
        self.coverage.executions += 1;
        let (slots, start) = match decode_proposal(body) {
            Ok(decoded) => decoded,
            Err(error) => return violation("integrity", format!("the body of {id} at r{at}: {error}", at = at + 1)),
        };
        let command = match Command::from_bytes(&body[start..]) {
            Ok(command) => command,
            Err(error) => return violation("integrity", format!("the command of {id} at r{at}: {error}", at = at + 1)),
        };
        let defect = self.options.defect.filter(|defect| defect.is_met_at(at));
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let execution = match defect::execute(defect, &life.live, (timestamp, id), &command) {
            Ok(execution) => execution,
            Err(error) => {
                return violation("integrity", format!("{id} cannot be executed at r{at}: {error}", at = at + 1));
            }
        };
        life.live.apply(&execution.writes);
        self.trace.mark(&[4, now, at as u64, timestamp.0, u64::from(id.replica.0), id.counter]);
        self.trace.say(now, || format!("r{at} executes {id} at {timestamp}: {:?}", execution.outcome, at = at + 1));
        // Who runs on a rolled-back disk has failed, though nobody may have noticed yet.
        if !machine.is_rolled_back {
            self.judge.executed(at, (timestamp, id), &slots, &execution.outcome, body)?;
        }
        let (waits, reads) = (life.waiting.remove(&id), life.ordered.remove(&id));
        if let Some(client) = waits {
            let durable = self.holders(timestamp, id);
            self.judge.acked(now, id, &execution.outcome, durable)?;
            self.answered(client, Some(&execution.outcome));
            self.count_answer();
        }
        if let Some(reader) = reads {
            let durable = self.holders(timestamp, id);
            self.read_ordered(at, id, &execution.outcome, durable, reader)?;
        }
        let done = Done { writes: execution.writes, facts: execution.facts };
        if let Some(life) = self.life(at) {
            life.unsealed.insert((timestamp, id), done);
        }
        Ok(())
    }

    /// A command is in the state that was installed: its client is not told its outcome.
    fn covered(&mut self, at: usize, id: CommandId) -> Checked {
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let cut = life.image.cut;
        ensure(machine.is_rolled_back || self.judge.is_below(id, cut), "outcome", || {
            format!("r{at} says that its state at {cut} holds {id}, and it does not", at = at + 1)
        })?;
        let owed = [life.waiting.remove(&id), life.ordered.remove(&id)];
        owed.into_iter().flatten().for_each(|owed| self.never_answered(owed));
        Ok(())
    }

    /// How many disks hold a command and its attach, or a checkpoint that holds its effect.
    fn holders(&self, timestamp: Timestamp, id: CommandId) -> usize {
        let holds = |disk: &super::disk::Disk| disk.vouches(id) || disk.checkpoint_cut() >= timestamp;
        // A disk that was rolled back may have held it, and has failed since.
        self.machines.iter().filter(|machine| machine.is_rolled_back || holds(&machine.disk)).count()
    }

    fn cut(&mut self, at: usize, cut: Timestamp) -> Checked {
        let now = self.queue.now();
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let above = life.unsealed.split_off(&(cut.next(), CommandId::default()));
        let closed: BTreeMap<_, _> = core::mem::replace(&mut life.unsealed, above);
        let sealed = match Arc::make_mut(&mut life.image).seal(cut, (EPOCH, GROUP), &closed) {
            Ok(sealed) => sealed,
            Err(reason) => {
                return violation("blocks", format!("r{at} cannot form the block at {cut}: {reason}", at = at + 1));
            }
        };
        self.coverage.cuts += 1;
        self.trace.mark(&[5, now, at as u64, cut.0, sealed.as_ref().map_or(0, |sealed| sealed.size)]);
        self.trace.say(now, || format!("r{at} cuts at {cut}: {} commands", closed.len(), at = at + 1));
        if self.machines[at].is_rolled_back { Ok(()) } else { self.judge.cut(at, cut, sealed) }
    }
}
