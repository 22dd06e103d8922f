//! The stored state of another member, on its way in.
//!
//! It is written to a state of its own beside the present one. What came must give the digest and the root that were sealed;
//! only then, and at once, does it take the place of the present one (`engine/install.rs`). It is kept between attempts, and
//! a later one fetches what has changed since: by hashes over spans of rows, and entries behind those that are there. So a
//! fetch that broke off goes on, and a node that is to become a member fetches most of the state before it is one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use catalog::digest::StateDigest;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ledger::tree::{Frontier, leaf_hash};
use minicbor::Decode;
use store::log::LogRow;
use store::state::{FjallOptions, FjallState, State as _, StateBatch};
use types::Timestamp;
use types::limits::{SNAPSHOT_PIECE_LEN_MAX, SNAPSHOT_SPAN_LEN};
use types::state::{StateRead as _, Table, Write};

use super::requests::{Request, decode};
use super::snapshot::{Entries, Offer, Rows, Same, SpanHash, TABLES, blocking, row_len};
use super::{Link, RequestFailed};
use crate::folder::StateFolder;
use crate::node::Shared;
use crate::write::seal::{SealMarker, row_key, row_value};

/// How long a request for a piece may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the giver may take to hear that it is over.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer, at most: a piece, and the largest row beyond it.
const ANSWER_LEN_MAX: usize = SNAPSHOT_PIECE_LEN_MAX + (1 << 20);
/// Bytes of the spans that are compared in one request: below what a request may have.
const SPANS_LEN_MAX: usize = 40 << 10;
/// Ranges that are fetched at a time.
const AT_A_TIME: usize = 4;

/// What is being fetched, kept between attempts.
#[derive(Default)]
pub(crate) struct Intake {
    staged: tokio::sync::Mutex<Option<Staged>>,
}

impl Intake {
    /// Lets go of what was fetched, unless that is under way.
    pub(crate) fn forget(&self) {
        if let Ok(mut staged) = self.staged.try_lock() {
            *staged = None;
        }
    }
}

/// A state that is not complete yet, or not any more.
struct Staged {
    state: FjallState,
    folder: StateFolder,
    /// The newest cut that rows are of.
    cut: Timestamp,
    /// It has the entries of the log from this one on, and as many.
    entries_from: u64,
    entries_len: u64,
}

/// A state of another member that is ready to take the place of the present one.
pub(crate) struct Incoming {
    pub(crate) cut: Timestamp,
    pub(crate) state: FjallState,
    pub(crate) folder: StateFolder,
}

/// Why a state was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no other member can be reached")]
    Nobody,
    #[error(transparent)]
    Request(#[from] RequestFailed),
    #[error("it is of cut {0}, and a later one is needed")]
    Old(Timestamp),
    #[error("what came is not what it says it is: {0}")]
    Unsound(String),
    #[error("it cannot be stored here: {0}")]
    Store(String),
}

fn unsound(error: impl core::fmt::Display) -> FetchError {
    FetchError::Unsound(error.to_string())
}

fn not_stored(error: impl core::fmt::Display) -> FetchError {
    FetchError::Store(error.to_string())
}

/// Fetches a state at `wanted` or above from the nearest member that has one, to take the place of the present one.
pub(crate) async fn fetch(
    shared: &Arc<Shared>,
    links: Vec<Arc<dyn Link>>,
    wanted: Timestamp,
) -> Result<Incoming, FetchError> {
    let mut staged = shared.intake.staged.lock().await;
    bring_up(shared, &mut staged, &links, wanted).await?;
    let Staged { state, folder, cut, .. } = staged.take().ok_or(FetchError::Nobody)?;
    Ok(Incoming { cut, state, folder })
}

/// Fetches what there is, to be brought up to date when a state is wanted. Gives its cut.
pub(crate) async fn fetch_ahead(shared: &Arc<Shared>, links: Vec<Arc<dyn Link>>) -> Result<Timestamp, FetchError> {
    let mut staged = shared.intake.staged.lock().await;
    bring_up(shared, &mut staged, &links, Timestamp::ZERO).await?;
    staged.as_ref().map(|staged| staged.cut).ok_or(FetchError::Nobody)
}

async fn bring_up(
    shared: &Arc<Shared>,
    staged: &mut Option<Staged>,
    links: &[Arc<dyn Link>],
    wanted: Timestamp,
) -> Result<(), FetchError> {
    let mut last = FetchError::Nobody;
    for link in links {
        match bring_up_from(shared, staged, link.as_ref(), wanted).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                if matches!(error, FetchError::Unsound(_) | FetchError::Store(_)) {
                    *staged = None;
                }
                tracing::debug!(%error, "a member did not give its state");
                last = error;
            }
        }
    }
    Err(last)
}

async fn ask<T: for<'b> Decode<'b, ()>>(shared: &Shared, link: &dyn Link, request: &Request) -> Result<T, FetchError> {
    shared.running().map_err(not_stored)?;
    let answer = tokio::time::timeout(PATIENCE, link.request(request.to_bytes(), ANSWER_LEN_MAX)).await;
    let answer = answer.map_err(|_| RequestFailed("no answer in time".to_owned()))??;
    decode(&answer).map_err(unsound)
}

