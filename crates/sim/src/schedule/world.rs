//! The world of a schedule: applies steps to cores, and shows the judge what they put out.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use dace::{Beat, Config, Core, LeaseTiming, Message, Mutant, Record, Restore, StreamError, Submission, Timing};
use types::journal::{RecordHeader, RecordKind, body_hash, encode_proposal};
use types::{CommandId, Epoch, GroupId, Now, ReplicaId, SlotSet, Timestamp};

use super::check::Judge;
use super::node::{Fate, Item, Node};
use super::step::Step;
use super::{Done, Setting};
use crate::group::Violation;
use crate::group::check::{Checked, ensure, violation};

/// One millisecond in ns.
pub(super) const MS: u64 = 1_000_000;

/// The wall clock at which every schedule begins (ns).
pub(super) const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// The time-outs: a recovery waits for twice as long as a coordinator.
pub(super) const TIMING: Timing =
    Timing { give_up_ns: 50 * MS, recover_ns: 100 * MS, fetch_ns: 10 * MS, read_ns: 20 * MS };

/// Clocks run this part too fast or too slow where leases are.
const RATE_ERROR: u64 = 10;
pub(super) const LEASE_TIMING: LeaseTiming = LeaseTiming { term_ns: 300 * MS, rate_error_ppm: 1_000_000 / RATE_ERROR };

/// By how much the monotonic clock of a replica errs in `ns`, where leases are: the first is slow, the second fast.
pub(super) fn drift(at: usize, ns: u64) -> i64 {
    let error = i64::try_from(ns / RATE_ERROR).expect("a step takes no centuries");
    if at.is_multiple_of(2) { -error } else { error }
}

/// Clocks after `ns`, the monotonic one with an error.
pub(super) fn later(now: Now, ns: u64, error: i64) -> Now {
    let mono_ns = now.mono_ns.saturating_add(ns).saturating_add_signed(error);
    Now { mono_ns, wall_ns: now.wall_ns.saturating_add(ns) }
}

/// What a step came to: whether it applied.
pub(super) type Applied = Result<bool, Box<Violation>>;

/// See the file's documentation.
#[derive(Clone)]
pub(super) struct World {
    pub(super) setting: Setting,
    pub(super) nodes: Vec<Node>,
    /// From, to, and what.
    pub(super) messages: VecDeque<(usize, usize, Message)>,
    /// Streams that are open: writer and reader.
    open: BTreeSet<(usize, usize)>,
    pub(super) judge: Judge,
    applied: usize,
    decided: [u64; 7],
    /// Whether anybody ever wanted a lease.
    pub(super) has_leases: bool,
    /// Whether clocks run at different rates.
    pub(super) drifts: bool,
    /// Whether to tell what steps do.
    pub(super) is_traced: bool,
    /// What the last step did.
    pub(super) lines: Vec<String>,
}

impl World {
    /// A group whose replicas have started, and know of each other that they have.
    pub(super) fn new(setting: Setting) -> Self {
        let mut world = Self::unconnected(setting);
        for _ in 0..2 {
            for from in 0..setting.replicas {
                for to in (0..setting.replicas).filter(|to| *to != from) {
                    world.read_all(from, to).expect("nothing is wrong with a fresh group");
                }
            }
        }
        world
    }

    fn unconnected(setting: Setting) -> Self {
        let node = Node::new(Now { mono_ns: 0, wall_ns: WALL_NS });
        let mut world = Self {
            setting,
            nodes: vec![node; setting.replicas],
            messages: VecDeque::new(),
            open: BTreeSet::new(),
            judge: Judge::new(setting.replicas, setting.faults),
            applied: 0,
            decided: [0; 7],
            has_leases: false,
            drifts: false,
            is_traced: false,
            lines: Vec::new(),
        };
        for at in 0..setting.replicas {
            world.start(at).and_then(|_| world.flush(at, 0)).expect("nothing is wrong with a fresh replica");
        }
        world
    }

