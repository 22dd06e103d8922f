//! The disk of a machine: the journals of its epochs with their unsynced tails, and the last durable checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dace::{EpochJournal, Kept, Membership, Record};
use types::journal::RecordKind;
use types::{CommandId, Epoch, Timestamp};

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

/// The journal of an epoch.
#[derive(Clone)]
struct Journal {
    membership: Membership,
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
}

/// What became durable.
#[derive(Clone, Default)]
struct Known {
    /// What of each command is durable here.
    vouched: BTreeMap<CommandId, u8>,
    /// Commands whose decision was ever said here durably.
    said_decided: BTreeSet<CommandId>,
    /// Decisions that became durable and nobody has looked at.
    decided: Vec<(CommandId, Timestamp)>,
}

/// Journals and checkpoint.
#[derive(Clone)]
pub(crate) struct Disk {
    journals: BTreeMap<Epoch, Journal>,
    /// Up to here epochs are over.
    pub(crate) over: Epoch,
    /// The newest durable checkpoint.
    pub(crate) checkpoint: Option<Arc<Image>>,
    known: Known,
    /// Items ever queued, and ever durable: what is new to peers changes them.
    news: (u64, u64),
    /// Flushes fail until then.
    pub(crate) full_until: Instant,
    /// Flushes are slow until then.
    pub(crate) slow_until: Instant,
}

impl Journal {
    fn new(membership: Membership) -> Self {
        Self {
            membership,
            items: VecDeque::new(),
            trimmed: 0,
            said: VecDeque::new(),
            first: 1,
            durable: 0,
            durable_position: 0,
            flushing: None,
            base: None,
        }
    }

    fn end(&self) -> u64 {
        self.trimmed + self.items.len() as u64
    }

    fn append(&mut self, item: Item) {
        if let Item::Said(record) = &item {
            assert_eq!(record.header.position, self.appended() + 1, "the driver appends in order");
            self.said.push_back(self.end());
        }
        self.items.push_back(item);
    }

    fn appended(&self) -> u64 {
        self.first + self.said.len() as u64 - 1
    }

