//! Leases in the world: zones that overlap, a policy that moves them at random and against all sense, clocks at the edge
//! of what leases allow (and, when it is asked for, beyond it), faults that aim at holders, and reads under a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dace::{Core, LeaseTiming, Zone};
use types::{CommandId, Epoch, SlotSet};

use super::check::{Ask, Checked};
use super::client::{self, Client, Waiting};
use super::event::Event;
use super::machine::Life;
use super::plan::{Fault, Plan};
use super::queue::MS;
use super::reader::Look;
use super::siege::Siege;
use super::world::{Phase, World};
use super::zones::Zones;
use super::{Drift, Options};
use crate::random::Random;

/// Zones that may be wanted: everything, buckets, parts of them, single keys.
const ZONES: [&str; 8] = ["", "st", "stable/", "stable/k", "stable/k0", "stable/k1", "wilderness/", "wilderness/k"];
/// The first of them, which hold many keys.
const WIDE: usize = 4;
/// Parts per billion in a part per million.
const PPB: i64 = 1000;
/// Beyond the bound one clock runs at half its rate.
const BEYOND_PPB: i64 = -500_000_000;

/// What a run has to do with leases: drawn apart from everything else, so that a run without them is what it was
/// before there were any.
pub(crate) struct Leases {
    pub(crate) random: Random,
    /// Whether anybody wants any.
    pub(crate) is_on: bool,
    timing: LeaseTiming,
    zones: Vec<Zone>,
    /// Mean time between two changes of mind, in ns.
    gap: u64,
    /// Who starts again wants again what it wanted before.
    is_stubborn: bool,
    /// They are wanted to the end, and not only in the storm.
    is_lasting: bool,
    /// Of 8 reads of one key under a lease, how many do without the loop.
    pub(crate) beside: u64,
    /// Clients that only read, and how long each thinks between an answer and the next ask, in ns.
    readers: usize,
    think: u64,
    /// They, and the guests of sieges, among the clients.
    pub(crate) reading: Range<usize>,
    pub(crate) guests: Range<usize>,
    pub(crate) siege: Option<Siege>,
    /// Steps that sieges have taken.
    pub(crate) siege_steps: u64,
    /// Of 8 changes of mind, how many begin a siege.
    sieges: u64,
    /// Clocks run at the edge of the bound, and not somewhere within.
    is_at_edge: bool,
    /// Whose clock runs at half its rate, beyond the bound.
    slow: Option<usize>,
    /// By machine.
    wanted: Vec<BTreeSet<Zone>>,
}

impl Leases {
    pub(crate) fn new(options: &Options, plan: &Plan, nodes: usize) -> Self {
        let mut random = Random::new(options.seed, "group leases");
        let drift = options.drift;
        let is_on = random.one_in(2) || options.is_leased;
        let longest = plan.delays.iter().flatten().copied().max().unwrap_or(MS);
        let trip = 2 * longest + 3 * plan.flush.1;
        let term_ns = trip * *random.pick(&[2, 4, 12, 30, 30]) + 10 * MS;
        let rate_error_ppm = *random.pick(&[1000, 20_000, 100_000, 100_000]);
        let (first, more) = (random.index(WIDE), random.index(4));
        let others = (0..more).map(|_| random.index(ZONES.len()));
        let zones: Vec<usize> = core::iter::once(first).chain(others).collect();
        let zones = zones.into_iter().map(|zone| Zone(Bytes::from_static(ZONES[zone].as_bytes()))).collect();
        Self {
            is_on,
            timing: LeaseTiming { term_ns, rate_error_ppm },
            zones,
            gap: term_ns * *random.pick(&[1, 2, 6]) / 2,
            is_stubborn: !random.one_in(3),
            is_lasting: random.one_in(2),
            beside: *random.pick(&[0, 4, 7]),
            readers: 1 + random.index(4),
            think: plan.storm / 200,
            reading: 0..0,
            guests: 0..0,
            siege: None,
            siege_steps: 0,
            sieges: *random.pick(&[1, 3, 5]),
            is_at_edge: random.one_in(2),
            slow: (drift == Drift::Beyond).then(|| random.index(options.nodes)),
            wanted: vec![BTreeSet::new(); nodes],
            random,
        }
    }

    /// Makes a core that starts ready for them.
    pub(crate) fn set_up(&self) -> impl Fn(&mut Core) + Send + Sync + use<> {
        let timing = self.is_on.then_some(self.timing);
        move |core| {
            if let Some(timing) = timing {
                core.set_lease_timing(timing);
                core.set_zones(Arc::new(Zones));
                core.publish_pending();
            }
        }
    }

    /// One of the zones of this run.
    pub(crate) fn any_zone(&mut self) -> Zone {
        self.random.pick(&self.zones).clone()
    }

