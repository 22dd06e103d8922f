//! A state in memory, for tests of this crate and for its fuzz target. Not part of the public interface:
//! `store` has the model that others use.

use core::ops::{Bound, ControlFlow};
use std::collections::BTreeMap;

use bytes::Bytes;
use types::state::{ReadError, StateRead, Table, Visit, Write};

use crate::digest::StateDigest;

/// Rows in memory, and their digest.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct MemoryState {
    /// The rows of all tables.
    pub rows: BTreeMap<Table, BTreeMap<Bytes, Bytes>>,
    /// The digest of the catalog's rows, kept as a replica keeps it.
    pub digest: StateDigest,
}

impl MemoryState {
    /// Changes rows.
    pub fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            let rows = self.rows.entry(write.table).or_default();
            let old = match &write.value {
                Some(value) => rows.insert(write.key.clone(), value.clone()),
                None => rows.remove(&write.key),
            };
            if write.table == Table::Catalog {
                if let Some(old) = old {
                    self.digest.remove(&write.key, &old);
                }
                if let Some(new) = &write.value {
                    self.digest.add(&write.key, new);
                }
            }
        }
    }

    /// How many rows a table has.
    #[must_use]
    pub fn count(&self, table: Table) -> usize {
        self.rows.get(&table).map_or(0, BTreeMap::len)
    }
}

impl StateRead for MemoryState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.rows.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let Some(rows) = self.rows.get(&table) else { return Ok(()) };
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        if !end.is_empty() && start >= end {
            return Ok(());
        }
        for (key, value) in rows.range::<[u8], _>((Bound::Included(start), upper)) {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
