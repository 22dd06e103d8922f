//! Whoever runs the group changes it: members come, go and are replaced, `f` and the version of the logic change, under
//! load and in the midst of faults; two changes at once; and whoever is about to speak of a change dies right then.

use std::collections::{BTreeMap, BTreeSet};

use dace::{Entry, Membership, Reconfig, ReconfigError};
use types::command::{Command, DeleteAccessKey, Op};
use types::journal::RecordKind;
use types::{CommandId, Epoch, ReplicaId, SlotSet};

use super::Options;
use super::check::{Ask, Checked, ensure};
use super::event::{Event, Note};
use super::machine::{Fate, Life};
use super::plan::Plan;
use super::world::{EPOCH, Phase, World};
use crate::random::Random;

/// Members of an epoch, at most.
const MEMBERS_MAX: usize = 7;

/// What a Reconfig changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Change {
    /// A new member.
    Add,
    /// One member less.
    Remove,
    /// A new member for an old one.
    Replace,
    /// How many may fail.
    Failures,
    /// The version of the logic: the same members.
    Version,
}

impl Change {
    /// All kinds.
    pub(crate) const ALL: [Self; 5] = [Self::Add, Self::Remove, Self::Replace, Self::Failures, Self::Version];
}

/// What someone has just said or done of a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// It has attached the Reconfig.
    Attached,
    /// It has decided it, or read that it is.
    Decided,
    /// It has executed it.
    Executed,
    /// It has entered the epoch.
    Enter,
    /// It has the state.
    Have,
    /// The epoch before is over.
    Over,
}

impl Stage {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Attached, Self::Decided, Self::Executed, Self::Enter, Self::Have, Self::Over];
}

/// A Reconfig that was proposed.
pub(crate) struct Proposed {
    epoch: Epoch,
    change: Change,
    next: Reconfig,
}

/// What a run has to do with changes of the group: drawn apart from everything else.
pub(crate) struct Reconfigs {
    random: Random,
    /// Whether there are any.
    pub(crate) is_on: bool,
    /// Machines beside those of the first epoch.
    pub(crate) spares: usize,
    /// Proposals to come.
    left: u64,
    /// Mean time between two of them, in ns.
    gap: u64,
    weights: [u64; Change::ALL.len()],
    /// Of 8 proposals, how many come with another one.
    twins: u64,
    /// Of 16 stages of a change, how many kill.
    traps: u64,
    /// Epochs that a Reconfig made which anybody has executed, and the first one.
    pub(crate) epochs: BTreeMap<Epoch, Membership>,
    pub(crate) proposed: BTreeMap<CommandId, Proposed>,
    /// Reconfigs that were void.
    voided: BTreeSet<CommandId>,
}

impl Reconfigs {
    /// Whether there are any in a run, and how many machines beside the group.
    pub(crate) fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed, "group reconfigs");
        let is_drawn = random.one_in(3);
        let is_on = options.is_reconfigured.unwrap_or(is_drawn && options.nodes > 2);
        let spares = if !is_on { 0 } else { if options.nodes <= 3 { 3 } else { 2 } };
        let usual = [4, 3, 5, 2, 1];
        let weights = usual.map(|weight| if random.one_in(4) { 0 } else { weight * (1 + random.below(3)) });
        let members = (1..=options.nodes).map(|number| ReplicaId(u32::try_from(number).expect("few replicas")));
        let f = u32::try_from(options.faults).expect("few faults");
        let first = Membership { epoch: EPOCH, members: members.collect(), f, logic: 1, entry: None };
        let traps = if options.is_calm { 0 } else { *random.pick(&[0, 1, 3]) };
        Self {
            is_on,
            spares,
            left: 2 + random.below(5),
            gap: 0,
            weights,
            twins: *random.pick(&[0, 2, 4]),
            traps,
            epochs: BTreeMap::from([(EPOCH, first)]),
            proposed: BTreeMap::new(),
            voided: BTreeSet::new(),
            random,
        }
    }

    /// They fall into the first two thirds of the storm.
    pub(crate) fn plan(&mut self, plan: &Plan) {
        self.gap = plan.storm / (self.left + 1) / 3 + 1;
    }

    /// The newest epoch that anybody has executed the beginning of.
    pub(crate) fn newest(&self) -> &Membership {
        self.epochs.values().next_back().expect("there is the first")
    }

    /// Whether a command is a Reconfig.
    pub(crate) fn is_one(&self, id: CommandId) -> bool {
        self.is_on && self.proposed.contains_key(&id)
    }
}

