//! Reading the state: what the gateway answers with, and what collection and verification ask. Everything
//! here takes a consistent view and changes nothing.

mod body;
mod cursor;
mod list;
mod versions;
mod walk;

pub use body::{Segment, SegmentAt, inline_body, layout, parts};
pub use list::{ListObjects, ListUploads, ObjectsPage, UploadEntry, UploadsPage, list_objects, list_uploads};
pub use versions::{ListVersions, VersionEntry, VersionMarker, VersionsPage, list_versions};
pub use walk::{ObjectPlace, body_referenced, each_object, each_part, each_placement, each_retry_row};

use core::ops::ControlFlow;

use bytes::Bytes;
use types::OrderKey;
use types::command::VersionSelector;
use types::limits::LIST_PAGE_MAX;
use types::state::{ReadError, StateRead, Table};

use crate::check;
use crate::draft::Draft;
use crate::rows::{
    AccessKeyRow, BucketRow, EpochRow, GenesisRow, NodeRow, ObjectRow, PartRow, Row, UploadRow, ZoneRow, key,
};
use crate::versions::{Name, named};

/// A row of the catalog, decoded.
fn row<R: Row>(state: &dyn StateRead, place: &[u8]) -> Result<Option<R>, ReadError> {
    state.get(Table::Catalog, place)?.map(|value| R::from_value(&value)).transpose()
}

/// Whether a row could be named so at all; what could not is not there.
fn possible(bucket: &str, object: &str) -> bool {
    check::is_bucket_name(bucket) && check::key(object).is_ok()
}

/// The first configuration, if the group has one.
pub fn genesis(state: &dyn StateRead) -> Result<Option<GenesisRow>, ReadError> {
    row(state, &key::genesis())
}

/// The epoch that the state is of, as the consensus core encodes it; `None` in the first.
pub fn epoch(state: &dyn StateRead) -> Result<Option<EpochRow>, ReadError> {
    row(state, &key::epoch())
}

/// The directory of nodes, by number. There are at most [`types::limits::NODES_MAX`].
pub fn nodes(state: &dyn StateRead) -> Result<Vec<NodeRow>, ReadError> {
    let mut found = Vec::new();
    visit_prefix(state, &key::all_nodes(), |_, value| {
        found.push(NodeRow::from_value(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// What is said of zones, in byte order. There are at most [`types::limits::ZONES_MAX`].
pub fn zones(state: &dyn StateRead) -> Result<Vec<ZoneRow>, ReadError> {
    Ok(all::<ZoneRow>(state, &key::all_zones())?.into_iter().map(|(_, row)| row).collect())
}

/// A bucket.
pub fn bucket(state: &dyn StateRead, name: &str) -> Result<Option<BucketRow>, ReadError> {
    if check::is_bucket_name(name) { row(state, &key::bucket(name)) } else { Ok(None) }
}

/// All buckets by name, in byte order. There are at most [`types::limits::BUCKETS_MAX`].
pub fn buckets(state: &dyn StateRead) -> Result<Vec<(String, BucketRow)>, ReadError> {
    all(state, &key::all_buckets())
}

/// An access key.
pub fn access_key(state: &dyn StateRead, id: &str) -> Result<Option<AccessKeyRow>, ReadError> {
    if check::is_access_key(id) { row(state, &key::access_key(id)) } else { Ok(None) }
}

/// All access keys by id, in byte order. There are at most [`types::limits::ACCESS_KEYS_MAX`].
pub fn access_keys(state: &dyn StateRead) -> Result<Vec<(String, AccessKeyRow)>, ReadError> {
    all(state, &key::all_access_keys())
}

fn all<R: Row>(state: &dyn StateRead, prefix: &[u8]) -> Result<Vec<(String, R)>, ReadError> {
    let mut found = Vec::new();
    visit_prefix(state, prefix, |place, value| {
        found.push((key::read_named(place)?, R::from_value(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Visits the catalog rows under a prefix until `visit` breaks or fails.
fn visit_prefix(
    state: &dyn StateRead,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, ReadError>,
) -> Result<(), ReadError> {
    let mut failed = None;
    state.scan(Table::Catalog, prefix, &key::successor(prefix), &mut |place, value| {
        visit(place, value).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// A version of an object; without `version` the current one. It may be a delete marker
/// ([`ObjectRow::marker`]); `None` when there is no such key or version. The current one takes one point read.
pub fn object(
    state: &dyn StateRead,
    bucket: &str,
    key: &str,
    version: Option<VersionSelector>,
) -> Result<Option<ObjectRow>, ReadError> {
    if !possible(bucket, key) {
        return Ok(None);
    }
    let current = row(state, &key::object(bucket, key))?;
    match version {
        None => Ok(current),
        Some(version) => named(&Draft::new(state), Name { bucket, key }, current.as_ref(), version),
    }
}

/// An upload in progress.
pub fn upload(
    state: &dyn StateRead,
    bucket: &str,
    key: &str,
    upload: OrderKey,
) -> Result<Option<UploadRow>, ReadError> {
    if possible(bucket, key) { row(state, &key::upload(bucket, key, upload)) } else { Ok(None) }
}

/// Parts of an upload in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartsPage {
    /// The upload.
    pub upload: UploadRow,
    /// In rising order of number.
    pub parts: Vec<(u16, PartRow)>,
    /// When there are more: the last number here, to go on after.
    pub next: Option<u16>,
}

/// Lists the parts of an upload with a number above `after`, at most `max` (and [`LIST_PAGE_MAX`]); `None` when
/// there is no such upload.
pub fn list_parts(
    state: &dyn StateRead,
    bucket: &str,
    key: &str,
    upload: OrderKey,
    after: u16,
    max: usize,
) -> Result<Option<PartsPage>, ReadError> {
    let Some(row) = self::upload(state, bucket, key, upload)? else { return Ok(None) };
    let max = max.min(LIST_PAGE_MAX);
    let mut page = PartsPage { upload: row, parts: Vec::new(), next: None };
    let Some(first) = after.checked_add(1).filter(|_| max > 0) else { return Ok(Some(page)) };
    let mut failed = None;
    let mut more = false;
    let end = key::successor(&key::parts(upload));
    state.scan(Table::Catalog, &key::part(upload, first), &end, &mut |place, value| {
        if page.parts.len() == max {
            more = true;
            return ControlFlow::Break(());
        }
        match key::read_part(place).and_then(|(_, number)| Ok((number, PartRow::from_value(value)?))) {
            Ok(part) => page.parts.push(part),
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    page.next = page.parts.last().filter(|_| more).map(|(number, _)| *number);
    Ok(Some(page))
}

/// The bytes of a row in [`Table::Bodies`].
fn body_bytes(state: &dyn StateRead, place: &[u8]) -> Result<Bytes, ReadError> {
    state.get(Table::Bodies, place)?.ok_or_else(|| ReadError("an inline body is missing".to_owned()))
}
