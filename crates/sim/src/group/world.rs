//! The world of a group: its machines, its network, its clients, and one queue of what happens next.

use types::{Epoch, GroupId, Now, ReplicaId};

use super::check::{Checked, Judge, violation};
use super::client::{Client, Mix};
use super::clock::Clock;
use super::coverage::Coverage;
use super::event::{Event, Note, Turn};
use super::lease::Leases;
use super::loss::Losses;
use super::machine::{Life, Machine};
use super::net::{JITTER_CALM, Net};
use super::panics;
use super::plan::{Fault, Plan};
use super::queue::{Instant, MS, Queue};
use super::reconf::Reconfigs;
use super::trace::Trace;
use super::{Failure, Options, Report};
use crate::random::Random;

pub(crate) const GROUP: GroupId = GroupId(1);
pub(crate) const EPOCH: Epoch = Epoch(1);

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// The first commands, without faults.
    Founding,
    /// Clients and faults.
    Storm,
    /// No faults, no new asks: until all is executed and cut everywhere.
    Healing,
    /// Every replica that works takes a write.
    Probing,
}

/// A run.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) queue: Queue<Event>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) net: Net,
    pub(crate) clients: Vec<Client>,
    pub(crate) mix: Mix,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) losses: Losses,
    pub(crate) leases: Leases,
    pub(crate) reconf: Reconfigs,
    /// Hellos so far.
    pub(crate) attempts: u64,
    pub(crate) phase: Phase,
    /// Operations that clients began.
    pub(crate) asked: u64,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut reconf = Reconfigs::new(&options);
        let nodes = options.nodes + reconf.spares;
        let plan = Plan::new(options.seed, nodes, options.faults, options.is_calm);
        reconf.plan(&plan);
        let mut random = Random::new(options.seed, "group world");
        let net = Net::new(&plan.delays, plan.jitter.min(JITTER_CALM));
        let machines = (0..nodes).map(|_| Machine::new(clock(&mut random))).collect();
        let clients = (0..plan.clients)
            .map(|_| Client { home: random.index(options.nodes), waiting: None, retries: None, turn: 0 })
            .collect();
        let mut world = Self {
            mix: Mix::new(options.seed, nodes),
            judge: Judge::new(nodes, options.faults),
            trace: Trace::new(options.trace),
            coverage: Coverage::default(),
            losses: Losses::new(options.seed, options.is_calm),
            leases: Leases::new(&options, &plan, nodes),
            reconf,
            attempts: 0,
            phase: Phase::Founding,
            asked: 0,
            queue: Queue::new(),
            options,
            plan,
            random,
            machines,
            net,
            clients,
        };
        world.skew_clocks();
        world
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Result<Report, Box<Failure>> {
        let played = panics::caught(|| self.play());
        let played = played.unwrap_or_else(|reason| violation("assertion", reason));
        match played {
            Ok(()) => {
                Ok(Report { coverage: self.coverage, digest: self.trace.digest(), lines: self.trace.take_lines() })
            }
            Err(violation) => Err(Box::new(Failure {
                seed: self.options.seed,
                violation: *violation,
                lines: self.trace.take_lines(),
            })),
        }
    }

    pub(crate) fn replica(&self, index: usize) -> ReplicaId {
        ReplicaId(u32::try_from(index + 1).expect("few replicas"))
    }

    pub(crate) fn index(&self, replica: ReplicaId) -> usize {
        usize::try_from(replica.0 - 1).expect("a replica of this group")
    }

    /// What the clocks of a machine show.
    pub(crate) fn clock(&self, at: usize) -> Now {
        self.machines[at].clock.read(self.queue.now())
    }

    pub(crate) fn life(&mut self, at: usize) -> Option<&mut Life> {
        self.machines[at].life.as_mut()
    }

    /// The process of a machine gets a turn after `delay`.
    pub(crate) fn turn_after(&mut self, at: usize, delay: u64, turn: Turn) {
        let life = self.machines[at].lives;
        self.queue.after(delay, Event::Turn { at, life, turn });
    }

    /// Sends a message outside the streams.
    pub(crate) fn send(&mut self, from: usize, to: usize, note: Note) {
        let now = self.queue.now();
        let is_core = matches!(note, Note::Message(..));
        if !self.hears(from, to) || (is_core && self.random.below(1000) < self.net.loss) {
            self.coverage.lost += 1;
            return;
        }
        if is_core && self.random.below(1000) < self.net.doubling {
            self.coverage.doubled += 1;
            let at = self.net.datagram(from, to, now, &mut self.random);
            self.queue.at(at, Event::Note { from, to, note: note.clone() });
        }
        let extra = if matches!(note, Note::Snapshot { .. }) { 5 * MS } else { 0 };
        let at = self.net.datagram(from, to, now, &mut self.random);
        self.queue.at(at + extra, Event::Note { from, to, note });
    }

    /// Whether anything from one machine reaches another.
    pub(crate) fn hears(&self, from: usize, to: usize) -> bool {
        let now = self.queue.now();
        self.net.passes(from, to, now) && self.machines[to].deaf_until <= now
    }

    fn play(&mut self) -> Checked {
        for at in 0..self.machines.len() {
            self.start(at)?;
        }
        self.found()?;
        self.storm()?;
        self.heal()?;
        for machine in &self.machines {
            if let Some(life) = &machine.life {
                life.cores().for_each(|core| self.coverage.count(&core.counters()));
            }
        }
        let searched = self.judge.finish()?;
        self.coverage.histories += searched.histories;
        self.coverage.histories_skipped += searched.skipped;
        self.coverage.seeds = 1;
        self.coverage.leased = u64::from(self.leases.is_on);
        self.coverage.reconfigured = u64::from(self.reconf.is_on);
        self.coverage.earthly = u64::from(self.plan.is_earthly);
        self.coverage.commands = self.judge.executed_len() as u64;
        self.coverage.simulated_ns = self.queue.now();
        Ok(())
    }

    /// Plays until `until`, or until `enough`, which is asked now and then.
    pub(crate) fn play_until(
        &mut self,
        until: Instant,
        mut enough: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Box<super::Violation>> {
        let mut look = self.queue.now();
        while self.queue.now() < until {
            if self.queue.now() >= look {
                if enough(self) {
                    return Ok(true);
                }
                look = self.queue.now() + 10 * MS;
            }
            let Some(event) = self.queue.pop() else { return Ok(enough(self)) };
            self.happen(event)?;
            self.lose_if_due()?;
        }
        Ok(enough(self))
    }

    fn happen(&mut self, event: Event) -> Checked {
        if let Some(at) = event.machine()
            && self.machines[at].is_paused
        {
            self.machines[at].inbox.push_back(event);
            return Ok(());
        }
        match event {
            Event::Parcel { from, to, parcel } => self.parcel(from, to, *parcel),
            Event::Note { from, to, note } => self.note(from, to, note),
            Event::Turn { at, life, turn } => {
                if self.machines[at].life.as_ref().is_some_and(|alive| alive.number == life) {
                    self.turn(at, turn)?;
                }
                Ok(())
            }
            Event::Client { client, turn } => {
                if self.clients[client].turn == turn {
                    self.client(client)?;
                }
                Ok(())
            }
            Event::Resume { at, life } => {
                if self.machines[at].lives == life {
                    self.resume(at)?;
                }
                Ok(())
            }
            Event::Restart { at, lives } => {
                if self.machines[at].lives == lives && self.machines[at].life.is_none() {
                    self.start(at)?;
                }
                Ok(())
            }
            Event::Fault => self.fault(),
            Event::Leases => self.change_mind(),
            Event::Siege => self.siege(),
            Event::Reconfig => self.reconfigure(),
            Event::Trap { at, life } => self.trap(at, life),
        }
    }

    /// A paused process goes on with what has piled up.
    pub(crate) fn resume(&mut self, at: usize) -> Checked {
        self.machines[at].is_paused = false;
        while let Some(event) = self.machines[at].inbox.pop_front() {
            self.happen(event)?;
        }
        Ok(())
    }

    fn turn(&mut self, at: usize, turn: Turn) -> Checked {
        match turn {
            Turn::Flushed => self.flushed(at),
            Turn::Tick => self.tick(at),
            Turn::Ship => self.ship(at),
            Turn::Beat => self.beat(at),
            Turn::Hints => self.hints(at),
            Turn::Connect => self.connect(at),
            Turn::Checkpoint => self.checkpoint(at),
            Turn::Stored { image } => self.stored(at, image),
            Turn::Installed { image } => self.installed(at, image),
            Turn::Look { number } => self.looks(at, number),
        }
    }

    /// Notes a fault that was done.
    pub(crate) fn did(&mut self, fault: Fault) {
        *self.coverage.faults.entry(fault).or_default() += 1;
    }
}

/// A clock with the usual errors: a few ms, and a rate error of up to 50 ppm.
fn clock(random: &mut Random) -> Clock {
    let rate_ppb = i64::try_from(random.below(100_000)).expect("small") - 50_000;
    let error_ns = i64::try_from(random.below(10 * MS)).expect("small") - 5_000_000;
    Clock::new(1 + random.below(1 << 40), rate_ppb, error_ns)
}
