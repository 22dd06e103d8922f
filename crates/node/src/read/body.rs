//! The bytes of an object as a stream of verified pieces.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use types::object::Placement;

use super::cache::{CachedObject, Piece};
use crate::error::BodyError;
use crate::node::Shared;
use crate::peer::chunks::{WireChunk, fetch_from_any};

/// Bytes in order; every chunk was checked against its digest before any of it is given.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Chunks that are read ahead of the one being sent.
const READ_AHEAD: usize = 2;

/// One step of a stream: where some bytes are, and which of them are wanted.
enum Fetch {
    Inline(Bytes),
    Chunk { placement: Arc<Placement>, index: u32, wanted: Range<usize> },
}

pub(crate) fn stream(shared: Arc<Shared>, object: &CachedObject, range: Range<u64>) -> BodyStream {
    let fetches = plan(&object.pieces, &range);
    Box::pin(stream::iter(fetches).map(move |fetch| run(shared.clone(), fetch)).buffered(READ_AHEAD))
}

async fn run(shared: Arc<Shared>, fetch: Fetch) -> Result<Bytes, BodyError> {
    match fetch {
        Fetch::Inline(bytes) => Ok(bytes),
        Fetch::Chunk { placement, index, wanted } => {
            let bytes = match shared.vault.get_chunk(&placement, index).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let damaged = BodyError::Damaged(error.to_string());
                    from_others(&shared, &placement, index).await.ok_or(damaged)?
                }
            };
            Ok(bytes.slice(wanted))
        }
    }
}

/// A chunk that the own vault does not have whole: `f + 1` members have placed it.
async fn from_others(shared: &Shared, placement: &Placement, index: u32) -> Option<Bytes> {
    let chunk = placement.chunks.get(index as usize)?;
    let chunk = WireChunk::new(placement.id, placement.placed_at, index, *chunk);
    fetch_from_any(shared, chunk).await
}

fn plan(pieces: &[Piece], range: &Range<u64>) -> Vec<Fetch> {
    let mut fetches = Vec::new();
    let mut offset = 0;
    for piece in pieces {
        let end = offset + piece.len();
        match piece {
            Piece::Inline(bytes) => {
                if let Some(wanted) = within(offset, bytes.len(), range) {
                    fetches.push(Fetch::Inline(bytes.slice(wanted)));
                }
            }
            Piece::Placed(placement) => {
                let mut at = offset;
                let placement = Arc::new(placement.clone());
                for (index, chunk) in (0..).zip(&placement.chunks) {
                    if let Some(wanted) = within(at, chunk.len as usize, range) {
                        fetches.push(Fetch::Chunk { placement: placement.clone(), index, wanted });
                    }
                    at += u64::from(chunk.len);
                }
            }
        }
        offset = end;
    }
    fetches
}

/// The part of `[offset, offset + len)` that lies in `range`, counted from `offset`.
fn within(offset: u64, len: usize, range: &Range<u64>) -> Option<Range<usize>> {
    let clip = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
    let wanted = clip(range.start)..clip(range.end);
    (wanted.start < wanted.end).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_clipped_to_each_piece() {
        assert_eq!(within(0, 10, &(0..10)), Some(0..10));
        assert_eq!(within(10, 10, &(5..15)), Some(0..5));
        assert_eq!(within(10, 10, &(12..15)), Some(2..5));
        assert_eq!(within(10, 10, &(20..30)), None);
        assert_eq!(within(10, 10, &(0..10)), None);
    }

    #[test]
    fn pieces_of_a_range_join_to_the_range() {
        let bytes: Vec<u8> = (0..100).collect();
        let pieces: Vec<Piece> = bytes.chunks(7).map(|piece| Piece::Inline(Bytes::copy_from_slice(piece))).collect();
        for start in 0..100u64 {
            for end in start + 1..=100 {
                let got: Vec<u8> = plan(&pieces, &(start..end))
                    .into_iter()
                    .flat_map(|fetch| match fetch {
                        Fetch::Inline(bytes) => bytes.to_vec(),
                        Fetch::Chunk { .. } => Vec::new(),
                    })
                    .collect();
                assert_eq!(got, bytes[start as usize..end as usize]);
            }
        }
    }
}