async fn bring_up_from(
    shared: &Arc<Shared>,
    kept: &mut Option<Staged>,
    link: &dyn Link,
    wanted: Timestamp,
) -> Result<(), FetchError> {
    let offer: Offer = ask(shared, link, &Request::Snapshot).await?;
    let outcome = take(shared, kept, link, &offer, wanted).await;
    // A few are held at a time; one of which nothing is heard is let go of after a while.
    let released = link.request(Request::Release(offer.number).to_bytes(), 64);
    let _ = tokio::time::timeout(RELEASE_PATIENCE, released).await;
    outcome
}

async fn take(
    shared: &Arc<Shared>,
    kept: &mut Option<Staged>,
    link: &dyn Link,
    offer: &Offer,
    wanted: Timestamp,
) -> Result<(), FetchError> {
    let marker = SealMarker::from_bytes(&offer.marker).map_err(unsound)?;
    let frontier = Frontier::from_bytes(&marker.frontier).map_err(unsound)?;
    let old = kept.as_ref().is_some_and(|kept| kept.cut > marker.cut);
    if marker.cut < wanted || old {
        return Err(FetchError::Old(marker.cut));
    }
    // A log that was cut back since has to be filled up again.
    let log_len = shared.log.durable_len();
    if kept.as_ref().is_some_and(|kept| kept.entries_from > log_len) {
        *kept = None;
    }
    let before = shared.metrics.fetched_state_bytes();
    let staged = match kept {
        Some(staged) => staged,
        None => kept.insert(begin(shared, log_len.min(frontier.size())).await?),
    };
    let from = Source { shared, link, number: offer.number, state: staged.state.clone() };
    for (index, table) in (0..).zip(TABLES) {
        from.take_table(index, table).await?;
    }
    staged.cut = marker.cut;
    from.take_entries(staged, frontier.size()).await?;
    let (state, digest) = (staged.state.clone(), marker.digest.clone());
    let here = SealMarker { rows_from: staged.entries_from, ..marker };
    let finish = move || {
        let mut found = StateDigest::new();
        let scanned = state.scan(Table::Catalog, b"", b"", &mut |key, value| {
            found.add(key, value);
            ControlFlow::Continue(())
        });
        scanned.map_err(not_stored)?;
        if found.to_bytes()[..] != digest[..] {
            return Err(unsound("its rows do not give the digest that it was sealed with"));
        }
        let batch = StateBatch { writes: Vec::new(), applied: here.to_bytes() };
        state.apply(batch).and_then(|()| state.sync()).map_err(not_stored)
    };
    blocking(finish).await.map_err(not_stored)??;
    let fetched = shared.metrics.fetched_state_bytes() - before;
    tracing::info!(cut = %staged.cut, bytes = fetched, "the state of another member was fetched");
    Ok(())
}

async fn begin(shared: &Arc<Shared>, entries_from: u64) -> Result<Staged, FetchError> {
    let folder = shared.state_folder().next();
    folder.clear().map_err(not_stored)?;
    let options = FjallOptions { cache_len: shared.config.state_cache_len, ..FjallOptions::default() };
    let path = folder.path();
    let opened = blocking(move || FjallState::open(path, options)).await;
    let state = opened.map_err(not_stored)?.map_err(not_stored)?;
    Ok(Staged { state, folder, cut: Timestamp::ZERO, entries_from, entries_len: 0 })
}

/// A range of a table's rows: behind the first key, up to the second and with it.
type Range = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Where the state comes from, and where to.
struct Source<'a> {
    shared: &'a Arc<Shared>,
    link: &'a dyn Link,
    number: u64,
    state: FjallState,
}

