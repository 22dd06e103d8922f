//! How long a change of members stalls writes: replicas over epochs, exact links, and writes in every region that stays.
//! Streams of a new epoch begin without being asked for: whoever enters it has read nothing of it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dace::{
    Beat, Core, Entry, Hello, LeaseTiming, Membership, Notice, Output, Reconfig, Record, Remains, Replica,
    ReplicaOutput, Stored, Submission, Vouch, Zone,
};
use types::journal::{body_hash, encode_proposal};
use types::{CommandId, Epoch, GroupId, Now, ReplicaId, Slot, SlotSet, Timestamp};

use super::machine::replica;
use super::{FLUSH_NS, Regions};
use crate::random::Random;

const MS: u64 = 1_000_000;
/// When clients begin, when the group changes, and when all is over.
const WRITES_AT: u64 = 1_000 * MS;
const CHANGE_AT: u64 = 2_500 * MS;
const END_AT: u64 = 6_000 * MS;
/// Beats, and the mean gap between two writes of a region.
const BEAT_NS: u64 = 5 * MS;
const GAP_NS: u64 = 10 * MS;
/// How long a grant runs.
const TERM_NS: u64 = 2_000 * MS;

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A replica in the second region joins.
    Add,
    /// The one in the last region leaves.
    Remove,
    /// It leaves, and one in the same region joins.
    Replace,
}

/// One change of one group.
#[derive(Clone, Debug)]
pub struct Changing {
    /// Where the replicas are.
    pub regions: Regions,
    /// What is changed.
    pub change: Change,
    /// In which region it is proposed: not the last one.
    pub proposer: usize,
    /// Whether every replica wants the lease of everything.
    pub is_leased: bool,
    /// Decides when writes come.
    pub seed: u64,
}

/// What a change did to the writes of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// The median of its writes before it, or long after it if they take longer then: a larger group has a larger quorum.
    pub usual_ns: u64,
    /// The longest one.
    pub longest_ns: u64,
}

impl Stall {
    /// How much longer the longest write took.
    #[must_use]
    pub fn ns(&self) -> u64 {
        self.longest_ns.saturating_sub(self.usual_ns)
    }

    /// The same by a usual write, which takes one round trip to a quorum and three flushes.
    #[must_use]
    pub fn round_trips(&self) -> f64 {
        self.ns() as f64 / self.usual_ns.max(1) as f64
    }
}

impl Changing {
    /// One round trip of the proposer to the members that it needs, and three flushes: that long it takes to decide
    /// a Reconfig, and to execute it where it was proposed.
    #[must_use]
    pub fn round_trip_ns(&self) -> u64 {
        let n = self.regions.count();
        let others = if self.is_leased { n - 1 } else { n / 2 + 1 - 1 };
        self.regions.nearest_ns(self.proposer, others) + 3 * FLUSH_NS
    }

    /// Runs it. Gives the stall of every region that stays.
    #[must_use]
    pub fn run(&self) -> Vec<Stall> {
        World::new(self).run()
    }
}

enum Event {
    Parcel { from: usize, to: usize, parcel: Arc<Parcel> },
    Notice { from: usize, to: usize, notice: Arc<Notice> },
    Message { from: usize, to: usize, epoch: Epoch, message: dace::Message },
    AskState { from: usize, to: usize },
    State { to: usize, stored: Stored },
    Flushed { at: usize, ends: Vec<(Epoch, u64)> },
    Tick { at: usize },
    Beat,
    Want,
    Write { region: usize },
    Change,
}

/// What is new in a journal, with all that a reader needs who has read nothing yet.
struct Parcel {
    epoch: Epoch,
    entry: Option<Entry>,
    hello: Hello,
    records: Vec<Record>,
    beat: Beat,
}

struct Machine {
    replica: Replica,
    /// Where it is.
    region: usize,
    journals: BTreeMap<Epoch, Vec<Record>>,
    durable: BTreeMap<Epoch, u64>,
    is_flushing: bool,
    /// Up to where each journal was sent to each peer.
    sent: BTreeMap<(usize, Epoch), u64>,
    heard: BTreeSet<(usize, Epoch)>,
    stored: Option<Stored>,
    next: Option<Membership>,
    told: Option<Notice>,
    tick_at: Option<u64>,
    /// Writes to be tried, by when each was first asked for.
    again: Vec<u64>,
    /// Writes under way, and when each was first asked for.
    waiting: BTreeMap<CommandId, u64>,
    /// When each answered write was asked for, and how long it took.
    answers: Vec<(u64, u64)>,
}

