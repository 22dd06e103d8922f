//! The rows of the state: that each can be read both ways, and what all of them digest to.

use core::ops::ControlFlow;

use catalog::digest::StateDigest;
use catalog::query;
use store::log::LogFiles;
use store::state::FjallState;
use types::state::{ReadError, StateRead, Table};
use types::{OrderKey, Timestamp};

use super::{Found, Sources, hex};
use crate::keys::Keys;
use crate::progress::{Phase, Report, Unit};

/// Checks the rows of all tables. Gives SHA-256 of the digest of the catalog, if all of it could be read.
pub(super) fn check(sources: &Sources, found: &mut Found, progress: Report<'_>) -> Option<[u8; 32]> {
    let state = sources.state.as_ref();
    let mut phase = Phase::new(progress, "state", 0, Unit::Items);
    let mut digest = StateDigest::new();
    let read = scan(state, Table::Catalog, found, &mut phase, |_, key, value| digest.add(key, value));
    let digest = read.then(|| {
        if sources.marker.as_ref().is_some_and(|marker| marker.digest != digest.to_bytes()) {
            found.finding("state, table catalog", "its rows do not give the digest that they were sealed with");
        }
        digest.sha256()
    });
    scan(state, Table::Bodies, found, &mut phase, |_, _, _| {});
    scan(state, Table::Retry, found, &mut phase, |found, key, value| {
        // Everything expires before the end of time, unless it cannot be decoded.
        if !catalog::retry_is_expired(value, Timestamp(u64::MAX)) {
            found.finding(place(Table::Retry, key), "it cannot be decoded");
        }
    });
    scan(state, Table::Ledger, found, &mut phase, |found, key, value| {
        if let Some(log) = &sources.log
            && let Err(what) = check_ledger_row(log, key, value)
        {
            found.finding(place(Table::Ledger, key), what);
        }
    });
    found.report.rows = phase.done();
    if let Err(error) = check_catalog(state) {
        found.finding("state, table catalog", error);
    }
    digest
}

/// Visits all rows of a table, and reads each once more by its key, as a request would. False when a row could not
/// be read.
fn scan(
    state: &FjallState,
    table: Table,
    found: &mut Found,
    phase: &mut Phase<'_>,
    mut visit: impl FnMut(&mut Found, &[u8], &[u8]),
) -> bool {
    let mut whole = true;
    let mut last: Option<Vec<u8>> = None;
    let scanned = state.scan(table, b"", b"", &mut |key, value| {
        phase.add(1);
        if last.as_deref().is_some_and(|last| last >= key) {
            found.finding(place(table, key), "it does not stand above the row before it");
        }
        last = Some(key.to_vec());
        match state.get(table, key) {
            Ok(Some(got)) if got == value => {}
            Ok(_) => found.finding(place(table, key), "read by its key it is another row than in a scan"),
            Err(error) => {
                whole = false;
                found.finding(place(table, key), error);
            }
        }
        visit(found, key, value);
        ControlFlow::Continue(())
    });
    if let Err(error) = scanned {
        found.finding(format!("state, table {}", table.name()), error);
        return false;
    }
    whole
}

fn place(table: Table, key: &[u8]) -> String {
    format!("state, table {}, row {}", table.name(), hex(key))
}

/// A row of the ledger stands in for an entry until the files are durable, and is then removed some time.
fn check_ledger_row(log: &LogFiles, key: &[u8], value: &[u8]) -> Result<(), String> {
    let index = key.try_into().map(u64::from_be_bytes).map_err(|_| "its key is no index".to_owned())?;
    let end = index.saturating_add(1);
    let mut stored = log.entries(index..end).map_err(|error| error.to_string())?;
    stored.extend(log.hashes(0, index..end).map_err(|error| error.to_string())?);
    stored.extend_from_slice(&log.side(index).map_err(|error| error.to_string())?);
    if stored == value { Ok(()) } else { Err("it is not what the ledger files hold at its index".to_owned()) }
}

/// Decodes every row of the catalog that has a reader. Objects and parts are decoded when their bodies are read.
fn check_catalog(state: &FjallState) -> Result<(), ReadError> {
    query::genesis(state)?;
    for (bucket, _) in query::buckets(state)? {
        let mut after: Option<(String, Option<OrderKey>)> = None;
        loop {
            let key_after = after.as_ref().map(|(key, _)| key.as_str());
            let upload_after = after.as_ref().and_then(|(_, upload)| *upload);
            let page = query::ListUploads { bucket: &bucket, key_after, upload_after, max: 1000, ..Default::default() };
            let Some(next) = query::list_uploads(state, &page)?.next else { break };
            after = Some(next);
        }
    }
    Ok(())
}

/// Every access key opens under the cluster key.
pub(super) fn check_access_keys(state: &FjallState, keys: &Keys, found: &mut Found) {
    match query::access_keys(state) {
        Err(error) => found.finding("state, access keys", error),
        Ok(rows) => {
            for (access_key, row) in rows {
                if let Err(error) = keys.cluster.open(&access_key, &row.sealed) {
                    found.finding(format!("state, access key {access_key}"), error);
                }
            }
        }
    }
}
