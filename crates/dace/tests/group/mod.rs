//! A group of cores with journals in memory, driven by hand: what n drivers do, without threads, links or
//! files. Nothing moves unless it is told to.

#![allow(dead_code)] // each test uses its part

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use dace::{Config, Core, Kept, Message, Output, Record, Refused, Restore, StreamError, Submission, SubmitError};
use types::journal::{body_hash, encode_proposal};
use types::{CommandId, Epoch, GroupId, Now, ReplicaId, SlotSet, Timestamp};

/// The wall clock at which every test begins (ns).
pub(crate) const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// What a journal holds.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Said(Record),
    Kept(Kept),
}

/// One replica, its journal and its clocks.
pub(crate) struct Node {
    pub(crate) core: Option<Core>,
    pub(crate) now: Now,
    pub(crate) journal: Vec<Item>,
    pub(crate) base: Option<Vec<u8>>,
    /// The last said position that is durable.
    pub(crate) durable: u64,
    pub(crate) executed: Vec<(Timestamp, CommandId)>,
    pub(crate) cuts: Vec<Timestamp>,
    pub(crate) stored: Timestamp,
    pub(crate) reads: Vec<u64>,
    /// Leased reads that are answered, and how much was executed then.
    pub(crate) leased: Vec<(u64, usize)>,
    /// How much faster than time its clocks run, in parts per million.
    pub(crate) rate_ppm: i64,
    /// What readers beside the loop wait for.
    pub(crate) pending: BTreeMap<CommandId, SlotSet>,
    /// All that was put out for them since somebody last took it, with what the clock showed.
    pub(crate) published: Vec<(u64, Output)>,
    pub(crate) wants: Option<Timestamp>,
    /// Own commands whose outcome is not known, since an installed state covers them.
    pub(crate) covered: Vec<CommandId>,
}

/// All of them, and the messages between them.
pub(crate) struct Group {
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) messages: VecDeque<(u32, u32, Message)>,
    /// Streams that are open: writer and reader.
    pub(crate) streams: BTreeSet<(u32, u32)>,
    n: u32,
    f: u32,
}

/// An output and whose it is.
pub(crate) type Outputs = Vec<(u32, Output)>;

impl Group {
    pub(crate) fn new(n: u32, f: u32) -> Self {
        let mut group = Self { nodes: BTreeMap::new(), messages: VecDeque::new(), streams: BTreeSet::new(), n, f };
        for r in 1..=n {
            let core = Core::new(group.config(r), Restore::default()).expect("a fresh group");
            let node = Node {
                core: Some(core),
                now: Now { mono_ns: 0, wall_ns: WALL_NS },
                journal: Vec::new(),
                base: None,
                durable: 0,
                executed: Vec::new(),
                cuts: Vec::new(),
                stored: Timestamp::ZERO,
                reads: Vec::new(),
                leased: Vec::new(),
                rate_ppm: 0,
                pending: BTreeMap::new(),
                published: Vec::new(),
                wants: None,
                covered: Vec::new(),
            };
            group.nodes.insert(r, node);
        }
        group
    }

    fn config(&self, r: u32) -> Config {
        let members = (1..=self.n).map(ReplicaId).collect();
        Config { group: GroupId(1), replica: ReplicaId(r), members, f: self.f, epoch: Epoch(1) }
    }

    pub(crate) fn core(&mut self, r: u32) -> &mut Core {
        self.node(r).core.as_mut().expect("the replica is up")
    }

    pub(crate) fn node(&mut self, r: u32) -> &mut Node {
        self.nodes.get_mut(&r).expect("a member")
    }

    pub(crate) fn is_up(&self, r: u32) -> bool {
        self.nodes[&r].core.is_some()
    }

    /// Starts a fresh or crashed replica on what is durable; all that are up are asked to vouch for it, and none of
    /// them refuses. Those that are down are taken to be up for that moment, with nothing against it.
    pub(crate) fn start(&mut self, r: u32) -> Outputs {
        self.claim(r).expect("all vouch for it");
        self.start_vouched(r)
    }

