//! A cursor: pulls rows out of a state that pushes them, in batches, and skips ahead by seeking.

use core::ops::ControlFlow;
use std::collections::VecDeque;

use bytes::Bytes;
use types::state::{ReadError, StateRead, Table};

use crate::rows::key::successor;

/// Rows fetched at once, at most.
const BATCH_MAX: usize = 64;
/// Rows fetched after skipping ahead: who skips past one common prefix will often skip past the next.
const BATCH_AFTER_SEEK: usize = 4;

/// A place among the catalog rows under one prefix.
pub(super) struct Cursor<'a> {
    state: &'a dyn StateRead,
    /// Where the next batch starts; `None` when there is none.
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    batch: VecDeque<(Bytes, Bytes)>,
    /// Rows to fetch next; doubles up to [`BATCH_MAX`].
    batch_len: usize,
    /// Rows fetched so far.
    visits: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first row under `prefix`.
    pub(super) fn new(state: &'a dyn StateRead, prefix: &[u8]) -> Self {
        Self {
            state,
            next: Some(prefix.to_vec()),
            end: successor(prefix),
            batch: VecDeque::new(),
            batch_len: BATCH_MAX,
            visits: 0,
        }
    }

    /// How many rows were fetched so far.
    pub(super) fn visits(&self) -> usize {
        self.visits
    }

    /// The row that [`Cursor::pop`] would give.
    pub(super) fn peek(&mut self) -> Result<Option<&(Bytes, Bytes)>, ReadError> {
        self.fill()?;
        Ok(self.batch.front())
    }

    /// Takes the next row.
    pub(super) fn pop(&mut self) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        self.fill()?;
        Ok(self.batch.pop_front())
    }

    /// Skips the rows below `to`; never goes back.
    pub(super) fn seek(&mut self, to: &[u8]) {
        while self.batch.front().is_some_and(|(place, _)| place.as_ref() < to) {
            self.batch.pop_front();
        }
        if self.batch.is_empty()
            && let Some(next) = &mut self.next
            && next.as_slice() < to
        {
            *next = to.to_vec();
            self.batch_len = BATCH_AFTER_SEEK;
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        if !self.batch.is_empty() {
            return Ok(());
        }
        let Some(start) = self.next.take() else { return Ok(()) };
        if start >= self.end {
            return Ok(());
        }
        let (batch, wanted) = (&mut self.batch, self.batch_len);
        self.state.scan(Table::Catalog, &start, &self.end, &mut |place, value| {
            batch.push_back((Bytes::copy_from_slice(place), Bytes::copy_from_slice(value)));
            if batch.len() < wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.visits += self.batch.len();
        self.batch_len = (wanted * 2).min(BATCH_MAX);
        if self.batch.len() == wanted
            && let Some((last, _)) = self.batch.back()
        {
            let mut next = last.to_vec();
            next.push(0);
            self.next = Some(next);
        }
        Ok(())
    }
}
