//! The stored state of another member, in place of one that the journals lead to no more.
//!
//! Whoever gives it holds a view of the state at its last cut, and is asked for its rows, table by table, and for the
//! entries of the log behind those that the asker has. Whoever takes it writes a state of its own beside the present one;
//! what came must give the digest and the root that were sealed. Only then, and at once, does the new one take the place
//! of the old one (`engine/install.rs`).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::digest::StateDigest;
use ledger::tree::{Frontier, leaf_hash};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use store::log::LogRow;
use store::state::{FjallOptions, FjallState, Snapshot, State as _, StateBatch};
use types::Timestamp;
use types::limits::SNAPSHOT_PIECE_LEN_MAX;
use types::state::{Table, Write};

use super::requests::{Request, decode, encode};
use super::{Link, RequestFailed};
use crate::folder::StateFolder;
use crate::keys::random;
use crate::node::Shared;
use crate::write::seal::{SealMarker, row_key, row_value};

/// Snapshots that are held for others at a time, and for how long after the last request.
const HELD_MAX: usize = 4;
const HELD_FOR: Duration = Duration::from_secs(60);
/// How long a request for a piece may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer, at most: a piece, and the largest row beyond it.
const ANSWER_LEN_MAX: usize = SNAPSHOT_PIECE_LEN_MAX + (1 << 20);

/// The tables that go over, in this order; the ledger's entries go on their own.
const TABLES: [Table; 3] = [Table::Catalog, Table::Bodies, Table::Retry];

/// Where a snapshot stands.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Offer {
    /// Names it in later requests.
    #[n(0)]
    number: u64,
    /// The seal marker that it was stored with.
    #[n(1)]
    marker: ByteVec,
}

/// A piece of a table, in key order.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Rows {
    #[n(0)]
    rows: Vec<(ByteVec, ByteVec)>,
    #[n(1)]
    is_last: bool,
}

/// Entries of the log with their side records, dense.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Entries {
    #[n(0)]
    entries: Vec<(ByteVec, ByteVec)>,
}

struct Held {
    number: u64,
    state: Snapshot,
    /// Entries of the log below the cut.
    size: u64,
    used: Instant,
}

/// The snapshots that are held for others.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<Vec<Held>>);

impl Snapshots {
    /// Lets go of those that nobody has asked for in a while.
    pub(crate) fn expire(&self) {
        self.0.lock().retain(|held| held.used.elapsed() < HELD_FOR);
    }

    fn hold(&self, state: Snapshot, size: u64) -> Result<u64, String> {
        self.expire();
        let mut held = self.0.lock();
        if held.len() >= HELD_MAX {
            return Err("too many snapshots are being fetched from this node".to_owned());
        }
        let number = u64::from_be_bytes(random());
        held.push(Held { number, state, size, used: Instant::now() });
        Ok(number)
    }

    fn find(&self, number: u64) -> Result<(Snapshot, u64), String> {
        let mut held = self.0.lock();
        let held = held.iter_mut().find(|held| held.number == number).ok_or("no such snapshot is held any more")?;
        held.used = Instant::now();
        Ok((held.state.clone(), held.size))
    }
}

/// Holds a snapshot for another member.
pub(crate) async fn offer(shared: &Shared) -> Result<Bytes, String> {
    let (state, applied) = shared.state.load().frozen().map_err(|error| error.to_string())?;
    let marker = applied.ok_or("nothing is stored here yet")?;
    let frontier = SealMarker::from_bytes(&marker).map_err(|error| error.to_string())?.frontier;
    let size = Frontier::from_bytes(&frontier).map_err(|error| error.to_string())?.size();
    let number = shared.snapshots.hold(state, size)?;
    Ok(encode(&Offer { number, marker: marker.into() }))
}

/// Gives rows of a snapshot that is held.
pub(crate) async fn rows(shared: &Shared, number: u64, table: u8, after: Option<Vec<u8>>) -> Result<Bytes, String> {
    let (state, _) = shared.snapshots.find(number)?;
    let table = *TABLES.get(usize::from(table)).ok_or("no such table")?;
    let read = move || {
        let start = after.map_or(Vec::new(), |mut after| {
            after.push(0);
            after
        });
        let (mut piece, mut len) = (Rows { rows: Vec::new(), is_last: true }, 0);
        state.scan(table, &start, b"", &mut |key, value| {
            if len >= SNAPSHOT_PIECE_LEN_MAX {
                piece.is_last = false;
                return ControlFlow::Break(());
            }
            len += key.len() + value.len() + 16;
            piece.rows.push((key.to_vec().into(), value.to_vec().into()));
            ControlFlow::Continue(())
        })?;
        Ok(encode(&piece))
    };
    blocking(read).await?.map_err(|error: types::state::ReadError| error.to_string())
}