/// The command for which a Reconfig stands in the history: one on all slots that changes nothing.
pub(crate) fn stand_in(id: u64) -> Command {
    let op = Op::DeleteAccessKey(DeleteAccessKey { access_key: "nobody".to_owned() });
    Command { salt: *blake3::hash(&id.to_be_bytes()).as_bytes(), principal: "operator".to_owned(), request: None, op }
}

impl World {
    /// The storm begins.
    pub(crate) fn begin_reconfigs(&mut self) {
        if self.reconf.is_on {
            let first = self.reconf.random.below(self.reconf.gap);
            self.queue.after(first, Event::Reconfig);
        }
    }

    /// Whether changes are to come yet before a storm may end.
    pub(crate) fn is_reconfig_due(&self) -> bool {
        self.reconf.is_on && self.reconf.left > 0
    }

    /// It is time for a change.
    pub(crate) fn reconfigure(&mut self) -> Checked {
        if self.phase != Phase::Storm || self.reconf.left == 0 {
            return Ok(());
        }
        let next = 1 + self.reconf.random.below(2 * self.reconf.gap);
        self.queue.after(next, Event::Reconfig);
        if self.is_hushed() {
            return Ok(());
        }
        if self.besiege_for_change()? {
            self.reconf.left -= 1;
            return Ok(());
        }
        let is_taken = self.propose()?;
        if is_taken && self.reconf.random.below(8) < self.reconf.twins {
            self.propose()?;
        }
        self.reconf.left -= u64::from(is_taken);
        Ok(())
    }

    /// Someone proposes something. False when that is not possible here and now.
    fn propose(&mut self) -> Result<bool, Box<super::Violation>> {
        let is_open = |at: &usize| {
            let machine = &self.machines[*at];
            machine.is_awake() && !machine.is_rolled_back && machine.life.as_ref().is_some_and(Life::is_member)
        };
        let open: Vec<usize> = (0..self.machines.len()).filter(is_open).collect();
        if open.is_empty() {
            return Ok(false);
        }
        let at = *self.reconf.random.pick(&open);
        let Some(newest) = self.machines[at].life.as_ref().and_then(|life| life.replica.newest()).cloned() else {
            return Ok(false);
        };
        let change = Change::ALL[self.reconf.random.weighted(&self.reconf.weights.map(|weight| weight.max(1)))];
        let Some(next) = self.next_of(&newest, change) else { return Ok(false) };
        self.propose_at(at, change, next)
    }

    pub(crate) fn propose_at(
        &mut self,
        at: usize,
        change: Change,
        next: Reconfig,
    ) -> Result<bool, Box<super::Violation>> {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let hears =
            |other: &usize| self.machines[*other].is_awake() && self.hears(at, *other) && self.hears(*other, at);
        let connected: Vec<ReplicaId> =
            (0..self.machines.len()).filter(hears).map(|other| self.replica(other)).collect();
        let salt = self.reconf.random.bytes();
        let Some(life) = self.life(at) else { return Ok(false) };
        let taken = life.replica.handle_reconfig(clock, &next, &connected, salt);
        self.trace.say(now, || format!("r{at} is asked for {change:?} to {next:?}: {taken:?}", at = at + 1));
        match taken {
            Ok((epoch, id)) => {
                self.trace.mark(&[20, now, at as u64, change as u64, id.counter]);
                let number = self.reconf.proposed.len() as u64;
                let ask = Ask::Write(Box::new(stand_in(number)));
                let operation = self.judge.history.begin(now, ask, SlotSet::All);
                let body = next.to_body().into();
                let is_new = self.judge.history.submitted(now, operation, (epoch, id), body);
                ensure(is_new, "agreement", || format!("r{at} gives {id} to two commands", at = at + 1))?;
                self.reconf.proposed.insert(id, Proposed { epoch, change, next });
                self.coverage.reconfigs_proposed += 1;
                self.drain(at)?;
                Ok(true)
            }
            Err(error) => {
                let why = match error {
                    ReconfigError::Connected { .. } => "too few connected".to_owned(),
                    ReconfigError::Unfinished(_) => "the epoch before is needed".to_owned(),
                    error => format!("{error:?}"),
                };
                *self.coverage.submits_refused.entry(format!("Reconfig: {why}")).or_default() += 1;
                self.drain(at)?;
                Ok(false)
            }
        }
    }

