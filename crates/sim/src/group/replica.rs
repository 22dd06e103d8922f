//! The life of a process: start, what its core puts out, end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dace::{Core, Entry, Mutant, Output, Reconfig, Remains, Replica, ReplicaOutput, SetUp, Timing};
use types::journal::decode_proposal;
use types::{Command, CommandId, Epoch, Timestamp};

use super::check::{Checked, ensure, violation};
use super::defect::{self, Defect};
use super::disk::Item;
use super::event::{Note, Turn};
use super::machine::{Fate, Life};
use super::queue::MS;
use super::reconf::{Stage, stand_in};
use super::state::{Done, Image, Place};
use super::world::{EPOCH, GROUP, Phase, World};

impl World {
    /// A machine starts its process.
    pub(crate) fn start(&mut self, at: usize) -> Checked {
        if self.machines[at].fate != Fate::Well {
            return Ok(());
        }
        let now = self.queue.now();
        let disk = &self.machines[at].disk;
        let replica = self.replica(at);
        let first = self.reconf.epochs.get(&EPOCH).filter(|first| first.has(replica)).cloned();
        let image = disk.checkpoint.clone().unwrap_or_else(|| Arc::new(Image::new(first)));
        let remains = Remains { stored: image.stored(), journals: disk.recover(), over: disk.over };
        let items: Vec<(Epoch, Item)> = disk.items().map(|(epoch, item)| (epoch, item.clone())).collect();
        let started = match Replica::new(GROUP, replica, remains, self.set_up()) {
            Ok(started) => started,
            Err(error) => return violation("restart", format!("r{at} cannot be restored: {error}", at = at + 1)),
        };
        self.judge.restored(at, image.cut)?;
        let cut = image.cut;
        self.machines[at].lives += 1;
        let number = self.machines[at].lives;
        let nodes = self.machines.len();
        self.machines[at].life = Some(Life::new(number, started, image, nodes, now));
        self.trace.mark(&[1, now, at as u64, number]);
        self.trace
            .say(now, || format!("r{at} starts life {number} at cut {cut} with {} items", items.len(), at = at + 1));
        self.coverage.starts += 1;
        self.restore(at, items)?;
        self.schedule(at);
        self.start_vouched(at)
    }

