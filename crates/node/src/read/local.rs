//! Reads of single objects from this replica's own memory and state.

use std::sync::Arc;

use catalog::query::{self, SegmentAt};
use catalog::rows::{IndexedPart, ObjectRow};
use types::Slot;
use types::command::VersionSelector;
use types::state::{ReadError, StateRead};

use super::cache::{CachedObject, Piece};
use crate::node::Shared;

/// A version of an object. Rows that are read one after the other may belong to two instants; when that shows,
/// the object is read again from one snapshot.
pub(crate) fn object(
    shared: &Shared,
    bucket: &str,
    key: &str,
    version: Option<VersionSelector>,
) -> Result<Option<Arc<CachedObject>>, ReadError> {
    let generation = shared.overlay.generation(Slot::of(bucket, key));
    if version.is_none()
        && let Some(found) = shared.cache.find(bucket, key, generation)
    {
        shared.metrics.cache(true);
        return Ok(Some(found));
    }
    shared.metrics.cache(false);
    let Some((row, (pieces, parts))) = (match shared.read(|rows| quick(rows, bucket, key, version))? {
        Quick::Absent => None,
        Quick::Whole(row, layout) => Some((*row, layout)),
        Quick::Torn => {
            let view = shared.view();
            match query::object(&view, bucket, key, version)? {
                Some(row) => {
                    let layout = layout(&view, &row)?;
                    Some((row, layout))
                }
                None => None,
            }
        }
    }) else {
        return Ok(None);
    };
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let object = Arc::new(CachedObject { bucket, key, row, parts, pieces, generation });
    if version.is_none() {
        shared.cache.keep(&object);
    }
    Ok(Some(object))
}

/// Where an object's bytes are, and its parts.
type Layout = (Vec<Piece>, Vec<IndexedPart>);

enum Quick {
    Absent,
    Whole(Box<ObjectRow>, Layout),
    /// Not all that the row refers to is there: the object may have been replaced since.
    Torn,
}

/// The common case: the row, and what it refers to. Those rows never change while something refers to them, so
/// they are the right ones if they are there.
fn quick(state: &dyn StateRead, bucket: &str, key: &str, version: Option<VersionSelector>) -> Result<Quick, ReadError> {
    let Some(row) = query::object(state, bucket, key, version)? else { return Ok(Quick::Absent) };
    Ok(match layout(state, &row) {
        Ok(layout) => Quick::Whole(Box::new(row), layout),
        Err(_) => Quick::Torn,
    })
}

fn layout(state: &dyn StateRead, row: &ObjectRow) -> Result<Layout, ReadError> {
    let parts = query::parts(state, row)?.map(|index| index.parts).unwrap_or_default();
    Ok((pieces(state, row)?, parts))
}

/// Where the bytes of an object are, in a view of one instant.
pub(crate) fn pieces(view: &dyn StateRead, row: &ObjectRow) -> Result<Vec<Piece>, ReadError> {
    query::layout(view, row, 0..row.len)?
        .into_iter()
        .map(|segment| match segment.at {
            SegmentAt::Inline(key) => query::inline_body(view, &key).map(Piece::Inline),
            SegmentAt::Placed(placement) => Ok(Piece::Placed(placement)),
        })
        .collect()
}
