//! A group in memory in which nothing breaks, and what its cores allocate: a command is proposed, acked, committed and
//! executed, cut, and forgotten. Only what happens inside the cores is counted; journals and links are the driver's.

#![allow(dead_code)] // the bench and the test use their parts

use std::collections::{BTreeMap, VecDeque};

use allocation_counter::AllocationInfo;
use bytes::Bytes;
use dace::{Config, Core, Message, Output, Record, Restore, Submission};
use types::journal::{RecordKind, body_hash, encode_proposal};
use types::{Epoch, GroupId, Now, ReplicaId, Slot, SlotSet, Timestamp};

/// Between two steps.
const STEP_NS: u64 = 250_000;
/// Commands between two times that everybody forgets what is cut.
const FORGET_EVERY: u64 = 256;
/// Slots that are written, one after the other.
const SLOTS: u16 = 1024;

/// What a core is asked to do, with what it puts out upon that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    /// Takes a submission.
    Submit,
    /// Hears that something is durable.
    Flush,
    /// Reads a record of a peer.
    Read(RecordKind),
    /// Makes a beat, or reads one.
    Beat,
    /// Has its turn.
    Tick,
    /// Forgets what is cut: stores, bases, and the beats that tell of them.
    Forget,
    /// Anything else.
    Other,
}

/// What a replica allocated for a command.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
    /// Allocations by step, those of [`Step::Forget`] besides.
    pub(crate) steps: BTreeMap<Step, f64>,
}

struct Node {
    core: Core,
    replica: ReplicaId,
    journal: VecDeque<Record>,
    appended: u64,
    /// How far each other replica has been sent the journal.
    sent: Vec<u64>,
    executed: u64,
    cut: Timestamp,
    cost: BTreeMap<Step, AllocationInfo>,
}

pub(crate) struct Group {
    nodes: Vec<Node>,
    messages: VecDeque<(usize, usize, Message)>,
    now: Now,
    step: Step,
    is_forgetting: bool,
}

impl Group {
    fn new(n: usize, f: u32) -> Self {
        let members: Vec<ReplicaId> = (1..=u32::try_from(n).expect("few")).map(ReplicaId).collect();
        let node = |replica: &ReplicaId| {
            let config = Config { group: GroupId(1), replica: *replica, members: members.clone(), f, epoch: Epoch(1) };
            Node {
                core: Core::new(config, Restore::default()).expect("a fresh group"),
                replica: *replica,
                journal: VecDeque::new(),
                appended: 0,
                sent: vec![0; n],
                executed: 0,
                cut: Timestamp::ZERO,
                cost: BTreeMap::new(),
            }
        };
        let nodes = members.iter().map(node).collect();
        let now = Now { mono_ns: 0, wall_ns: 1_700_000_000_000_000_000 };
        Self { nodes, messages: VecDeque::new(), now, step: Step::Other, is_forgetting: false }
    }

    /// Calls a core and counts what it allocates.
    fn call<T>(&mut self, at: usize, step: Step, call: impl FnOnce(&mut Core, Now) -> T) -> T {
        self.step = if self.is_forgetting { Step::Forget } else { step };
        let (node, now) = (&mut self.nodes[at], self.now);
        let mut given = None;
        let info = allocation_counter::measure(|| given = Some(call(&mut node.core, now)));
        *node.cost.entry(self.step).or_default() += info;
        given.expect("it was called")
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.call(at, self.step, |core, _| core.poll_output()) {
            let node = &mut self.nodes[at];
            match output {
                Output::Append(record) => {
                    node.appended = record.header.position;
                    node.journal.push_back(record);
                }
                Output::Execute { .. } => node.executed += 1,
                Output::Cut { timestamp } => node.cut = timestamp,
                Output::Send { to, message } => {
                    let to = usize::try_from(to.0 - 1).expect("few");
                    self.messages.push_back((at, to, message));
                }
                Output::Keep(_) => {}
                other => unreachable!("nobody reads, nobody is behind, and nothing is leased: {other:?}"),
            }
        }
    }

    fn flush(&mut self, at: usize) {
        let appended = self.nodes[at].appended;
        self.call(at, Step::Flush, |core, now| core.handle_durable(now, appended));
        self.drain(at);
    }

