//! The run: events in the order of their time.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use dace::{Beat, Output, Record, Submission};
use types::journal::{RecordHeader, body_hash, encode_proposal};
use types::{CommandId, Slot, SlotSet};

use super::machine::{Machine, replica};
use super::samples::{Answer, Samples};
use super::{FLUSH_NS, Gaps, Load, Scenario};
use crate::random::Random;

/// When the streams are opened, and when the first command is submitted: by then every clock was heard.
const CONNECT_AT: u64 = 2_000_000;
pub(super) const BEGIN_AT: u64 = 1_000_000_000;
/// How often a beat is sent while something is not cut, and else.
const BEAT_NS: u64 = 5_000_000;
const IDLE_BEAT_NS: u64 = 50_000_000;
/// How often what every replica has is forgotten.
const TRIM_NS: u64 = 500_000_000;
/// Bytes of a command without its slots.
const PAYLOAD_LEN: usize = 256;
/// Slots of one region when each writes its own.
const OWN_SLOTS: u64 = 512;
/// Bytes of a salt, and of a beat: five numbers.
const SALT_LEN: u64 = 32;
const BEAT_LEN: u64 = 40;

pub(super) enum Event {
    Connect,
    Submit,
    Parcel { from: usize, to: usize, records: Rc<[Record]>, beat: Beat },
    Flushed { at: usize },
    Tick { at: usize },
    Beat { at: usize },
    IdleBeat { at: usize },
    Want,
    Read,
    Die { at: usize },
    Suspect { of: usize },
}

impl Event {
    /// The replica that it happens to.
    fn machine(&self) -> Option<usize> {
        match self {
            Self::Parcel { to: at, .. }
            | Self::Flushed { at }
            | Self::Tick { at }
            | Self::Beat { at }
            | Self::IdleBeat { at } => Some(*at),
            Self::Connect | Self::Submit | Self::Want | Self::Read | Self::Die { .. } | Self::Suspect { .. } => None,
        }
    }
}