    /// What the next epoch is like; `None` if such a change makes no sense now.
    pub(crate) fn next_of(&mut self, newest: &Membership, change: Change) -> Option<Reconfig> {
        let mut members = newest.members.clone();
        let (mut f, mut logic) = (newest.f, newest.logic);
        let used: BTreeSet<ReplicaId> =
            self.reconf.epochs.values().flat_map(|epoch| epoch.members.iter().copied()).collect();
        let fresh = (0..self.machines.len()).filter(|at| {
            let machine = &self.machines[*at];
            machine.fate == Fate::Well && machine.life.is_some() && !used.contains(&self.replica(*at))
        });
        let fresh: Vec<ReplicaId> = fresh.map(|at| self.replica(at)).collect();
        let is_small = members.len() <= if f == 0 { 1 } else { 3 };
        match change {
            Change::Add if members.len() < MEMBERS_MAX => members.push(*fresh.first()?),
            Change::Remove if !is_small => drop(members.remove(self.leaver(newest))),
            Change::Replace => {
                let leaver = self.leaver(newest);
                members[leaver] = *fresh.first()?;
            }
            Change::Failures => f = if f == 1 { 2 } else { 1 },
            Change::Version => logic += 1,
            Change::Add | Change::Remove => return None,
        }
        members.sort_unstable();
        let most = u32::try_from((members.len() - 1) / 2).expect("few members");
        if members.len() > 2 {
            f = f.clamp(1, most);
        }
        if change == Change::Failures && f == newest.f {
            return None;
        }
        let next = Reconfig { members, f, logic };
        (self.lost_of(&next.members) <= usize::try_from(f).unwrap_or(0)).then_some(next)
    }

    /// Which member leaves: mostly one that is lost, if one is.
    fn leaver(&mut self, newest: &Membership) -> usize {
        let lost = newest.members.iter().position(|member| self.is_out(self.index(*member)));
        let usual = self.reconf.random.index(newest.members.len());
        lost.filter(|_| !self.reconf.random.one_in(4)).unwrap_or(usual)
    }

    /// Whether a machine will never take part again.
    fn is_out(&self, at: usize) -> bool {
        self.machines[at].is_lost() || self.machines[at].is_deaf_for_good()
    }

    fn lost_of(&self, members: &[ReplicaId]) -> usize {
        members.iter().filter(|member| self.is_out(self.index(**member))).count()
    }

    /// The members and the `f` of every epoch that is needed, or may be.
    fn in_force(&self) -> impl Iterator<Item = (&[ReplicaId], u32)> {
        let over = self.machines.iter().map(|machine| machine.disk.over).max().unwrap_or(Epoch(0));
        let newest = self.reconf.newest().epoch;
        let epochs = self.reconf.epochs.values().filter(move |known| known.epoch > over);
        let proposed = self.reconf.proposed.values().filter(move |proposed| proposed.epoch == newest);
        let epochs = epochs.map(|known| (known.members.as_slice(), known.f));
        epochs.chain(proposed.map(|proposed| (proposed.next.members.as_slice(), proposed.next.f)))
    }

    /// Whether every epoch that is needed survives the loss of one more machine.
    pub(crate) fn may_lose(&self, at: usize) -> bool {
        let replica = self.replica(at);
        let survives = |(members, f): (&[ReplicaId], u32)| {
            !members.contains(&replica) || self.lost_of(members) < usize::try_from(f).unwrap_or(0)
        };
        !self.is_out(at) && self.in_force().all(survives)
    }

