//! One replica of a schedule: its core, its clocks, and what its disk holds.

use std::collections::{BTreeMap, BTreeSet};

use dace::{Core, Kept, Record};
use types::journal::RecordKind;
use types::{CommandId, Now, SlotSet, Timestamp};

/// What a journal holds.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Said(Record),
    Kept(Kept),
}

/// How a replica fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is up, or may be started again.
    Well,
    /// It never comes back: gone in a `settle`, or refused by a peer after its disk was rolled back.
    Gone,
}

/// See the file's documentation.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) core: Option<Core>,
    pub(super) fate: Fate,
    pub(super) now: Now,
    /// The journal, behind the base.
    pub(super) items: Vec<Item>,
    /// How many of them are durable.
    pub(super) durable_items: usize,
    /// The last said position among those.
    pub(super) durable: u64,
    pub(super) base: Option<Vec<u8>>,
    /// The cut of the durable state.
    pub(super) stored: Timestamp,
    /// What the present life, or the last one if it is down, has said: all of it may have been sent before a crash.
    pub(super) said: Vec<Record>,
    /// The beats of that life: appended position, and the promise that was given then.
    pub(super) promises: Vec<(u64, Timestamp)>,
    /// What its clock showed in the last of them.
    pub(super) reading: Timestamp,
    /// Own commands whose client waits.
    pub(super) waiting: BTreeMap<CommandId, SlotSet>,
    /// Reads under way.
    pub(super) reads: BTreeMap<u64, SlotSet>,
    /// The cut of the state that it must install.
    pub(super) wants: Option<Timestamp>,
    /// Its disk was rolled back to this said position, and it has failed by that.
    pub(super) rolled_back: Option<u64>,
}

impl Node {
    pub(super) fn new(now: Now) -> Self {
        Self {
            core: None,
            fate: Fate::Well,
            now,
            items: Vec::new(),
            durable_items: 0,
            durable: 0,
            base: None,
            stored: Timestamp::ZERO,
            said: Vec::new(),
            promises: Vec::new(),
            reading: Timestamp::ZERO,
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
            wants: None,
            rolled_back: None,
        }
    }

    pub(super) fn append(&mut self, item: Item) {
        if let Item::Said(record) = &item {
            self.said.push(record.clone());
        }
        self.items.push(item);
    }

    /// Items up to the said record at `position` are durable (all of them, if it is the last one said). Gives those
    /// that were not before.
    pub(super) fn harden(&mut self, position: u64) -> &[Item] {
        let before = self.durable_items;
        let behind = |item: &Item| matches!(item, Item::Said(record) if record.header.position > position);
        let end = self.items.iter().position(behind);
        let mut end = end.unwrap_or(self.items.len());
        // What is kept belongs to the record behind it.
        while end < self.items.len() && end > before && matches!(self.items[end - 1], Item::Kept(_)) {
            end -= 1;
        }
        self.harden_items(end.max(before));
        &self.items[before..self.durable_items]
    }

    pub(super) fn harden_items(&mut self, end: usize) {
        self.durable_items = end;
        let said = self.items[..end].iter().rev().find_map(|item| match item {
            Item::Said(record) => Some(record.header.position),
            Item::Kept(_) => None,
        });
        self.durable = said.unwrap_or(self.durable).max(self.durable);
    }

    /// What a reader gets behind `position`.
    pub(super) fn said_behind(&self, position: u64) -> impl Iterator<Item = &Record> {
        self.said.iter().filter(move |record| record.header.position > position)
    }

    /// The promise that is true of what it had said up to `position`.
    pub(super) fn promise_at(&self, position: u64) -> Timestamp {
        let given = self.promises.iter().filter(|(appended, _)| *appended <= position);
        given.map(|(_, promise)| *promise).max().unwrap_or(Timestamp::ZERO)
    }

    /// The commands that its durable journal holds, with their bodies.
    pub(super) fn holds(&self) -> BTreeSet<CommandId> {
        let bodies = self.items[..self.durable_items].iter().filter_map(|item| match item {
            Item::Kept(kept) => Some(kept.header.id),
            Item::Said(record) if record.header.kind == RecordKind::Propose => Some(record.header.id),
            Item::Said(_) => None,
        });
        bodies.collect()
    }

    /// Whether its durable journal holds a command and its attach, or its state the effect of it.
    pub(super) fn vouches(&self, id: CommandId, timestamp: Timestamp) -> bool {
        let attaches = |item: &Item| match item {
            Item::Said(record) => {
                let kind = record.header.kind;
                record.header.id == id && matches!(kind, RecordKind::Propose | RecordKind::Ack | RecordKind::Report)
            }
            Item::Kept(_) => false,
        };
        self.stored >= timestamp || self.items[..self.durable_items].iter().any(attaches) && self.holds().contains(&id)
    }

    /// Its core, which is up.
    pub(super) fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("only a replica that is up is driven")
    }
}
