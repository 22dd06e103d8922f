//! One run: clients, a node, its machine and its clocks, and a scheduler that knows the seed.

use types::Command;

use crate::checker::Checker;
use crate::clock::Clock;
use crate::life::{Answer, End, Life, Outside};
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::random::Random;
use crate::trace::Trace;
use crate::workload::Workload;
use crate::{Failure, Options, Report};

/// Clients that ask at the same time.
const CLIENTS_MAX: u64 = 8;
/// Rounds of everything that a run may take to come to rest.
const REST_ROUNDS_MAX: usize = 10_000;

/// A client: one command at a time.
struct Client {
    principal: &'static str,
    /// What it has asked and not been told, or is going to ask again.
    asked: Option<Asked>,
}

struct Asked {
    command: Command,
    /// The node has it; otherwise it is to be asked (again).
    handed_over: bool,
}

/// What the scheduler may do next.
#[derive(Clone, Copy)]
enum Turn {
    Client,
    Write,
    Deliver,
    Seal,
    Tick,
    Checkpoint,
    Prepare,
    SetClock,
    Fill,
    Fault,
}

const TURNS: [Turn; 10] = [
    Turn::Client,
    Turn::Write,
    Turn::Deliver,
    Turn::Seal,
    Turn::Tick,
    Turn::Checkpoint,
    Turn::Prepare,
    Turn::SetClock,
    Turn::Fill,
    Turn::Fault,
];

/// Everything in a run.
pub(crate) struct World {
    options: Options,
    random: Random,
    clock: Clock,
    machine: Machine,
    life: Option<Life>,
    clients: Vec<Client>,
    workload: Workload,
    checker: Checker,
    trace: Trace,
    weights: [u64; TURNS.len()],
    /// The disks were told to fail in this life: the process may stop.
    faulty: bool,
    full: bool,
    /// Nothing breaks any more.
    resting: bool,
    report: Report,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut random = Random::new(options.seed, "world");
        let segment_len = *random.pick(&[16 << 10, 32 << 10, 128 << 10]);
        let clients = (0..1 + random.below(CLIENTS_MAX))
            .map(|number| Client { principal: if number % 2 == 0 { "alice" } else { "bob" }, asked: None })
            .collect();
        let usual = [30, 24, 24, 14, 14, 2, 3, 1, 1, 2];
        let weights = usual.map(|weight| weight * (1 + random.below(3)));
        Self {
            machine: Machine::new(segment_len, options.mutant),
            workload: Workload::new(options.seed),
            trace: Trace::new(options.trace),
            random,
            clock: Clock::default(),
            life: None,
            clients,
            checker: Checker::default(),
            weights,
            faulty: false,
            full: false,
            resting: false,
            report: Report::default(),
            options,
        }
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Result<Report, Box<Failure>> {
        let outcome = self.steps();
        let digest = self.trace.digest();
        let mut lines = self.trace.into_lines();
        match outcome {
            Ok(()) => {
                self.report.digest = digest;
                self.report.lines = lines;
                Ok(self.report)
            }
            Err(reason) => {
                lines.push(format!("FAILED: {reason}"));
                Err(Box::new(Failure { seed: self.options.seed, reason, lines }))
            }
        }
    }

    fn steps(&mut self) -> Result<(), String> {
        for _ in 0..self.options.steps {
            self.trace.step();
            if self.life.is_none() {
                self.start()?;
                continue;
            }
            let turn = TURNS[self.random.weighted(&self.weights)];
            let ended = self.turn(turn);
            self.outcome(ended)?;
        }
        self.rest()
    }

    /// What the end of a life, if it ended, means for the world.
    fn outcome(&mut self, ended: Result<(), End>) -> Result<(), String> {
        match ended {
            Ok(()) => Ok(()),
            Err(End::Violation(violation)) => Err(violation.0),
            Err(End::Stopped(reason)) if self.explains(&reason) => {
                self.trace.say(format_args!("the process stops: {reason}"));
                let power = self.random.one_in(2);
                self.end_life(power);
                Ok(())
            }
            Err(End::Stopped(reason)) => Err(format!("the process stopped though nothing was wrong: {reason}")),
        }
    }

    /// Whether what was done to the disks explains why the process stopped.
    fn explains(&self, reason: &str) -> bool {
        let broken = ["the power is gone", "the flush failed", "an earlier"];
        (self.full && reason.contains("full")) || (self.faulty && broken.iter().any(|words| reason.contains(words)))
    }