    /// Whether a machine is in an epoch that is needed.
    pub(crate) fn is_needed(&self, at: usize) -> bool {
        let replica = self.replica(at);
        self.in_force().any(|(members, _)| members.contains(&replica))
    }

    /// How many members of the newest epoch of a machine may fail.
    pub(crate) fn faults_of(&self, at: usize) -> usize {
        let replica = self.replica(at);
        let of = self.reconf.epochs.values().rev().find(|known| known.has(replica));
        of.map_or(self.options.faults, |known| usize::try_from(known.f).unwrap_or(0))
    }

    /// Someone has executed a Reconfig: gives what it made, which is the same everywhere.
    pub(crate) fn made(
        &mut self,
        at: usize,
        epoch: Epoch,
        entry: Entry,
        next: Reconfig,
    ) -> Result<Membership, Box<super::Violation>> {
        let Reconfig { members, f, logic } = next;
        let made = Membership { epoch: Epoch(epoch.0 + 1), members, f, logic, entry: Some(entry) };
        let is_first = !self.reconf.epochs.contains_key(&made.epoch);
        let known = self.reconf.epochs.entry(made.epoch).or_insert_with(|| made.clone());
        ensure(*known == made, "epochs", || {
            format!("r{at} begins another epoch:\n  {made:?}\n  {known:?}", at = at + 1)
        })?;
        self.judge.begins(made.epoch, usize::try_from(made.f).unwrap_or(0));
        if is_first && let Some(proposed) = self.reconf.proposed.get(&entry.reconfig) {
            match proposed.change {
                Change::Add => self.coverage.reconfigs_add += 1,
                Change::Remove => self.coverage.reconfigs_remove += 1,
                Change::Replace => self.coverage.reconfigs_replace += 1,
                Change::Failures => self.coverage.reconfigs_f += 1,
                Change::Version => self.coverage.reconfigs_version += 1,
            }
        }
        Ok(made)
    }

    /// An own command came to nothing with its epoch: it is asked for again, under a new id.
    pub(crate) fn void(&mut self, at: usize, id: CommandId) -> Checked {
        let now = self.queue.now();
        self.trace.mark(&[21, now, at as u64, u64::from(id.replica.0), id.counter]);
        self.trace.say(now, || format!("r{at}: {id} is void", at = at + 1));
        self.coverage.voided += 1;
        if !self.machines[at].is_rolled_back {
            self.judge.voided(at, id)?;
        }
        if self.reconf.is_one(id) {
            self.coverage.reconfigs_void += u64::from(self.reconf.voided.insert(id));
            return Ok(());
        }
        let Some(life) = self.life(at) else { return Ok(()) };
        let reader = life.ordered.remove(&id);
        let waits = life.waiting.remove(&id);
        if let Some(owed) = waits.or(reader) {
            life.again.push(owed);
        }
        Ok(())
    }