    /// Applies a step, if it applies.
    pub(super) fn apply(&mut self, step: &Step) -> Applied {
        let applied = match step {
            Step::Submit(at, slots) => self.is_up(*at) && self.submit(*at, slots)?,
            Step::Flush(at, but) => self.is_up(*at) && self.flush(*at, *but)?,
            Step::ReadAll(from, to) => self.is_up(*to) && self.is_member(*from) && self.read_all(*from, *to)?,
            Step::Read(from, to, count) => self.is_up(*to) && self.is_member(*from) && self.read(*from, *to, *count)?,
            Step::Beat(at) => self.is_up(*at) && self.beat(*at)?,
            Step::Tick(at) => self.is_up(*at) && self.tick(*at)?,
            Step::Advance(ns) => self.advance(*ns),
            Step::AdvanceOne(at, ns) => self.is_member(*at) && !self.has_leases && self.advance_one(*at, *ns),
            Step::Crash(at, keep) => self.is_up(*at) && self.crash(*at, *keep)?,
            Step::Start(at) => self.is_member(*at) && self.start(*at)?,
            Step::Give(from, to) => self.give(*from, *to)?,
            Step::Drop(from, to) => self.take_message(*from, *to).is_some(),
            Step::Get(at, slots) => self.is_up(*at) && self.get(*at, slots)?,
            Step::Want(at) => self.is_up(*at) && self.want(*at)?,
            Step::Unwant(at) => self.is_up(*at) && self.unwant(*at)?,
            Step::Leased(at, slots) => self.is_up(*at) && self.leased(*at, slots)?,
            Step::Store(at) => self.is_up(*at) && self.store(*at),
            Step::Trim(at) => self.is_up(*at) && self.trim(*at),
            Step::Snapshot(from, to) => self.is_up(*to) && self.is_member(*from) && self.install(*from, *to)?,
            Step::Suspect(at, of) => self.is_up(*at) && self.is_member(*of) && self.suspect(*at, *of, true)?,
            Step::Trust(at, of) => self.is_up(*at) && self.is_member(*of) && self.suspect(*at, *of, false)?,
            Step::Prefer(at, order) => self.is_up(*at) && self.prefer(*at, order),
            Step::RollBack(at, items) => self.is_member(*at) && self.roll_back(*at, *items),
            Step::Settle(gone) => self.settle(gone, None).map(|()| true)?,
            Step::SettleDeaf(at) => self.is_member(*at) && self.settle(&[], Some(*at)).map(|()| true)?,
        };
        self.applied += usize::from(applied);
        Ok(applied)
    }

    /// What can be judged only at the end.
    pub(super) fn finish(&mut self) -> Result<Done, Box<Violation>> {
        self.judge.serializable()?;
        for at in 0..self.nodes.len() {
            self.count(at);
        }
        Ok(Done {
            applied: self.applied,
            executed: self.judge.executed_anywhere().count(),
            cuts: self.judge.cuts(),
            reads: self.judge.reads_finished(),
            decided: self.decided,
        })
    }

    pub(super) fn is_member(&self, at: usize) -> bool {
        at < self.nodes.len()
    }

    pub(super) fn is_up(&self, at: usize) -> bool {
        self.nodes.get(at).is_some_and(|node| node.core.is_some())
    }

    pub(super) fn replica(at: usize) -> ReplicaId {
        ReplicaId(u32::try_from(at + 1).expect("few replicas"))
    }

    fn mutates(&self, mutant: Mutant) -> bool {
        self.setting.mutant == Some(mutant)
    }

    pub(super) fn say(&mut self, at: usize, line: impl FnOnce() -> String) {
        if self.is_traced {
            self.lines.push(format!("{}: {}", at + 1, line()));
        }
    }

    fn submit(&mut self, at: usize, slots: &SlotSet) -> Applied {
        if self.nodes[at].rolled_back.is_some() {
            return Ok(false);
        }
        let salt = [7; 32];
        let body = Bytes::from(encode_proposal(slots, b"x"));
        let body_hash = body_hash(&salt, &body);
        let submission = Submission { slots: slots.clone(), salt, body, body_hash };
        let node = &mut self.nodes[at];
        let now = node.now;
        match node.core().handle_submit(now, submission) {
            Ok(id) => {
                node.waiting.insert(id, slots.clone());
                self.judge.submitted(id, slots)?;
                self.drain(at)?;
                Ok(true)
            }
            Err(_) => self.drain(at).map(|()| false),
        }
    }

    pub(super) fn flush(&mut self, at: usize, but: u64) -> Applied {
        let node = &mut self.nodes[at];
        let appended = node.core().status().appended;
        let position = appended.saturating_sub(but).max(node.durable);
        let before = node.durable_items;
        let hardened = node.harden(position).to_vec();
        if node.durable_items == before {
            return Ok(false);
        }
        let (now, durable) = (node.now, node.durable);
        node.core().handle_durable(now, durable);
        self.hardened(at, &hardened)?;
        self.drain(at)?;
        Ok(true)
    }