    /// What every core of a life is made with.
    fn set_up(&self) -> SetUp {
        let (timing, lag, ahead, mutant) = (self.timing(), self.plan.promise_lag, self.plan.ahead, self.options.mutant);
        let leases = self.leases.set_up();
        Arc::new(move |core: &mut Core| {
            core.set_timing(timing);
            core.set_promise_lag(lag);
            core.set_ahead(ahead);
            leases(core);
            if let Some(mutant) = mutant {
                core.set_mutant(mutant);
            }
        })
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

    fn restore(&mut self, at: usize, items: Vec<(Epoch, Item)>) -> Checked {
        for (epoch, item) in items {
            let Some(life) = self.life(at) else { return Ok(()) };
            let restored = match item {
                Item::Said(record) => life.replica.restore_record(epoch, record),
                Item::Kept(kept) => life.replica.restore_kept(epoch, &kept),
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
        life.cores().for_each(|core| self.coverage.count(&core.counters()));
        self.coverage.items_lost += lost;
        self.trace.mark(&[2, now, at as u64, lost]);
        self.trace.say(now, || format!("r{at} ends, {lost} items lost", at = at + 1));
        for peer in 0..self.machines.len() {
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
        if self.life(at).is_some_and(|life| life.is_removed) {
            return self.remove(at);
        }
        self.tell_news(at);
        self.start_flush(at);
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let news = machine.disk.news();
        if news != life.shipped && !life.is_shipping {
            life.is_shipping = true;
            let delay = if self.plan.ship == 0 { 0 } else { self.random.below(self.plan.ship) };
            self.turn_after(at, delay, Turn::Ship);
        }
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        if let Some(deadline) = life.replica.deadline() {
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
        life.replica.handle_tick(clock);
        self.coverage.ticks += 1;
        self.drain(at)
    }

    /// Does what the core puts out.
    pub(crate) fn outputs(&mut self, at: usize) -> Checked {
        loop {
            let Some(output) = self.life(at).and_then(|life| life.replica.poll_output()) else {
                if self.order_read(at)? || self.ask_again(at)? {
                    continue;
                }
                return Ok(());
            };
            let (epoch, output) = match output {
                ReplicaOutput::Core { epoch, output } => (epoch, output),
                output => {
                    self.epoch_output(at, output);
                    continue;
                }
            };
            match output {
                Output::Append(record) => self.appended(at, epoch, record)?,
                Output::Keep(kept) => self.machines[at].disk.append(epoch, Item::Kept(kept)),
                Output::Execute { timestamp, id, body, .. } => self.execute(at, epoch, (timestamp, id), &body)?,
                Output::Cut { timestamp } => self.cut(at, epoch, timestamp)?,
                Output::Send { to, message } => {
                    let to = self.index(to);
                    self.send(at, to, Note::Message(epoch, message));
                }
                Output::ReadReady { read } => self.read_ready(at, (epoch, read))?,
                Output::ReadContended { read } => self.read_contended(at, (epoch, read))?,
                Output::WantSnapshot { cut } => self.want_snapshot(at, cut),
                Output::LeasedReady { read } => self.leased_ready(at, (epoch, read))?,
                Output::LeasedContended { read } => self.leased_contended(at, (epoch, read)),
                Output::Covered { id } => self.covered(at, id)?,
                Output::Void { id } => self.void(at, id)?,
                Output::ReadAgain { read } => {
                    if let Some(life) = self.life(at) {
                        let read = (epoch, read);
                        let reader = life.reads.remove(&read).or_else(|| life.leased.reads.remove(&read));
                        life.again.extend(reader);
                    }
                }
                Output::Ended { .. } => unreachable!("the replica takes it"),
                output @ (Output::Pends { .. } | Output::Settles { .. } | Output::Lease { .. }) => {
                    self.count_cut_off(at, &output);
                    let is_late = self.options.defect == Some(Defect::PublishesLate);
                    self.life(at).into_iter().for_each(|life| life.publish(output.clone(), is_late));
                }
            }
        }
    }

    fn appended(&mut self, at: usize, epoch: Epoch, record: dace::Record) -> Checked {
        let header = &record.header;
        let now = self.queue.now();
        let kind = header.kind;
        let stage = self.stage_of(kind, header.id);
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
        self.machines[at].disk.append(epoch, Item::Said(record));
        stage.into_iter().for_each(|stage| self.comes_to(at, stage));
        Ok(())
    }

    fn execute(&mut self, at: usize, epoch: Epoch, (timestamp, id): Place, body: &Bytes) -> Checked {
        let now = self.queue.now();
        self.coverage.executions += 1;
        let (slots, start) = match decode_proposal(body) {
            Ok(decoded) => decoded,
            Err(error) => return violation("integrity", format!("the body of {id} at r{at}: {error}", at = at + 1)),
        };
        let reconfig = Reconfig::from_body(body);
        let command = match Command::from_bytes(&body[start..]) {
            _ if reconfig.is_some() => stand_in(0),
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
            self.judge.of_epoch(at, id, epoch)?;
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
        reconfig.map_or(Ok(()), |next| self.executed_reconfig(at, epoch, Entry { reconfig: id, at: timestamp }, next))
    }

    /// An epoch has ended here.
    fn executed_reconfig(&mut self, at: usize, epoch: Epoch, entry: Entry, next: Reconfig) -> Checked {
        let made = self.made(at, epoch, entry, next)?;
        if let Some(life) = self.life(at) {
            life.next = Some(made);
        }
        self.comes_to(at, Stage::Executed);
        Ok(())
    }

    /// An epoch begins or is over.
    fn epoch_output(&mut self, at: usize, output: ReplicaOutput) {
        let now = self.queue.now();
        self.trace.say(now, || format!("r{at}: {output:?}", at = at + 1));
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return };
        life.may_tell = true;
        match output {
            ReplicaOutput::Core { .. } => {}
            ReplicaOutput::Begin { membership } => {
                let is_here = life.image.membership.as_ref().is_some_and(|of| of.epoch == membership.epoch);
                let is_later = membership.epoch > EPOCH;
                self.coverage.enters_by_execution += u64::from(is_later && is_here);
                self.coverage.enters_by_notice += u64::from(is_later && !is_here);
                machine.disk.begin(membership);
            }
            ReplicaOutput::Over { epoch } => {
                self.coverage.epochs_over += 1;
                machine.disk.over = epoch;
                self.comes_to(at, Stage::Over);
            }
            ReplicaOutput::Closed { epoch } => {
                machine.disk.close(epoch);
                life.streams.retain(|(of, _), _| *of != epoch);
                life.hears.retain(|(of, _), _| *of != epoch);
                // What was in a state that was restored or installed is never told to be void.
                let submitted = &self.judge.history.submitted;
                let is_old = |id: &CommandId| submitted.get(id).is_some_and(|submitted| submitted.epoch <= epoch);
                let mut open: Vec<_> = life.waiting.extract_if(.., |id, _| is_old(id)).collect();
                open.extend(life.ordered.extract_if(.., |id, _| is_old(id)));
                open.into_iter().for_each(|(_, owed)| self.never_answered(owed));
            }
            ReplicaOutput::Removed => life.is_removed = true,
        }
    }

    /// Nobody needs a replica any more: it stops for good.
    fn remove(&mut self, at: usize) -> Checked {
        let now = self.queue.now();
        self.tell_news(at);
        self.trace.say(now, || format!("r{at} is removed", at = at + 1));
        self.coverage.members_removed += 1;
        self.crash(at, 0)?;
        self.machines[at].fate = Fate::Removed;
        Ok(())
    }

    /// A lease that somebody still wants is taken back.
    fn count_cut_off(&mut self, at: usize, output: &Output) {
        let Output::Lease { zone, until: 0 } = output else { return };
        let clock = self.clock(at);
        let Some(life) = self.life(at) else { return };
        let was = life.leased.deadlines.get(zone).copied().unwrap_or(0);
        let is_sealed = life.replica.epochs().count() > 1 || life.next.is_some();
        self.coverage.leases_cut_off += u64::from(is_sealed && was > clock.mono_ns);
    }

    /// What came of a command is in the state that was installed: its client is not told.
    fn covered(&mut self, at: usize, id: CommandId) -> Checked {
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let cut = life.image.cut;
        let epoch = life.image.membership.as_ref().map_or(EPOCH, |membership| membership.epoch);
        ensure(machine.is_rolled_back || self.judge.is_passed(id, cut, epoch), "outcome", || {
            format!("r{at} says that its state at {cut} holds what came of {id}, and it does not", at = at + 1)
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

    fn cut(&mut self, at: usize, epoch: Epoch, cut: Timestamp) -> Checked {
        let now = self.queue.now();
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let above = life.unsealed.split_off(&(cut.next(), CommandId::default()));
        let closed: BTreeMap<_, _> = core::mem::replace(&mut life.unsealed, above);
        let image = Arc::make_mut(&mut life.image);
        let sealed = match image.seal(cut, (epoch, GROUP), &closed) {
            Ok(sealed) => sealed,
            Err(reason) => {
                return violation("blocks", format!("r{at} cannot form the block at {cut}: {reason}", at = at + 1));
            }
        };
        if life.next.as_ref().and_then(|next| next.entry).is_some_and(|entry| entry.at <= cut) {
            image.membership = life.next.take();
        }
        self.coverage.cuts += 1;
        self.trace.mark(&[5, now, at as u64, cut.0, sealed.as_ref().map_or(0, |sealed| sealed.size)]);
        self.trace.say(now, || format!("r{at} cuts at {cut}: {} commands", closed.len(), at = at + 1));
        if self.machines[at].is_rolled_back { Ok(()) } else { self.judge.cut(at, cut, sealed) }
    }
}