    fn said_after(&self, position: u64) -> Option<impl Iterator<Item = &Record>> {
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

    fn harden(&mut self, target: u64, known: &mut Known) {
        while self.durable < target {
            let index = usize::try_from(self.durable - self.trimmed).expect("items are in memory");
            self.durable += 1;
            match &self.items[index] {
                Item::Said(record) => {
                    self.durable_position = record.header.position;
                    let bits = match record.header.kind {
                        RecordKind::Commit => {
                            known.said_decided.insert(record.header.id);
                            known.decided.push((record.header.id, record.header.timestamp));
                            continue;
                        }
                        RecordKind::Propose => PAYLOAD | ATTACHED,
                        RecordKind::Ack | RecordKind::Report => ATTACHED,
                        _ => continue,
                    };
                    *known.vouched.entry(record.header.id).or_default() |= bits;
                }
                Item::Kept(kept) => *known.vouched.entry(kept.header.id).or_default() |= PAYLOAD,
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

    /// The process ends: of what a running flush was writing, `survives` (of 1000) is there.
    fn tear(&mut self, survives: u64, known: &mut Known) -> u64 {
        let target = self.flushing.take().unwrap_or(self.durable);
        let kept = self.durable + (target - self.durable) * survives / 1000;
        self.harden(kept, known);
        let lost = self.end() - self.durable;
        self.items.truncate(usize::try_from(self.durable - self.trimmed).expect("items are in memory"));
        while self.said.back().is_some_and(|sequence| *sequence >= self.durable) {
            self.said.pop_back();
        }
        lost
    }
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            journals: BTreeMap::new(),
            over: Epoch(0),
            checkpoint: None,
            known: Known::default(),
            news: (0, 0),
            full_until: 0,
            slow_until: 0,
        }
    }

    /// The journal of an epoch begins.
    pub(crate) fn begin(&mut self, membership: Membership) {
        self.journals.insert(membership.epoch, Journal::new(membership));
    }

    /// The journal of an epoch is deleted.
    pub(crate) fn close(&mut self, epoch: Epoch) {
        self.journals.remove(&epoch);
        self.news.0 += 1;
    }

    /// The epochs of which there are journals, rising.
    pub(crate) fn epochs(&self) -> impl DoubleEndedIterator<Item = Epoch> + '_ {
        self.journals.keys().copied()
    }

    /// Queues an item of a journal for the next flush.
    pub(crate) fn append(&mut self, epoch: Epoch, item: Item) {
        self.news.0 += 1;
        self.journals.get_mut(&epoch).expect("the journal has begun").append(item);
    }

    /// Changes with all that peers may want to hear.
    pub(crate) fn news(&self) -> (u64, u64) {
        self.news
    }

    /// The last durable said position of a journal; 0: there is none.
    pub(crate) fn durable_position(&self, epoch: Epoch) -> u64 {
        self.journals.get(&epoch).map_or(0, |journal| journal.durable_position)
    }

    /// The said records of a journal above `position`; `None` if some of them are trimmed.
    pub(crate) fn said_after(&self, epoch: Epoch, position: u64) -> Option<impl Iterator<Item = &Record>> {
        self.journals.get(&epoch)?.said_after(position)
    }

    /// Starts a flush of all that is queued. False when one is running or nothing is queued.
    pub(crate) fn start_flush(&mut self) -> bool {
        let is_running = self.journals.values().any(|journal| journal.flushing.is_some());
        let is_queued = self.journals.values().any(|journal| journal.durable < journal.end());
        if is_running || !is_queued {
            return false;
        }
        self.journals.values_mut().for_each(|journal| journal.flushing = Some(journal.end()));
        true
    }

    /// The flush has ended well. Gives the journals in which said records became durable.
    pub(crate) fn finish_flush(&mut self) -> Vec<(Epoch, u64)> {
        let mut grown = Vec::new();
        for (epoch, journal) in &mut self.journals {
            // One that began meanwhile is in the next.
            let Some(target) = journal.flushing.take() else { continue };
            let before = journal.durable_position;
            journal.harden(target, &mut self.known);
            if journal.durable_position > before {
                grown.push((*epoch, journal.durable_position));
            }
        }
        self.news.1 += 1;
        grown
    }

    /// The process ends: of what a running flush was writing, `survives` (of 1000) is there, torn anywhere, in each
    /// journal elsewhere. One in which nothing is durable may be gone. Gives the number of items lost.
    pub(crate) fn tear(&mut self, survives: u64) -> u64 {
        let mut lost = 0;
        for (index, journal) in self.journals.values_mut().rev().enumerate() {
            let survives = if index % 2 == 0 { survives } else { 1000 - survives };
            lost += journal.tear(survives, &mut self.known);
        }
        self.journals.retain(|_, journal| journal.durable > 0 || journal.base.is_some() || survives.is_multiple_of(2));
        lost
    }

    /// What a restart begins from: the journals, each with its base.
    pub(crate) fn recover(&self) -> Vec<EpochJournal> {
        let found = |journal: &Journal| EpochJournal {
            membership: journal.membership.clone(),
            base: journal.base.as_ref().map(|(.., bytes)| bytes.clone()),
        };
        self.journals.values().map(found).collect()
    }

    /// The items of all journals, those of the oldest first.
    pub(crate) fn items(&self) -> impl Iterator<Item = (Epoch, &Item)> {
        self.journals.iter().flat_map(|(epoch, journal)| journal.items.iter().map(|item| (*epoch, item)))
    }

    /// The cut of the durable base of a journal.
    pub(crate) fn base_cut(&self, epoch: Epoch) -> Timestamp {
        let base = self.journals.get(&epoch).and_then(|journal| journal.base.as_ref());
        base.map_or(Timestamp::ZERO, |(_, cut, _)| *cut)
    }

    /// The cut of the durable checkpoint.
    pub(crate) fn checkpoint_cut(&self) -> Timestamp {
        self.checkpoint.as_ref().map_or(Timestamp::ZERO, |image| image.cut)
    }

    /// The decisions that became durable since this was last called.
    pub(crate) fn take_decided(&mut self) -> Vec<(CommandId, Timestamp)> {
        core::mem::take(&mut self.known.decided)
    }

    /// Whether payload and attach of a command are durable here.
    pub(crate) fn vouches(&self, id: CommandId) -> bool {
        self.known.vouched.get(&id) == Some(&(PAYLOAD | ATTACHED))
    }

    /// Whether the decision of a command was said here durably.
    pub(crate) fn says_decision(&self, id: CommandId) -> bool {
        self.known.said_decided.contains(&id)
    }

    /// Nothing is left of it; what it once vouched for was vouched for.
    pub(crate) fn destroy(&mut self) {
        let (vouched, checkpoint) = (core::mem::take(&mut self.known.vouched), self.checkpoint.take());
        *self = Self { known: Known { vouched, ..Known::default() }, checkpoint, ..Self::new() };
    }

    /// The whole disk becomes an older copy of itself; what it once vouched for was vouched for.
    pub(crate) fn roll_back(&mut self, older: Self) {
        let vouched = core::mem::take(&mut self.known.vouched);
        *self = Self { known: Known { vouched, ..older.known }, ..older };
        self.journals.values_mut().for_each(|journal| journal.flushing = None);
    }
}