    /// Items became durable: a decision among them counts.
    fn hardened(&mut self, at: usize, items: &[Item]) -> Checked {
        for item in items {
            let Item::Said(record) = item else { continue };
            if record.header.kind == RecordKind::Commit {
                self.committed(at, &record.header)?;
            }
        }
        Ok(())
    }

    /// A decision of this replica counts.
    pub(super) fn committed(&mut self, at: usize, header: &RecordHeader) -> Checked {
        let (id, timestamp) = (header.id, header.timestamp);
        if self.nodes[at].rolled_back.is_some() {
            return Ok(());
        }
        self.judge.decided(at, id, timestamp)?;
        if self.mutates(Mutant::AnswersBeforeExecution) && self.is_up(at) {
            self.answer(at, id, timestamp)?;
        }
        Ok(())
    }

    /// The client of a command is answered, if one waits here.
    pub(super) fn answer(&mut self, at: usize, id: CommandId, timestamp: Timestamp) -> Checked {
        if self.nodes[at].waiting.remove(&id).is_none() {
            return Ok(());
        }
        // A disk that was rolled back may have held it, and has failed since.
        let holds = |node: &&Node| node.rolled_back.is_some() || node.vouches(id, timestamp);
        let holders = self.nodes.iter().filter(holds).count();
        self.judge.answered(at, id, holders)
    }

    /// A beat: what holds behind all that was said.
    fn beat(&mut self, at: usize) -> Applied {
        let node = &mut self.nodes[at];
        let now = node.now;
        let Beat { appended, promise, reading, .. } = node.core().beat(now);
        node.reading = reading;
        let is_new = node.promises.last() != Some(&(appended, promise));
        if is_new {
            node.promises.push((appended, promise));
        }
        self.drain(at)?;
        Ok(true)
    }

    pub(super) fn read_all(&mut self, from: usize, to: usize) -> Applied {
        if self.is_up(from) {
            self.beat(from)?;
        }
        self.read(from, to, usize::MAX)
    }

    /// Opens the stream if it is not open. False if there is none to be had.
    fn connect(&mut self, from: usize, to: usize) -> Applied {
        if self.open.contains(&(from, to)) {
            return Ok(true);
        }
        let Some(hello) = self.nodes[from].core.as_ref().and_then(Core::hello) else { return Ok(false) };
        let left = self.nodes[from].rolled_back;
        let node = &mut self.nodes[to];
        let now = node.now;
        let (_, counted) = node.core().read_of(Self::replica(from)).expect("a member");
        let heard = node.core().handle_hello(now, Self::replica(from), hello);
        match heard {
            Ok(_) => {
                // Where nobody is asked to vouch, what comes of that is looked for.
                let is_lost = left.is_some_and(|left| counted > left) && !self.mutates(Mutant::StartsUnvouched);
                ensure(!is_lost, "refusal", || {
                    format!(
                        "replica {} takes replica {}, whose journal was rolled back to {left:?}, though it counted {counted} durable",
                        to + 1,
                        from + 1
                    )
                })?;
                self.open.insert((from, to));
                self.drain(to)?;
                Ok(true)
            }
            Err(refused) => {
                // One that has lost its disk may well doubt the others.
                let is_failed = self.nodes[to].rolled_back.is_some();
                ensure(left.is_some() || is_failed, "refusal", || {
                    format!("replica {} refuses replica {}: {refused}", to + 1, from + 1)
                })?;
                self.drain(to)?;
                let failed = if is_failed { to } else { from };
                self.crash(failed, 0)?;
                self.nodes[failed].fate = Fate::Gone;
                Ok(false)
            }
        }
    }