    fn turn(&mut self, turn: Turn) -> Result<(), End> {
        match turn {
            Turn::Client => return self.ask(),
            Turn::SetClock => {
                let span: i64 = *self.random.pick(&[20_000_000, 2_000_000_000, 3_600_000_000_000]);
                let by = if self.random.one_in(2) { span } else { -span };
                self.trace.say(format_args!("the wall clock is set by {} ms", by / 1_000_000));
                self.clock.set(by);
                return Ok(());
            }
            Turn::Fill => {
                self.full = !self.full;
                let room = self.random.below(40_000);
                self.trace.say(format_args!("the disks are {}", if self.full { "full" } else { "roomy" }));
                self.machine.limit(self.full.then_some(room));
                return Ok(());
            }
            Turn::Fault => {
                self.fault();
                return Ok(());
            }
            Turn::Tick => {
                let ns = *self.random.pick(&[100, 1_000_000, 9_000_000, 40_000_000, 1_100_000_000]);
                self.clock.advance(1 + self.random.below(ns));
            }
            _ => {}
        }
        let count = 1 + self.random.index(8);
        let thorough = self.random.one_in(4);
        let Some(life) = &mut self.life else { return Ok(()) };
        let mut outside = Outside { now: self.clock.now(), checker: &mut self.checker, trace: &mut self.trace };
        let answers = match turn {
            Turn::Write => life.write(count, &mut outside).map(|()| Vec::new()),
            Turn::Deliver => life.deliver(&mut outside),
            Turn::Seal => life.seal(thorough, &mut outside).map(|()| Vec::new()),
            Turn::Tick => life.tick(&mut outside),
            Turn::Checkpoint => {
                self.report.checkpoints += 1;
                life.checkpoint(&mut outside).map(|()| Vec::new())
            }
            Turn::Prepare => {
                life.prepare();
                Ok(Vec::new())
            }
            Turn::Client | Turn::SetClock | Turn::Fill | Turn::Fault => unreachable!("done above"),
        }?;
        self.answer(answers);
        Ok(())
    }

