//! The sweep of the vault: bodies that no version refers to, once they can no longer be referred to.
//!
//! A body may be referred to only by a command that executes within an hour of its placement
//! (`PLACEMENT_AGE_NS_MAX`), so a body that is unreferenced two hours after it was placed, by executed time,
//! is garbage. Reads that began before have long ended.

use std::sync::Arc;

use catalog::query;
use store::vault::collectable;

use crate::node::Shared;
use crate::replica::overlay::Layered;

pub(crate) async fn sweep(shared: &Arc<Shared>) {
    let watermark = shared.head().cut;
    let placements = match shared.vault.list().await {
        Ok(placements) => placements,
        Err(error) => {
            tracing::warn!(%error, "the vault was not swept");
            return;
        }
    };
    let mut collected = 0;
    for placed in placements {
        let layered = Layered { overlay: &shared.overlay, state: shared.state.as_ref() };
        let referenced = match query::body_referenced(&layered, placed.id) {
            Ok(referenced) => referenced,
            Err(error) => {
                tracing::warn!(%error, "the vault was not swept");
                return;
            }
        };
        if !collectable(placed.placed_at, watermark, referenced) {
            continue;
        }
        match shared.vault.delete(placed.id, placed.placed_at).await {
            Ok(()) => collected += 1,
            Err(error) => tracing::warn!(%error, "a body was not removed; it will be tried again"),
        }
    }
    shared.metrics.collected(collected);
    if collected > 0 {
        tracing::info!(bodies = collected, "removed bodies that nothing refers to");
    }
}