    /// Asks the others to vouch for the journal of `r`.
    pub(crate) fn claim(&mut self, r: u32) -> Result<(), Refused> {
        let claim = self.core(r).claim();
        for other in (1..=self.n).filter(|other| *other != r) {
            if self.is_up(other) {
                self.core(other).handle_claim(ReplicaId(r), claim)?;
            }
            self.core(r).handle_vouch(ReplicaId(other));
        }
        Ok(())
    }

    /// The same, whatever the others know.
    pub(crate) fn start_unasked(&mut self, r: u32) -> Outputs {
        for other in (1..=self.n).filter(|other| *other != r) {
            self.core(r).handle_vouch(ReplicaId(other));
        }
        self.start_vouched(r)
    }

    fn start_vouched(&mut self, r: u32) -> Outputs {
        let now = self.nodes[&r].now;
        self.core(r).handle_start(now).expect("the journal is sound");
        self.drain(r)
    }

    /// Starts all, flushes, and connects everyone with everyone.
    pub(crate) fn start_all(&mut self) {
        for r in 1..=self.n {
            self.start(r);
            self.flush(r, None);
        }
        self.exchange();
    }

    pub(crate) fn submit(
        &mut self,
        r: u32,
        slots: &SlotSet,
        payload: &[u8],
    ) -> (Result<CommandId, SubmitError>, Outputs) {
        let salt = [7; 32];
        let body = Bytes::from(encode_proposal(slots, payload));
        let body_hash = body_hash(&salt, &body);
        let submission = Submission { slots: slots.clone(), salt, body, body_hash };
        let now = self.nodes[&r].now;
        let result = self.core(r).handle_submit(now, submission);
        (result, self.drain(r))
    }

    /// A flush up to `position` has ended.
    pub(crate) fn flush(&mut self, r: u32, position: Option<u64>) -> Outputs {
        let position = position.unwrap_or_else(|| self.core(r).status().appended);
        let node = self.node(r);
        node.durable = node.durable.max(position);
        let (now, durable) = (node.now, node.durable);
        self.core(r).handle_durable(now, durable);
        self.drain(r)
    }

    pub(crate) fn tick(&mut self, r: u32) -> Outputs {
        let now = self.nodes[&r].now;
        self.core(r).handle_tick(now);
        self.drain(r)
    }

    /// Everybody's clocks go on.
    pub(crate) fn advance(&mut self, ns: u64) {
        for node in self.nodes.values_mut() {
            let gained = i128::from(ns) * i128::from(node.rate_ppm) / 1_000_000;
            node.now.mono_ns += u64::try_from(i128::from(ns) + gained).expect("clocks go on");
            node.now.wall_ns += ns;
        }
    }

    /// `to` reads what `from` has said and did not send yet, and a beat behind it.
    pub(crate) fn deliver(&mut self, from: u32, to: u32) -> Result<Outputs, String> {
        self.deliver_up_to(from, to, u64::MAX)
    }

    /// The same, without what lies above `last`, and then without the beat.
    pub(crate) fn deliver_up_to(&mut self, from: u32, to: u32, last: u64) -> Result<Outputs, String> {
        if !self.streams.contains(&(from, to)) {
            self.connect(from, to).map_err(|refused| refused.to_string())?;
        }
        let now = self.nodes[&to].now;
        let writer = self.nodes[&from].now;
        let (read, _) = self.core(to).read_of(ReplicaId(from)).expect("a member");
        let beat = self.core(from).beat(writer);
        let mut outputs = self.drain(from);
        let base = self.core(from).peer_base();
        if base.position > read {
            self.core(to).handle_base(now, ReplicaId(from), base).map_err(|error| error.to_string())?;
        }
        for record in self.records_behind(from, read.max(base.position), last) {
            self.core(to).handle_record(now, ReplicaId(from), record).map_err(|error| error.to_string())?;
        }
        if last >= beat.appended {
            self.core(to).handle_beat(now, ReplicaId(from), beat).map_err(|error| error.to_string())?;
        }
        outputs.extend(self.drain(to));
        Ok(outputs)
    }