struct World<'a> {
    scenario: &'a Changing,
    random: Random,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    machines: Vec<Machine>,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Changing) -> Self {
        let n = scenario.regions.count();
        let members: Vec<ReplicaId> = (0..n).map(replica).collect();
        let first = Membership { epoch: Epoch(1), members, f: 1, logic: 1, entry: None };
        let newcomer = if scenario.change == Change::Add { 1 } else { n - 1 };
        let machine = |at: usize| {
            let region = if at < n { at } else { newcomer };
            let stored = (at < n).then(|| Stored { cut: Timestamp::ZERO, membership: first.clone() });
            let is_leased = scenario.is_leased;
            let set_up = Arc::new(move |core: &mut Core| {
                if is_leased {
                    core.set_lease_timing(LeaseTiming { term_ns: TERM_NS, ..LeaseTiming::default() });
                }
            });
            let remains = Remains { stored: stored.clone(), ..Remains::default() };
            let mut new = Replica::new(GroupId(1), replica(at), remains, set_up).expect("a group of regions");
            new.prefer(&scenario.regions.nearest(region).into_iter().map(replica).collect::<Vec<_>>());
            Machine {
                replica: new,
                region,
                journals: BTreeMap::new(),
                durable: BTreeMap::new(),
                is_flushing: false,
                sent: BTreeMap::new(),
                heard: BTreeSet::new(),
                stored,
                next: None,
                told: None,
                tick_at: None,
                again: Vec::new(),
                waiting: BTreeMap::new(),
                answers: Vec::new(),
            }
        };
        Self {
            random: Random::new(scenario.seed, "changes"),
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            machines: (0..=n).map(machine).collect(),
            scenario,
        }
    }

    fn run(mut self) -> Vec<Stall> {
        let n = self.scenario.regions.count();
        for at in 0..=n {
            let epochs = self.machines[at].replica.claims().epochs.iter().map(|claim| claim.epoch).collect();
            let vouch = Vouch { epochs, over: Epoch(0) };
            (0..n).for_each(|other| self.machines[at].replica.handle_vouch(replica(other), &vouch));
            let clock = self.clock();
            self.machines[at].replica.handle_start(clock).expect("an empty journal is whole");
            self.drain(at);
        }
        self.after(2 * MS, Event::Beat);
        if self.scenario.is_leased {
            self.after(WRITES_AT / 4, Event::Want);
        }
        for region in 0..self.staying() {
            let first = self.random.below(GAP_NS);
            self.after(WRITES_AT + first, Event::Write { region });
        }
        let when = self.random.below(100 * MS);
        self.after(CHANGE_AT + when, Event::Change);
        while let Some(((time, _), event)) = self.queue.pop_first().filter(|((time, _), _)| *time < END_AT) {
            self.now = time;
            self.handle(event);
        }
        let stall = |machine: &Machine| {
            let median = |from: u64, to: u64| {
                let asked = machine.answers.iter().filter(|(at, _)| (from..to).contains(at));
                let mut took: Vec<u64> = asked.map(|(_, took)| *took).collect();
                took.sort_unstable();
                took.get(took.len() / 2).copied().unwrap_or(0)
            };
            let (before, after) = (median(0, CHANGE_AT), median(CHANGE_AT + 1_500 * MS, END_AT));
            let answered = machine.answers.iter().map(|(_, took)| *took).max();
            let open = machine.waiting.values().chain(&machine.again).map(|at| END_AT - at).max();
            // The last ones have not had the time to be answered.
            let longest_ns = answered.max(open.filter(|ns| *ns > 2_000 * MS)).unwrap_or(0);
            Stall { usual_ns: before.max(after), longest_ns }
        };
        let newest = self.machines[0].replica.newest().map(|newest| newest.epoch);
        assert_eq!(newest, Some(Epoch(2)), "the group has changed");
        self.machines[..self.staying()].iter().map(stall).collect()
    }

    /// Regions whose replicas stay.
    fn staying(&self) -> usize {
        let n = self.scenario.regions.count();
        if self.scenario.change == Change::Add { n } else { n - 1 }
    }

    fn clock(&self) -> Now {
        Now { mono_ns: self.now, wall_ns: 1_700_000_000_000_000_000 + self.now }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    fn way(&self, from: usize, to: usize) -> u64 {
        self.scenario.regions.one_way_ns(self.machines[from].region, self.machines[to].region)
    }

    fn handle(&mut self, event: Event) {
        let clock = self.clock();
        match event {
            Event::Parcel { from, to, parcel } => self.parcel(from, to, &parcel),
            Event::Notice { from, to, notice } => {
                self.machines[to].replica.handle_notice(clock, replica(from), &notice);
                self.drain(to);
            }
            Event::Message { from, to, epoch, message } => {
                self.machines[to].replica.handle_message(clock, replica(from), epoch, message);
                self.drain(to);
            }
            Event::AskState { from, to } => {
                if let Some(stored) =
                    self.machines[to].stored.clone().filter(|stored| stored.membership.epoch > Epoch(1))
                {
                    self.after(self.way(to, from), Event::State { to: from, stored });
                } else {
                    self.after(10 * MS, Event::AskState { from, to });
                }
            }
            Event::State { to, stored } => {
                self.machines[to].stored = Some(stored.clone());
                self.machines[to].replica.handle_snapshot(clock, &stored);
                self.drain(to);
            }
            Event::Flushed { at, ends } => {
                self.machines[at].is_flushing = false;
                for (epoch, position) in ends {
                    self.machines[at].durable.insert(epoch, position);
                    self.machines[at].replica.handle_durable(clock, epoch, position);
                }
                self.drain(at);
                self.send(at);
            }
            Event::Tick { at } => {
                if self.machines[at].tick_at == Some(self.now) {
                    self.machines[at].tick_at = None;
                    self.machines[at].replica.handle_tick(clock);
                    self.drain(at);
                }
            }
            Event::Beat => {
                (0..self.machines.len()).for_each(|at| self.send(at));
                self.after(BEAT_NS, Event::Beat);
            }
            Event::Want => {
                for at in 0..self.scenario.regions.count() {
                    let everything = Zone(Bytes::new());
                    self.machines[at].replica.want_lease(clock, &everything, [0; 32]).expect("one zone");
                    self.drain(at);
                }
            }
            Event::Write { region } => {
                self.machines[region].again.push(self.now);
                let gap = 1 + self.random.below(2 * GAP_NS);
                self.after(gap, Event::Write { region });
                self.drain(region);
            }
            Event::Change => self.change(),
        }
    }

    fn change(&mut self) {
        let n = self.scenario.regions.count();
        let mut members: Vec<ReplicaId> = (0..n).map(replica).collect();
        if self.scenario.change != Change::Add {
            members.pop();
        }
        if self.scenario.change != Change::Remove {
            members.push(replica(n));
        }
        let f = u32::from(members.len() > 2);
        let connected: Vec<ReplicaId> = (0..=n).map(replica).collect();
        let (clock, at) = (self.clock(), self.scenario.proposer);
        let next = Reconfig { members, f, logic: 1 };
        self.machines[at].replica.handle_reconfig(clock, &next, &connected, [0; 32]).expect("nothing is in its way");
        self.drain(at);
    }

    /// Tries the writes that are not under way.
    fn write(&mut self, at: usize) {
        let clock = self.clock();
        let machine = &mut self.machines[at];
        while let Some(since) = machine.again.pop() {
            let slot = u16::try_from(at * 500 + machine.answers.len() % 500).expect("few regions");
            let slots = SlotSet::of(vec![Slot(slot)]);
            let body = Bytes::from(encode_proposal(&slots, &[0; 64]));
            let salt = [0; 32];
            let submission = Submission { slots, salt, body_hash: body_hash(&salt, &body), body };
            match machine.replica.handle_submit(clock, submission) {
                Ok((_, id)) => drop(machine.waiting.insert(id, since)),
                Err(_) => return machine.again.push(since),
            }
        }
    }

    fn drain(&mut self, at: usize) {
        self.outputs(at);
        self.write(at);
        self.outputs(at);
        let now = self.now;
        let machine = &mut self.machines[at];
        if let Some(due) = machine.replica.deadline().map(|due| due.max(now))
            && machine.tick_at.is_none_or(|tick| due < tick)
        {
            machine.tick_at = Some(due);
            self.after(due - now, Event::Tick { at });
        }
        self.tell(at);
        self.send_news(at);
        let machine = &mut self.machines[at];
        let last = |records: &Vec<Record>| records.last().map_or(0, |record| record.header.position);
        let ends: Vec<(Epoch, u64)> = machine.journals.iter().map(|(epoch, records)| (*epoch, last(records))).collect();
        let is_new = ends.iter().any(|(epoch, end)| *end > machine.durable.get(epoch).copied().unwrap_or(0));
        if is_new && !machine.is_flushing {
            machine.is_flushing = true;
            self.after(FLUSH_NS, Event::Flushed { at, ends });
        }
    }

    /// Tells the others what is new of epochs.
    fn tell(&mut self, at: usize) {
        let notice = self.machines[at].replica.notice();
        if self.machines[at].told.as_ref() == Some(&notice) {
            return;
        }
        self.machines[at].told = Some(notice.clone());
        let notice = Arc::new(notice);
        for peer in self.machines[at].replica.peers().collect::<Vec<_>>() {
            let to = usize::try_from(peer.0 - 1).expect("few replicas");
            self.after(self.way(at, to), Event::Notice { from: at, to, notice: Arc::clone(&notice) });
        }
    }

    /// Sends what was appended and not sent yet, if there is any.
    fn send_news(&mut self, at: usize) {
        let machine = &self.machines[at];
        let is_new = machine.journals.iter().any(|(epoch, records)| {
            let last = records.last().map_or(0, |record| record.header.position);
            machine.sent.iter().any(|((_, of), sent)| of == epoch && *sent < last)
        });
        if is_new && self.now >= 2 * MS {
            self.send(at);
        }
    }

    /// Sends every peer what is new in every journal, and a beat.
    fn send(&mut self, at: usize) {
        let clock = self.clock();
        let epochs: Vec<Membership> = self.machines[at].replica.epochs().cloned().collect();
        for served in epochs {
            let epoch = served.epoch;
            let Some((entry, hello)) = self.machines[at].replica.hello(epoch) else { continue };
            let Some(beat) = self.machines[at].replica.beat(clock, epoch) else { continue };
            self.outputs(at);
            for peer in served.members.iter().filter(|member| **member != replica(at)) {
                let to = usize::try_from(peer.0 - 1).expect("few replicas");
                let sent = self.machines[at].sent.entry((to, epoch)).or_default();
                let from = core::mem::replace(sent, beat.appended);
                let within = |record: &&Record| (from + 1..=beat.appended).contains(&record.header.position);
                let records = self.machines[at].journals[&epoch].iter().filter(within).cloned().collect();
                let parcel = Arc::new(Parcel { epoch, entry, hello, records, beat });
                self.after(self.way(at, to), Event::Parcel { from: at, to, parcel });
            }
        }
    }

    fn parcel(&mut self, from: usize, to: usize, parcel: &Parcel) {
        let clock = self.clock();
        let Parcel { epoch, entry, hello, records, beat } = parcel;
        let machine = &mut self.machines[to];
        if !machine.heard.contains(&(from, *epoch)) {
            if machine.replica.handle_hello(clock, replica(from), *epoch, *entry, *hello) != Ok(0) {
                // It has not entered, or serves it no more.
                self.machines[from].sent.insert((to, *epoch), 0);
                return;
            }
            machine.heard.insert((from, *epoch));
        }
        let read = machine.replica.core(*epoch).and_then(|core| core.read_of(replica(from))).map_or(0, |read| read.0);
        for record in records.iter().filter(|record| record.header.position > read) {
            if machine.replica.handle_record(clock, replica(from), *epoch, record.clone()).is_err() {
                return;
            }
        }
        let _ = machine.replica.handle_beat(clock, replica(from), *epoch, *beat);
        self.drain(to);
    }

    fn outputs(&mut self, at: usize) {
        let (now, clock) = (self.now, self.clock());
        while let Some(output) = self.machines[at].replica.poll_output() {
            let machine = &mut self.machines[at];
            let (epoch, output) = match output {
                ReplicaOutput::Core { epoch, output } => (epoch, output),
                ReplicaOutput::Begin { membership } => {
                    machine.journals.insert(membership.epoch, Vec::new());
                    continue;
                }
                ReplicaOutput::Closed { epoch } => {
                    machine.journals.remove(&epoch);
                    continue;
                }
                ReplicaOutput::Over { .. } | ReplicaOutput::Removed => continue,
            };
            match output {
                Output::Append(record) => machine.journals.entry(epoch).or_default().push(record),
                Output::Execute { timestamp, id, body, .. } => {
                    if let Some(Reconfig { members, f, logic }) = Reconfig::from_body(&body) {
                        let entry = Some(Entry { reconfig: id, at: timestamp });
                        machine.next = Some(Membership { epoch: Epoch(epoch.0 + 1), members, f, logic, entry });
                    }
                    if let Some(since) = machine.waiting.remove(&id) {
                        machine.answers.push((since, now - since));
                    }
                }
                Output::Void { id } => machine.again.extend(machine.waiting.remove(&id)),
                Output::Cut { timestamp } => {
                    if let Some(stored) = &mut machine.stored {
                        stored.cut = timestamp;
                        if let Some(next) = machine.next.take() {
                            stored.membership = next;
                        }
                    }
                    machine.replica.handle_stored(clock, timestamp);
                }
                Output::Send { to, message } => {
                    let to = usize::try_from(to.0 - 1).expect("few replicas");
                    self.after(self.way(at, to), Event::Message { from: at, to, epoch, message });
                }
                Output::WantSnapshot { .. } => {
                    self.after(self.way(at, 0), Event::AskState { from: at, to: 0 });
                }
                _ => {}
            }
        }
    }
}
