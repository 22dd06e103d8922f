//! Replicas over several epochs, with journals and states in memory, driven by hand: what drivers of
//! [`dace::Replica`] do, without threads, links or files. Every output is checked as it comes.

#![allow(dead_code)] // each test uses its part

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use dace::{
    Core, EpochJournal, Kept, Membership, Message, Output, Reconfig, Record, Remains, Replica, ReplicaOutput, SetUp,
    Stored, Submission, SubmitError,
};
use types::journal::{body_hash, decode_proposal, encode_proposal};
use types::{CommandId, Epoch, GroupId, Now, ReplicaId, Slot, SlotSet, Timestamp};

/// The wall clock at which every test begins (ns).
pub(crate) const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// What a journal holds.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Said(Record),
    Kept(Kept),
}

/// The journal of an epoch.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) membership: Membership,
    pub(crate) items: Vec<Item>,
    pub(crate) base: Option<Vec<u8>>,
    /// The last said position that is durable.
    pub(crate) durable: u64,
}

/// A command as it was executed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Executed {
    pub(crate) timestamp: Timestamp,
    pub(crate) id: CommandId,
    pub(crate) epoch: Epoch,
}

/// A replica, what is on its disks, and its clocks.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) replica: Option<Replica>,
    pub(crate) now: Now,
    pub(crate) rate_ppm: i64,
    pub(crate) journals: BTreeMap<Epoch, Journal>,
    /// The state: what was executed, the cuts, and the epoch that it is of.
    pub(crate) executed: Vec<Executed>,
    pub(crate) cuts: Vec<Timestamp>,
    pub(crate) membership: Option<Membership>,
    /// What of it is durable.
    pub(crate) stored: Option<Stored>,
    pub(crate) wants: Option<Timestamp>,
    pub(crate) removed: bool,
    /// Up to here epochs are over: durable.
    pub(crate) over: Epoch,
    /// Reads by quorum and under leases that are answered, and how much was executed then.
    pub(crate) reads: Vec<((Epoch, u64), usize)>,
    /// Reads to be asked again.
    pub(crate) again: Vec<(Epoch, u64)>,
    pub(crate) voids: Vec<CommandId>,
    pub(crate) pending: BTreeSet<(Epoch, CommandId)>,
    /// Proposed in this life.
    pub(crate) own: BTreeSet<CommandId>,
}

/// All of them, the messages between them, and what is known of the run.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) messages: VecDeque<(u32, u32, Epoch, Message)>,
    pub(crate) streams: BTreeSet<(u32, u32, Epoch)>,
    pub(crate) set_up: SetUp,
    /// Slots of every command.
    pub(crate) slots: BTreeMap<CommandId, SlotSet>,
    /// Where each command was executed: the same everywhere.
    pub(crate) decided: BTreeMap<CommandId, (Timestamp, Epoch)>,
    /// What was void anywhere.
    pub(crate) voided: BTreeSet<CommandId>,
    /// What somebody said an installed state covers, of its own.
    pub(crate) covered: BTreeSet<CommandId>,
    /// What a client was told is done.
    pub(crate) acked: BTreeSet<CommandId>,
    /// What each cut holds, from the cut before: the same everywhere.
    pub(crate) blocks: BTreeMap<Timestamp, (Timestamp, Vec<CommandId>)>,
    /// Lines of what happened, for a transcript.
    pub(crate) trace: Option<Vec<(u32, ReplicaOutput)>>,
}

/// A replica that is in no group yet.
fn stranger() -> Node {
    Node {
        replica: None,
        now: Now { mono_ns: 0, wall_ns: WALL_NS },
        rate_ppm: 0,
        journals: BTreeMap::new(),
        executed: Vec::new(),
        cuts: Vec::new(),
        membership: None,
        stored: None,
        wants: None,
        removed: false,
        over: Epoch(0),
        reads: Vec::new(),
        again: Vec::new(),
        voids: Vec::new(),
        pending: BTreeSet::new(),
        own: BTreeSet::new(),
    }
}

/// The failures that a group of `n` survives here.
pub(crate) fn failures(n: usize) -> u32 {
    u32::from(n > 2)
}

/// What the next epoch is to be.
pub(crate) fn of(members: &[u32]) -> Reconfig {
    let members: Vec<ReplicaId> = members.iter().map(|r| ReplicaId(*r)).collect();
    Reconfig { f: failures(members.len()), members, logic: 1 }
}

