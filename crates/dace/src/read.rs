//! Quorum reads: linearizable reads without a lease (`consensus.md`, section 6, last paragraph).
//!
//! The reader asks every member what it has durably attached in the slots of the read, and how far it has
//! executed them. It answers when, for *some* majority of the replies, all that they named is executed here:
//! a write that was visible before the read began was attached durably at a majority by then.
//!
//! A read of several slots must also not show a write without another that was finished before that one
//! began, and this replica may have heard of the second only. So its state must be the same at the end of a
//! round of replies as it was when the round began: then every write finished before that instant is in it.
//! It tries again a few times, and then gives up: the driver orders the read as a `*` command.

use std::collections::{BTreeMap, BTreeSet};

use types::limits::READS_MAX;
use types::{CommandId, Incarnation, Now, ReplicaId, SlotSet};

use crate::command::Stage;
use crate::config::Member;
use crate::core::Core;
use crate::index::Place;
use crate::journal::{Opened, Stream};
use crate::message::{Message, Watermark};
use crate::mutant::Mutant;
use crate::output::Output;
use crate::propose::SubmitError;
use crate::status::Phase;
use crate::stream::Hello;
use crate::timer::Timer;

/// Rounds of replies that a read of several slots tries.
const ROUNDS_MAX: u32 = 4;

/// A read under way.
#[derive(Clone)]
struct Read {
    /// The number that the driver knows it by.
    read: u64,
    slots: SlotSet,
    /// Rounds begun.
    rounds: u32,
    /// Something was executed in its slots since the round began.
    stirred: bool,
    /// Replies by member, and what of each is still missing here.
    replies: BTreeMap<Member, Reply>,
}

#[derive(Clone)]
struct Reply {
    pending: BTreeSet<CommandId>,
    watermark: Watermark,
}

/// The reads under way. At most [`READS_MAX`].
#[derive(Clone, Default)]
pub(crate) struct Reads {
    last: u64,
    /// By the number of the round, which answers name.
    open: BTreeMap<u64, Read>,
}

impl Reads {
    /// Numbers begin anew in every incarnation, so that an answer to an earlier life's read is not taken.
    pub(crate) fn begin(&mut self, incarnation: Incarnation) {
        self.last = u64::from(incarnation.0) << 32;
    }

    /// Something is executed in `slots`.
    pub(crate) fn handle_executed(&mut self, slots: &SlotSet) {
        for open in self.open.values_mut() {
            open.stirred |= open.slots.meets(slots);
        }
    }

    /// No read of this epoch is answered any more: those that wait.
    pub(crate) fn end(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.open).into_values().map(|open| open.read).collect()
    }

    /// The state is another one.
    pub(crate) fn handle_snapshot(&mut self) {
        for open in self.open.values_mut() {
            open.stirred = true;
        }
    }
}

impl Core {
    /// Begins a linearizable read of `slots`; [`Output::ReadReady`] names the number given here when the
    /// local state may be read.
    pub fn handle_read(&mut self, now: Now, slots: SlotSet) -> Result<u64, SubmitError> {
        if self.phase != Phase::Running {
            return Err(SubmitError::NotStarted);
        }
        if self.ended().is_some() {
            return Err(SubmitError::Sealed);
        }
        if self.reads.open.len() >= READS_MAX {
            return Err(SubmitError::Full);
        }
        self.clock.advance(now);
        let read = self.reads.last + 1;
        self.begin_round(Read { read, slots, rounds: 0, stirred: false, replies: BTreeMap::new() });
        self.advance();
        Ok(read)
    }

    fn begin_round(&mut self, mut open: Read) {
        self.reads.last += 1;
        let round = self.reads.last;
        let (pending, watermark) = self.answer(&open.slots);
        let own = Reply { pending: pending.into_iter().collect(), watermark };
        open.replies = BTreeMap::from([(self.me, own)]);
        open.rounds += 1;
        open.stirred = false;
        self.reads.open.insert(round, open);
        self.ask_again(round);
    }

    /// Asks those whose answer is missing in this round, or names what is not executed here yet: what a snapshot
    /// brought was never known here by its id.
    pub(crate) fn ask_again(&mut self, read: u64) {
        let Some(open) = self.reads.open.get(&read) else { return };
        for member in &self.preference {
            let replied = open.replies.get(member).is_some_and(|reply| reply.pending.is_empty());
            if !replied {
                let message = Message::Ask { read, slots: open.slots.clone() };
                self.outputs.push_back(Output::Send { to: self.config.members[*member], message });
            }
        }
        if !self.is_alone() {
            self.arm(self.timing.read_ns, Timer::Read(read));
        }
    }

