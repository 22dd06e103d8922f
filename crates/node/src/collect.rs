//! The sweep of the vault: bodies that no version refers to, once they can no longer be referred to.
//!
//! A body may be referred to only by a command that executes within an hour of its placement
//! (`PLACEMENT_AGE_NS_MAX`), so a body that is unreferenced two hours after it was placed, by executed time,
//! is garbage. Reads that began before have long ended.

use std::sync::Arc;

use catalog::query;

use crate::node::Shared;

pub(crate) async fn sweep(shared: &Arc<Shared>) {
    let watermark = shared.head().cut;
    let state = shared.clone();
    let swept = shared
        .vault
        .sweep(watermark, move |placement| {
            state.read(|rows| query::body_referenced(rows, placement)).map_err(|error| error.to_string())
        })
        .await;
    match swept {
        Ok(swept) => {
            shared.metrics.collected(swept.removed);
            if swept.removed > 0 {
                tracing::info!(bodies = swept.removed, "removed bodies that nothing refers to");
            }
        }
        Err(error) => tracing::warn!(%error, "the vault was not swept; it will be tried again"),
    }
}