/// Gives entries of the log of a snapshot that is held.
pub(crate) async fn entries(shared: &Shared, number: u64, from: u64) -> Result<Bytes, String> {
    let (_, size) = shared.snapshots.find(number)?;
    let log = shared.log.clone();
    let read = move || {
        let (mut piece, mut len) = (Entries { entries: Vec::new() }, 0);
        for index in from..size {
            let entry = log.entries(index..index + 1)?;
            let side = log.side(index)?;
            len += entry.len() + side.len() + 16;
            piece.entries.push((entry.into(), side.to_vec().into()));
            if len >= SNAPSHOT_PIECE_LEN_MAX {
                break;
            }
        }
        Ok(encode(&piece))
    };
    blocking(read).await?.map_err(|error: store::log::LogError| error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "the node is stopping".to_owned())
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

/// Fetches a state at `wanted` or above from the nearest member that has one.
pub(crate) async fn fetch(
    shared: &Arc<Shared>,
    links: Vec<Arc<dyn Link>>,
    wanted: Timestamp,
) -> Result<Incoming, FetchError> {
    let mut last = FetchError::Nobody;
    for link in links {
        match fetch_from(shared, link.as_ref(), wanted).await {
            Ok(incoming) => return Ok(incoming),
            Err(error) => {
                tracing::debug!(%error, "a member did not give its state");
                last = error;
            }
        }
    }
    Err(last)
}

async fn ask<T: for<'b> Decode<'b, ()>>(link: &dyn Link, request: &Request) -> Result<T, FetchError> {
    let answer = tokio::time::timeout(PATIENCE, link.request(request.to_bytes(), ANSWER_LEN_MAX)).await;
    let answer = answer.map_err(|_| RequestFailed("no answer in time".to_owned()))??;
    decode(&answer).map_err(unsound)
}

async fn fetch_from(shared: &Arc<Shared>, link: &dyn Link, wanted: Timestamp) -> Result<Incoming, FetchError> {
    let offer: Offer = ask(link, &Request::Snapshot).await?;
    let marker = SealMarker::from_bytes(&offer.marker).map_err(unsound)?;
    if marker.cut < wanted {
        return Err(FetchError::Old(marker.cut));
    }
    let folder = shared.state_folder().next();
    folder.clear().map_err(not_stored)?;
    let options = FjallOptions { cache_len: shared.config.state_cache_len, ..FjallOptions::default() };
    let path = folder.path();
    let opened = blocking(move || FjallState::open(path, options)).await;
    let state = opened.map_err(not_stored)?.map_err(not_stored)?;
    let digest = take_rows(link, offer.number, &state).await?;
    if digest.to_bytes()[..] != marker.digest[..] {
        return Err(unsound("its rows do not give the digest that it was sealed with"));
    }
    let frontier = Frontier::from_bytes(&marker.frontier).map_err(unsound)?;
    let from = shared.log.durable_len().min(frontier.size());
    take_entries(link, offer.number, from..frontier.size(), &state).await?;
    let here = SealMarker { rows_from: from, ..marker };
    let cut = here.cut;
    let written = state.clone();
    let batch = StateBatch { writes: Vec::new(), applied: here.to_bytes() };
    blocking(move || written.apply(batch).and_then(|()| written.sync()))
        .await
        .map_err(not_stored)?
        .map_err(not_stored)?;
    Ok(Incoming { cut, state, folder })
}

async fn apply(state: &FjallState, writes: Vec<Write>) -> Result<(), FetchError> {
    let state = state.clone();
    // No marker yet: a state without one stands nowhere.
    let batch = StateBatch { writes, applied: Vec::new() };
    blocking(move || state.apply(batch)).await.map_err(not_stored)?.map_err(not_stored)
}

async fn take_rows(link: &dyn Link, number: u64, state: &FjallState) -> Result<StateDigest, FetchError> {
    let mut digest = StateDigest::new();
    for (index, table) in (0..).zip(TABLES) {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let request = Request::Rows(number, index, after.clone().map(Into::into));
            let piece: Rows = ask(link, &request).await?;
            let rises = piece.rows.is_sorted_by(|a, b| a.0 < b.0)
                && piece.rows.first().is_none_or(|first| after.as_ref().is_none_or(|after| after[..] < first.0[..]));
            if !rises || (piece.rows.is_empty() && !piece.is_last) {
                return Err(unsound("its rows are out of order"));
            }
            after = piece.rows.last().map(|(key, _)| key.to_vec()).or(after);
            let mut writes = Vec::with_capacity(piece.rows.len());
            for (key, value) in piece.rows {
                if table == Table::Catalog {
                    digest.add(&key, &value);
                }
                writes.push(Write { table, key: Vec::from(key).into(), value: Some(Vec::from(value).into()) });
            }
            apply(state, writes).await?;
            if piece.is_last {
                break;
            }
        }
    }
    Ok(digest)
}

async fn take_entries(
    link: &dyn Link,
    number: u64,
    range: core::ops::Range<u64>,
    state: &FjallState,
) -> Result<(), FetchError> {
    let mut next = range.start;
    while next < range.end {
        let piece: Entries = ask(link, &Request::Entries(number, next)).await?;
        if piece.entries.is_empty() {
            return Err(unsound("it lacks entries of its log"));
        }
        let mut writes = Vec::with_capacity(piece.entries.len());
        for (entry, side) in piece.entries {
            let entry = entry.as_slice().try_into().map_err(|_| unsound("an entry has another length"))?;
            let row = LogRow { entry, leaf: leaf_hash(&entry), side: Vec::from(side).into() };
            writes.push(Write { table: Table::Ledger, key: row_key(next), value: Some(row_value(&row)) });
            next += 1;
        }
        apply(state, writes).await?;
    }
    Ok(())
}
