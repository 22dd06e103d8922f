//! Where the bytes of an object are.

use core::ops::Range;

use bytes::Bytes;
use types::object::Placement;
use types::state::{ReadError, StateRead};

use crate::rows::{BODY_KEY_LEN, BodyAt, ObjectRow, PartIndexRow, PartRow, body_key, key};

/// A run of an object's bytes that lies in one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it starts in the object, in bytes.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Content digest of the segment.
    pub digest: [u8; 32],
    /// Where it is.
    pub at: SegmentAt,
}

/// Where a segment is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SegmentAt {
    /// In [`types::state::Table::Bodies`], under this key.
    Inline([u8; BODY_KEY_LEN]),
    /// In the vaults.
    Placed(Placement),
}

/// The parts of an object that was uploaded in parts; `None` for others.
pub fn parts(state: &dyn StateRead, object: &ObjectRow) -> Result<Option<PartIndexRow>, ReadError> {
    let BodyAt::Parts(holder) = object.body else { return Ok(None) };
    super::row(state, &key::part_index(holder))?.map(Some).ok_or_else(|| missing("part index"))
}

/// The segments that a range of an object's bytes touches, in order. Each is whole: the first and the last may
/// reach over the range's ends. What the range has beyond the object is ignored.
pub fn layout(state: &dyn StateRead, object: &ObjectRow, range: Range<u64>) -> Result<Vec<Segment>, ReadError> {
    let whole = |at| vec![Segment { offset: 0, len: object.len, digest: object.digest, at }];
    if range.start >= range.end.min(object.len) {
        return Ok(Vec::new());
    }
    match &object.body {
        BodyAt::Nothing => Ok(Vec::new()),
        BodyAt::Inline => Ok(whole(SegmentAt::Inline(body_key(object.order, 0)))),
        BodyAt::Placed(placement) => Ok(whole(SegmentAt::Placed(placement.clone()))),
        BodyAt::Parts(holder) => {
            let index = parts(state, object)?.ok_or_else(|| missing("part index"))?;
            let mut segments = Vec::new();
            let mut offset = 0;
            for part in index.parts {
                let end = offset + part.len;
                if part.len > 0 && offset < range.end && end > range.start {
                    let row: PartRow =
                        super::row(state, &key::part(*holder, part.number))?.ok_or_else(|| missing("part"))?;
                    let at = match row.body {
                        BodyAt::Inline => SegmentAt::Inline(body_key(row.order, part.number)),
                        BodyAt::Placed(placement) => SegmentAt::Placed(placement),
                        BodyAt::Nothing | BodyAt::Parts(_) => return Err(missing("body of a part")),
                    };
                    segments.push(Segment { offset, len: part.len, digest: row.digest, at });
                }
                offset = end;
            }
            Ok(segments)
        }
    }
}

/// The inline bytes of a segment or object: the row of this key ([`ObjectRow::body_key`], [`SegmentAt::Inline`]).
pub fn inline_body(state: &dyn StateRead, body_key: &[u8; BODY_KEY_LEN]) -> Result<Bytes, ReadError> {
    super::body_bytes(state, body_key)
}

fn missing(what: &str) -> ReadError {
    ReadError(format!("the {what} of an object is missing"))
}
