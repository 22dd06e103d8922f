//! Bodies in the vaults, where members change: each is in the vaults of `f + 1` members when it is written, and has to be
//! in those of `f + 1` members of the next epoch, too, before one of the first may be switched off.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use catalog::query;
use catalog::rows::BodyAt;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use store::vault::ChunkName;
use types::ReplicaId;
use types::object::Placement;

use super::chunks::{WireChunk, fetch_from_any};
use super::requests::{Request, decode};
use crate::node::Shared;

/// Chunks that are fetched at a time.
const AT_A_TIME: usize = 4;

/// Sees to it that every body that the state here refers to is in the vault here. Gives how many chunks were fetched.
pub(crate) async fn hold_all(shared: &Arc<Shared>) -> Result<u64, String> {
    let held = shared.vault.list().await.map_err(|error| error.to_string())?;
    let held: HashSet<ChunkName> = held.into_iter().collect();
    let view = shared.view();
    let walk = move || {
        let mut missing = Vec::new();
        let mut look = |placement: &Placement| {
            for (index, chunk) in (0..).zip(&placement.chunks) {
                let (id, placed_at) = (placement.id, placement.placed_at);
                if !held.contains(&ChunkName { placement: id, placed_at, index, digest: chunk.digest }) {
                    missing.push(WireChunk::new(id, placed_at, index, *chunk));
                }
            }
        };
        let mut visit = |body: &BodyAt| {
            if let BodyAt::Placed(placement) = body {
                look(placement);
            }
            ControlFlow::Continue(())
        };
        query::each_object(&view, |_, row| visit(&row.body))?;
        query::each_part(&view, |_, _, row| visit(&row.body))?;
        Ok(missing)
    };
    let missing = tokio::task::spawn_blocking(walk).await.map_err(|_| "the node is stopping".to_owned())?;
    let missing = missing.map_err(|error: types::state::ReadError| error.to_string())?;
    let count = missing.len() as u64;
    let fetch = |chunk: WireChunk| async move {
        shared.has_space().map_err(|error| error.to_string())?;
        let bytes = fetch_from_any(shared, chunk).await.ok_or("no node that can be reached has a chunk of a body")?;
        chunk.put(shared, bytes).await
    };
    stream::iter(missing.into_iter().map(fetch)).buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
    Ok(count)
}

/// Has all bodies placed in the vaults of as many of these members as possible. Gives how many have them, and why one of
/// the others has not.
pub(crate) async fn hold_everywhere(shared: &Arc<Shared>, members: &[ReplicaId]) -> (usize, Option<String>) {
    let ask = |member: &ReplicaId| {
        let (shared, member) = (shared.clone(), *member);
        async move {
            if member == shared.replica {
                return hold_all(&shared).await;
            }
            let link = shared.peers.link_to(member).ok_or_else(|| format!("node {member} cannot be reached"))?;
            let answer = link.request(Request::Hold.to_bytes(), 64).await.map_err(|error| error.to_string())?;
            decode::<u64>(&answer).map_err(|error| error.to_string())
        }
    };
    let answers = futures::future::join_all(members.iter().map(ask)).await;
    let held = answers.iter().filter(|answer| answer.is_ok()).count();
    (held, answers.into_iter().find_map(Result::err))
}