    /// Reads on in a journal, and a beat behind that.
    fn read(&mut self, from: usize, to: usize, count: usize) -> Applied {
        if !self.connect(from, to)? || !self.is_up(to) {
            return Ok(false);
        }
        let replica = Self::replica(from);
        let now = self.nodes[to].now;
        let (mut read, _) = self.nodes[to].core().read_of(replica).expect("a member");
        if let Some(base) = self.nodes[from].core.as_ref().map(Core::peer_base).filter(|base| base.position > read) {
            let taken = self.nodes[to].core().handle_base(now, replica, base);
            self.drain(to)?;
            if let Err(error) = taken {
                return self.broken(from, to, error);
            }
            read = base.position;
        }
        let records: Vec<Record> = self.nodes[from].said_behind(read).take(count).cloned().collect();
        if records.first().is_some_and(|record| record.header.position != read + 1) {
            // Trimmed, and its writer is down: nobody can say where it goes on.
            return Ok(false);
        }
        for record in records {
            read = record.header.position;
            let taken = self.nodes[to].core().handle_record(now, replica, record);
            self.drain(to)?;
            if let Err(error) = taken {
                return self.broken(from, to, error);
            }
        }
        let writer = &self.nodes[from];
        let beat = Beat {
            appended: read,
            durable: writer.durable.min(read),
            promise: writer.promise_at(read),
            reading: writer.reading,
            stored: writer.stored,
        };
        let taken = self.nodes[to].core().handle_beat(now, replica, beat);
        self.drain(to)?;
        if let Err(error) = taken {
            return self.broken(from, to, error);
        }
        Ok(true)
    }

    /// A stream cannot go on.
    fn broken(&mut self, from: usize, to: usize, error: StreamError) -> Applied {
        self.open.remove(&(from, to));
        match error {
            StreamError::Behind(_) => Ok(true),
            StreamError::Closed(_) => Ok(false),
            // One that has lost its disk may well doubt the others.
            _ if self.nodes[to].rolled_back.is_some() => Ok(false),
            error => violation("stream", format!("replica {} reads replica {}: {error}", to + 1, from + 1)),
        }
    }

    pub(super) fn tick(&mut self, at: usize) -> Applied {
        let node = &mut self.nodes[at];
        let now = node.now;
        let is_due = node.core().deadline().is_some_and(|deadline| deadline <= now.mono_ns);
        node.core().handle_tick(now);
        self.drain(at)?;
        Ok(is_due)
    }

    fn advance_one(&mut self, at: usize, ns: u64) -> bool {
        self.nodes[at].now = later(self.nodes[at].now, ns, 0);
        ns > 0
    }

    /// All clocks go on. Where leases are, at the edge of what is allowed: the first slow, the second fast, and so on.
    pub(super) fn advance(&mut self, ns: u64) -> bool {
        for at in 0..self.nodes.len() {
            let error = if self.drifts { drift(at, ns) } else { 0 };
            self.nodes[at].now = later(self.nodes[at].now, ns, error);
        }
        ns > 0
    }

    /// The process ends. What it has said may still come to its readers.
    pub(super) fn crash(&mut self, at: usize, keep: usize) -> Applied {
        self.count(at);
        let node = &mut self.nodes[at];
        node.core = None;
        let (before, sent) = (node.durable_items, node.durable);
        node.harden_items(node.items.len().min(before.saturating_add(keep)));
        // What its readers are told does not change by that.
        node.items.truncate(node.durable_items);
        let survived = node.items[before..].to_vec();
        node.durable = sent;
        node.waiting.clear();
        node.reads.clear();
        node.wants = None;
        self.open.retain(|(_, to)| *to != at);
        self.messages.retain(|(_, to, _)| *to != at);
        self.hardened(at, &survived)?;
        Ok(true)
    }

    /// Counts what the present life of a replica decided.
    fn count(&mut self, at: usize) {
        let Some(core) = &self.nodes[at].core else { return };
        let counters = core.counters();
        let [one, two, three, four] = counters.rules;
        let now = [counters.fast, counters.slow, counters.slow_given_up, one, two, three, four];
        self.decided.iter_mut().zip(now).for_each(|(sum, more)| *sum += more);
    }