    fn records_behind(&self, from: u32, read: u64, last: u64) -> Vec<Record> {
        let said = self.nodes[&from].journal.iter().filter_map(|item| match item {
            Item::Said(record) => Some(record.clone()),
            Item::Kept(_) => None,
        });
        said.filter(|record| record.header.position > read && record.header.position <= last).collect()
    }

    /// `from` opens its stream to `to`.
    pub(crate) fn connect(&mut self, from: u32, to: u32) -> Result<u64, Refused> {
        let now = self.nodes[&to].now;
        let Some(hello) = self.core(from).hello() else {
            self.flush(from, None);
            return self.connect(from, to);
        };
        let position = self.core(to).handle_hello(now, ReplicaId(from), hello);
        self.drain(to);
        if position.is_ok() {
            self.streams.insert((from, to));
        }
        position
    }

    /// Gives the oldest message on the way.
    pub(crate) fn give(&mut self) -> Option<Outputs> {
        let (from, to, message) = self.messages.pop_front()?;
        if !self.is_up(to) {
            return Some(Vec::new());
        }
        let now = self.nodes[&to].now;
        self.core(to).handle_message(now, ReplicaId(from), message);
        Some(self.drain(to))
    }

    /// Everyone reads from everyone, flushes and answers until nothing moves.
    pub(crate) fn exchange(&mut self) {
        for _ in 0..12 {
            let up: Vec<u32> = (1..=self.n).filter(|r| self.is_up(*r)).collect();
            for from in &up {
                self.flush(*from, None);
                for to in up.iter().filter(|to| *to != from) {
                    let _ = self.deliver(*from, *to);
                }
            }
            while self.give().is_some() {}
            self.advance(1_000_000);
            for r in up {
                self.tick(r);
            }
        }
    }

    /// A command of the first, attached by the third, decided by the first and the second and stored by the first; the
    /// third hears nothing of that. Gives the command and the stored cut.
    pub(crate) fn store_without_the_third(&mut self, slots: &SlotSet) -> (CommandId, Timestamp) {
        let id = self.submit(1, slots, b"a").0.expect("the first takes it");
        self.flush(1, None);
        self.deliver(1, 3).expect("an open stream");
        self.flush(3, None);
        for _ in 0..12 {
            for (from, to) in [(1, 2), (2, 1)] {
                self.flush(from, None);
                self.deliver(from, to).expect("an open stream");
            }
            self.advance(5_000_000);
            (1..=2).for_each(|r| drop(self.tick(r)));
        }
        (id, self.store(1).expect("it is cut"))
    }

    /// The power fails: what was not flushed is gone. The clocks go on.
    pub(crate) fn crash(&mut self, r: u32) {
        let node = self.node(r);
        node.core = None;
        self.streams.retain(|(from, to)| *from != r && *to != r);
        let node = self.node(r);
        let durable = node.durable;
        let end = node
            .journal
            .iter()
            .position(|item| matches!(item, Item::Said(record) if record.header.position > durable))
            .unwrap_or(node.journal.len());
        node.journal.truncate(end);
        let stored = node.stored;
        node.executed.retain(|(timestamp, _)| *timestamp <= stored);
        node.cuts.retain(|cut| *cut <= stored);
        node.reads.clear();
        node.leased.clear();
        node.pending.clear();
        node.published.clear();
        node.covered.clear();
    }