impl Source<'_> {
    /// Brings the rows of a table to where the snapshot's are.
    async fn take_table(&self, index: u8, table: Table) -> Result<(), FetchError> {
        let (mut behind, mut differing): (Option<Vec<u8>>, Vec<Range>) = (None, Vec::new());
        loop {
            let (state, start) = (self.state.clone(), behind.clone());
            let spans = blocking(move || spans_of(&state, table, start.as_deref()));
            let (spans, is_last) = spans.await.map_err(not_stored)?.map_err(not_stored)?;
            if !spans.is_empty() {
                let request = Request::Compare(self.number, index, behind.clone().map(Into::into), spans.clone());
                let Same { same } = ask(self.shared, self.link, &request).await?;
                if same.len() != spans.len() {
                    return Err(unsound("it did not compare what it was asked to"));
                }
                for (SpanHash { end, .. }, is_same) in spans.into_iter().zip(same) {
                    let end = Vec::from(end);
                    match differing.last_mut().filter(|(_, until)| *until == behind) {
                        _ if is_same => {}
                        Some((_, until)) => *until = Some(end.clone()),
                        None => differing.push((behind.clone(), Some(end.clone()))),
                    }
                    behind = Some(end);
                }
            }
            if is_last {
                break;
            }
        }
        match differing.last_mut().filter(|(_, until)| *until == behind) {
            Some((_, until)) => *until = None,
            None => differing.push((behind, None)),
        }
        let ranges = differing.into_iter().map(|range| self.take_range((index, table), range));
        stream::iter(ranges).buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn take_range(&self, (index, table): (u8, Table), (mut behind, until): Range) -> Result<(), FetchError> {
        loop {
            let (after, last) = (behind.clone().map(Into::into), until.clone().map(Into::into));
            let piece: Rows = ask(self.shared, self.link, &Request::Rows(self.number, index, after, last)).await?;
            let is_sound = piece.is_between(behind.as_deref(), until.as_deref());
            if !is_sound || (piece.rows.is_empty() && !piece.is_last) {
                return Err(unsound("its rows are out of order"));
            }
            self.shared.has_space().map_err(not_stored)?;
            self.shared.metrics.fetched_state(piece.rows.iter().map(|(key, value)| row_len(key, value)).sum());
            let is_last = piece.is_last;
            let end = if is_last { until.clone() } else { piece.rows.last().map(|(key, _)| key.to_vec()) };
            let (state, start, covered) = (self.state.clone(), behind.clone(), end.clone());
            let replaced = blocking(move || replace(&state, table, (start, covered), piece));
            replaced.await.map_err(not_stored)?.map_err(not_stored)?;
            if is_last {
                return Ok(());
            }
            behind = end;
        }
    }

    async fn take_entries(&self, staged: &mut Staged, size: u64) -> Result<(), FetchError> {
        while staged.entries_from + staged.entries_len < size {
            let mut next = staged.entries_from + staged.entries_len;
            let piece: Entries = ask(self.shared, self.link, &Request::Entries(self.number, next)).await?;
            if piece.entries.is_empty() {
                return Err(unsound("it lacks entries of its log"));
            }
            let mut writes = Vec::with_capacity(piece.entries.len());
            for (entry, side) in piece.entries.into_iter().take(usize::try_from(size - next).unwrap_or(usize::MAX)) {
                self.shared.metrics.fetched_state(row_len(&entry, &side));
                let entry = entry.as_slice().try_into().map_err(|_| unsound("an entry has another length"))?;
                let row = LogRow { entry, leaf: leaf_hash(&entry), side: Vec::from(side).into() };
                writes.push(Write { table: Table::Ledger, key: row_key(next), value: Some(row_value(&row)) });
                next += 1;
            }
            let state = self.state.clone();
            blocking(move || apply(&state, writes)).await.map_err(not_stored)?.map_err(not_stored)?;
            staged.entries_len = next - staged.entries_from;
        }
        Ok(())
    }
}

fn apply(state: &FjallState, writes: Vec<Write>) -> Result<(), String> {
    // No marker yet: a state without one stands nowhere.
    state.apply(StateBatch { writes, applied: Vec::new() }).map_err(|error| error.to_string())
}

/// The first key behind this one.
fn behind(key: Option<&[u8]>) -> Vec<u8> {
    key.map_or(Vec::new(), |key| [key, &[0]].concat())
}

/// Hashes over the rows behind a key, as many as fit into a request; whether they are the last.
fn spans_of(state: &FjallState, table: Table, after: Option<&[u8]>) -> Result<(Vec<SpanHash>, bool), String> {
    let (mut spans, mut spans_len, mut is_last) = (Vec::new(), 0, true);
    let (mut hasher, mut len, mut end) = (blake3::Hasher::new(), 0, Vec::new());
    let scanned = state.scan(table, &behind(after), b"", &mut |key, value| {
        if len >= SNAPSHOT_SPAN_LEN {
            spans_len += end.len() + 48;
            spans.push(SpanHash::new(core::mem::take(&mut end), &hasher));
            hasher.reset();
            len = 0;
            if spans_len >= SPANS_LEN_MAX {
                is_last = false;
                return ControlFlow::Break(());
            }
        }
        SpanHash::add(&mut hasher, key, value);
        len += row_len(key, value);
        end.clear();
        end.extend_from_slice(key);
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| error.to_string())?;
    if len > 0 {
        spans.push(SpanHash::new(end, &hasher));
    }
    Ok((spans, is_last))
}

/// Puts rows in the place of those that are there between two keys.
fn replace(state: &FjallState, table: Table, (after, until): Range, piece: Rows) -> Result<(), String> {
    let mut writes = Vec::with_capacity(piece.rows.len());
    let end = until.map_or(Vec::new(), |until| behind(Some(&until)));
    let mut rows = piece.rows.iter().map(|(key, _)| key.as_slice()).peekable();
    let scanned = state.scan(table, &behind(after.as_deref()), &end, &mut |key, _| {
        while rows.next_if(|row| *row < key).is_some() {}
        if rows.peek().is_none_or(|row| *row != key) {
            writes.push(Write { table, key: key.to_vec().into(), value: None });
        }
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| error.to_string())?;
    for (key, value) in piece.rows {
        writes.push(Write { table, key: Vec::from(key).into(), value: Some(Vec::from(value).into()) });
    }
    apply(state, writes)
}