    /// Asks again for what the end of an epoch has overtaken. False when there is nothing, or it is too early.
    pub(crate) fn ask_again(&mut self, at: usize) -> Result<bool, Box<super::Violation>> {
        let clock = self.clock(at);
        let now = self.queue.now();
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(false) };
        let Some((client, operation)) = life.again.pop() else { return Ok(false) };
        let asked = &self.judge.history.operations[operation];
        let Ask::Write(command) = &asked.ask else {
            return match life.replica.handle_read(clock, asked.slots.clone()) {
                Ok(read) => {
                    life.reads.insert(read, (client, operation));
                    self.coverage.reads_again += 1;
                    Ok(true)
                }
                Err(dace::SubmitError::Sealed) => {
                    life.again.push((client, operation));
                    Ok(false)
                }
                Err(_) => {
                    self.never_answered((client, operation));
                    Ok(true)
                }
            };
        };
        let submission = super::asks::submission(command, &asked.slots);
        let body = submission.body.clone();
        match life.replica.handle_submit(clock, submission) {
            Ok((epoch, id)) => {
                life.waiting.insert(id, (client, operation));
                self.coverage.voided_again += 1;
                self.trace.mark(&[22, now, at as u64, operation as u64, id.counter]);
                self.trace.say(now, || format!("r{at} tries {operation} again as {id}", at = at + 1));
                let is_new = self.judge.history.submitted(now, operation, (epoch, id), body);
                ensure(is_new, "agreement", || format!("r{at} gives {id} to two commands", at = at + 1))?;
                Ok(true)
            }
            Err(dace::SubmitError::Sealed) => {
                life.again.push((client, operation));
                Ok(false)
            }
            Err(_) => {
                self.never_answered((client, operation));
                Ok(true)
            }
        }
    }

    /// Someone comes to a stage of a change: at times its process ends right there, or a little later.
    pub(crate) fn comes_to(&mut self, at: usize, stage: Stage) {
        self.turns_over(at, stage);
        if !self.reconf.is_on
            || self.phase != Phase::Storm
            || self.is_hushed()
            || self.reconf.random.below(16) >= self.reconf.traps
        {
            return;
        }
        let Some(life) = self.machines[at].life.as_ref().map(|life| life.number) else { return };
        let soon = if self.reconf.random.one_in(2) { 0 } else { self.reconf.random.below(2 * self.plan.flush.1) };
        *self.coverage.traps.entry(stage).or_default() += 1;
        self.queue.after(soon, Event::Trap { at, life });
    }

    /// The stage that a record of an epoch is.
    pub(crate) fn stage_of(&self, kind: RecordKind, id: CommandId) -> Option<Stage> {
        match kind {
            RecordKind::Enter => Some(Stage::Enter),
            RecordKind::Have => Some(Stage::Have),
            RecordKind::Propose | RecordKind::Ack | RecordKind::Report if self.reconf.is_one(id) => {
                Some(Stage::Attached)
            }
            RecordKind::Commit if self.reconf.is_one(id) => Some(Stage::Decided),
            _ => None,
        }
    }

    /// A process ends in the midst of a change.
    pub(crate) fn trap(&mut self, at: usize, life: u64) -> Checked {
        let is_same = self.machines[at].life.as_ref().is_some_and(|alive| alive.number == life);
        if is_same && self.phase == Phase::Storm && self.crash_for_a_while(at)? {
            self.coverage.trapped += 1;
        }
        Ok(())
    }

    /// Tells the others what is known here of epochs, if that is new.
    pub(crate) fn tell_news(&mut self, at: usize) {
        let Some(life) = self.life(at).filter(|life| life.may_tell) else { return };
        life.may_tell = false;
        let notice = life.replica.notice();
        let is_one = notice.over == Epoch(0) && notice.epochs.iter().all(|standing| standing.membership.epoch == EPOCH);
        if is_one || life.told.as_ref() == Some(&notice) {
            return;
        }
        life.told = Some(notice);
        self.tell_all(at);
    }

    /// Tells all others that are concerned.
    pub(crate) fn tell_all(&mut self, at: usize) {
        let Some(life) = self.life(at) else { return };
        let Some(notice) = life.told.clone() else { return };
        for peer in life.replica.peers().map(|peer| self.index(peer)).collect::<Vec<_>>() {
            self.send(at, peer, Note::Notice(notice.clone()));
        }
    }

    /// A replica says what it knows of epochs. Who knows less is told.
    pub(crate) fn noticed(&mut self, from: usize, to: usize, notice: &dace::Notice) {
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        self.trace.mark(&[23, now, from as u64, to as u64, notice.over.0.into()]);
        self.trace.say(now, || format!("r{to} hears of r{from}: {notice:?}", to = to + 1, from = from + 1));
        let newest = notice.epochs.last().map_or(notice.over, |standing| standing.membership.epoch);
        let Some(life) = self.life(to) else { return };
        life.replica.handle_notice(clock, replica, notice);
        life.may_tell = true;
        if life.replica.newest().is_some_and(|known| known.epoch > newest) {
            self.answer_notice(from, to);
        }
    }

    /// Someone speaks of an epoch that is not served here.
    pub(crate) fn answer_notice(&mut self, from: usize, to: usize) {
        let Some(life) = self.life(to) else { return };
        let notice = life.replica.notice();
        self.send(to, from, Note::Notice(notice));
    }
}
