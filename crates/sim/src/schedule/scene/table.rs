//! The local states of a scene: what a replica has said, read and executed, and what comes of its inputs.

use std::collections::{BTreeMap, HashMap};

use dace::Record;
use types::journal::RecordKind;
use types::{CommandId, Timestamp};

use super::Scene;
use super::machine::{Machine, replica};
use crate::group::Violation;
use crate::group::panics;
use crate::schedule::check::Place;
use crate::schedule::node::{Item, Node};
use crate::schedule::step::Step;

/// How far a clock goes on at once: every timer of a first attempt fires.
pub(super) const FIRE_NS: u64 = 220_000_000;

/// A local state.
pub(super) type LocalId = u32;

/// What a replica said in one go; with all that it said before, so that it names a whole journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) struct BatchId(u32);

/// Nothing.
const NONE: BatchId = BatchId(0);

/// See [`BatchId`].
pub(super) struct Batch {
    pub(super) before: BatchId,
    pub(super) items: Vec<Item>,
}

impl Batch {
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.items.iter().filter_map(|item| if let Item::Said(record) = item { Some(record) } else { None })
    }
}

/// What may happen to a replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Input {
    /// Its client submits a command of the scene.
    Submit(usize),
    /// All that it said is durable.
    Flush,
    /// It reads what another said.
    Read(usize, Reading),
    /// Its clock goes on, and its timers fire; where time is one for all, those that are due.
    Fire,
    /// This step of time goes by.
    Pass(usize),
    /// It wants the lease.
    Want,
    /// A client begins this leased read of the scene.
    Leased(usize),
    /// Its process ends.
    Crash,
    /// Its process starts.
    Start,
}

/// How far a reader is in a journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) struct Reading {
    /// The batch by which the writer's life began that is heard.
    pub(super) heard: BatchId,
    /// What was read last.
    pub(super) end: BatchId,
    /// What of it is known to be durable.
    pub(super) durable: BatchId,
}

impl Reading {
    /// Where it goes on in a life that began by `opened`: what was not known to be durable comes again in another one.
    fn resumed(self, opened: BatchId) -> Self {
        if self.heard == opened { self } else { Self { heard: opened, end: self.durable, durable: self.durable } }
    }
}

/// All by which local states are told apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Local {
    at: usize,
    is_up: bool,
    /// Its journal, and how much of it is durable.
    said: BatchId,
    durable: BatchId,
    /// The batch by which its present life, or the last one if it is down, is open to readers.
    opened: BatchId,
    /// The same, durable or not.
    opening: BatchId,
    /// By writer: how much of its journal was read.
    read: Vec<Reading>,
    /// What it executed in this life and in those before; no two differ but in length.
    executed: Vec<Place>,
    executed_before: Vec<Place>,
    submitted: Vec<usize>,
    fires: usize,
    crashes: usize,
    /// Whether timers would fire.
    is_waiting: bool,
    /// In how many lives it has wanted the lease, and whether it does now.
    wanted: usize,
    is_wanting: bool,
    /// Until when a leased read could begin, if one can now.
    held_until: Option<u64>,
    /// Leased reads that were begun here, and those that wait.
    begun: Vec<usize>,
    waiting: Vec<usize>,
    /// Steps of time that went by, and what it was before the last of them, while its timers may fire yet. When it said
    /// something its records tell.
    passed: usize,
    before_pass: Option<LocalId>,
    /// What its core died of.
    panic: Option<String>,
}

/// See the file's documentation.
pub(super) struct Table {
    scene: Scene,
    batches: Vec<Batch>,
    batch_ids: HashMap<(BatchId, String), BatchId>,
    locals: Vec<Local>,
    /// How each was come by first.
    histories: Vec<Option<(LocalId, Input)>>,
    ids: HashMap<Local, LocalId>,
    after: HashMap<(LocalId, Input), LocalId>,
    /// The leased reads that an input ends, and how many commands each shows.
    answers: HashMap<(LocalId, Input), Vec<(usize, usize)>>,
}

