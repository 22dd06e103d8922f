//! The disk of a machine: the journal with its unsynced tail, and the last durable checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dace::{Kept, Record};
use types::journal::RecordKind;
use types::{CommandId, Timestamp};

use super::queue::Instant;
use super::state::Image;

/// What goes to the journal, in the order in which the core handed it out.
#[derive(Clone)]
pub(crate) enum Item {
    /// A said record.
    Said(Record),
    /// A kept record.
    Kept(Kept),
    /// A base: once durable, everything up to the said record at `position` goes.
    Base { position: u64, cut: Timestamp, bytes: Vec<u8> },
}

/// The payload of a command is durable here.
const PAYLOAD: u8 = 1;
/// It is attached here, durably.
const ATTACHED: u8 = 2;

/// Journal and checkpoint.
#[derive(Clone)]
pub(crate) struct Disk {
    items: VecDeque<Item>,
    /// Number of items trimmed off the front.
    trimmed: u64,
    /// Sequence numbers (over all items ever) of the said records from `first` on.
    said: VecDeque<u64>,
    /// Position of the first said record that is left.
    first: u64,
    /// Sequence number of the first item that is not durable.
    durable: u64,
    /// The last said position below that.
    durable_position: u64,
    /// What the flush in progress will have made durable.
    flushing: Option<u64>,
    /// The newest durable base.
    base: Option<(u64, Timestamp, Vec<u8>)>,
    /// The newest durable checkpoint.
    pub(crate) checkpoint: Option<Arc<Image>>,
    /// What of each command is durable here.
    vouched: BTreeMap<CommandId, u8>,
    /// Commands whose decision was ever said here durably.
    said_decided: BTreeSet<CommandId>,
    /// Decisions that became durable and nobody has looked at.
    decided: Vec<(CommandId, Timestamp)>,
    /// Flushes fail until then.
    pub(crate) full_until: Instant,
    /// Flushes are slow until then.
    pub(crate) slow_until: Instant,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            trimmed: 0,
            said: VecDeque::new(),
            first: 1,
            durable: 0,
            durable_position: 0,
            flushing: None,
            base: None,
            checkpoint: None,
            vouched: BTreeMap::new(),
            said_decided: BTreeSet::new(),
            decided: Vec::new(),
            full_until: 0,
            slow_until: 0,
        }
    }

    fn end(&self) -> u64 {
        self.trimmed + self.items.len() as u64
    }

    /// Queues an item for the next flush.
    pub(crate) fn append(&mut self, item: Item) {
        if let Item::Said(record) = &item {
            assert_eq!(record.header.position, self.appended() + 1, "the driver appends in order");
            self.said.push_back(self.end());
        }
        self.items.push_back(item);
    }

    /// The last said position.
    pub(crate) fn appended(&self) -> u64 {
        self.first + self.said.len() as u64 - 1
    }

    /// The last durable said position.
    pub(crate) fn durable_position(&self) -> u64 {
        self.durable_position
    }

    /// The said records above `position`; `None` if some of them are trimmed.
    pub(crate) fn said_after(&self, position: u64) -> Option<impl Iterator<Item = &Record>> {
        if position + 1 < self.first {
            return None;
        }
        let skip = usize::try_from(position + 1 - self.first).unwrap_or(usize::MAX);
        Some(self.said.iter().skip(skip).map(|sequence| match self.item(*sequence) {
            Item::Said(record) => record,
            _ => unreachable!("positions lead to said records"),
        }))
    }

    fn item(&self, sequence: u64) -> &Item {
        let index = usize::try_from(sequence - self.trimmed).expect("items are in memory");
        &self.items[index]
    }

    /// Starts a flush of all that is queued. False when one is running or nothing is queued.
    pub(crate) fn start_flush(&mut self) -> bool {
        if self.flushing.is_some() || self.durable == self.end() {
            return false;
        }
        self.flushing = Some(self.end());
        true
    }

    /// The flush has ended well.
    pub(crate) fn finish_flush(&mut self) {
        let target = self.flushing.take().expect("a flush is running");
        self.harden(target);
    }

    fn harden(&mut self, target: u64) {
        while self.durable < target {
            let index = usize::try_from(self.durable - self.trimmed).expect("items are in memory");
            self.durable += 1;
            match &self.items[index] {
                Item::Said(record) => {
                    self.durable_position = record.header.position;
                    let bits = match record.header.kind {
                        RecordKind::Commit => {
                            self.said_decided.insert(record.header.id);
                            self.decided.push((record.header.id, record.header.timestamp));
                            continue;
                        }
                        RecordKind::Propose => PAYLOAD | ATTACHED,
                        RecordKind::Ack | RecordKind::Report => ATTACHED,
                        _ => continue,
                    };
                    *self.vouched.entry(record.header.id).or_default() |= bits;
                }
                Item::Kept(kept) => *self.vouched.entry(kept.header.id).or_default() |= PAYLOAD,
                Item::Base { position, cut, bytes } => {
                    self.base = Some((*position, *cut, bytes.clone()));
                    self.trim();
                }
            }
        }
    }

    fn trim(&mut self) {
        let Some((position, ..)) = self.base else { return };
        while self.first <= position {
            let Some(sequence) = self.said.pop_front() else { break };
            self.first += 1;
            while self.trimmed <= sequence {
                self.items.pop_front();
                self.trimmed += 1;
            }
        }
    }

    /// The process ends: of what a running flush was writing, `survives` (of 1000) is there, torn anywhere.
    /// Gives the number of items lost.
    pub(crate) fn tear(&mut self, survives: u64) -> u64 {
        let target = self.flushing.take().unwrap_or(self.durable);
        let kept = self.durable + (target - self.durable) * survives / 1000;
        self.harden(kept);
        let lost = self.end() - self.durable;
        self.items.truncate(usize::try_from(self.durable - self.trimmed).expect("items are in memory"));
        while self.said.back().is_some_and(|sequence| *sequence >= self.durable) {
            self.said.pop_back();
        }
        lost
    }

    /// What a restart begins from: the base, and the items behind it.
    pub(crate) fn recover(&self) -> (Option<Vec<u8>>, impl Iterator<Item = &Item>) {
        (self.base.as_ref().map(|(.., bytes)| bytes.clone()), self.items.iter())
    }

    /// The cut of the durable base.
    pub(crate) fn base_cut(&self) -> Timestamp {
        self.base.as_ref().map_or(Timestamp::ZERO, |(_, cut, _)| *cut)
    }

    /// The cut of the durable checkpoint.
    pub(crate) fn checkpoint_cut(&self) -> Timestamp {
        self.checkpoint.as_ref().map_or(Timestamp::ZERO, |image| image.cut)
    }

    /// The decisions that became durable since this was last called.
    pub(crate) fn take_decided(&mut self) -> Vec<(CommandId, Timestamp)> {
        core::mem::take(&mut self.decided)
    }

    /// Whether payload and attach of a command are durable here.
    pub(crate) fn vouches(&self, id: CommandId) -> bool {
        self.vouched.get(&id) == Some(&(PAYLOAD | ATTACHED))
    }

    /// Whether the decision of a command was said here durably.
    pub(crate) fn says_decision(&self, id: CommandId) -> bool {
        self.said_decided.contains(&id)
    }

    /// Nothing is left of it; what it once vouched for was vouched for.
    pub(crate) fn destroy(&mut self) {
        let (vouched, checkpoint) = (core::mem::take(&mut self.vouched), self.checkpoint.take());
        *self = Self { vouched, checkpoint, ..Self::new() };
    }

    /// The whole disk becomes an older copy of itself; what it once vouched for was vouched for.
    pub(crate) fn roll_back(&mut self, older: Self) {
        let vouched = core::mem::take(&mut self.vouched);
        *self = Self { vouched, ..older };
        self.flushing = None;
    }
}