/// Why something is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    News,
    Unsettled,
    Idle,
}

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    random: Random,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(super) machines: Vec<Machine>,
    /// Regions whose next command comes, by when.
    next: BTreeMap<(u64, usize), ()>,
    pub(super) submitted_at: BTreeMap<CommandId, u64>,
    pub(super) left: usize,
    pub(super) samples: Samples,
    /// Draws what is read, apart from what is written.
    pub(super) readers: Random,
    pub(super) reads_begun: usize,
    /// When each read under way was begun.
    pub(super) reads: BTreeMap<(usize, u64), u64>,
    /// The slot that was written last.
    pub(super) last_slot: u16,
    /// Who is there no more.
    pub(super) dead: Option<usize>,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        let n = scenario.regions.count();
        Self {
            scenario,
            random: Random::new(scenario.seed, "latency"),
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            machines: (0..n).map(|at| Machine::new(scenario, at)).collect(),
            next: BTreeMap::new(),
            submitted_at: BTreeMap::new(),
            left: scenario.commands,
            readers: Random::new(scenario.seed, "readers"),
            reads_begun: 0,
            reads: BTreeMap::new(),
            last_slot: 0,
            dead: None,
            samples: Samples { cuts_ns: vec![Vec::new(); n], ..Samples::default() },
        }
    }

    pub(super) fn run(mut self) -> Samples {
        for at in 0..self.machines.len() {
            let clock = self.machines[at].clock(0);
            (0..self.machines.len()).for_each(|other| self.machines[at].core.handle_vouch(replica(other)));
            self.machines[at].core.handle_start(clock).expect("an empty journal is whole");
            self.drain(at);
            // Beats of different replicas fall on different instants.
            self.after(CONNECT_AT + IDLE_BEAT_NS / 7 * at as u64, Event::IdleBeat { at });
        }
        self.after(CONNECT_AT, Event::Connect);
        self.plan();
        self.plan_leases();
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            self.handle(event);
            let is_over = self.left == 0 && self.submitted_at.is_empty();
            if is_over && self.machines.iter().all(|machine| machine.uncut.is_empty()) {
                break;
            }
        }
        for machine in &self.machines {
            let counters = machine.core.counters();
            self.samples.costs.fast += counters.fast;
            self.samples.costs.slow += counters.slow + counters.slow_given_up + counters.prepares;
        }
        self.samples
    }

    pub(super) fn after(&mut self, delay_ns: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay_ns, self.sequence), event);
    }

    /// The first command of each region, or of the group.
    fn plan(&mut self) {
        let regions = match self.scenario.load {
            Load::Apart { .. } => self.machines.len(),
            Load::OneSlot { .. } | Load::Home { .. } => 1,
        };
        for region in 0..regions {
            let at = BEGIN_AT + self.gap();
            self.next.insert((at, region), ());
        }
        self.plan_next();
    }

    fn plan_next(&mut self) {
        if let Some(((at, _), ())) = self.next.first_key_value().filter(|_| self.left > 0) {
            self.after(at - self.now, Event::Submit);
        }
    }

    fn gap(&mut self) -> u64 {
        let (Load::Apart { gap_ns } | Load::OneSlot { gap_ns } | Load::Home { gap_ns }) = self.scenario.load;
        match self.scenario.gaps {
            Gaps::Uniform => self.random.below(2 * gap_ns),
            Gaps::Exponential => {
                let uniform = (self.random.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64;
                (-uniform.ln() * gap_ns as f64) as u64
            }
        }
    }

    fn handle(&mut self, event: Event) {
        if self.dead.is_some() && self.dead == event.machine() {
            return;
        }
        match event {
            Event::Want => self.want(),
            Event::Read => self.leased_read(),
            Event::Die { at } => self.die(at),
            Event::Suspect { of } => self.suspect(of),
            Event::Connect => self.connect(),
            Event::Submit => self.submit(),
            Event::Parcel { from, to, records, beat } => self.parcel(from, to, &records, beat),
            Event::Flushed { at } => self.flushed(at),
            Event::Tick { at } => self.tick(at),
            Event::Beat { at } => self.beat(at),
            Event::IdleBeat { at } => {
                if self.now >= self.machines[at].sent_at + IDLE_BEAT_NS {
                    self.send(at, Why::Idle);
                }
                self.after(IDLE_BEAT_NS, Event::IdleBeat { at });
            }
        }
    }

    /// Every replica reads every journal from its beginning.
    fn connect(&mut self) {
        let n = self.machines.len();
        for (from, to) in (0..n).flat_map(|from| (0..n).map(move |to| (from, to))).filter(|(from, to)| from != to) {
            let hello = self.machines[from].core.hello().expect("a start is durable after one flush");
            let clock = self.machines[to].clock(self.now);
            let wanted = self.machines[to].core.handle_hello(clock, replica(from), hello);
            assert_eq!(wanted, Ok(0), "nothing was read yet");
        }
        (0..n).for_each(|at| self.send(at, Why::Idle));
    }

    fn submit(&mut self) {
        let Some(((_, region), ())) = self.next.pop_first() else { return };
        let next = self.now + self.gap();
        self.next.insert((next, region), ());
        let (region, slot) = match self.scenario.load {
            Load::Apart { .. } => (region, region as u64 * OWN_SLOTS + self.left as u64 % OWN_SLOTS),
            Load::OneSlot { .. } => (self.random.index(self.machines.len()), 0),
            Load::Home { .. } => (0, 0),
        };
        self.last_slot = u16::try_from(slot).expect("few regions");
        if self.dead == Some(region) {
            self.left -= 1;
            self.plan_next();
            return;
        }
        let slots = SlotSet::of(vec![Slot(self.last_slot)]);
        let body = Bytes::from(encode_proposal(&slots, &[0; PAYLOAD_LEN]));
        let salt = [0; 32];
        let submission = Submission { slots, salt, body_hash: body_hash(&salt, &body), body };
        let machine = &mut self.machines[region];
        let clock = machine.clock(self.now);
        let id = machine.core.handle_submit(clock, submission).expect("a calm group takes commands");
        self.submitted_at.insert(id, self.now);
        self.left -= 1;
        self.samples.costs.events += 1;
        self.drain(region);
        self.plan_next();
    }

    fn parcel(&mut self, from: usize, to: usize, records: &[Record], beat: Beat) {
        let machine = &mut self.machines[to];
        let clock = machine.clock(self.now);
        for record in records {
            machine.core.handle_record(clock, replica(from), record.clone()).expect("a stream has no gap");
        }
        machine.core.handle_beat(clock, replica(from), beat).expect("a beat follows its records");
        self.samples.costs.events += records.len() as u64 + 1;
        self.drain(to);
    }

    fn flushed(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let clock = machine.clock(self.now);
        if let Some(position) = machine.flushing.take() {
            machine.durable = position;
            machine.core.handle_durable(clock, position);
        }
        self.samples.costs.events += 1;
        self.drain(at);
    }

    fn tick(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if machine.tick_at != Some(self.now) {
            return;
        }
        machine.tick_at = None;
        let clock = machine.clock(self.now);
        machine.core.handle_tick(clock);
        self.samples.costs.events += 1;
        self.drain(at);
    }

    fn beat(&mut self, at: usize) {
        self.machines[at].has_beat = false;
        if !self.machines[at].is_unsettled() {
            return;
        }
        if self.now >= self.machines[at].sent_at + BEAT_NS {
            self.send(at, Why::Unsettled);
        } else {
            self.drain(at);
        }
    }

    /// Does what the core puts out, then starts what follows from it.
    pub(super) fn drain(&mut self, at: usize) {
        self.outputs(at);
        let machine = &self.machines[at];
        if self.now >= CONNECT_AT && (machine.appended, machine.durable) != machine.sent {
            self.send(at, Why::News);
            return;
        }
        self.flush(at);
        let (now, machine) = (self.now, &mut self.machines[at]);
        if let Some(due) = machine.core.deadline().map(|due| due.max(now))
            && machine.tick_at.is_none_or(|tick| due < tick)
        {
            machine.tick_at = Some(due);
            self.after(due - now, Event::Tick { at });
        }
        let machine = &mut self.machines[at];
        if !machine.has_beat && machine.is_unsettled() {
            machine.has_beat = true;
            let due = (machine.sent_at + BEAT_NS).max(now + 1);
            self.after(due - now, Event::Beat { at });
        }
    }

    /// Sends every peer what is new.
    fn send(&mut self, at: usize, why: Why) {
        let now = self.now;
        let machine = &mut self.machines[at];
        let clock = machine.clock(now);
        let beat = machine.core.beat(clock);
        self.outputs(at);
        let machine = &mut self.machines[at];
        // The beat holds of the records up to its own position: what it gave rise to goes with the next.
        let behind = machine.unsent.iter().position(|record| record.header.position > beat.appended);
        let later = machine.unsent.split_off(behind.unwrap_or(machine.unsent.len()));
        let records = machine.take_unsent();
        machine.unsent = later;
        machine.sent = (beat.appended, beat.durable);
        machine.sent_at = now;
        let len: u64 = records.iter().map(record_len).sum();
        for to in (0..self.machines.len()).filter(|to| *to != at) {
            let way = self.scenario.regions.one_way_ns(at, to);
            self.after(way, Event::Parcel { from: at, to, records: Rc::clone(&records), beat });
        }
        let (costs, peers) = (&mut self.samples.costs, self.machines.len() as u64 - 1);
        costs.events += 1;
        if now >= BEGIN_AT && why != Why::Idle {
            costs.bytes += (len + BEAT_LEN) * peers;
            *(if why == Why::News { &mut costs.news } else { &mut costs.beats }) += peers;
        }
        self.drain(at);
    }

    fn flush(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if machine.flushing.is_none() && machine.appended > machine.durable {
            machine.flushing = Some(machine.appended);
            self.after(FLUSH_NS, Event::Flushed { at });
        }
    }

    fn outputs(&mut self, at: usize) {
        let now = self.now;
        while let Some(output) = self.machines[at].core.poll_output() {
            let machine = &mut self.machines[at];
            match output {
                Output::Append(record) => {
                    machine.appended = record.header.position;
                    machine.unsent.push(record);
                    self.samples.costs.said += u64::from(now >= BEGIN_AT);
                }
                Output::Keep(_) => self.samples.costs.kept += 1,
                Output::Execute { timestamp, id, .. } if id.replica == replica(at) => {
                    let submitted = self.submitted_at.remove(&id).expect("a command is executed once");
                    machine.uncut.push((timestamp, now));
                    self.samples.answers.push(Answer { region: at, latency_ns: now - submitted });
                }
                Output::Cut { timestamp } => {
                    let cut: Vec<u64> =
                        machine.uncut.extract_if(.., |(t, _)| *t <= timestamp).map(|(_, at)| now - at).collect();
                    self.samples.cuts_ns[at].extend(cut);
                    machine.core.handle_stored(timestamp);
                    if now >= machine.trimmed_at + TRIM_NS {
                        machine.trimmed_at = now;
                        let trimmable = machine.core.trimmable();
                        machine.core.base(trimmable);
                    }
                }
                output @ Output::LeasedReady { .. } => self.leased_ready(at, &output),
                Output::WantSnapshot { cut } => unreachable!("nobody trims what a member lacks: {cut}"),
                _ => {}
            }
        }
    }
}

fn record_len(record: &Record) -> u64 {
    let body = record.body.len() as u64;
    RecordHeader::LEN as u64 + if body > 0 { SALT_LEN + body } else { 0 }
}