impl Table {
    pub(super) fn new(scene: Scene) -> Self {
        let nothing = Batch { before: NONE, items: Vec::new() };
        Self {
            scene,
            batches: vec![nothing],
            batch_ids: HashMap::new(),
            locals: Vec::new(),
            histories: Vec::new(),
            ids: HashMap::new(),
            after: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.locals.len()
    }

    /// The replicas when all have started and have read so of each other.
    pub(super) fn first(&mut self) -> Vec<LocalId> {
        let replicas = self.scene.setting.replicas;
        let mut locals: Vec<LocalId> = (0..replicas)
            .map(|at| {
                let local = Local {
                    at,
                    is_up: false,
                    said: NONE,
                    durable: NONE,
                    opened: NONE,
                    opening: NONE,
                    read: vec![Reading::default(); replicas],
                    executed: Vec::new(),
                    executed_before: Vec::new(),
                    submitted: Vec::new(),
                    fires: 0,
                    crashes: 0,
                    is_waiting: false,
                    wanted: 0,
                    is_wanting: false,
                    held_until: None,
                    begun: Vec::new(),
                    waiting: Vec::new(),
                    passed: 0,
                    before_pass: None,
                    panic: None,
                };
                let fresh = self.intern(local, None);
                let started = self.after(fresh, Input::Start);
                self.after(started, Input::Flush)
            })
            .collect();
        for from in 0..replicas {
            for to in (0..replicas).filter(|to| *to != from) {
                let said = self.local(locals[from]).durable;
                let reading = Reading { heard: said, end: said, durable: said };
                locals[to] = self.after(locals[to], Input::Read(from, reading));
            }
        }
        locals
    }

    fn local(&self, id: LocalId) -> &Local {
        &self.locals[id as usize]
    }

    pub(super) fn batch(&self, id: BatchId) -> &Batch {
        &self.batches[id.0 as usize]
    }

    /// The batches behind `from` up to `to`, which is a journal that begins with `from`.
    pub(super) fn between(&self, from: BatchId, to: BatchId) -> Vec<BatchId> {
        let mut found = Vec::new();
        let mut at = to;
        while at != from && at != NONE {
            found.push(at);
            at = self.batch(at).before;
        }
        found.reverse();
        found
    }

    /// What may happen to a replica next.
    pub(super) fn enabled(&self, locals: &[LocalId], at: usize) -> Vec<Input> {
        let local = self.local(locals[at]);
        if local.panic.is_some() {
            return Vec::new();
        }
        if !local.is_up {
            return vec![Input::Start];
        }
        let mut inputs = Vec::new();
        for (number, (by, ..)) in self.scene.commands.iter().enumerate() {
            if *by == at && !local.submitted.contains(&number) {
                inputs.push(Input::Submit(number));
            }
        }
        if local.said != local.durable {
            inputs.push(Input::Flush);
        }
        for from in (0..locals.len()).filter(|from| *from != at) {
            let readings = self.readings(local.read[from], self.local(locals[from]));
            inputs.extend(readings.into_iter().map(|reading| Input::Read(from, reading)));
        }
        if local.fires < self.scene.fires[at] && local.is_waiting {
            inputs.push(Input::Fire);
        }
        if !local.is_wanting && local.wanted < self.scene.wants[at] {
            inputs.push(Input::Want);
        }
        if local.held_until.is_some() {
            let reads = self.unread(local);
            inputs.extend(reads.map(Input::Leased));
        }
        if local.crashes < self.scene.crashes[at] {
            inputs.push(Input::Crash);
        }
        inputs
    }

    /// The leased reads that are to begin here yet.
    fn unread(&self, local: &Local) -> impl Iterator<Item = usize> {
        let reads = self.scene.reads.iter().enumerate();
        reads.filter(|(number, (at, _))| *at == local.at && !local.begun.contains(number)).map(|(number, _)| number)
    }

    /// The next step of time, if there is one. None goes by before a lease is wanted: from then on clocks drift.
    pub(super) fn passes(&self, locals: &[LocalId]) -> Option<Input> {
        let has_begun = locals.iter().any(|id| self.local(*id).wanted > 0);
        let passed = self.local(locals[0]).passed;
        (has_begun && passed < self.scene.passes.len()).then_some(Input::Pass(passed))
    }

    /// How many commands somebody can have seen.
    pub(super) fn shown(&self, locals: &[LocalId]) -> usize {
        let shown = |local: &Local| {
            let is_shown = |(_, id): &Place| self.scene.is_strict || id.replica == replica(local.at);
            let last = |executed: &[Place]| executed.iter().rposition(is_shown).map_or(0, |last| last + 1);
            last(&local.executed).max(last(&local.executed_before))
        };
        locals.iter().map(|id| shown(self.local(*id))).max().unwrap_or(0)
    }

    /// The leased reads that an input ends.
    pub(super) fn answers(&self, id: LocalId, input: Input) -> &[(usize, usize)] {
        self.answers.get(&(id, input)).map_or(&[], Vec::as_slice)
    }

    /// Reads that were begun at a replica and do not wait any more are over.
    pub(super) fn forget(&self, id: LocalId, seen: &mut [Option<usize>]) {
        let local = self.local(id);
        local.begun.iter().filter(|read| !local.waiting.contains(read)).for_each(|read| seen[*read] = None);
    }

    /// What a reader may read next: one batch, or all that there is; after its own restart, all. Nothing of a life that
    /// is not open yet, and of one that is over only what was sent on a stream that it opened.
    fn readings(&self, before: Reading, writer: &Local) -> Vec<Reading> {
        let opened = writer.opened;
        let from = before.resumed(opened);
        let journal = self.between(NONE, writer.said);
        let is_lost = from.end != NONE && !journal.contains(&from.end);
        if opened == NONE || !(writer.is_up || before.heard == opened) || is_lost {
            return Vec::new();
        }
        let last = if self.scene.reads_tails { writer.said } else { writer.durable };
        let news = self.between(from.end, last);
        let mut ends: Vec<BatchId> = match from.end == NONE || self.scene.reads_all {
            true => [writer.durable, last].into_iter().filter(|end| news.contains(end)).collect(),
            false => news.first().copied().into_iter().collect(),
        };
        ends.dedup();
        // A beat alone: what was read is known to be durable now.
        ends.push(from.end);
        let durable = self.between(NONE, writer.durable);
        let until = |end: BatchId| if durable.contains(&end) { end } else { writer.durable };
        let readings = ends.into_iter().map(|end| Reading { heard: opened, end, durable: until(end) });
        readings.filter(|reading| (reading.end, reading.durable) != (from.end, from.durable)).collect()
    }

    /// The local state after an input.
    pub(super) fn after(&mut self, id: LocalId, input: Input) -> LocalId {
        if let Some(after) = self.after.get(&(id, input)) {
            return *after;
        }
        let after = self.make(id, input);
        let after = self.intern(after, Some((id, input)));
        self.after.insert((id, input), after);
        after
    }

    fn intern(&mut self, local: Local, history: Option<(LocalId, Input)>) -> LocalId {
        if let Some(id) = self.ids.get(&local) {
            return *id;
        }
        let id = u32::try_from(self.locals.len()).expect("fewer than 2^32 local states");
        self.locals.push(local.clone());
        self.histories.push(history);
        self.ids.insert(local, id);
        id
    }

    /// Replays the inputs of a local state, and one more.
    fn make(&mut self, id: LocalId, input: Input) -> Local {
        let mut inputs = vec![input];
        let mut at = id;
        while let Some((before, input)) = self.histories[at as usize] {
            inputs.push(input);
            at = before;
        }
        inputs.reverse();
        let mut local = self.local(id).clone();
        let number = local.at;
        let ran = panics::caught(|| {
            let mut machine = Machine::new(&self.scene, number);
            for input in &inputs {
                machine.new_items.clear();
                machine.answered.clear();
                machine.handle(*input, self);
                while self.is_eager(number) && machine.flush() {}
            }
            machine
        });
        match ran {
            Ok(machine) => {
                self.note(&mut local, input, &machine);
                let may_fire = self.scene.is_timed() && local.fires < self.scene.fires[number];
                local.before_pass = match input {
                    Input::Pass(_) => Some(id),
                    _ => local.before_pass,
                };
                local.before_pass = local.before_pass.filter(|_| may_fire);
                if !machine.answered.is_empty() {
                    self.answers.insert((id, input), machine.answered.clone());
                }
            }
            Err(said) => local.panic = Some(said),
        }
        local
    }

    /// Whether what a replica says is durable at once.
    fn is_eager(&self, at: usize) -> bool {
        self.scene.crashes[at] == 0
    }

    /// What an input changed.
    fn note(&mut self, local: &mut Local, input: Input, machine: &Machine) {
        match input {
            Input::Submit(number) => local.submitted.push(number),
            Input::Flush => local.durable = local.said,
            Input::Read(from, reading) => local.read[from] = reading,
            Input::Fire => local.fires += 1,
            Input::Pass(_) => local.passed += 1,
            Input::Want => (local.wanted, local.is_wanting) = (local.wanted + 1, true),
            Input::Leased(read) => local.begun.push(read),
            Input::Crash => {
                local.is_wanting = false;
                local.crashes += 1;
                local.is_up = false;
                local.said = local.durable;
                local.read.fill(Reading::default());
                if local.executed.len() > local.executed_before.len() {
                    local.executed_before = core::mem::take(&mut local.executed);
                }
                local.executed.clear();
            }
            Input::Start => {
                local.is_up = true;
                local.opened = NONE;
            }
        }
        if !machine.new_items.is_empty() {
            local.said = self.batch_id(local.said, machine.new_items.clone());
        }
        if input == Input::Start {
            local.opening = local.said;
        }
        if self.is_eager(local.at) {
            local.durable = local.said;
        }
        let is_flushed = input == Input::Flush || self.is_eager(local.at);
        if local.is_up && local.opened == NONE && is_flushed {
            // `Open` is the first that a life says, and its first flush makes it durable.
            local.opened = local.opening;
        }
        local.executed = machine.executed.clone();
        local.waiting = machine.waiting();
        let has_unread = self.unread(local).next().is_some();
        local.held_until = if has_unread { machine.held_until() } else { None };
        local.is_waiting = match self.scene.is_timed() {
            true => local.fires < self.scene.fires[local.at] && machine.is_waiting(0),
            false => machine.is_waiting(FIRE_NS),
        };
    }

    fn batch_id(&mut self, before: BatchId, items: Vec<Item>) -> BatchId {
        let content = format!("{items:?}");
        if let Some(id) = self.batch_ids.get(&(before, content.clone())) {
            return *id;
        }
        let id = BatchId(u32::try_from(self.batches.len()).expect("fewer than 2^32 batches"));
        self.batches.push(Batch { before, items });
        self.batch_ids.insert((before, content), id);
        id
    }

    /// The decisions of a journal that count: above ballot 0 at once, at ballot 0 when they are durable.
    fn decisions(&self, local: &Local) -> Vec<(CommandId, Timestamp)> {
        let durable = self.between(NONE, local.durable).len();
        let batches = self.between(NONE, local.said);
        let records = batches
            .iter()
            .enumerate()
            .flat_map(|(number, id)| self.batch(*id).records().map(move |record| (number, record)));
        records
            .filter(|(number, record)| {
                record.header.kind == RecordKind::Commit && (record.header.ballot > 0 || *number < durable)
            })
            .map(|(_, record)| (record.header.id, record.header.timestamp))
            .collect()
    }

    pub(super) fn check(&self, locals: &[LocalId]) -> Result<(), Violation> {
        let mut decided: BTreeMap<CommandId, Timestamp> = BTreeMap::new();
        let mut longest: &[Place] = &[];
        for local in locals.iter().map(|id| self.local(*id)) {
            if let Some(said) = &local.panic {
                return Err(Violation { check: "assertion", reason: said.clone() });
            }
            let executed = local.executed.iter().chain(&local.executed_before).map(|(timestamp, id)| (*id, *timestamp));
            for (id, timestamp) in self.decisions(local).into_iter().chain(executed) {
                let first = *decided.entry(id).or_insert(timestamp);
                if first != timestamp {
                    let reason = format!("{id} is decided at {first} and at {timestamp}");
                    return Err(Violation { check: "agreement", reason });
                }
            }
            for executed in [&local.executed, &local.executed_before] {
                let common = executed.len().min(longest.len());
                if executed[..common] != longest[..common] {
                    let reason = format!("replica {} executes {executed:?}, and others {longest:?}", local.at + 1);
                    return Err(Violation { check: "order", reason });
                }
                if executed.len() > longest.len() {
                    longest = executed;
                }
            }
        }
        Ok(())
    }

    /// How far everybody has read at the beginning, by reader and writer.
    pub(super) fn read_first(&self, first: &[LocalId]) -> Vec<Vec<Reading>> {
        first.iter().map(|id| self.local(*id).read.clone()).collect()
    }

    /// The last position of a batch.
    pub(super) fn position(&self, id: BatchId) -> u64 {
        self.batch(id).records().last().map_or(0, |record| record.header.position)
    }

    /// An input as steps of a schedule. `read`: by reader and writer, how far it has read on the path before.
    pub(super) fn steps(&self, at: usize, input: Input, read: &mut [Vec<Reading>]) -> Vec<Step> {
        let mut steps = match input {
            Input::Submit(number) => vec![Step::Submit(at, self.scene.commands[number].2.clone())],
            Input::Flush => return vec![Step::Flush(at, 0)],
            Input::Read(from, reading) => {
                let before = core::mem::replace(&mut read[at][from], reading).resumed(reading.heard);
                let count = self.position(reading.end) - self.position(before.end);
                vec![Step::Read(from, at, usize::try_from(count).expect("short journals"))]
            }
            Input::Fire if self.scene.is_timed() => vec![Step::Tick(at)],
            Input::Fire => vec![Step::AdvanceOne(at, FIRE_NS), Step::Tick(at)],
            Input::Pass(number) => return vec![Step::Advance(self.scene.passes[number])],
            Input::Want => vec![Step::Want(at)],
            Input::Leased(number) => vec![Step::Leased(at, self.scene.reads[number].1.clone())],
            Input::Crash => {
                read[at].fill(Reading::default());
                return vec![Step::Crash(at, 0)];
            }
            Input::Start => vec![Step::Start(at)],
        };
        if self.is_eager(at) {
            // What is durable may lead to more that must be: what does not apply is passed over.
            steps.extend([Step::Flush(at, 0), Step::Flush(at, 0), Step::Flush(at, 0), Step::Flush(at, 0)]);
        }
        steps
    }

    /// Whether a replica of a schedule has said what a local state says.
    pub(super) fn compare(&self, id: LocalId, node: &Node) -> Result<(), Box<Violation>> {
        let local = self.local(id);
        let batches = self.between(NONE, local.said);
        let said: Vec<&Record> = batches.iter().flat_map(|id| self.batch(*id).records()).collect();
        if !local.is_up || said.iter().copied().eq(&node.said) {
            return Ok(());
        }
        let kinds = |records: &mut dyn Iterator<Item = &Record>| -> Vec<String> {
            records
                .map(|record| format!("{:?} {} {}", record.header.kind, record.header.id, record.header.timestamp))
                .collect()
        };
        let (ours, theirs) = (kinds(&mut said.iter().copied()), kinds(&mut node.said.iter()));
        let reason = format!("replica {} says {theirs:?} in a schedule and {ours:?} in the scene", local.at + 1);
        Err(Box::new(Violation { check: "scene", reason }))
    }
}