    /// A process starts on what its disk holds.
    pub(super) fn start(&mut self, at: usize) -> Applied {
        let node = &self.nodes[at];
        if node.core.is_some() || node.fate == Fate::Gone {
            return Ok(false);
        }
        let members = (0..self.setting.replicas).map(Self::replica).collect();
        let f = u32::try_from(self.setting.faults).expect("few faults");
        let config = Config { group: GroupId(1), replica: Self::replica(at), members, f, epoch: Epoch(1) };
        let restore = Restore { base: node.base.clone(), executed_cut: node.stored };
        let mut core = match Core::new(config, restore) {
            Ok(core) => core,
            Err(error) => return violation("restart", format!("replica {} cannot be restored: {error}", at + 1)),
        };
        core.set_timing(TIMING);
        core.set_lease_timing(LEASE_TIMING);
        if let Some(mutant) = self.setting.mutant {
            core.set_mutant(mutant);
        }
        self.judge.restored(at, node.stored);
        self.open.retain(|(from, to)| *from != at && *to != at);
        let items = self.nodes[at].items.clone();
        let node = &mut self.nodes[at];
        node.core = Some(core);
        node.promises.clear();
        node.durable_items = items.len();
        node.said = items
            .iter()
            .filter_map(|item| if let Item::Said(record) = item { Some(record.clone()) } else { None })
            .collect();
        node.durable = node.said.last().map_or(0, |record| record.header.position);
        for item in items {
            let restored = match item {
                Item::Said(record) => self.nodes[at].core().restore_record(record),
                Item::Kept(kept) => self.nodes[at].core().restore_kept(&kept),
            };
            if let Err(error) = restored {
                return violation("restart", format!("replica {} cannot replay its journal: {error}", at + 1));
            }
            self.drain(at)?;
        }
        if !self.is_vouched(at)? {
            return Ok(false);
        }
        let node = &mut self.nodes[at];
        let now = node.now;
        if let Err(error) = node.core().handle_start(now) {
            return violation("restart", format!("replica {} cannot start: {error}", at + 1));
        }
        node.durable = node.durable.max(node.core().status().durable);
        self.drain(at)?;
        Ok(true)
    }

    fn take_message(&mut self, from: usize, to: usize) -> Option<Message> {
        let at = self.messages.iter().position(|(source, target, _)| (*source, *target) == (from, to))?;
        self.messages.remove(at).map(|(.., message)| message)
    }

    pub(super) fn give(&mut self, from: usize, to: usize) -> Applied {
        let Some(message) = self.take_message(from, to) else { return Ok(false) };
        if !self.is_up(to) {
            return Ok(false);
        }
        self.say(to, || format!("hears {message:?}"));
        let node = &mut self.nodes[to];
        let now = node.now;
        node.core().handle_message(now, Self::replica(from), message);
        self.drain(to)?;
        Ok(true)
    }

    pub(super) fn store(&mut self, at: usize) -> bool {
        let cut = self.judge.cut_of(at);
        let node = &mut self.nodes[at];
        if cut <= node.stored {
            return false;
        }
        node.stored = cut;
        node.core().handle_stored(cut);
        true
    }

    fn trim(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let cut = node.core().trimmable();
        let Some(base) = node.core().base(cut) else { return false };
        let behind = |item: &Item| matches!(item, Item::Said(record) if record.header.position > base.position);
        let mut gone = node.items.iter().position(behind).unwrap_or(node.items.len());
        while gone > 0 && matches!(node.items[gone - 1], Item::Kept(_)) {
            gone -= 1;
        }
        node.items.drain(..gone);
        node.durable_items = node.durable_items.saturating_sub(gone);
        node.said.retain(|record| record.header.position > base.position);
        node.base = Some(base.bytes);
        true
    }

    pub(super) fn install(&mut self, from: usize, to: usize) -> Applied {
        let cut = self.nodes[from].stored;
        let node = &mut self.nodes[to];
        let wants = node.wants.is_some_and(|wanted| wanted <= cut);
        if !wants || cut <= self.judge.cut_of(to) || cut <= node.stored {
            return Ok(false);
        }
        node.stored = cut;
        node.wants = None;
        let reads = core::mem::take(&mut node.reads);
        reads.keys().for_each(|read| self.judge.read_dropped(to, *read));
        self.judge.restored(to, cut);
        let node = &mut self.nodes[to];
        let now = node.now;
        node.core().handle_snapshot(now, cut);
        self.drain(to)?;
        Ok(true)
    }

    fn suspect(&mut self, at: usize, of: usize, suspected: bool) -> Applied {
        if at == of {
            return Ok(false);
        }
        let node = &mut self.nodes[at];
        let now = node.now;
        node.core().suspect(now, Self::replica(of), suspected);
        self.drain(at)?;
        Ok(true)
    }

    fn prefer(&mut self, at: usize, order: &[usize]) -> bool {
        let order: Vec<ReplicaId> = order.iter().copied().filter(|of| self.is_member(*of)).map(Self::replica).collect();
        self.nodes[at].core().prefer(&order);
        !order.is_empty()
    }
}
