//! Comparing what the node holds with what it must hold, through the same doors as a gateway or a verifier:
//! queries, entries, side records, digests.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use catalog::digest::StateDigest;
use catalog::query::{self, ListUploads, ListVersions, SegmentAt};
use catalog::rows::ObjectRow;
use ledger::entry::Entry;
use ledger::side::{SideRecord, opens};
use ledger::tree::{Frontier, leaf_hash};
use node::replica::Head;
use store::log::LogFiles;
use types::object::Body;
use types::state::{ReadError, StateRead, Table};
use types::{OrderKey, Timestamp};

use crate::checker::{Checked, Checker, Violation, ensure};
use crate::model::{Bucket, Model, Version};

impl From<ReadError> for Violation {
    fn from(error: ReadError) -> Self {
        Self(format!("a read failed: {error}"))
    }
}

/// Whether the state is what the model says, bytes and all.
pub(crate) fn state(state: &dyn StateRead, model: &Model) -> Checked {
    let buckets = query::buckets(state)?;
    let names: Vec<&String> = buckets.iter().map(|(name, _)| name).collect();
    ensure(names == model.buckets.keys().collect::<Vec<_>>(), || format!("the buckets are {names:?}"))?;
    for (name, row) in &buckets {
        let right = &model.buckets[name];
        let same = row.owner == right.owner && row.created == right.created && row.versioning == right.versioning;
        ensure(same, || format!("bucket {name} is {row:?}"))?;
        versions(state, name, right)?;
        uploads(state, name, right)?;
    }
    let keys = query::access_keys(state)?;
    let keys: Vec<_> = keys.into_iter().map(|(id, row)| (id, row.sealed)).collect();
    let right: Vec<_> = model.access_keys.iter().map(|(id, sealed)| (id.clone(), sealed.clone())).collect();
    ensure(keys == right, || format!("the access keys are {keys:?} and not {right:?}"))?;
    ensure(query::genesis(state)?.is_some() == model.founded, || "the genesis is missing".to_owned())
}

fn versions(state: &dyn StateRead, bucket: &str, right: &Bucket) -> Checked {
    let list = ListVersions { bucket, max: 1000, ..ListVersions::default() };
    let page = query::list_versions(state, &list)?;
    ensure(page.next.is_none(), || format!("bucket {bucket} lists more versions than were written"))?;
    let right: Vec<(&String, bool, &Version)> = right
        .keys
        .iter()
        .flat_map(|(key, versions)| {
            let newest_first = versions.iter().rev().enumerate();
            newest_first.map(move |(index, version)| (key, index == 0, version))
        })
        .collect();
    let listed: Vec<_> = page.versions.iter().map(|entry| (&entry.key, entry.row.order)).collect();
    let must: Vec<_> = right.iter().map(|(key, _, version)| (*key, version.order)).collect();
    ensure(listed == must, || format!("bucket {bucket} lists {listed:?} and must list {must:?}"))?;
    for (entry, (key, is_latest, version)) in page.versions.iter().zip(right) {
        ensure(entry.is_latest == is_latest, || format!("{bucket}/{key}: {} is latest or not", version.order))?;
        object(state, &entry.row, version)
            .map_err(|Violation(reason)| Violation(format!("{bucket}/{key}: {reason}")))?;
    }
    Ok(())
}

fn object(state: &dyn StateRead, row: &ObjectRow, version: &Version) -> Checked {
    let wrong = || format!("{row:?}\n  must be {version:?}");
    ensure(row.null == version.null && row.marker == version.content.is_none(), wrong)?;
    let Some(content) = &version.content else { return Ok(()) };
    let same = row.len == content.len
        && row.etag() == content.etag
        && row.parts == content.parts
        && row.metadata == content.metadata;
    ensure(same, wrong)?;
    let segments = query::layout(state, row, 0..row.len)?;
    let bodies: Vec<&(Body, [u8; 32])> = content.bodies.iter().filter(|(body, _)| body_len(body) > 0).collect();
    ensure(segments.len() == bodies.len(), || format!("it has {} pieces", segments.len()))?;
    for (segment, (body, digest)) in segments.iter().zip(bodies) {
        ensure(segment.digest == *digest && segment.len == body_len(body), wrong)?;
        match (&segment.at, body) {
            (SegmentAt::Inline(place), Body::Inline(bytes)) => {
                let stored = query::inline_body(state, place)?;
                ensure(stored == *bytes, || "its bytes are not those that were written".to_owned())?;
            }
            (SegmentAt::Placed(stored), Body::Placed(placement)) => ensure(stored == placement, wrong)?,
            _ => return Err(Violation(wrong())),
        }
    }
    Ok(())
}

fn body_len(body: &Body) -> u64 {
    match body {
        Body::Inline(bytes) => bytes.len() as u64,
        Body::Placed(placement) => placement.len(),
    }
}

