//! The memory overlay: what is executed but not yet in the stored state.
//!
//! The stored state is always the state at a cut. Everything executed since lives here, each row with the
//! timestamps of its writes, so that a block takes exactly its own changes along. Readers look here first
//! and then into the stored state; a row leaves only after the stored state has it.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use parking_lot::RwLock;
use types::state::{ReadError, StateRead, Table, Visit, Write};
use types::{Slot, SlotSet, Timestamp};

use super::gate::{Gate, Generation, SharedGeneration};

/// Values of one row, oldest first; `None` is a removal.
type Versions = Vec<(Timestamp, Option<Bytes>)>;

#[derive(Default)]
struct Rows {
    tables: [BTreeMap<Bytes, Versions>; Table::ALL.len()],
    len: usize,
}

impl Rows {
    fn insert(&mut self, timestamp: Timestamp, writes: &[Write]) {
        for write in writes {
            self.len += row_len(&write.key, write.value.as_ref());
            let versions = self.tables[index(write.table)].entry(write.key.clone()).or_default();
            if let Some((last, _)) = versions.last() {
                assert!(*last <= timestamp, "rows of a slot are written in timestamp order");
            }
            versions.push((timestamp, write.value.clone()));
        }
    }
}

/// The overlay. Written by the core's loop and the sealer, read by everyone.
#[derive(Default)]
pub struct Overlay {
    rows: RwLock<Rows>,
    gate: Gate,
}

fn index(table: Table) -> usize {
    match table {
        Table::Catalog => 0,
        Table::Bodies => 1,
        Table::Retry => 2,
        Table::Ledger => 3,
    }
}

fn row_len(key: &Bytes, value: Option<&Bytes>) -> usize {
    /// What a row costs beside its bytes: tree node, version entry, reference counts.
    const ROW_OVERHEAD: usize = 128;
    ROW_OVERHEAD + key.len() + value.map_or(0, Bytes::len)
}

impl Overlay {
    /// Adds the writes of a command of these slots executed at `timestamp`, all at once. A row's timestamps
    /// never fall.
    pub fn insert(&self, timestamp: Timestamp, slots: &SlotSet, writes: &[Write]) {
        self.gate.pass(slots, || self.rows.write().insert(timestamp, writes));
    }

    /// The generation of a slot: see [`Gate`].
    pub(crate) fn generation(&self, slot: Slot) -> Generation {
        self.gate.generation(slot)
    }

    /// The generation of rows that only `*` commands write: see [`Gate`].
    pub(crate) fn shared_generation(&self) -> SharedGeneration {
        self.gate.shared()
    }

    /// Drops what the stored state has now: every write of these at or below `cut`.
    pub fn sealed(&self, cut: Timestamp, writes: &[Write]) {
        let mut guard = self.rows.write();
        let rows = &mut *guard;
        for write in writes {
            let table = &mut rows.tables[index(write.table)];
            let Some(versions) = table.get_mut(&write.key) else { continue };
            let keep = versions.partition_point(|(timestamp, _)| *timestamp <= cut);
            for (_, value) in versions.drain(..keep) {
                rows.len -= row_len(&write.key, value.as_ref());
            }
            if versions.is_empty() {
                table.remove(&write.key);
            }
        }
    }

    /// Drops everything, since another state was stored: what is kept of rows under a generation holds no more.
    pub fn clear(&self) {
        self.gate.pass(&SlotSet::All, || *self.rows.write() = Rows::default());
    }

    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.read().len
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row's newest value here: `None` when the overlay does not know the row.
    fn newest(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        let rows = self.rows.read();
        rows.tables[index(table)].get(key).and_then(|versions| versions.last()).map(|(_, value)| value.clone())
    }

    /// Copies the newest values of one table's range.
    fn copy_range(&self, table: Table, start: &[u8], end: &[u8]) -> Vec<(Bytes, Option<Bytes>)> {
        let rows = self.rows.read();
        range(&rows.tables[index(table)], start, end)
            .filter_map(|(key, versions)| versions.last().map(|(_, value)| (key.clone(), value.clone())))
            .collect()
    }
}

fn range<'a>(
    table: &'a BTreeMap<Bytes, Versions>,
    start: &[u8],
    end: &[u8],
) -> impl Iterator<Item = (&'a Bytes, &'a Versions)> {
    let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    let empty = !end.is_empty() && start >= end;
    let bounds =
        if empty { (Bound::Included(&[][..]), Bound::Excluded(&[][..])) } else { (Bound::Included(start), upper) };
    table.range::<[u8], _>(bounds)
}

