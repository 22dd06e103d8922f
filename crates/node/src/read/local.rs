//! Reads of single objects from this replica's own memory and state.

use std::sync::Arc;

use catalog::query::{self, SegmentAt};
use catalog::rows::{BodyAt, ObjectRow};
use types::Slot;
use types::command::VersionSelector;
use types::state::{ReadError, StateRead};

use super::cache::{CachedObject, Piece};
use crate::node::Shared;
use crate::replica::overlay::Layered;

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
    let layered = Layered { overlay: &shared.overlay, state: shared.state.as_ref() };
    let Some((row, pieces)) = (match quick(&layered, bucket, key, version)? {
        Quick::Absent => None,
        Quick::Whole(row, pieces) => Some((*row, pieces)),
        Quick::Torn => {
            let view = shared.view();
            match query::object(&view, bucket, key, version)? {
                Some(row) => {
                    let pieces = pieces(&view, &row)?;
                    Some((row, pieces))
                }
                None => None,
            }
        }
    }) else {
        return Ok(None);
    };
    let object = Arc::new(CachedObject { bucket: bucket.to_owned(), key: key.to_owned(), row, pieces, generation });
    if version.is_none() {
        shared.cache.keep(&object);
    }
    Ok(Some(object))
}

enum Quick {
    Absent,
    Whole(Box<ObjectRow>, Vec<Piece>),
    /// More than the row is needed, and it may have been replaced since.
    Torn,
}

/// The common case: the row, and at most one body row.
fn quick(state: &dyn StateRead, bucket: &str, key: &str, version: Option<VersionSelector>) -> Result<Quick, ReadError> {
    let Some(row) = query::object(state, bucket, key, version)? else { return Ok(Quick::Absent) };
    let pieces = match &row.body {
        BodyAt::Nothing => Vec::new(),
        BodyAt::Placed(placement) => vec![Piece::Placed(placement.clone())],
        BodyAt::Inline => match row.body_key().map(|key| query::inline_body(state, &key)) {
            Some(Ok(bytes)) => vec![Piece::Inline(bytes)],
            _ => return Ok(Quick::Torn),
        },
        BodyAt::Parts(_) => return Ok(Quick::Torn),
    };
    Ok(Quick::Whole(Box::new(row), pieces))
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
