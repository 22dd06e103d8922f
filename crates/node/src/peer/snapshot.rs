//! The stored state, for another member to which the journals lead no more, or for a node that is to become one.
//!
//! A view of the state at its last cut is held, and asked for: hashes of its rows are compared with those of what the asker
//! has, its rows are given table by table, and the entries of the log behind those that the asker has (`intake.rs`).

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ledger::tree::Frontier;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use store::state::Snapshot;
use types::limits::SNAPSHOT_PIECE_LEN_MAX;
use types::state::Table;

use super::requests::encode;
use crate::keys::random;
use crate::node::Shared;
use crate::write::seal::SealMarker;

/// Snapshots that are held for others at a time, and for how long after the last request.
const HELD_MAX: usize = 4;
const HELD_FOR: Duration = Duration::from_secs(60);

/// The tables that go over, in this order; the ledger's entries go on their own.
pub(crate) const TABLES: [Table; 3] = [Table::Catalog, Table::Bodies, Table::Retry];

/// Where a snapshot stands.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Offer {
    /// Names it in later requests.
    #[n(0)]
    pub(crate) number: u64,
    /// The seal marker that it was stored with.
    #[n(1)]
    pub(crate) marker: ByteVec,
}

/// A piece of a table, in key order.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Rows {
    #[n(0)]
    pub(crate) rows: Vec<(ByteVec, ByteVec)>,
    #[n(1)]
    pub(crate) is_last: bool,
}

impl Rows {
    /// Whether its keys rise, all of them behind the first and none behind the second.
    pub(crate) fn is_between(&self, after: Option<&[u8]>, until: Option<&[u8]>) -> bool {
        let first = self.rows.first().is_none_or(|(key, _)| after.is_none_or(|after| after < key.as_slice()));
        let last = self.rows.last().is_none_or(|(key, _)| until.is_none_or(|until| key.as_slice() <= until));
        first && last && self.rows.is_sorted_by(|a, b| a.0 < b.0)
    }
}

/// Bytes of a row or an entry, about.
pub(crate) fn row_len(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + 16
}

/// A hash over rows, up to a key and with it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct SpanHash {
    #[n(0)]
    pub(crate) end: ByteVec,
    #[n(1)]
    hash: ByteVec,
}

impl SpanHash {
    pub(crate) fn new(end: Vec<u8>, hasher: &blake3::Hasher) -> Self {
        Self { end: end.into(), hash: hasher.finalize().as_bytes().to_vec().into() }
    }

    pub(crate) fn add(hasher: &mut blake3::Hasher, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
    }
}

/// Which spans are the same.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Same {
    #[n(0)]
    pub(crate) same: Vec<bool>,
}

/// Entries of the log with their side records, dense.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Entries {
    #[n(0)]
    pub(crate) entries: Vec<(ByteVec, ByteVec)>,
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

    /// Lets go of one that its asker has done with.
    pub(crate) fn release(&self, number: u64) {
        self.0.lock().retain(|held| held.number != number);
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

/// Gives rows of a snapshot that is held: those behind a key, up to another and with it.
pub(crate) async fn rows(
    shared: &Shared,
    number: u64,
    table: u8,
    (after, until): (Option<Vec<u8>>, Option<Vec<u8>>),
) -> Result<Bytes, String> {
    let (state, _) = shared.snapshots.find(number)?;
    let table = *TABLES.get(usize::from(table)).ok_or("no such table")?;
    let read = move || {
        let (start, end) = (behind(after), behind(until));
        let (mut piece, mut len) = (Rows { rows: Vec::new(), is_last: true }, 0);
        state.scan(table, &start, &end, &mut |key, value| {
            if len >= SNAPSHOT_PIECE_LEN_MAX {
                piece.is_last = false;
                return ControlFlow::Break(());
            }
            len += row_len(key, value);
            piece.rows.push((key.to_vec().into(), value.to_vec().into()));
            ControlFlow::Continue(())
        })?;
        Ok(encode(&piece))
    };
    blocking(read).await?.map_err(|error: types::state::ReadError| error.to_string())
}

/// The first key behind this one; nothing where there is none, as a scan takes it.
fn behind(key: Option<Vec<u8>>) -> Vec<u8> {
    key.map_or(Vec::new(), |mut key| {
        key.push(0);
        key
    })
}

/// Compares spans of rows behind a key with those of a snapshot that is held.
pub(crate) async fn compare(
    shared: &Shared,
    number: u64,
    table: u8,
    after: Option<Vec<u8>>,
    spans: Vec<SpanHash>,
) -> Result<Bytes, String> {
    let (state, _) = shared.snapshots.find(number)?;
    let table = *TABLES.get(usize::from(table)).ok_or("no such table")?;
    if !spans.is_sorted_by(|a, b| a.end < b.end) {
        return Err("the spans are out of order".to_owned());
    }
    let compare = move || {
        let (mut same, mut hasher) = (Vec::with_capacity(spans.len()), blake3::Hasher::new());
        let close = |hasher: &mut blake3::Hasher, same: &mut Vec<bool>| {
            let is_same = spans[same.len()].hash[..] == hasher.finalize().as_bytes()[..];
            hasher.reset();
            same.push(is_same);
        };
        let end = behind(spans.last().map(|span| span.end.to_vec()));
        if !spans.is_empty() {
            state.scan(table, &behind(after), &end, &mut |key, value| {
                while spans.get(same.len()).is_some_and(|span| span.end[..] < *key) {
                    close(&mut hasher, &mut same);
                }
                SpanHash::add(&mut hasher, key, value);
                ControlFlow::Continue(())
            })?;
        }
        while same.len() < spans.len() {
            close(&mut hasher, &mut same);
        }
        Ok(encode(&Same { same }))
    };
    blocking(compare).await?.map_err(|error: types::state::ReadError| error.to_string())
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
            len += row_len(&entry, &side);
            piece.entries.push((entry.into(), side.to_vec().into()));
            if len >= SNAPSHOT_PIECE_LEN_MAX {
                break;
            }
        }
        Ok(encode(&piece))
    };
    blocking(read).await?.map_err(|error: store::log::LogError| error.to_string())
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "the node is stopping".to_owned())
}
