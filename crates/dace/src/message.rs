//! What replicas say to one another beside their journals: nothing here is durable, ordered or reliable, and
//! no vote travels this way.

use bytes::Bytes;
use types::journal::RecordKind;
use types::{CommandId, Now, ReplicaId, SlotSet, Timestamp};

use crate::check::are_slots;
use crate::command::Stage;
use crate::core::Core;
use crate::index::Place;
use crate::journal::Stream;
use crate::output::{Output, Record};
use crate::reconfig::check_body;
use crate::status::Phase;
use crate::stream::Hello;
use crate::timer::Timer;

/// See the file's documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Asks for a command that the sender knows by its id only.
    Fetch {
        /// The command.
        id: CommandId,
    },
    /// The command, and its decision if there is one.
    Fetched(Fetched),
    /// The votes on this id are forgotten: the command is executed in every state at or above this cut.
    Settled {
        /// The command.
        id: CommandId,
        /// The cut.
        cut: Timestamp,
    },
    /// A quorum read: what is attached in these slots, and how far are they executed?
    Ask {
        /// The asker's number of the read.
        read: u64,
        /// The slots.
        slots: SlotSet,
    },
    /// The answer to [`Message::Ask`].
    Answer {
        /// The asker's number of the read.
        read: u64,
        /// Who answers: it counts with those who read this very journal.
        by: Hello,
        /// What must be executed at the asker.
        pending: Vec<CommandId>,
        /// Per slot (or for all of them) what was executed last.
        watermark: Watermark,
    },
}

/// How far a replica has executed the slots of a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Watermark {
    /// The last place executed, per slot asked for.
    Slots(Vec<Place>),
    /// Everything at or below this cut; what is executed above it is among the pending ids.
    Cut(Timestamp),
}

/// A command with its decision, as one replica gives it to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The command.
    pub id: CommandId,
    /// Its coordinator's timestamp; zero if that is not known.
    pub t0: Timestamp,
    /// Its fast quorum as a mask; zero if that is not known.
    pub quorum: u64,
    /// Hides the body behind its hash.
    pub salt: [u8; 32],
    /// Slots and payload.
    pub body: Bytes,
    /// `types::journal::body_hash(salt, body)`.
    pub body_hash: [u8; 32],
    /// The decided timestamp, if it is known to count.
    pub decision: Option<Timestamp>,
}