/// The overlay over a stored state: what the core's loop executes against. Each call sees the newest rows;
/// between two calls nothing changes, because only the loop itself writes.
pub struct Layered<'a, S: ?Sized> {
    /// What is newer.
    pub overlay: &'a Overlay,
    /// What is stored.
    pub state: &'a S,
}

impl<S: StateRead + ?Sized> StateRead for Layered<'_, S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        match self.overlay.newest(table, key) {
            Some(value) => Ok(value),
            None => self.state.get(table, key),
        }
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        merge(&self.overlay.copy_range(table, start, end), self.state, table, start, end, visit)
    }
}

/// A view of one instant: a snapshot of the stored state and a copy of the overlay's rows, taken together.
pub struct View {
    rows: [BTreeMap<Bytes, Option<Bytes>>; Table::ALL.len()],
    state: std::sync::Arc<dyn StateRead + Send + Sync>,
}

impl View {
    /// Takes the view. `snapshot` is called while nothing can leave the overlay.
    pub fn take(overlay: &Overlay, snapshot: impl FnOnce() -> std::sync::Arc<dyn StateRead + Send + Sync>) -> Self {
        let rows = overlay.rows.read();
        let copy = |table: &BTreeMap<Bytes, Versions>| {
            table
                .iter()
                .filter_map(|(key, versions)| versions.last().map(|(_, value)| (key.clone(), value.clone())))
                .collect()
        };
        Self { rows: [0, 1, 2, 3].map(|table: usize| copy(&rows.tables[table])), state: snapshot() }
    }
}

impl StateRead for View {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        match self.rows[index(table)].get(key) {
            Some(value) => Ok(value.clone()),
            None => self.state.get(table, key),
        }
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        if !end.is_empty() && start >= end {
            return Ok(());
        }
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let newer: Vec<(Bytes, Option<Bytes>)> = self.rows[index(table)]
            .range::<[u8], _>((Bound::Included(start), upper))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        merge(&newer, self.state.as_ref(), table, start, end, visit)
    }
}

/// Visits the union of `newer` (sorted; wins) and the stored rows, in key order.
fn merge<S: StateRead + ?Sized>(
    newer: &[(Bytes, Option<Bytes>)],
    state: &S,
    table: Table,
    start: &[u8],
    end: &[u8],
    visit: &mut Visit<'_>,
) -> Result<(), ReadError> {
    let mut newer = newer.iter().peekable();
    let mut broken = false;
    state.scan(table, start, end, &mut |key, value| {
        while let Some((new_key, new_value)) = newer.next_if(|(new_key, _)| new_key.as_ref() < key) {
            if let Some(new_value) = new_value
                && visit(new_key, new_value).is_break()
            {
                broken = true;
                return ControlFlow::Break(());
            }
        }
        let flow = match newer.next_if(|(new_key, _)| new_key.as_ref() == key) {
            Some((_, Some(new_value))) => visit(key, new_value),
            Some((_, None)) => ControlFlow::Continue(()),
            None => visit(key, value),
        };
        broken = flow.is_break();
        flow
    })?;
    if !broken {
        for (key, value) in newer {
            if let Some(value) = value
                && visit(key, value).is_break()
            {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use store::state::MemState;

    fn write(key: &'static str, value: Option<&'static str>) -> Write {
        Write {
            table: Table::Catalog,
            key: Bytes::from_static(key.as_bytes()),
            value: value.map(|v| Bytes::from_static(v.as_bytes())),
        }
    }

    fn rows(read: &dyn StateRead) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        read.scan(Table::Catalog, b"", b"", &mut |key, value| {
            out.push((text(key), text(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
        out
    }

    #[test]
    fn newer_rows_win_and_leave_with_their_block() {
        let overlay = Overlay::default();
        let state = MemState::default();
        overlay.insert(Timestamp(10), &SlotSet::All, &[write("a", Some("1")), write("b", Some("1"))]);
        overlay.insert(Timestamp(20), &SlotSet::All, &[write("a", None)]);
        let layered = Layered { overlay: &overlay, state: &state };
        assert_eq!(rows(&layered), [("b".to_owned(), "1".to_owned())]);
        overlay.sealed(Timestamp(10), &[write("a", None), write("b", None)]);
        assert_eq!(layered.get(Table::Catalog, b"a").unwrap(), None);
        assert_eq!(rows(&layered), []);
        overlay.sealed(Timestamp(20), &[write("a", None)]);
        assert!(overlay.is_empty());
    }
}