    /// What is durably attached in `slots` and not executed here, and how far they are executed.
    fn answer(&self, slots: &SlotSet) -> (Vec<CommandId>, Watermark) {
        let own = &self.journals[self.me];
        let durable = |id: &CommandId| {
            let attach = self.commands.at(*id).and_then(|known| known.attaches[self.me]);
            attach.is_some_and(|attach| attach.durable)
        };
        let blocked = own.blocks.standing_in(slots).map(|(_, id)| id).filter(durable);
        let committed = self.committed.standing_in(slots).map(|(_, id)| id);
        let mut pending: BTreeSet<CommandId> = blocked.chain(committed).collect();
        let watermark = match slots {
            SlotSet::Some(slots) => Watermark::Slots(slots.iter().map(|slot| self.frontier.at(*slot)).collect()),
            SlotSet::All => {
                let cut = self.cuts.last();
                let uncut = self.commands.iter().filter(|(_, known)| {
                    known.stage == Stage::Executed && known.decision.is_some_and(|decision| decision.timestamp > cut)
                });
                pending.extend(uncut.map(|(id, _)| id));
                Watermark::Cut(cut)
            }
        };
        (pending.into_iter().collect(), watermark)
    }

    pub(crate) fn handle_ask(&mut self, to: ReplicaId, read: u64, slots: &SlotSet) {
        let (pending, watermark) = self.answer(slots);
        let Some(by) = self.hello() else { return };
        let message = Message::Answer { read, by, pending, watermark };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Whether this very journal of a member is read here. One that began on a rolled-back disk has forgotten what it
    /// attached, and is refused once it says hello: until then its answers must not count either.
    pub(crate) fn reads_journal(&self, from: ReplicaId, by: Hello) -> bool {
        let Some(member) = self.config.member(from) else { return false };
        let journal = &self.journals[member];
        let is_known =
            journal.incarnation == by.incarnation && journal.opened == Opened { position: by.opened, at: by.opened_at };
        is_known && journal.stream != Stream::Refused
    }

    pub(crate) fn handle_answer(&mut self, from: ReplicaId, read: u64, pending: Vec<CommandId>, watermark: Watermark) {
        let Some(member) = self.config.member(from) else { return };
        let Some(open) = self.reads.open.get(&read) else { return };
        let sensible = match (&open.slots, &watermark) {
            (SlotSet::Some(slots), Watermark::Slots(places)) => slots.len() == places.len(),
            (SlotSet::All, Watermark::Cut(_)) => true,
            _ => false,
        };
        let enough = self.mutates(Mutant::FixedReadQuorum) && open.replies.len() >= self.config.majority();
        if sensible && !enough {
            let Some(open) = self.reads.open.get_mut(&read) else { return };
            let reply = Reply { pending: pending.into_iter().collect(), watermark };
            open.replies.insert(member, reply);
        }
    }

    /// Puts out the reads for which a majority of the replies is executed here.
    pub(crate) fn finish_reads(&mut self) {
        if self.reads.open.is_empty() || !(self.has_state() || self.may_execute()) {
            return;
        }
        let needed = self.config.majority() - usize::from(self.mutates(Mutant::SmallReadQuorum));
        let mut open = std::mem::take(&mut self.reads.open);
        let mut finished = Vec::new();
        for (round, open) in &mut open {
            let mut satisfied = 0;
            for reply in open.replies.values_mut() {
                // Only as far as the first that is missing: this is asked after every record, and a reply may name all
                // that a replica has to catch up with.
                while let Some(first) = reply.pending.first()
                    && self.is_executed(*first)
                {
                    reply.pending.pop_first();
                }
                let is_here = reply.pending.is_empty() && self.has_reached(&open.slots, &reply.watermark);
                satisfied += usize::from(is_here);
            }
            if satisfied >= needed {
                finished.push(*round);
            }
        }
        let finished: Vec<Read> = finished.iter().filter_map(|round| open.remove(round)).collect();
        self.reads.open = open;
        for open in finished {
            let single = matches!(&open.slots, SlotSet::Some(slots) if slots.len() == 1);
            if single || !open.stirred || self.mutates(Mutant::TornListing) {
                self.outputs.push_back(Output::ReadReady { read: open.read });
            } else if open.rounds < ROUNDS_MAX {
                self.begin_round(open);
            } else {
                self.counters.contended_reads += 1;
                self.outputs.push_back(Output::ReadContended { read: open.read });
            }
        }
    }

    /// Whether the effect of a command is in the state here.
    pub(crate) fn is_executed(&self, id: CommandId) -> bool {
        self.is_settled(id) || self.commands.at(id).is_some_and(|known| known.stage == Stage::Executed)
    }

    fn has_reached(&self, slots: &SlotSet, watermark: &Watermark) -> bool {
        if self.mutates(Mutant::ReadWithoutWatermark) {
            return true;
        }
        match (slots, watermark) {
            (SlotSet::Some(slots), Watermark::Slots(places)) => {
                // A replier that began from a state at a cut names the cut for what it did not execute itself.
                let reached = |place: Place, at: Place| at >= place || place.0 <= self.cuts.last();
                slots.iter().zip(places).all(|(slot, place)| reached(*place, self.frontier.at(*slot)))
            }
            (_, Watermark::Cut(cut)) => self.cuts.last() >= *cut,
            (SlotSet::All, Watermark::Slots(_)) => false,
        }
    }
}
