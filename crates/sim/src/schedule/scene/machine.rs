//! One replica of a scene: a core, and the inputs that make a local state.

use std::collections::BTreeMap;

use bytes::Bytes;
use dace::{Beat, Config, Core, Hello, Output, Restore, Submission};
use types::journal::{RecordKind, body_hash, encode_proposal};
use types::{Epoch, GroupId, Now, ReplicaId, SlotSet, Timestamp};

use super::Scene;
use super::table::{BatchId, FIRE_NS, Input, Reading, Table};
use crate::schedule::check::Place;
use crate::schedule::node::Item;
use crate::schedule::reads::{SALT, zone};
use crate::schedule::world::{LEASE_TIMING, TIMING, WALL_NS, drift, later};

/// See the file's documentation.
pub(super) struct Machine {
    at: usize,
    core: Option<Core>,
    config: Config,
    scene: Scene,
    now: Now,
    items: Vec<Item>,
    durable_items: usize,
    /// By writer: the life that is heard.
    heard: Vec<BatchId>,
    /// What the last input added to the journal.
    pub(super) new_items: Vec<Item>,
    pub(super) executed: Vec<Place>,
    /// Leased reads under way, by the core's numbers.
    reads: BTreeMap<u64, usize>,
    /// Those that the last input ended, and how many commands each shows.
    pub(super) answered: Vec<(usize, usize)>,
}

pub(super) fn replica(at: usize) -> ReplicaId {
    ReplicaId(u32::try_from(at + 1).expect("few replicas"))
}

impl Machine {
    pub(super) fn new(scene: &Scene, at: usize) -> Self {
        let setting = scene.setting;
        let members = (0..setting.replicas).map(replica).collect();
        let f = u32::try_from(setting.faults).expect("few faults");
        Self {
            at,
            core: None,
            config: Config { group: GroupId(1), replica: replica(at), members, f, epoch: Epoch(1) },
            scene: scene.clone(),
            now: Now { mono_ns: 0, wall_ns: WALL_NS },
            items: Vec::new(),
            durable_items: 0,
            heard: vec![BatchId::default(); setting.replicas],
            new_items: Vec::new(),
            executed: Vec::new(),
            reads: BTreeMap::new(),
            answered: Vec::new(),
        }
    }

    fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("only a replica that is up has inputs")
    }

    /// Whether a timer is due when the clock has gone on by `ns`.
    pub(super) fn is_waiting(&self, ns: u64) -> bool {
        let deadline = self.core.as_ref().and_then(Core::deadline);
        deadline.is_some_and(|deadline| deadline <= self.now.mono_ns + ns)
    }

    /// Until when a leased read could begin, if one can now.
    pub(super) fn held_until(&self) -> Option<u64> {
        let mut core = self.core.clone()?;
        core.handle_leased_read(self.now, &zone(), SlotSet::All).ok()?;
        core.lease_until(&zone())
    }

    /// The leased reads that wait.
    pub(super) fn waiting(&self) -> Vec<usize> {
        self.reads.values().copied().collect()
    }

    pub(super) fn handle(&mut self, input: Input, table: &Table) {
        match input {
            Input::Submit(number) => self.submit(number),
            Input::Flush => drop(self.flush()),
            Input::Read(from, reading) => self.read(from, reading, table),
            Input::Fire => {
                if !self.scene.is_timed() {
                    self.now = later(self.now, FIRE_NS, 0);
                }
                let now = self.now;
                self.core().handle_tick(now);
            }
            Input::Pass(number) => {
                let ns = self.scene.passes[number];
                self.now = later(self.now, ns, drift(self.at, ns));
            }
            Input::Want => {
                let now = self.now;
                self.core().want_lease(now, &zone(), SALT).expect("one zone is not too many");
            }
            Input::Leased(number) => {
                let (now, slots) = (self.now, self.scene.reads[number].1.clone());
                let read = self.core().handle_leased_read(now, &zone(), slots).expect("the lease was held before");
                self.reads.insert(read, number);
            }
            Input::Crash => {
                self.core = None;
                self.reads.clear();
                self.heard.fill(BatchId::default());
                self.items.truncate(self.durable_items);
                self.executed.clear();
            }
            Input::Start => self.start(),
        }
        self.drain();
    }

    fn submit(&mut self, number: usize) {
        let slots = self.scene.commands[number].2.clone();
        let salt = [7; 32];
        let body = Bytes::from(encode_proposal(&slots, b"x"));
        let body_hash = body_hash(&salt, &body);
        let now = self.now;
        // A replica that cannot take it now has refused it.
        let _ = self.core().handle_submit(now, Submission { slots, salt, body, body_hash });
    }

    /// All that was said is durable. False if it was.
    pub(super) fn flush(&mut self) -> bool {
        if self.core.is_none() || self.durable_items == self.items.len() {
            return false;
        }
        self.durable_items = self.items.len();
        let now = self.now;
        let position = self.core().status().appended;
        self.core().handle_durable(now, position);
        self.drain();
        true
    }

    fn read(&mut self, from: usize, reading: Reading, table: &Table) {
        let now = self.now;
        if self.heard[from] != reading.heard {
            self.heard[from] = reading.heard;
            let open = table.batch(reading.heard).records().find(|record| record.header.kind == RecordKind::Open);
            let header = open.expect("a life begins with its Open").header;
            let hello =
                Hello { incarnation: header.id.incarnation, opened: header.position, opened_at: header.timestamp };
            self.core().handle_hello(now, replica(from), hello).expect("no disk is rolled back");
            self.drain();
        }
        let (mut read, _) = self.core().read_of(replica(from)).expect("a member");
        let journal = table.between(BatchId::default(), reading.end);
        for record in journal.iter().flat_map(|id| table.batch(*id).records()) {
            if record.header.position == read + 1 {
                read += 1;
                self.core().handle_record(now, replica(from), record.clone()).expect("records come in order");
                self.drain();
            }
        }
        let durable = table.position(reading.durable);
        let (promise, stored) = (Timestamp::ZERO, Timestamp::ZERO);
        let beat = Beat { appended: read, durable, promise, reading: Timestamp(WALL_NS), stored };
        self.core().handle_beat(now, replica(from), beat).expect("it is true of what was read");
    }

    fn start(&mut self) {
        let restore = Restore::default();
        let mut core = Core::new(self.config.clone(), restore).expect("a sound configuration");
        core.set_timing(TIMING);
        core.set_lease_timing(LEASE_TIMING);
        if let Some(mutant) = self.scene.setting.mutant {
            core.set_mutant(mutant);
        }
        let preferred: Vec<ReplicaId> =
            self.scene.commands.iter().filter(|(at, ..)| *at == self.at).map(|(_, first, _)| replica(*first)).collect();
        core.prefer(&preferred);
        self.core = Some(core);
        for item in self.items.clone() {
            match item {
                Item::Said(record) => self.core().restore_record(record).expect("its own journal"),
                Item::Kept(kept) => self.core().restore_kept(&kept).expect("its own journal"),
            }
            self.drain();
        }
        // No disk is rolled back here.
        let others: Vec<ReplicaId> = self.config.members.clone();
        others.into_iter().for_each(|other| self.core().handle_vouch(other));
        let now = self.now;
        self.core().handle_start(now).expect("a sound journal");
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.as_mut().and_then(Core::poll_output) {
            match output {
                Output::Append(record) => self.append(Item::Said(record)),
                Output::Keep(kept) => self.append(Item::Kept(kept)),
                Output::Execute { timestamp, id, .. } => self.executed.push((timestamp, id)),
                Output::LeasedReady { read } => {
                    let number = self.reads.remove(&read).expect("it was begun in this life");
                    self.answered.push((number, self.executed.len()));
                }
                Output::LeasedContended { read } => drop(self.reads.remove(&read)),
                // Nobody fetches, reads or is told of cuts in a scene.
                _ => {}
            }
        }
    }

    fn append(&mut self, item: Item) {
        self.items.push(item.clone());
        self.new_items.push(item);
    }
}