    /// Everybody reads what a replica has said.
    fn ship(&mut self, from: usize) {
        let beat = self.call(from, Step::Beat, |core, now| core.beat(now));
        self.drain(from);
        let writer = self.nodes[from].replica;
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let node = &mut self.nodes[from];
            let sent = core::mem::replace(&mut node.sent[to], beat.appended);
            let is_new = |record: &&Record| (sent + 1..=beat.appended).contains(&record.header.position);
            let records: Vec<Record> = node.journal.iter().filter(is_new).cloned().collect();
            for record in records {
                let step = Step::Read(record.header.kind);
                self.call(to, step, |core, now| core.handle_record(now, writer, record)).expect("an open stream");
                self.drain(to);
            }
            self.call(to, Step::Beat, |core, now| core.handle_beat(now, writer, beat)).expect("an open stream");
            self.drain(to);
        }
        self.now.mono_ns += STEP_NS;
        self.now.wall_ns += STEP_NS;
    }

    fn round(&mut self) {
        for at in 0..self.nodes.len() {
            self.call(at, Step::Tick, Core::handle_tick);
            self.drain(at);
            self.flush(at);
            self.ship(at);
        }
        while let Some((from, to, message)) = self.messages.pop_front() {
            let from = self.nodes[from].replica;
            self.call(to, Step::Other, |core, now| core.handle_message(now, from, message));
            self.drain(to);
        }
    }

    fn connect(&mut self) {
        let n = self.nodes.len();
        for at in 0..n {
            for other in (0..n).filter(|other| *other != at) {
                let other = ReplicaId(u32::try_from(other + 1).expect("few replicas"));
                self.call(at, Step::Other, |core, _| core.handle_vouch(other));
            }
            self.call(at, Step::Other, |core, now| core.handle_start(now)).expect("an empty journal");
            self.drain(at);
            self.flush(at);
        }
        for from in 0..n {
            let writer = self.nodes[from].replica;
            for to in (0..n).filter(|to| *to != from) {
                let hello = self.nodes[from].core.hello().expect("it runs");
                let position =
                    self.call(to, Step::Other, |core, now| core.handle_hello(now, writer, hello)).expect("a member");
                self.nodes[from].sent[to] = position;
            }
        }
        (0..8).for_each(|_| self.round());
    }

    /// The first replica coordinates so many commands in one flush.
    fn commands(&mut self, first: u64, in_flush: u64) {
        for number in first..first + in_flush {
            let slots = SlotSet::of(vec![Slot(u16::try_from(number % u64::from(SLOTS)).expect("a slot"))]);
            let body = Bytes::from(encode_proposal(&slots, &[7; 1024]));
            let body_hash = body_hash(&[1; 32], &body);
            let submission = Submission { slots, salt: [1; 32], body, body_hash };
            self.call(0, Step::Submit, |core, now| core.handle_submit(now, submission)).expect("room");
            self.drain(0);
        }
        self.flush(0);
        self.ship(0);
        (1..self.nodes.len()).for_each(|at| self.flush(at));
        (1..self.nodes.len()).for_each(|at| self.ship(at));
        self.flush(0);
        self.ship(0);
        self.round();
    }

    /// What is cut is forgotten, here and of the peers.
    fn forget(&mut self) {
        // Until the last command is cut.
        (0..40).for_each(|_| self.round());
        self.is_forgetting = true;
        for at in 0..self.nodes.len() {
            let cut = self.nodes[at].cut;
            self.call(at, Step::Forget, |core, _| core.handle_stored(cut));
            self.drain(at);
        }
        self.round();
        for at in 0..self.nodes.len() {
            let base = self.call(at, Step::Forget, |core, _| {
                let cut = core.trimmable();
                core.base(cut)
            });
            let base = base.expect("everything is stored everywhere");
            self.nodes[at].journal.retain(|record| record.header.position > base.position);
            self.drain(at);
        }
        self.round();
        self.is_forgetting = false;
    }
}

/// What each replica allocates for a command of 1 KiB that the first one coordinates.
pub(crate) fn costs(n: usize, f: u32, in_flush: u64, commands: u64) -> Vec<Cost> {
    let mut group = Group::new(n, f);
    group.connect();
    let warm = 2 * FORGET_EVERY;
    let mut done = 0;
    while done < warm + commands {
        if done == warm {
            for node in &mut group.nodes {
                node.cost.clear();
            }
        }
        group.commands(done, in_flush);
        done += in_flush;
        if done.is_multiple_of(FORGET_EVERY) {
            group.forget();
        }
    }
    let cost = |node: &Node| {
        assert_eq!(node.executed, done, "every replica executes every command");
        let per_command = |count: u64| count as f64 / commands as f64;
        let on_the_way = || node.cost.iter().filter(|(step, _)| **step != Step::Forget).map(|(_, info)| info);
        Cost {
            allocations: per_command(on_the_way().map(|info| info.count_total).sum()),
            bytes: per_command(on_the_way().map(|info| info.bytes_total).sum()),
            steps: node.cost.iter().map(|(step, info)| (*step, per_command(info.count_total))).collect(),
        }
    };
    group.nodes.iter().map(cost).collect()
}