    /// How long a grant runs, in ns.
    pub(crate) fn term_ns(&self) -> u64 {
        self.timing.term_ns
    }

    /// How wrong a clock may run, in parts per billion; `None` where one runs more wrong than that.
    pub(crate) fn bound_ppb(&self) -> Option<i64> {
        let bound = i64::try_from(self.timing.rate_error_ppm).expect("less than a million") * PPB;
        self.slow.is_none().then_some(bound)
    }

    /// The rate at which an oscillator runs from now on, as its error in parts per billion.
    fn rate_ppb(&mut self, at: usize) -> i64 {
        let bound = i64::try_from(self.timing.rate_error_ppm).expect("less than a million") * PPB;
        if self.slow == Some(at) {
            return BEYOND_PPB;
        }
        match self.random.below(4) {
            0 if self.is_at_edge => -bound,
            1 if self.is_at_edge => bound,
            _ => i64::try_from(self.random.below(2 * bound.unsigned_abs() + 1)).expect("small") - bound,
        }
    }

    /// A length of time during which a thread beside the loop does nothing: mostly none to speak of.
    pub(crate) fn stall(&mut self, is_slow: bool) -> u64 {
        match self.random.below(8) {
            0..4 if is_slow => self.random.below(2 * self.timing.term_ns),
            0 => self.random.below(2 * self.timing.term_ns),
            1 => self.random.below(4 * MS),
            _ => self.random.below(MS / 20),
        }
    }
}

/// What a process has published for readers beside its loop, and the reads under a lease that it has not answered.
#[derive(Default)]
pub(crate) struct Leased {
    pub(crate) pending: BTreeMap<CommandId, SlotSet>,
    pub(crate) deadlines: BTreeMap<Zone, u64>,
    /// How often each was taken back.
    ended: BTreeMap<Zone, u64>,
    /// Reads that its core knows of: clients and what they ask for.
    pub(crate) reads: BTreeMap<(Epoch, u64), (usize, usize)>,
    /// Those beside the loop.
    pub(crate) looks: BTreeMap<u64, Look>,
    /// How many of them were begun.
    pub(crate) looks_begun: u64,
}

impl Leased {
    /// Whether it owes nobody an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.reads.is_empty() && self.looks.is_empty()
    }

    /// How often the deadline of a zone was taken back.
    pub(crate) fn times_ended(&self, zone: &Zone) -> u64 {
        self.ended.get(zone).copied().unwrap_or(0)
    }
}

impl World {
    /// Clocks at the edge, before anything else.
    pub(crate) fn skew_clocks(&mut self) {
        if self.leases.is_on {
            for (at, machine) in self.machines.iter_mut().enumerate() {
                machine.clock.drift(0, self.leases.rate_ppb(at));
                machine.clock.keep_wall();
            }
        }
    }

    /// The error of an oscillator that changes its rate, in parts per billion; `usual` where nobody wants a lease.
    pub(crate) fn drifts_to(&mut self, at: usize, usual: i64) -> i64 {
        if self.leases.is_on { self.leases.rate_ppb(at) } else { usual }
    }

    /// The storm begins: zones are wanted.
    pub(crate) fn begin_leases(&mut self) -> Checked {
        if !self.leases.is_on {
            return Ok(());
        }
        for at in 0..self.machines.len() {
            for zone in self.leases.zones.clone() {
                if self.leases.random.one_in(2) {
                    self.want_zone(at, &zone)?;
                }
            }
        }
        self.begin_readers();
        self.begin_guests();
        let first = self.leases.random.below(self.leases.gap);
        self.queue.after(first, Event::Leases);
        Ok(())
    }

    /// Clients that only read, and that ask holders.
    fn begin_readers(&mut self) {
        let first = self.clients.len();
        self.leases.reading = first..first + self.leases.readers;
        for _ in 0..self.leases.readers {
            let home = self.leases.random.index(self.machines.len());
            self.clients.push(Client { home, waiting: None, retries: None, turn: 0 });
            self.turn_client(self.clients.len() - 1, self.leases.think);
        }
    }

    /// How long a client thinks between an answer and the next ask.
    pub(crate) fn think(&self, client: usize) -> u64 {
        if self.leases.reading.contains(&client) { self.leases.think } else { self.plan.think }
    }

    /// A client that only reads asks for something, of whoever may hold a lease of it.
    pub(crate) fn reader_turn(&mut self, client: usize) -> Checked {
        let home = self.clients[client].home;
        let ask = self.mix.read(home);
        let is_open = |at: &usize| self.machines[*at].is_awake() && !self.machines[*at].is_rolled_back;
        let wants = |at: &usize| self.leases.wanted[*at].iter().any(|zone| holds(zone, &ask));
        let machines: Vec<usize> = (0..self.machines.len()).filter(|at| is_open(at) && wants(at)).collect();
        if machines.is_empty() {
            self.turn_client(client, self.leases.think);
            return Ok(());
        }
        let machine = if machines.contains(&home) { home } else { *self.leases.random.pick(&machines) };
        let slots = client::slots(&ask);
        let operation = self.judge.history.begin(self.queue.now(), ask, slots);
        self.ask(client, machine, operation)
    }

