//! Clients at work: they ask, wait, are answered, or give up.

use bytes::Bytes;
use types::journal::{body_hash, encode_proposal};
use types::{Command, Outcome, SlotSet, Timestamp};

use super::check::{Ask, Checked, ensure};
use super::client::{self, Client, Waiting};
use super::event::Event;
use super::machine::Life;
use super::queue::MS;
use super::world::{Phase, World};

impl World {
    /// A client has a turn: it has thought, or waited, long enough.
    pub(crate) fn client(&mut self, client: usize) -> Checked {
        if self.clients[client].waiting.is_some() {
            self.gave_up(client);
            return Ok(());
        }
        if self.leases.guests.contains(&client) {
            return Ok(());
        }
        if self.phase == Phase::Storm && self.leases.reading.contains(&client) {
            return self.reader_turn(client);
        }
        if self.phase != Phase::Storm || self.asked >= self.plan.operations {
            return Ok(());
        }
        if self.is_hushed() {
            self.turn_client(client, 5 * MS);
            return Ok(());
        }
        let home = self.clients[client].home;
        let Some(machine) = self.choose(home) else {
            self.turn_client(client, 5 * MS);
            return Ok(());
        };
        if let Some(operation) = self.clients[client].retries.take() {
            self.coverage.retries += 1;
            return self.ask(client, machine, operation);
        }
        let wall = Timestamp(self.clock(machine).wall_ns);
        let ask = self.mix.next(client, home, wall);
        let slots = client::slots(&ask);
        let operation = self.judge.history.begin(self.queue.now(), ask, slots);
        self.asked += 1;
        self.ask(client, machine, operation)
    }

    /// Mostly the machine at home, if it is awake.
    fn choose(&mut self, home: usize) -> Option<usize> {
        let is_spare = |life: &Life| self.reconf.is_on && !life.is_member();
        let is_open = |at: &usize| {
            let machine = &self.machines[*at];
            machine.is_awake() && !machine.life.as_ref().is_some_and(is_spare)
        };
        let awake: Vec<usize> = (0..self.machines.len()).filter(is_open).collect();
        if awake.is_empty() {
            return None;
        }
        let stays = awake.contains(&home) && !self.random.one_in(8);
        Some(if stays { home } else { *self.random.pick(&awake) })
    }

    /// Asks a replica; what it will not take is over.
    pub(crate) fn ask(&mut self, client: usize, machine: usize, operation: usize) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(machine));
        let asked = &self.judge.history.operations[operation];
        let slots = asked.slots.clone();
        let submission = match &asked.ask {
            Ask::Write(command) => Some(submission(command, &slots)),
            Ask::Get { .. } | Ask::List { .. } => None,
        };
        if submission.is_none() && self.ask_leased(client, machine, operation)? {
            return Ok(());
        }
        let Some(life) = self.machines[machine].life.as_mut() else {
            self.turn_client(client, 5 * MS);
            return Ok(());
        };
        self.coverage.submits += 1;
        let taken = match submission {
            Some(submission) => {
                let body = submission.body.clone();
                life.replica.handle_submit(clock, submission).map(|(epoch, id)| {
                    life.waiting.insert(id, (client, operation));
                    Some((epoch, id, body))
                })
            }
            None => life.replica.handle_read(clock, slots).map(|read| {
                life.reads.insert(read, (client, operation));
                None
            }),
        };
        match taken {
            Ok(submitted) => {
                self.clients[client].waiting = Some(Waiting { operation, machine });
                self.turn_client(client, self.plan.patience);
                let id = submitted.as_ref().map(|(_, id, _)| *id);
                self.trace.mark(&[13, now, client as u64, operation as u64, id.map_or(0, |id| id.counter)]);
                let history = &mut self.judge.history;
                let ask = &history.operations[operation].ask;
                self.trace.say(now, || match ask {
                    Ask::Write(command) => format!(
                        "client {client} asks r{machine} for {operation} = {id:?}: {:?}",
                        command.op,
                        machine = machine + 1
                    ),
                    Ask::Get { .. } | Ask::List { .. } => {
                        format!("client {client} asks r{machine} for {operation}: {ask:?}", machine = machine + 1)
                    }
                });
                if let Some((epoch, id, body)) = submitted {
                    let is_new = history.submitted(now, operation, (epoch, id), body);
                    ensure(is_new, "agreement", || {
                        format!("r{machine} gives {id} to two commands", machine = machine + 1)
                    })?;
                }
            }
            Err(error) => {
                self.trace.say(now, || {
                    format!("r{machine} refuses {operation} of client {client}: {error:?}", machine = machine + 1)
                });
                *self.coverage.submits_refused.entry(format!("{error:?}")).or_default() += 1;
                // Between two epochs nothing is taken, and nothing has begun.
                let is_sealed = matches!(error, dace::SubmitError::Sealed);
                if is_sealed {
                    self.clients[client].retries = Some(operation);
                }
                self.turn_client(client, if is_sealed { 20 * MS } else { 5 * MS });
            }
        }
        self.drain(machine)
    }

    /// The client's next turn; what was to come before is void.
    pub(crate) fn turn_client(&mut self, client: usize, delay: u64) {
        let delay = delay + self.random.below(delay + 1);
        let state = &mut self.clients[client];
        state.turn += 1;
        let turn = state.turn;
        self.queue.after(delay, Event::Client { client, turn });
    }

    /// A client is answered.
    pub(crate) fn answered(&mut self, (client, operation): (usize, usize), outcome: Option<&Outcome>) {
        self.coverage.answers += 1;
        if let (Some(outcome), Ask::Write(command)) = (outcome, &self.judge.history.operations[operation].ask) {
            self.mix.learn(command, outcome);
        }
        if self.clients[client].waiting.is_some_and(|waiting| waiting.operation == operation) {
            self.clients[client].waiting = None;
            self.turn_client(client, self.think(client));
        }
    }

    /// A client will hear no more: it asks again under the same token, or goes on.
    pub(crate) fn gave_up(&mut self, client: usize) {
        let Some(waiting) = self.clients[client].waiting.take() else { return };
        self.coverage.gave_up += 1;
        let is_retriable = match &self.judge.history.operations[waiting.operation].ask {
            Ask::Write(command) => command.request.is_some(),
            Ask::Get { .. } | Ask::List { .. } => false,
        };
        if is_retriable && self.phase == Phase::Storm {
            self.clients[client].retries = Some(waiting.operation);
        }
        self.turn_client(client, self.think(client));
    }

    /// The process of a machine has ended: nobody waits for it any more.
    pub(crate) fn forget_clients(&mut self, at: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client].waiting.is_some_and(|waiting| waiting.machine == at) {
                self.gave_up(client);
            }
        }
    }

    /// A new client, which asks for one thing at one machine.
    pub(crate) fn visitor(&mut self, machine: usize, ask: Ask) -> Result<usize, Box<super::Violation>> {
        let client = self.clients.len();
        self.clients.push(Client { home: machine, waiting: None, retries: None, turn: 0 });
        let slots = client::slots(&ask);
        let operation = self.judge.history.begin(self.queue.now(), ask, slots);
        self.ask(client, machine, operation)?;
        Ok(operation)
    }
}

/// What is handed to a core for a command.
pub(crate) fn submission(command: &Command, slots: &SlotSet) -> dace::Submission {
    let payload = command.to_bytes().expect("commands of the mix are small");
    let body = Bytes::from(encode_proposal(slots, &payload));
    let salt = *blake3::hash(&command.salt).as_bytes();
    let body_hash = body_hash(&salt, &body);
    dace::Submission { slots: slots.clone(), salt, body, body_hash }
}