    /// A client that waits for nothing asks for something, or asks again.
    fn ask(&mut self) -> Result<(), End> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let index = self.random.index(self.clients.len());
        let client = &mut self.clients[index];
        let asked = match client.asked.take() {
            Some(asked) if asked.handed_over => {
                client.asked = Some(asked);
                return Ok(());
            }
            Some(again) => again,
            None => Asked { command: self.workload.next(client.principal, life.clock()), handed_over: false },
        };
        let mut outside = Outside { now: self.clock.now(), checker: &mut self.checker, trace: &mut self.trace };
        let id = life.submit(index, &asked.command, &mut outside)?;
        if let Some(id) = id {
            self.report.commands += 1;
            self.trace.say(format_args!("client {index} asks {id}: {}", name(&asked.command)));
        }
        client.asked = Some(Asked { handed_over: id.is_some(), ..asked });
        Ok(())
    }

    fn answer(&mut self, answers: Vec<Answer>) {
        for Answer { client, executed } in answers {
            self.report.acked += 1;
            self.trace.say(format_args!("client {client} is told {}: {:?}", executed.id, executed.outcome));
            if let Some(asked) = self.clients[client].asked.take() {
                self.workload.learn(&asked.command, &executed.outcome);
            }
        }
    }

    /// Something breaks, now or soon.
    fn fault(&mut self) {
        let soon = self.random.below(12);
        let seed = self.random.word();
        match self.random.below(6) {
            0 => {
                self.trace.say(format_args!("the power will go after {soon} changes of the journal's disk"));
                self.machine.journal.power_off_after(soon);
                self.faulty = true;
            }
            1 => {
                self.trace.say(format_args!("the power will go after {soon} changes of the ledger's disk"));
                self.machine.ledger.power_off_after(soon);
                self.faulty = true;
            }
            2 => {
                self.trace.say(format_args!("a flush will fail after {soon}"));
                let disk = if self.random.one_in(4) { &self.machine.ledger } else { &self.machine.journal };
                disk.fail_sync_after(soon, seed);
                self.faulty = true;
            }
            3 => {
                self.trace.say(format_args!("the process is killed"));
                self.end_life(false);
            }
            _ => {
                self.trace.say(format_args!("the power goes"));
                self.end_life(true);
            }
        }
    }

    /// The process is gone, and with it what only it knew.
    fn end_life(&mut self, power: bool) {
        self.life = None;
        self.report.crashes += 1;
        // A process may also be killed between any two of its writes, or after a failed flush, on a machine that
        // goes on and shows what was written, durable or not.
        if power {
            self.machine.crash(self.random.word());
        } else {
            self.machine.kill();
        }
        self.faulty = false;
        for client in &mut self.clients {
            // Whoever has a token asks again; others can only wonder.
            let again = client.asked.take().filter(|asked| asked.command.request.is_some());
            client.asked = again.map(|asked| Asked { handed_over: false, ..asked });
        }
        self.clock.advance(1 + self.random.below(3_000_000_000));
    }

    fn start(&mut self) -> Result<(), String> {
        self.trace.say(format_args!("the process starts"));
        // Even while it recovers the power may go.
        if !self.resting && self.random.one_in(6) {
            let disk = if self.random.one_in(3) { &self.machine.ledger } else { &self.machine.journal };
            disk.power_off_after(self.random.below(10));
            self.faulty = true;
        }
        if self.options.mutant == Some(Mutant::ForgetLedgerFiles) {
            self.machine.ledger = store::disk::MemDisk::new();
        }
        let mut outside = Outside { now: self.clock.now(), checker: &mut self.checker, trace: &mut self.trace };
        match Life::start(&self.machine, self.options.mutant, &mut outside) {
            Ok(life) => {
                self.life = Some(life);
                Ok(())
            }
            Err(end) => {
                self.outcome(Err(end))?;
                // Somebody comes and makes room.
                if self.full && self.random.one_in(2) {
                    self.full = false;
                    self.machine.limit(None);
                }
                Ok(())
            }
        }
    }

    /// Nothing breaks any more: everything asked is answered, executed, sealed and kept.
    fn rest(&mut self) -> Result<(), String> {
        self.trace.say(format_args!("the world comes to rest"));
        self.full = false;
        self.resting = true;
        self.machine.limit(None);
        if self.faulty {
            self.end_life(true);
        }
        for _ in 0..REST_ROUNDS_MAX {
            self.trace.step();
            if self.life.is_none() {
                self.start()?;
                continue;
            }
            let waiting = self.life.as_ref().and_then(Life::deadline);
            let now = self.clock.now().mono_ns;
            self.clock.advance(waiting.map_or(1_000_000, |deadline| deadline.saturating_sub(now).max(1)));
            for turn in [Turn::Write, Turn::Deliver, Turn::Seal] {
                let ended = self.turn(turn);
                self.outcome(ended)?;
            }
            self.tick()?;
            let asking = self.clients.iter().any(|client| client.asked.as_ref().is_some_and(|asked| asked.handed_over));
            if !asking && !self.faulty && self.life.as_ref().is_some_and(|life| life.is_quiet()) {
                return self.end();
            }
        }
        Err("the world does not come to rest: something waits for ever".to_owned())
    }

    fn tick(&mut self) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let mut outside = Outside { now: self.clock.now(), checker: &mut self.checker, trace: &mut self.trace };
        match life.tick(&mut outside) {
            Ok(answers) => {
                self.answer(answers);
                Ok(())
            }
            Err(end) => self.outcome(Err(end)),
        }
    }

    /// The last look: at what the node shows, and once more after a last loss of power.
    fn end(&mut self) -> Result<(), String> {
        let inspect = |world: &Self| match &world.life {
            Some(life) => life.inspect(&world.checker).map_err(|end| format!("{end:?}")),
            None => Err("the node is down".to_owned()),
        };
        inspect(self)?;
        self.report.entries = self.life.as_ref().map_or(0, Life::ledger_len);
        self.end_life(true);
        while self.life.is_none() {
            self.start()?;
        }
        inspect(self)
    }
}

/// What a command does, in a word.
fn name(command: &Command) -> String {
    let debug = format!("{:?}", command.op);
    debug.split('(').next().unwrap_or_default().to_owned()
}

/// Whether a mutant is caught by one of the seeds; which, and how.
#[must_use]
pub fn catch(mutant: Mutant, seeds: core::ops::Range<u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let options = Options { mutant: Some(mutant), ..Options::new(seed) };
        crate::run(options).err().map(|failure| (seed, failure.reason))
    })
}