impl Core {
    /// A message of a peer. One that makes no sense is passed over.
    pub fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message) {
        let peer = self.config.member(from).is_some_and(|member| member != self.me);
        let refused = |member: usize| self.journals[member].stream == Stream::Refused;
        if self.phase != Phase::Running || !peer || self.config.member(from).is_some_and(refused) {
            return;
        }
        self.clock.advance(now);
        match message {
            Message::Fetch { id } => self.handle_fetch(from, id),
            Message::Fetched(fetched) => self.handle_fetched(&fetched),
            Message::Settled { id, cut } => self.handle_settled(id, cut),
            Message::Ask { read, slots } if are_slots(&slots) => self.handle_ask(from, read, &slots),
            Message::Ask { .. } => {}
            Message::Answer { read, by, pending, watermark } => {
                if self.reads_journal(from, by) {
                    self.handle_answer(from, read, pending, watermark);
                }
            }
        }
        self.advance();
    }

    /// Asks the members in turn, those first that have attached the command.
    pub(crate) fn fetch(&mut self, id: CommandId) {
        let Some(known) = self.commands.at_mut(id).filter(|known| known.payload.is_none()) else { return };
        known.fetches = known.fetches.wrapping_add(1);
        let attempt = known.fetches as usize;
        let attached = |member: &usize| known.attaches[*member].is_some();
        let mut order: Vec<usize> = self.preference.iter().copied().filter(attached).collect();
        order.extend(self.preference.iter().copied().filter(|member| !attached(member)));
        let Some(to) = order.get(attempt.saturating_sub(1) % order.len().max(1)) else { return };
        let to = self.config.members[*to];
        self.counters.fetches += 1;
        self.outputs.push_back(Output::Send { to, message: Message::Fetch { id } });
        self.arm(self.timing.fetch_ns, Timer::Fetch(id));
    }

    fn handle_fetch(&mut self, to: ReplicaId, id: CommandId) {
        if self.is_settled(id) {
            let message = Message::Settled { id, cut: self.settled_cut };
            self.outputs.push_back(Output::Send { to, message });
            return;
        }
        let Some(known) = self.commands.at(id).filter(|known| known.endorsed) else { return };
        let Some(payload) = known.payload.clone() else { return };
        let counts = known.stage != Stage::Undecided;
        let fetched = Fetched {
            id,
            t0: known.t0,
            quorum: known.quorum,
            salt: payload.salt,
            body: payload.body,
            body_hash: payload.body_hash,
            decision: known.decision.filter(|_| counts).map(|decision| decision.timestamp),
        };
        self.outputs.push_back(Output::Send { to, message: Message::Fetched(fetched) });
    }

    fn handle_fetched(&mut self, fetched: &Fetched) {
        let id = fetched.id;
        let sensible = fetched.is_sensible(self.config.n()) && check_body(&fetched.body).is_ok();
        if self.is_settled(id) || self.commands.at(id).is_none() || !sensible {
            return;
        }
        let mut record = Record::bare(RecordKind::Propose, self.config.epoch, 0, id, fetched.t0);
        record.header.aux = fetched.quorum;
        record.header.body_hash = fetched.body_hash;
        record.salt = fetched.salt;
        record.body = fetched.body.clone();
        self.learn_payload(&record);
        self.endorse(id);
        if let Some(timestamp) = fetched.decision.filter(|timestamp| self.may_be_decided(id, *timestamp)) {
            self.learn_decision(id, timestamp);
        } else {
            self.consider(id);
        }
    }

    /// A peer has forgotten the votes on `id`: the state at `cut` holds its effect.
    fn handle_settled(&mut self, id: CommandId, cut: Timestamp) {
        if self.commands.at(id).is_none_or(|known| known.stage >= Stage::Executed) {
            return;
        }
        // Each names the cut of all that it has settled: the lowest suffices.
        let told = self.told_settled.iter().find(|(_, told)| *told == id).copied();
        if let Some(told) = told.filter(|(before, _)| cut < *before) {
            self.told_settled.remove(&told);
        }
        if told.is_none_or(|(before, _)| cut < before) {
            self.told_settled.insert((cut, id));
        }
        if self.executed_cut.max(self.cuts.last()) < cut {
            self.want_snapshot(cut);
        } else {
            self.settle_told();
        }
    }

    /// The state here has come to hold the effect of commands whose votes others have forgotten. Nobody tells of them
    /// again: they would be asked for a decision that none of them remembers.
    pub(crate) fn settle_told(&mut self) {
        let state = self.executed_cut.max(self.cuts.last());
        while let Some((cut, id)) = self.told_settled.pop_first() {
            if cut > state {
                self.told_settled.insert((cut, id));
                return;
            }
            if self.commands.at(id).is_some_and(|known| known.stage < Stage::Executed) {
                self.settled_cut = self.settled_cut.max(cut);
                self.forget_settled(id);
            }
        }
    }

    /// The state here holds the effect of `id`, whatever is known of it.
    pub(crate) fn forget_settled(&mut self, id: CommandId) {
        let Some(mut known) = self.commands.remove(id) else { return };
        let (flying, pended) = (known.flying.take(), known.pended.take());
        self.forget_withheld(id);
        self.settles(id, pended);
        for (member, attach) in known.attaches.iter().enumerate() {
            if let Some(attach) = attach {
                self.journals[member].blocks.remove((attach.timestamp, id), known.slots());
            }
        }
        if let Some(decision) = known.decision {
            self.committed.remove((decision.timestamp, id), known.slots());
            self.wake.remove(&(decision.timestamp, id));
        }
        self.held.remove(&(known.t0, id));
        self.commands.leaves_flight(flying);
        if flying.is_some() {
            self.cover(id);
        }
        self.settled.insert(id);
        self.wake_all();
    }

    /// Asks the driver for a state at `cut` or above.
    pub(crate) fn want_snapshot(&mut self, cut: Timestamp) {
        if cut > self.executed_cut.max(self.cuts.last()) {
            self.outputs.push_back(Output::WantSnapshot { cut });
        }
    }
}