    /// A new core on what is left.
    pub(crate) fn restore(&mut self, r: u32) -> Result<Outputs, String> {
        let config = self.config(r);
        let node = self.node(r);
        let restore = Restore { base: node.base.clone(), executed_cut: node.stored };
        let journal = node.journal.clone();
        let mut core = Core::new(config, restore).map_err(|error| error.to_string())?;
        for item in journal {
            match item {
                Item::Said(record) => core.restore_record(record).map_err(|error| error.to_string())?,
                Item::Kept(kept) => core.restore_kept(&kept).map_err(|error| error.to_string())?,
            }
        }
        node.core = Some(core);
        let outputs = self.drain(r);
        Ok(outputs)
    }

    /// The state at the last cut becomes durable.
    pub(crate) fn store(&mut self, r: u32) -> Option<Timestamp> {
        let node = self.node(r);
        let cut = *node.cuts.last()?;
        node.stored = cut;
        self.core(r).handle_stored(cut);
        Some(cut)
    }

    /// Trims what n - f members hold.
    pub(crate) fn trim(&mut self, r: u32) -> Option<u64> {
        let cut = self.core(r).trimmable();
        let base = self.core(r).base(cut)?;
        let node = self.node(r);
        let gone = node
            .journal
            .iter()
            .position(|item| matches!(item, Item::Said(record) if record.header.position > base.position));
        let mut gone = gone.unwrap_or(node.journal.len());
        while gone > 0 && matches!(node.journal[gone - 1], Item::Kept(_)) {
            gone -= 1;
        }
        node.journal.drain(..gone);
        node.base = Some(base.bytes);
        Some(base.position)
    }

    /// Installs the stored state of `from` at `to`.
    pub(crate) fn install(&mut self, from: u32, to: u32) -> Outputs {
        let (cut, executed, cuts) = {
            let node = &self.nodes[&from];
            (node.stored, node.executed.clone(), node.cuts.clone())
        };
        let node = self.node(to);
        node.executed = executed.into_iter().filter(|(timestamp, _)| *timestamp <= cut).collect();
        node.cuts = cuts.into_iter().filter(|other| *other <= cut).collect();
        node.stored = cut;
        node.wants = None;
        let now = node.now;
        self.core(to).handle_snapshot(now, cut);
        self.drain(to)
    }

    pub(crate) fn drain(&mut self, r: u32) -> Outputs {
        let mut outputs = Vec::new();
        while let Some(output) = self.core(r).poll_output() {
            let node = self.nodes.get_mut(&r).expect("a member");
            if let Output::Pends { .. } | Output::Settles { .. } | Output::Lease { .. } | Output::Execute { .. } =
                output
            {
                node.published.push((node.now.mono_ns, output.clone()));
            }
            match &output {
                Output::Append(record) => node.journal.push(Item::Said(record.clone())),
                Output::Keep(kept) => node.journal.push(Item::Kept(kept.clone())),
                Output::Execute { timestamp, id, .. } => node.executed.push((*timestamp, *id)),
                Output::Cut { timestamp } => node.cuts.push(*timestamp),
                Output::Send { to, message } => self.messages.push_back((r, to.0, message.clone())),
                Output::ReadReady { read } => node.reads.push(*read),
                Output::LeasedReady { read } => node.leased.push((*read, node.executed.len())),
                // Whoever counts them by slot must find none left over.
                Output::Pends { id, slots } => {
                    assert_eq!(node.pending.insert(*id, slots.clone()), None, "{id} at r{r}");
                }
                Output::Settles { id, slots } => {
                    assert_eq!(node.pending.remove(id).as_ref(), Some(slots), "{id} at r{r}");
                }
                Output::ReadContended { .. } | Output::LeasedContended { .. } | Output::Lease { .. } => {}
                Output::WantSnapshot { cut } => node.wants = Some(*cut),
                Output::Covered { id } => node.covered.push(*id),
                Output::Void { .. } | Output::ReadAgain { .. } | Output::Ended { .. } => {}
            }
            outputs.push((r, output));
        }
        outputs
    }
}

/// For a match on what a stream answers.
pub(crate) fn is_behind(error: &StreamError) -> bool {
    matches!(error, StreamError::Behind(_))
}
