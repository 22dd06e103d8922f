//! Quorum reads: linearizable reads without a lease (`consensus.md`, section 6, last paragraph).
//!
//! The reader asks every member what it has durably attached in the slots of the read, and how far it has
//! executed them. It answers when, for *some* majority of the replies, all that they named is executed here:
//! a write that was visible before the read began was attached durably at a majority by then.

use std::collections::{BTreeMap, BTreeSet};

use types::limits::READS_MAX;
use types::{CommandId, Now, ReplicaId, SlotSet};

use crate::command::Stage;
use crate::config::Member;
use crate::core::Core;
use crate::message::{Message, Watermark};
use crate::mutant::Mutant;
use crate::output::Output;
use crate::propose::SubmitError;
use crate::status::Phase;
use crate::timer::Timer;

/// A read under way.
struct Read {
    slots: SlotSet,
    /// Replies by member, and what of each is still missing here.
    replies: BTreeMap<Member, Reply>,
}

struct Reply {
    pending: BTreeSet<CommandId>,
    watermark: Watermark,
}

/// The reads under way. At most [`READS_MAX`].
#[derive(Default)]
pub(crate) struct Reads {
    last: u64,
    open: BTreeMap<u64, Read>,
}

impl Core {
    /// Begins a linearizable read of `slots`; [`Output::ReadReady`] names the number given here when the
    /// local state may be read.
    pub fn handle_read(&mut self, now: Now, slots: SlotSet) -> Result<u64, SubmitError> {
        if self.phase != Phase::Running {
            return Err(SubmitError::NotStarted);
        }
        if self.reads.open.len() >= READS_MAX {
            return Err(SubmitError::Full);
        }
        self.clock.advance(now);
        self.reads.last += 1;
        let read = self.reads.last;
        let (pending, watermark) = self.answer(&slots);
        let own = Reply { pending: pending.into_iter().collect(), watermark };
        self.reads.open.insert(read, Read { slots, replies: BTreeMap::from([(self.me, own)]) });
        self.ask_again(read);
        self.advance();
        Ok(read)
    }

    /// Asks those that did not answer yet.
    pub(crate) fn ask_again(&mut self, read: u64) {
        let Some(open) = self.reads.open.get(&read) else { return };
        for member in &self.preference {
            if !open.replies.contains_key(member) {
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
        let message = Message::Answer { read, pending, watermark };
        self.outputs.push_back(Output::Send { to, message });
    }

    pub(crate) fn handle_answer(
        &mut self,
        from: ReplicaId,
        read: u64,
        pending: Vec<CommandId>,
        watermark: Watermark,
    ) {
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
            open.replies.entry(member).or_insert(reply);
        }
    }

    /// Puts out the reads for which a majority of the replies is executed here.
    pub(crate) fn finish_reads(&mut self) {
        if self.reads.open.is_empty() {
            return;
        }
        let needed = self.config.majority() - usize::from(self.mutates(Mutant::SmallReadQuorum));
        let mut open = std::mem::take(&mut self.reads.open);
        open.retain(|read, open| {
            let mut satisfied = 0;
            for reply in open.replies.values_mut() {
                reply.pending.retain(|id| !self.is_executed(*id));
                let reached = self.has_reached(&open.slots, &reply.watermark);
                satisfied += usize::from(reply.pending.is_empty() && reached);
            }
            let ready = satisfied >= needed;
            if ready {
                self.outputs.push_back(Output::ReadReady { read: *read });
            }
            !ready
        });
        self.reads.open = open;
    }

    /// Whether the effect of a command is in the state here.
    fn is_executed(&self, id: CommandId) -> bool {
        self.is_settled(id) || self.commands.at(id).is_some_and(|known| known.stage == Stage::Executed)
    }

    fn has_reached(&self, slots: &SlotSet, watermark: &Watermark) -> bool {
        if self.mutates(Mutant::ReadWithoutWatermark) {
            return true;
        }
        match (slots, watermark) {
            (SlotSet::Some(slots), Watermark::Slots(places)) => {
                slots.iter().zip(places).all(|(slot, place)| self.frontier.at(*slot) >= *place)
            }
            (_, Watermark::Cut(cut)) => self.cuts.last().max(self.executed_cut) >= *cut,
            (SlotSet::All, Watermark::Slots(_)) => false,
        }
    }
}