    /// All is mended: nobody changes their mind any more, and some want nothing at all.
    pub(crate) fn end_leases(&mut self) -> Checked {
        // Waiting for a clock that was set ahead by an hour is dull enough.
        if self.leases.is_lasting && self.ahead_ns() < 2_000 * MS {
            return Ok(());
        }
        for at in 0..self.machines.len() {
            for zone in core::mem::take(&mut self.leases.wanted[at]) {
                self.unwant_zone(at, &zone)?;
            }
        }
        Ok(())
    }

    /// The policy changes its mind.
    pub(crate) fn change_mind(&mut self) -> Checked {
        if self.phase != Phase::Storm {
            return Ok(());
        }
        let next = 1 + self.leases.random.below(2 * self.leases.gap);
        self.queue.after(next, Event::Leases);
        if self.is_hushed() {
            return Ok(());
        }
        let leases = &mut self.leases;
        let at = leases.random.index(self.machines.len());
        let other = leases.random.index(self.machines.len());
        let zone = leases.random.pick(&leases.zones).clone();
        if leases.random.below(8) < leases.sieges {
            let holds = |at: &usize| self.machines[*at].is_awake() && self.holds(*at, &zone);
            let holders: Vec<usize> = (0..self.machines.len()).filter(holds).collect();
            let is_new = holders.is_empty() || self.leases.random.one_in(4);
            let at = if is_new { at } else { *self.leases.random.pick(&holders) };
            let at = self.leases.slow.unwrap_or(at);
            return self.besiege(at, &zone);
        }
        match leases.random.below(8) {
            0..3 => self.want_zone(at, &zone),
            3 => self.unwant_zone(at, &zone),
            // From whoever holds it to another one, at once.
            4..6 => {
                let held = (0..self.machines.len()).find(|holder| self.leases.wanted[*holder].contains(&zone));
                held.map_or(Ok(()), |holder| self.unwant_zone(holder, &zone))?;
                self.want_zone(other, &zone)
            }
            6 => (0..self.machines.len()).try_for_each(|at| self.want_zone(at, &zone)),
            // Given up and wanted again: a new request while the old grants run.
            _ => self.unwant_zone(at, &zone).and_then(|()| self.want_zone(at, &zone)),
        }
    }

    pub(crate) fn want_zone(&mut self, at: usize, zone: &Zone) -> Checked {
        self.leases.wanted[at].insert(zone.clone());
        let (now, clock) = (self.queue.now(), self.clock(at));
        let salt = self.leases.random.bytes();
        if !self.machines[at].is_awake() {
            return Ok(());
        }
        let Some(life) = self.life(at) else { return Ok(()) };
        life.replica.want_lease(clock, zone, salt).expect("few zones with short names");
        self.coverage.leases_wanted += 1;
        self.trace.mark(&[16, now, at as u64]);
        self.trace.say(now, || format!("r{at} wants {zone:?}", at = at + 1));
        self.drain(at)
    }

    pub(crate) fn unwant_zone(&mut self, at: usize, zone: &Zone) -> Checked {
        self.leases.wanted[at].remove(zone);
        let (now, clock) = (self.queue.now(), self.clock(at));
        if !self.machines[at].is_awake() {
            return Ok(());
        }
        let Some(life) = self.life(at) else { return Ok(()) };
        life.replica.drop_lease(clock, zone);
        self.coverage.leases_dropped += 1;
        self.trace.mark(&[17, now, at as u64]);
        self.trace.say(now, || format!("r{at} does not want {zone:?} any more", at = at + 1));
        self.drain(at)
    }

    /// A process has started: it wants what it wanted, or nothing.
    pub(crate) fn want_again(&mut self, at: usize) -> Checked {
        let wanted = core::mem::take(&mut self.leases.wanted[at]);
        if self.leases.is_stubborn {
            wanted.iter().try_for_each(|zone| self.want_zone(at, zone))?;
        }
        Ok(())
    }

    /// Whether a replica holds a lease, as far as it can tell.
    pub(crate) fn holds_a_lease(&self, at: usize) -> bool {
        self.leases.wanted[at].iter().any(|zone| self.holds(at, zone))
    }

    /// Whether a replica wants a zone.
    pub(crate) fn is_wanted(&self, at: usize, zone: &Zone) -> bool {
        self.leases.wanted[at].contains(zone)
    }