fn uploads(state: &dyn StateRead, bucket: &str, right: &Bucket) -> Checked {
    let list = ListUploads { bucket, max: 1000, ..ListUploads::default() };
    let page = query::list_uploads(state, &list)?;
    let listed: BTreeSet<(OrderKey, &str)> =
        page.uploads.iter().map(|entry| (entry.upload, entry.key.as_str())).collect();
    let must: BTreeSet<(OrderKey, &str)> =
        right.uploads.iter().map(|(order, upload)| (*order, upload.key.as_str())).collect();
    ensure(listed == must, || format!("bucket {bucket} has uploads {listed:?} and must have {must:?}"))?;
    for (order, upload) in &right.uploads {
        let Some(page) = query::list_parts(state, bucket, &upload.key, *order, 0, 1000)? else {
            return Err(Violation(format!("upload {order} has no row")));
        };
        let same = page.upload.principal == upload.principal
            && page.upload.metadata == upload.metadata
            && page.parts.len() == upload.parts.len();
        ensure(same, || format!("upload {order} is {:?}", page.upload))?;
        for ((number, row), (right_number, part)) in page.parts.iter().zip(&upload.parts) {
            let same = number == right_number
                && (row.order, row.len, row.digest, row.md5) == (part.order, part.len, part.digest, part.md5);
            ensure(same, || format!("part {number} of upload {order} is {row:?}"))?;
        }
    }
    Ok(())
}

/// The digest of the stored rows, computed anew.
pub(crate) fn digest(state: &dyn StateRead) -> Result<StateDigest, Violation> {
    let mut digest = StateDigest::new();
    state.scan(Table::Catalog, &[], &[], &mut |key, value| {
        digest.add(key, value);
        ControlFlow::Continue(())
    })?;
    Ok(digest)
}

/// Whether the ledger, read from its first entry, is the one that the executed commands make.
pub(crate) fn ledger(log: &LogFiles, state: &dyn StateRead, head: Head, checker: &Checker) -> Checked {
    let fail = |error: &dyn core::fmt::Display| Violation(format!("the ledger cannot be read: {error}"));
    ensure(log.len() == head.size, || format!("the log holds {} entries and its head says {}", log.len(), head.size))?;
    let bytes = log.entries(0..head.size).map_err(|error| fail(&error))?;
    let mut frontier = Frontier::new();
    let mut last: Option<OrderKey> = None;
    let mut last_block: Option<Entry> = None;
    let mut told = BTreeSet::new();
    for (index, bytes) in (0_u64..).zip(bytes.as_chunks::<128>().0) {
        frontier.append(leaf_hash(bytes));
        let entry = Entry::from_bytes(bytes).map_err(|error| fail(&error))?;
        ensure(last < Some(entry.order), || format!("entry {index} at {} comes after {last:?}", entry.order))?;
        last = Some(entry.order);
        if entry.is_block() {
            let end = entry.order.timestamp;
            ensure(end == end.tick_end(), || format!("a block ends at {end}, which is no end of a tick"))?;
            last_block = Some(entry);
            continue;
        }
        let place = (entry.order.timestamp, entry.order.id);
        told.insert(place);
        let Some(command) = checker.command(place) else {
            return Err(Violation(format!("entry {index} speaks of {}, which was not executed", entry.order)));
        };
        let side = SideRecord::from_bytes(&log.side(index).map_err(|error| fail(&error))?);
        let opened = side.map_err(|error| fail(&error)).and_then(|side| opens(&entry, &side).map_err(|e| fail(&e)))?;
        let principal = opened.readable.map(|readable| readable.detail.principal);
        ensure(principal.as_ref() == Some(&command.principal), || {
            format!("the side record of entry {index} is wrong")
        })?;
    }
    ensure(frontier.root() == head.root, || "the entries do not give the root of the head".to_owned())?;
    let must: BTreeSet<_> = checker.executed_up_to(head.cut).collect();
    let missing = must.difference(&told).next();
    ensure(missing.is_none(), || format!("no entry speaks of {missing:?}"))?;
    match last_block {
        None => ensure(head.size == 0, || "the log ends in no block".to_owned()),
        Some(block) => {
            ensure(block.order.timestamp == head.cut, || format!("the last block is of {}", block.order.timestamp))?;
            let digest = digest(state)?.sha256();
            ensure(block.name == digest, || "the last block commits to another state than the stored one".to_owned())
        }
    }
}

/// The cut of a head, for traces.
pub(crate) fn show(head: Head) -> String {
    format!("size={} cut={} root={}", head.size, show_time(head.cut), crate::trace::short(&head.root))
}

/// Ticks and ns since the beginning of the run's wall clock.
pub(crate) fn show_time(timestamp: Timestamp) -> String {
    let ns = i128::from(timestamp.0) - i128::from(crate::clock::WALL_NS);
    format!("{}.{:06}ms", ns / 1_000_000, (ns % 1_000_000).abs())
}