impl Cluster {
    /// A group of the replicas 1 to `n`, and strangers up to `all`; all of them started and connected.
    pub(crate) fn new(n: u32, f: u32, all: u32, set_up: impl Fn(&mut Core) + Send + Sync + 'static) -> Self {
        let members: Vec<ReplicaId> = (1..=n).map(ReplicaId).collect();
        let first = Membership { epoch: Epoch(1), members, f, logic: 1, entry: None };
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            messages: VecDeque::new(),
            streams: BTreeSet::new(),
            set_up: Arc::new(set_up),
            slots: BTreeMap::new(),
            decided: BTreeMap::new(),
            voided: BTreeSet::new(),
            covered: BTreeSet::new(),
            acked: BTreeSet::new(),
            blocks: BTreeMap::new(),
            trace: None,
        };
        for r in 1..=all {
            let mut node = stranger();
            if r <= n {
                node.membership = Some(first.clone());
                node.stored = Some(Stored { cut: Timestamp::ZERO, membership: first.clone() });
            }
            cluster.nodes.insert(r, node);
            cluster.start(r);
        }
        cluster
    }

    pub(crate) fn node(&mut self, r: u32) -> &mut Node {
        self.nodes.get_mut(&r).expect("a replica")
    }

    pub(crate) fn replica(&mut self, r: u32) -> &mut Replica {
        self.node(r).replica.as_mut().unwrap_or_else(|| panic!("r{r} is up"))
    }

    pub(crate) fn is_up(&self, r: u32) -> bool {
        self.nodes.get(&r).is_some_and(|node| node.replica.is_some())
    }

    pub(crate) fn up(&self) -> Vec<u32> {
        self.nodes.keys().copied().filter(|r| self.is_up(*r)).collect()
    }

    /// The newest epoch that anybody knows of.
    pub(crate) fn newest(&self) -> Membership {
        let known = self.nodes.values().filter_map(|node| node.replica.as_ref()?.newest().cloned());
        known.max_by_key(|known| known.epoch).expect("a group")
    }

    /// Starts a fresh or crashed replica on what is durable.
    pub(crate) fn start(&mut self, r: u32) {
        self.restore(r);
        self.trust(r);
        self.begin(r);
    }

    /// Makes a replica of what is durable, which has not started yet.
    pub(crate) fn restore(&mut self, r: u32) {
        let set_up = Arc::clone(&self.set_up);
        let node = self.node(r);
        let journals: Vec<EpochJournal> = node
            .journals
            .values()
            .map(|journal| EpochJournal { membership: journal.membership.clone(), base: journal.base.clone() })
            .collect();
        let remains = Remains { stored: node.stored.clone(), journals, over: node.over };
        let replica = Replica::new(GroupId(1), ReplicaId(r), remains, set_up);
        let items: Vec<(Epoch, Item)> = node
            .journals
            .iter()
            .flat_map(|(epoch, journal)| journal.items.iter().map(|item| (*epoch, item.clone())))
            .collect();
        node.replica = Some(replica.expect("what is on the disk fits together"));
        for (epoch, item) in items {
            let replica = self.replica(r);
            match item {
                Item::Said(record) => replica.restore_record(epoch, record).expect("the journal is sound"),
                Item::Kept(kept) => replica.restore_kept(epoch, &kept).expect("the journal is sound"),
            }
            self.drain(r);
        }
    }

    /// It starts.
    pub(crate) fn begin(&mut self, r: u32) {
        let now = self.node(r).now;
        self.replica(r).handle_start(now).expect("the journal is sound");
        self.drain(r);
    }

    /// All vouch for what is on the disk, whoever is up: these disks are honest.
    fn trust(&mut self, r: u32) {
        let epochs: Vec<Epoch> = self.replica(r).claims().epochs.iter().map(|claim| claim.epoch).collect();
        let vouch = dace::Vouch { epochs, over: Epoch(0) };
        for other in 1..=16 {
            self.replica(r).handle_vouch(ReplicaId(other), &vouch);
        }
    }

    /// The power fails: what was not flushed is gone, and so is a journal in which nothing was, if `loses`.
    pub(crate) fn crash(&mut self, r: u32, loses: bool) {
        self.streams.retain(|(from, to, _)| *from != r && *to != r);
        let node = self.node(r);
        node.replica = None;
        node.journals.retain(|_, journal| !loses || journal.durable > 0);
        for journal in node.journals.values_mut() {
            let durable = journal.durable;
            let torn = |item: &Item| matches!(item, Item::Said(record) if record.header.position > durable);
            let end = journal.items.iter().position(torn).unwrap_or(journal.items.len());
            journal.items.truncate(end);
        }
        let cut = node.stored.as_ref().map_or(Timestamp::ZERO, |stored| stored.cut);
        node.executed.retain(|executed| executed.timestamp <= cut);
        node.cuts.retain(|other| *other <= cut);
        node.membership = node.stored.as_ref().map(|stored| stored.membership.clone());
        node.wants = None;
        (node.reads, node.again, node.voids) = Default::default();
        (node.pending, node.own) = Default::default();
    }

    pub(crate) fn submit(&mut self, r: u32, slots: &SlotSet) -> Result<CommandId, SubmitError> {
        let salt = [7; 32];
        let body = Bytes::from(encode_proposal(slots, b"x"));
        let body_hash = body_hash(&salt, &body);
        let submission = Submission { slots: slots.clone(), salt, body, body_hash };
        let now = self.node(r).now;
        let result = self.replica(r).handle_submit(now, submission).map(|(_, id)| id);
        if let Ok(id) = result {
            self.note_own(r, id, slots.clone());
        }
        self.drain(r);
        result
    }

    fn note_own(&mut self, r: u32, id: CommandId, slots: SlotSet) {
        assert!(self.slots.insert(id, slots).is_none(), "an id is given once: {id}");
        self.node(r).own.insert(id);
    }

    pub(crate) fn reconfigure(&mut self, r: u32, next: &Reconfig) -> Result<CommandId, String> {
        let now = self.node(r).now;
        let connected: Vec<ReplicaId> = self.up().into_iter().map(ReplicaId).collect();
        let result = self.replica(r).handle_reconfig(now, next, &connected, [8; 32]);
        if let Ok((_, id)) = result {
            self.note_own(r, id, SlotSet::All);
        }
        self.drain(r);
        result.map(|(_, id)| id).map_err(|error| error.to_string())
    }

    /// A flush of all journals has ended.
    pub(crate) fn flush(&mut self, r: u32) {
        let journals = &self.nodes[&r].journals;
        let ends: Vec<(Epoch, u64)> = journals.iter().map(|(epoch, journal)| (*epoch, journal.last())).collect();
        for (epoch, last) in ends {
            self.flush_epoch(r, epoch, last);
        }
    }

    /// A flush of one journal has ended.
    pub(crate) fn flush_epoch(&mut self, r: u32, epoch: Epoch, position: u64) {
        let node = self.node(r);
        let now = node.now;
        let Some(journal) = node.journals.get_mut(&epoch) else { return };
        journal.durable = journal.durable.max(position);
        let durable = journal.durable;
        self.replica(r).handle_durable(now, epoch, durable);
        self.drain(r);
    }

    pub(crate) fn tick(&mut self, r: u32) {
        let now = self.node(r).now;
        self.replica(r).handle_tick(now);
        self.drain(r);
    }

    /// Everybody's clocks go on.
    pub(crate) fn advance(&mut self, ns: u64) {
        for node in self.nodes.values_mut() {
            let gained = i128::from(ns) * i128::from(node.rate_ppm) / 1_000_000;
            node.now.mono_ns += u64::try_from(i128::from(ns) + gained).expect("clocks go on");
            node.now.wall_ns += ns;
        }
    }

    /// `to` hears what `from` knows of epochs, and reads its journals of the epochs that both serve.
    pub(crate) fn deliver(&mut self, from: u32, to: u32) {
        self.notify(from, to);
        let epochs: Vec<Epoch> = self.replica(from).epochs().map(|served| served.epoch).collect();
        for epoch in epochs {
            let _ = self.read(from, to, epoch);
        }
    }

    /// `to` hears what `from` knows of epochs.
    pub(crate) fn notify(&mut self, from: u32, to: u32) {
        let notice = self.replica(from).notice();
        let now = self.node(to).now;
        self.replica(to).handle_notice(now, ReplicaId(from), &notice);
        self.drain(to);
    }

    /// `to` reads what `from` has said in an epoch, and a beat behind it.
    pub(crate) fn read(&mut self, from: u32, to: u32, epoch: Epoch) -> Result<(), String> {
        let now = self.node(to).now;
        let writer = self.node(from).now;
        if !self.streams.contains(&(from, to, epoch)) {
            let (entry, hello) = self.replica(from).hello(epoch).ok_or("it has not entered")?;
            let opened = self.replica(to).handle_hello(now, ReplicaId(from), epoch, entry, hello);
            self.drain(to);
            opened.map_err(|error| error.to_string())?;
            self.streams.insert((from, to, epoch));
        }
        let result = self.read_on(from, to, epoch, now, writer);
        self.drain(to);
        if result.is_err() {
            self.streams.remove(&(from, to, epoch));
        }
        result
    }

    fn read_on(&mut self, from: u32, to: u32, epoch: Epoch, now: Now, writer: Now) -> Result<(), String> {
        let beat = self.replica(from).beat(writer, epoch).ok_or("it does not serve the epoch")?;
        self.drain(from);
        let Some(core) = self.replica(to).core(epoch) else { return Err("nor does its reader".into()) };
        let Some((read, _)) = core.read_of(ReplicaId(from)) else { return Err("not a member".into()) };
        let Some(core) = self.replica(from).core(epoch) else { return Err("it does not serve the epoch".into()) };
        let base = core.peer_base();
        let replica = self.nodes.get_mut(&to).and_then(|node| node.replica.as_mut()).expect("it is up");
        if base.position > read {
            replica.handle_base(now, ReplicaId(from), epoch, base).map_err(|error| error.to_string())?;
        }
        let behind = read.max(base.position);
        let records: Vec<Record> =
            self.nodes[&from].journals[&epoch].said().filter(|r| r.header.position > behind).cloned().collect();
        let replica = self.replica(to);
        for record in records {
            replica.handle_record(now, ReplicaId(from), epoch, record).map_err(|error| error.to_string())?;
        }
        replica.handle_beat(now, ReplicaId(from), epoch, beat).map_err(|error| error.to_string())
    }

    /// Gives the oldest message on the way.
    pub(crate) fn give(&mut self) -> bool {
        let Some((from, to, epoch, message)) = self.messages.pop_front() else { return false };
        if self.is_up(to) {
            let now = self.node(to).now;
            self.replica(to).handle_message(now, ReplicaId(from), epoch, message);
            self.drain(to);
        }
        true
    }

    /// The state at the last cut becomes durable.
    pub(crate) fn store(&mut self, r: u32) {
        let node = self.node(r);
        let (Some(cut), Some(membership)) = (node.cuts.last().copied(), node.membership.clone()) else { return };
        let now = node.now;
        // A cut at a Reconfig is the beginning of the epoch that it made; commands above the cut are not in the checkpoint.
        let membership = match membership.entry {
            Some(entry) if entry.at > cut => return,
            _ => membership,
        };
        if node.stored.as_ref().is_some_and(|stored| stored.cut >= cut) {
            return;
        }
        node.stored = Some(Stored { cut, membership });
        self.replica(r).handle_stored(now, cut);
        self.drain(r);
    }

    /// Trims the journal of the newest epoch to what n - f members hold.
    pub(crate) fn trim(&mut self, r: u32) {
        let Some(epoch) = self.replica(r).epochs().last().map(|served| served.epoch) else { return };
        let Some(cut) = self.replica(r).trimmable(epoch) else { return };
        let Some(base) = self.replica(r).base(epoch, cut) else { return };
        let journal = self.node(r).journals.get_mut(&epoch).expect("it is served");
        let stays = |item: &Item| matches!(item, Item::Said(record) if record.header.position > base.position);
        let mut gone = journal.items.iter().position(stays).unwrap_or(journal.items.len());
        while gone > 0 && matches!(journal.items[gone - 1], Item::Kept(_)) {
            gone -= 1;
        }
        journal.items.drain(..gone);
        journal.base = Some(base.bytes);
    }

    /// Installs the stored state of `from` at `to`, if `to` asked for one like it.
    pub(crate) fn install(&mut self, from: u32, to: u32) -> bool {
        let Some(stored) = self.nodes.get(&from).and_then(|node| node.stored.clone()) else { return false };
        let node = &self.nodes[&to];
        let own =
            node.cuts.last().copied().or(node.stored.as_ref().map(|stored| stored.cut)).unwrap_or(Timestamp::ZERO);
        let ahead = node.membership.as_ref().is_none_or(|of| of.epoch <= stored.membership.epoch);
        if node.wants.is_none_or(|cut| cut > stored.cut) || stored.cut <= own || !ahead {
            return false;
        }
        let executed: Vec<Executed> =
            self.nodes[&from].executed.iter().filter(|e| e.timestamp <= stored.cut).cloned().collect();
        let cuts: Vec<Timestamp> = self.nodes[&from].cuts.iter().copied().filter(|cut| *cut <= stored.cut).collect();
        let node = self.node(to);
        (node.executed, node.cuts) = (executed, cuts);
        node.membership = Some(stored.membership.clone());
        node.stored = Some(stored.clone());
        node.wants = None;
        let now = node.now;
        self.replica(to).handle_snapshot(now, &stored);
        self.drain(to);
        true
    }

    /// Everyone up reads from everyone, flushes, and answers, for a while.
    pub(crate) fn exchange(&mut self) {
        self.talk(&self.up());
    }

    /// The same among some: the others hear nothing, and what is on the way to them is lost.
    pub(crate) fn talk(&mut self, among: &[u32]) {
        for _ in 0..8 {
            let among: Vec<u32> = self.up().into_iter().filter(|r| among.contains(r)).collect();
            for from in &among {
                self.flush(*from);
                for to in among.iter().filter(|to| *to != from) {
                    self.deliver(*from, *to);
                }
            }
            self.messages.retain(|(from, to, ..)| among.contains(from) && among.contains(to));
            while self.give() {}
            self.advance(2_000_000);
            for r in among {
                self.tick(r);
            }
        }
    }

    /// The same, and states are stored and fetched.
    pub(crate) fn settle(&mut self) {
        self.exchange();
        self.advance(20_000_000);
        self.exchange();
        for r in self.up() {
            self.store(r);
        }
        for to in self.up() {
            let _ = self.up().into_iter().any(|from| from != to && self.install(from, to));
        }
        self.stop_removed();
        self.exchange();
    }

    /// Removed members stop for good, and their disks are wiped.
    pub(crate) fn stop_removed(&mut self) {
        for r in self.up() {
            if self.nodes[&r].removed {
                self.streams.retain(|(from, to, _)| *from != r && *to != r);
                let now = self.nodes[&r].now;
                *self.node(r) = Node { now, removed: true, ..stranger() };
            }
        }
    }

    pub(crate) fn drain(&mut self, r: u32) {
        while let Some(output) = self.replica(r).poll_output() {
            if let Some(trace) = &mut self.trace {
                trace.push((r, output.clone()));
            }
            let node = self.nodes.get_mut(&r).expect("a replica");
            match output {
                ReplicaOutput::Core { epoch, output } => self.handle(r, epoch, output),
                ReplicaOutput::Begin { membership } => {
                    let journal = Journal { membership, items: Vec::new(), base: None, durable: 0 };
                    node.journals.insert(journal.membership.epoch, journal);
                }
                ReplicaOutput::Over { epoch } => node.over = epoch,
                ReplicaOutput::Closed { epoch } => drop(node.journals.remove(&epoch)),
                ReplicaOutput::Removed => node.removed = true,
            }
        }
    }

    fn handle(&mut self, r: u32, epoch: Epoch, output: Output) {
        let node = self.nodes.get_mut(&r).expect("a replica");
        match output {
            Output::Append(record) => {
                assert_eq!(record.header.epoch, epoch, "a record names its epoch");
                node.journals.get_mut(&epoch).expect("its journal has begun").items.push(Item::Said(record));
            }
            Output::Keep(kept) => {
                node.journals.get_mut(&epoch).expect("its journal has begun").items.push(Item::Kept(kept));
            }
            Output::Execute { timestamp, id, body, .. } => self.execute(r, epoch, timestamp, id, &body),
            Output::Cut { timestamp } => self.cut(r, timestamp),
            Output::Send { to, message } => self.messages.push_back((r, to.0, epoch, message)),
            Output::ReadReady { read } | Output::LeasedReady { read } => {
                node.reads.push(((epoch, read), node.executed.len()));
            }
            Output::ReadContended { read } | Output::LeasedContended { read } | Output::ReadAgain { read } => {
                node.again.push((epoch, read));
            }
            // Whoever counts them by slot must find none left over.
            Output::Pends { id, .. } => assert!(node.pending.insert((epoch, id)), "{id} pends at r{r} already"),
            Output::Settles { id, .. } => assert!(node.pending.remove(&(epoch, id)), "{id} did not pend at r{r}"),
            Output::Void { id } => {
                assert!(!self.decided.contains_key(&id), "r{r} says that {id} is void, and it was executed");
                node.voids.push(id);
                self.voided.insert(id);
            }
            Output::Covered { id } => drop(self.covered.insert(id)),
            Output::WantSnapshot { cut } => node.wants = node.wants.max(Some(cut)),
            Output::Lease { .. } => {}
            Output::Ended { .. } => unreachable!("the replica takes it"),
        }
    }

    fn execute(&mut self, r: u32, epoch: Epoch, timestamp: Timestamp, id: CommandId, body: &[u8]) {
        let node = self.nodes.get_mut(&r).expect("a replica");
        let membership = node.membership.clone().expect("it has a state");
        assert_eq!(membership.epoch, epoch, "r{r} executes {id} of epoch {epoch} in a state of another epoch");
        assert!(!self.voided.contains(&id), "r{r} executes {id}, which was void");
        let decided = *self.decided.entry(id).or_insert((timestamp, epoch));
        assert_eq!(decided, (timestamp, epoch), "one timestamp per command: {id} at r{r}");
        let begins = membership.entry.map_or(Timestamp::ZERO, |entry| entry.at);
        let last = node.cuts.last().copied().unwrap_or(Timestamp::ZERO).max(begins);
        assert!(timestamp > last, "r{r} executes {id} at {timestamp}, at or below {last}");
        let (slots, _) = decode_proposal(body).expect("a command");
        let met = node.executed.iter().rev().take(200).find(|other| self.slots[&other.id].meets(&slots));
        assert!(met.is_none_or(|other| (other.timestamp, other.id) < (timestamp, id)), "r{r}: {id} out of order");
        node.executed.push(Executed { timestamp, id, epoch });
        if node.own.contains(&id) {
            self.acked.insert(id);
        }
        if let Some(next) = Reconfig::from_body(body) {
            let entry = dace::Entry { reconfig: id, at: timestamp };
            let Reconfig { members, f, logic } = next;
            node.membership = Some(Membership { epoch: Epoch(epoch.0 + 1), members, f, logic, entry: Some(entry) });
        }
    }

    fn cut(&mut self, r: u32, cut: Timestamp) {
        let node = self.nodes.get_mut(&r).expect("a replica");
        let before = node.cuts.last().copied().unwrap_or(Timestamp::ZERO);
        assert!(cut > before, "cuts rise at r{r}: {cut} after {before}");
        node.cuts.push(cut);
        let within = |other: &&Executed| other.timestamp > before && other.timestamp <= cut;
        let mut block: Vec<&Executed> = node.executed.iter().filter(within).collect();
        block.sort();
        let block: (Timestamp, Vec<CommandId>) = (before, block.into_iter().map(|executed| executed.id).collect());
        let first = self.blocks.entry(cut).or_insert_with(|| block.clone());
        assert_eq!(*first, block, "r{r} cuts another block at {cut}");
    }

    /// How much of the first `len` executed commands of a replica is in a slot.
    pub(crate) fn count(&self, r: u32, slot: u16, len: usize) -> usize {
        let one = SlotSet::of(vec![Slot(slot)]);
        self.nodes[&r].executed[..len].iter().filter(|executed| self.slots[&executed.id].meets(&one)).count()
    }
}

impl Journal {
    pub(crate) fn said(&self) -> impl Iterator<Item = &Record> {
        self.items.iter().filter_map(|item| match item {
            Item::Said(record) => Some(record),
            Item::Kept(_) => None,
        })
    }

    /// The last position appended.
    pub(crate) fn last(&self) -> u64 {
        self.said().last().map_or(self.durable, |record| record.header.position)
    }
}
