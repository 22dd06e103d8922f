//! Chunks of bodies between members: a body is in the vaults of `f + 1` of them before a command names it, and whoever
//! lacks a chunk asks the others for it.

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use minicbor::{Decode, Encode};
use store::vault::ChunkName;
use types::Timestamp;
use types::limits::CHUNK_LEN;
use types::object::{Chunk, PlacementId};

use super::requests::Request;
use super::{Link, RequestFailed};
use crate::error::WriteError;
use crate::node::Shared;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct WireChunk {
    #[n(0)]
    placement: PlacementId,
    #[n(1)]
    placed_at: Timestamp,
    #[n(2)]
    index: u32,
    #[n(3)]
    chunk: Chunk,
}

impl WireChunk {
    pub(crate) fn new(placement: PlacementId, placed_at: Timestamp, index: u32, chunk: Chunk) -> Self {
        Self { placement, placed_at, index, chunk }
    }

    /// Places its bytes in the own vault.
    pub(crate) async fn put(self, shared: &Shared, bytes: Bytes) -> Result<(), String> {
        shared.metrics.placed(bytes.len());
        let put = shared.vault.put_chunk(self.placement, self.placed_at, self.index, bytes).await;
        put.map(drop).map_err(|error| error.to_string())
    }

    fn name(&self) -> ChunkName {
        let Self { placement, placed_at, index, chunk } = *self;
        ChunkName { placement, placed_at, index, digest: chunk.digest }
    }
}

/// The bytes of a chunk, for another member.
pub(crate) async fn give(shared: &Shared, chunk: WireChunk) -> Result<Bytes, String> {
    let found = shared.vault.get_named(chunk.name(), chunk.chunk.len).await;
    found.map_err(|error| error.to_string())
}

/// Fetches a chunk from the asker and places it, durably.
pub(crate) async fn keep(shared: &Shared, link: &dyn Link, chunk: WireChunk) -> Result<(), String> {
    shared.has_space().map_err(|error| error.to_string())?;
    let bytes = fetch(link, chunk).await.map_err(|error| error.to_string())?;
    chunk.put(shared, bytes).await
}

/// A chunk as one other member has it, compared with its digest.
async fn fetch(link: &dyn Link, chunk: WireChunk) -> Result<Bytes, RequestFailed> {
    let bytes = link.request(Request::Give(chunk).to_bytes(), CHUNK_LEN).await?;
    let (len, expected) = (bytes.len(), chunk.chunk);
    let hashed = bytes.clone();
    let digest = tokio::task::spawn_blocking(move || *blake3::hash(&hashed).as_bytes()).await;
    if len != expected.len as usize || digest.ok() != Some(expected.digest) {
        return Err(RequestFailed("the chunk that came is another one".to_owned()));
    }
    Ok(bytes)
}

/// A chunk that is not in the own vault, from whichever member has it.
pub(crate) async fn fetch_from_any(shared: &Shared, chunk: WireChunk) -> Option<Bytes> {
    for link in shared.peers.links() {
        match fetch(link.as_ref(), chunk).await {
            Ok(bytes) => return Some(bytes),
            Err(error) => tracing::debug!(%error, "a member could not give a chunk"),
        }
    }
    None
}

/// Has a chunk of the own vault placed by `f` others, at least by one, too: by the nearest, and by those behind them where one fails.
pub(crate) async fn replicate(shared: &Shared, chunk: WireChunk) -> Result<(), WriteError> {
    let membership = shared.membership();
    // One copy alone would be gone with a member that is removed.
    let needed = usize::try_from(membership.f.max(1)).unwrap_or(usize::MAX).min(membership.members.len() - 1);
    if needed == 0 {
        return Ok(());
    }
    let mut others = shared.peers.links_to(&membership.members).into_iter();
    let ask = |link: std::sync::Arc<dyn Link>| async move { link.request(Request::Keep(chunk).to_bytes(), 0).await };
    let mut asked: FuturesUnordered<_> = others.by_ref().take(needed).map(ask).collect();
    let mut kept = 0;
    let mut reason = "no other member can be reached".to_owned();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(_) => kept += 1,
            Err(error) => {
                reason = error.to_string();
                asked.extend(others.next().map(ask));
            }
        }
        if kept == needed {
            return Ok(());
        }
    }
    Err(WriteError::Body(format!("{kept} other members have placed it, and {needed} must: {reason}")))
}
