//! The model: maps in memory, which lose what was not synced when told to crash.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use types::state::{ReadError, StateRead, Table, Visit};

use super::{Snapshot, State, StateBatch, StateError};
use crate::random::Random;

type Rows = BTreeMap<(Table, Bytes), Bytes>;

/// A state in memory. Clones are the same state.
#[derive(Clone, Default)]
pub struct MemState {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Default)]
struct Version {
    rows: Rows,
    applied: Option<Vec<u8>>,
}

#[derive(Default)]
struct Inner {
    live: Arc<Version>,
    durable: Version,
    unsynced: Vec<StateBatch>,
}

impl MemState {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses a suffix, of a length that `seed` chooses, of the batches that were not synced.
    pub fn crash(&self, seed: u64) {
        let mut inner = self.inner.lock();
        let survive = Random::new(seed).below(inner.unsynced.len() + 1);
        let batches: Vec<StateBatch> = inner.unsynced.drain(..).take(survive).collect();
        for batch in batches {
            inner.durable.apply(batch);
        }
        inner.live = Arc::new(inner.durable.clone());
    }

    fn live(&self) -> Arc<Version> {
        Arc::clone(&self.inner.lock().live)
    }
}

impl Version {
    fn apply(&mut self, batch: StateBatch) {
        for write in batch.writes {
            match write.value {
                Some(value) => self.rows.insert((write.table, write.key), value),
                None => self.rows.remove(&(write.table, write.key)),
            };
        }
        self.applied = Some(batch.applied);
    }
}

impl StateRead for Version {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.rows.get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let from = (table, Bytes::copy_from_slice(start));
        for ((found, key), value) in self.rows.range((Bound::Included(from), Bound::Unbounded)) {
            let is_past = *found != table || (!end.is_empty() && key.as_ref() >= end);
            if is_past || visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl StateRead for MemState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.live().get(table, key)
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.live().scan(table, start, end, visit)
    }
}

impl State for MemState {
    fn apply(&self, batch: StateBatch) -> Result<(), StateError> {
        let mut inner = self.inner.lock();
        Arc::make_mut(&mut inner.live).apply(batch.clone());
        inner.unsynced.push(batch);
        Ok(())
    }

    fn applied(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.live().applied.clone())
    }

    fn snapshot(&self) -> Snapshot {
        self.live()
    }

    fn sync(&self) -> Result<(), StateError> {
        let mut inner = self.inner.lock();
        for batch in std::mem::take(&mut inner.unsynced) {
            inner.durable.apply(batch);
        }
        Ok(())
    }

    fn disk_len(&self) -> Result<u64, StateError> {
        let live = self.live();
        Ok(live.rows.iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum())
    }
}
