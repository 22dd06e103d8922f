//! The state as a command sees it while it executes: what was there, and over it what the command has
//! changed so far.

use core::ops::ControlFlow;
use std::collections::BTreeMap;

use bytes::Bytes;
use types::state::{ReadError, StateRead, Table, Visit, Write};

use crate::rows::Row;
use crate::rows::key::successor;

/// Changes over a state.
pub(crate) struct Draft<'a> {
    state: &'a dyn StateRead,
    /// By [`place`]: what the state machine writes.
    pending: [BTreeMap<Bytes, Option<Bytes>>; TABLES.len()],
}

/// The tables that the state machine writes.
const TABLES: [Table; 3] = [Table::Catalog, Table::Bodies, Table::Retry];

/// Where the changes of a table are kept. The ledger's table is not the state machine's.
fn place(table: Table) -> usize {
    match table {
        Table::Catalog => 0,
        Table::Bodies => 1,
        Table::Retry | Table::Ledger => 2,
    }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a dyn StateRead) -> Self {
        Self { state, pending: Default::default() }
    }

    pub(crate) fn put(&mut self, table: Table, key: Vec<u8>, value: Bytes) {
        self.pending[place(table)].insert(key.into(), Some(value));
    }

    pub(crate) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.pending[place(table)].insert(key.into(), None);
    }

    pub(crate) fn put_row<R: Row>(&mut self, key: Vec<u8>, row: &R) {
        self.put(Table::Catalog, key, row.to_value());
    }

    pub(crate) fn row<R: Row>(&self, key: &[u8]) -> Result<Option<R>, ReadError> {
        self.get(Table::Catalog, key)?.map(|value| R::from_value(&value)).transpose()
    }

    /// How many rows are changed so far.
    pub(crate) fn changed(&self) -> usize {
        self.pending.iter().map(BTreeMap::len).sum()
    }

    /// Forgets all changes.
    pub(crate) fn discard(&mut self) {
        self.pending = Default::default();
    }

    /// The changes, one per row, in order of table and key.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        let mut writes = Vec::with_capacity(self.changed());
        for (table, rows) in TABLES.into_iter().zip(self.pending) {
            writes.extend(rows.into_iter().map(|(key, value)| Write { table, key, value }));
        }
        writes
    }

    /// Visits the rows whose key starts with `prefix`.
    pub(crate) fn scan_prefix(&self, table: Table, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.scan(table, prefix, &successor(prefix), visit)
    }

    /// Whether there is a row whose key starts with `prefix`.
    pub(crate) fn any(&self, table: Table, prefix: &[u8]) -> Result<bool, ReadError> {
        let mut found = false;
        self.scan_prefix(table, prefix, &mut |_, _| {
            found = true;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

impl StateRead for Draft<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        match self.pending[place(table)].get(key) {
            Some(change) => Ok(change.clone()),
            None => self.state.get(table, key),
        }
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        if !end.is_empty() && start >= end {
            return Ok(());
        }
        let pending = &self.pending[place(table)];
        let inside = pending
            .range::<[u8], _>((core::ops::Bound::Included(start), core::ops::Bound::Unbounded))
            .take_while(|(key, _)| end.is_empty() || key.as_ref() < end);
        let mut changes = inside.peekable();
        let mut stopped = false;
        self.state.scan(table, start, end, &mut |key, value| {
            while let Some((changed, change)) = changes.next_if(|(changed, _)| changed.as_ref() < key) {
                if let Some(change) = change
                    && visit(changed, change).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match changes.next_if(|(changed, _)| changed.as_ref() == key) {
                Some((_, Some(change))) => visit(key, change),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(key, value),
            };
            stopped = flow.is_break();
            flow
        })?;
        if !stopped {
            for (changed, change) in changes {
                if let Some(change) = change
                    && visit(changed, change).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::MemoryState;

    fn scanned(state: &dyn StateRead, start: &[u8], end: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        state
            .scan(Table::Catalog, start, end, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        rows
    }

    proptest! {
        /// A draft reads like a state to which its changes were applied.
        #[test]
        fn a_draft_reads_like_the_state_to_come(
            before in proptest::collection::btree_map(0_u8..12, any::<u8>(), 0..8),
            changes in proptest::collection::vec((0_u8..12, any::<Option<u8>>()), 0..8),
            start in 0_u8..12, end in 0_u8..13, limit in 1_usize..6,
        ) {
            let mut state = MemoryState::default();
            let rows: BTreeMap<Bytes, Bytes> = before.iter().map(|(k, v)| (vec![*k].into(), vec![*v].into())).collect();
            state.rows.insert(Table::Catalog, rows);
            let mut draft = Draft::new(&state);
            for (key, change) in &changes {
                match change {
                    Some(value) => draft.put(Table::Catalog, vec![*key], vec![*value].into()),
                    None => draft.delete(Table::Catalog, vec![*key]),
                }
            }
            let mut after = state.clone();
            let end: &[u8] = if end == 12 { &[] } else { &[end] };
            let drafted = scanned(&draft, &[start], end, limit);
            let gets: Vec<_> = (0..12).map(|key| draft.get(Table::Catalog, &[key]).unwrap()).collect();
            for write in draft.into_writes() {
                let rows = after.rows.get_mut(&Table::Catalog).unwrap();
                match write.value {
                    Some(value) => rows.insert(write.key, value),
                    None => rows.remove(&write.key),
                };
            }
            prop_assert_eq!(drafted, scanned(&after, &[start], end, limit));
            let expected: Vec<_> = (0..12).map(|key| after.get(Table::Catalog, &[key]).unwrap()).collect();
            prop_assert_eq!(gets, expected);
        }
    }
}
