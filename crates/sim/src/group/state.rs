//! The state of a replica: rows as they are now, and the image of the last cut with its digest and its ledger.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use catalog::digest::StateDigest;
use dace::{Membership, Stored};
use ledger::Frontier;
use ledger::block::{self, Cut};
use types::fact::Fact;
use types::state::{ReadError, StateRead, Table, Visit, Write};
use types::{CommandId, Epoch, GroupId, Timestamp};

/// The place of a command in the order.
pub(crate) type Place = (Timestamp, CommandId);

/// The tables that the state machine writes.
const TABLES: usize = 3;

/// Rows in memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    tables: [BTreeMap<Bytes, Bytes>; TABLES],
}

fn place(table: Table) -> usize {
    match table {
        Table::Catalog => 0,
        Table::Bodies => 1,
        // The state machine writes no rows of the ledger; the image holds its frontier instead.
        Table::Retry | Table::Ledger => 2,
    }
}

impl Rows {
    /// Changes rows.
    pub(crate) fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            self.change(write);
        }
    }

    fn change(&mut self, write: &Write) -> Option<Bytes> {
        let rows = &mut self.tables[place(write.table)];
        match &write.value {
            Some(value) => rows.insert(write.key.clone(), value.clone()),
            None => rows.remove(&write.key),
        }
    }
}

impl StateRead for Rows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.tables[place(table)].get(key).cloned())
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        if !end.is_empty() && start >= end {
            return Ok(());
        }
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        for (key, value) in self.tables[place(table)].range::<[u8], _>((Bound::Included(start), upper)) {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// An executed command that is in no block yet.
pub(crate) struct Done {
    pub(crate) writes: Vec<Write>,
    pub(crate) facts: Vec<Fact>,
}

/// The state exactly at a cut: what a checkpoint holds.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) cut: Timestamp,
    /// The epoch that it is of, that at the cut of a Reconfig of the one that it made; `None`: nothing is known of any.
    pub(crate) membership: Option<Membership>,
    pub(crate) rows: Rows,
    pub(crate) digest: StateDigest,
    pub(crate) frontier: Frontier,
}

/// What a replica says of a cut: equal everywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sealed {
    pub(crate) commands: usize,
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
    pub(crate) digest: [u8; 32],
    pub(crate) last: Place,
}

impl Image {
    /// The empty state, of the first epoch where a group is founded.
    pub(crate) fn new(membership: Option<Membership>) -> Self {
        Self {
            cut: Timestamp::ZERO,
            membership,
            rows: Rows::default(),
            digest: StateDigest::new(),
            frontier: Frontier::new(),
        }
    }

    /// What a replica is told of it.
    pub(crate) fn stored(&self) -> Option<Stored> {
        self.membership.clone().map(|membership| Stored { cut: self.cut, membership })
    }

    /// Moves to a cut by the commands that it closes, in `(timestamp, id)` order.
    pub(crate) fn seal(
        &mut self,
        at: Timestamp,
        (epoch, group): (Epoch, GroupId),
        done: &BTreeMap<Place, Done>,
    ) -> Result<Option<Sealed>, String> {
        let previous = core::mem::replace(&mut self.cut, at);
        let Some((last, _)) = done.last_key_value() else { return Ok(None) };
        let mut facts = Vec::with_capacity(done.len());
        for done in done.values() {
            for write in &done.writes {
                self.fold(write);
            }
            facts.extend(done.facts.iter().cloned());
        }
        let digest = self.digest.sha256();
        let cut = Cut { previous, at, epoch, group, state_digest: digest };
        let block = block::build(&self.frontier, &cut, &facts).map_err(|error| error.to_string())?;
        let sealed =
            Sealed { commands: done.len(), size: block.frontier.size(), root: block.root, digest, last: *last };
        self.frontier = block.frontier;
        Ok(Some(sealed))
    }

    fn fold(&mut self, write: &Write) {
        let old = self.rows.change(write);
        if write.table == Table::Catalog && old != write.value {
            if let Some(old) = old {
                self.digest.remove(&write.key, &old);
            }
            if let Some(new) = &write.value {
                self.digest.add(&write.key, new);
            }
        }
    }
}