    pub(crate) fn holds(&self, at: usize, zone: &Zone) -> bool {
        let life = self.machines[at].life.as_ref();
        life.and_then(Life::core).is_some_and(|core| core.lease_until(zone).is_some())
    }

    /// Whom a fault hits: `usual`, or where there are leases half of the time someone who holds one.
    pub(crate) fn victim(&mut self, usual: usize) -> usize {
        if !self.leases.is_on || self.leases.random.one_in(2) {
            return usual;
        }
        let holders: Vec<usize> = (0..self.machines.len()).filter(|at| self.holds_a_lease(*at)).collect();
        if holders.is_empty() { usual } else { *self.leases.random.pick(&holders) }
    }

    /// A fault was done to someone who held a lease.
    pub(crate) fn did_to_holder(&mut self, fault: Fault) {
        *self.coverage.holders.entry(fault).or_default() += 1;
    }

    /// Asks for a read under a lease. False when none can be had, or nobody wants one.
    pub(crate) fn ask_leased(
        &mut self,
        client: usize,
        at: usize,
        operation: usize,
    ) -> Result<bool, Box<super::Violation>> {
        let ask = &self.judge.history.operations[operation].ask;
        let is_get = matches!(ask, Ask::Get { .. });
        let zones: Vec<&Zone> = self.leases.wanted[at].iter().filter(|zone| holds(zone, ask)).collect();
        if zones.is_empty() {
            return Ok(false);
        }
        let zone = (*self.leases.random.pick(&zones)).clone();
        let reader = (client, operation);
        let beside = if self.leases.guests.contains(&client) { self.leases.beside.max(6) } else { self.leases.beside };
        let is_taken = if is_get && self.leases.random.below(8) < beside {
            self.look(at, reader, zone);
            true
        } else {
            self.read_leased(at, reader, &zone)
        };
        if is_taken {
            self.coverage.submits += 1;
            self.clients[client].waiting = Some(Waiting { operation, machine: at });
            self.turn_client(client, self.plan.patience);
            self.drain(at)?;
        }
        Ok(is_taken)
    }

    /// Hands a read to the core, under the lease of a zone.
    pub(crate) fn read_leased(&mut self, at: usize, (client, operation): (usize, usize), zone: &Zone) -> bool {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let slots = client::slots(&self.judge.history.operations[operation].ask);
        let Some(life) = self.machines[at].life.as_mut() else { return false };
        let taken = life.replica.handle_leased_read(clock, zone, &slots);
        self.trace.mark(&[18, now, at as u64, operation as u64, u64::from(taken.is_ok())]);
        self.trace
            .say(now, || format!("client {client} asks r{at} for {operation} under {zone:?}: {taken:?}", at = at + 1));
        let Ok(read) = taken else {
            self.coverage.leases_not_held += 1;
            return false;
        };
        life.leased.reads.insert(read, (client, operation));
        true
    }

    /// A leased read may be answered from what is here now.
    pub(crate) fn leased_ready(&mut self, at: usize, read: (Epoch, u64)) -> Checked {
        let Some(reader) = self.life(at).and_then(|life| life.leased.reads.remove(&read)) else { return Ok(()) };
        if !matches!(self.judge.history.operations[reader.1].ask, Ask::Get { .. }) {
            self.coverage.leased_listings += 1;
        }
        self.judge.history.operations[reader.1].is_leased = true;
        self.answer_read(at, reader, false)
    }

    /// A leased listing found no quiet instant, or its lease has ended: it is ordered as a command.
    pub(crate) fn leased_contended(&mut self, at: usize, read: (Epoch, u64)) {
        self.coverage.leased_contended += 1;
        if let Some(life) = self.life(at)
            && let Some(reader) = life.leased.reads.remove(&read)
        {
            life.contended.push(reader);
        }
    }
}

/// Whether everything that an ask may show lies in a zone.
fn holds(zone: &Zone, ask: &Ask) -> bool {
    match ask {
        Ask::Get { bucket, key } => catalog::zone::holds_key(&zone.0, bucket, key),
        Ask::List { bucket } => catalog::zone::holds_bucket(&zone.0, bucket),
        Ask::Write(_) => false,
    }
}

/// Publishes what a core puts out for readers beside its loop.
impl Life {
    pub(crate) fn publish(&mut self, output: dace::Output, is_late: bool) {
        let leased = &mut self.leased;
        match output {
            dace::Output::Pends { .. } if is_late => {}
            dace::Output::Pends { id, slots } => drop(leased.pending.insert(id, slots)),
            dace::Output::Settles { id, .. } => drop(leased.pending.remove(&id)),
            dace::Output::Lease { zone, until } => {
                if until == 0 {
                    *leased.ended.entry(zone.clone()).or_default() += 1;
                }
                leased.deadlines.insert(zone, until);
            }
            _ => {}
        }
    }
}
