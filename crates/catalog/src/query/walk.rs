//! Walking over all of the state: for collection, verification and dumps. A view stays as it is while it is
//! walked over.

use core::ops::ControlFlow;

use types::OrderKey;
use types::object::PlacementId;
use types::state::{ReadError, StateRead, Table};

use crate::rows::{ObjectRow, PartRow, Row, key};

/// Whether anything refers to a placement: an object, a version, or a part of an upload. What nothing refers
/// to, and was placed longer ago than [`types::limits::COLLECT_AFTER_NS`] below the executed watermark, can be
/// collected: no command that refers to it can be executed any more.
pub fn body_referenced(state: &dyn StateRead, placement: PlacementId) -> Result<bool, ReadError> {
    let prefix = key::references(placement);
    let mut found = false;
    state.scan(Table::Catalog, &prefix, &key::successor(&prefix), &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Visits every reference to a placement, in order of placement: the placement, the write that refers to it,
/// and its part number (0 for what is no part).
pub fn each_placement(
    state: &dyn StateRead,
    mut visit: impl FnMut(PlacementId, OrderKey, u16) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    super::visit_prefix(state, &key::all_references(), |place, _| {
        let (placement, order, number) = key::read_reference(place)?;
        Ok(visit(placement, order, number))
    })
}

/// Where an object row stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectPlace {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// It is the current version.
    pub is_latest: bool,
}

/// Visits every version and delete marker of every bucket: all current ones first, then all others.
pub fn each_object(
    state: &dyn StateRead,
    mut visit: impl FnMut(ObjectPlace, ObjectRow) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut ended = false;
    super::visit_prefix(state, &key::all_objects(), |place, value| {
        let (bucket, key) = key::read_object(place)?;
        let flow = visit(ObjectPlace { bucket, key, is_latest: true }, ObjectRow::from_value(value)?);
        ended = flow.is_break();
        Ok(flow)
    })?;
    if ended {
        return Ok(());
    }
    super::visit_prefix(state, &key::all_versions(), |place, value| {
        let (bucket, key, _) = key::read_version(place)?;
        Ok(visit(ObjectPlace { bucket, key, is_latest: false }, ObjectRow::from_value(value)?))
    })
}

/// Visits every part, of uploads in progress and of objects: its holder, its number, and its row.
pub fn each_part(
    state: &dyn StateRead,
    mut visit: impl FnMut(OrderKey, u16, PartRow) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    super::visit_prefix(state, &key::all_parts(), |place, value| {
        let (holder, number) = key::read_part(place)?;
        Ok(visit(holder, number, PartRow::from_value(value)?))
    })
}

/// Visits every row of the retry window from `start` on: its key and value, to be removed when
/// [`crate::retry_is_expired`] says so.
pub fn each_retry_row(
    state: &dyn StateRead,
    start: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    state.scan(Table::Retry, start, &[], &mut visit)
}
