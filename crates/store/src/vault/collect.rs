//! Collection: which bodies nothing can refer to any more, and their removal.

use std::collections::BTreeMap;

use types::Timestamp;
use types::limits::COLLECT_AFTER_NS;
use types::object::PlacementId;

use super::{ChunkName, Vault, VaultError};

/// Whether a body may be removed: nothing refers to it, and it was placed so long below the executed watermark
/// that no command that is still to be executed may name it (such a command is refused after an hour).
#[must_use]
pub fn collectable(placed_at: Timestamp, watermark: Timestamp, is_referenced: bool) -> bool {
    !is_referenced && placed_at < watermark.minus_ns(COLLECT_AFTER_NS)
}

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Bodies that stay.
    pub kept: u64,
    /// Bodies that nothing refers to and that are not old enough: dead bytes to be.
    pub waiting: u64,
    /// Bodies removed.
    pub removed: u64,
    /// Chunks of those.
    pub chunks_removed: u64,
}

impl Vault {
    /// Removes every body that is [`collectable`]. `is_referenced` is asked once per body that is old enough,
    /// after the listing; what it cannot answer ends the sweep.
    pub async fn sweep(
        &self,
        watermark: Timestamp,
        mut is_referenced: impl FnMut(PlacementId) -> Result<bool, String> + Send,
    ) -> Result<Swept, VaultError> {
        let mut bodies: BTreeMap<(PlacementId, Timestamp), Vec<ChunkName>> = BTreeMap::new();
        for name in self.list().await? {
            bodies.entry((name.placement, name.placed_at)).or_default().push(name);
        }
        let mut swept = Swept::default();
        for ((placement, placed_at), chunks) in bodies {
            let is_referenced = is_referenced(placement).map_err(VaultError::Reference)?;
            if collectable(placed_at, watermark, is_referenced) {
                swept.removed += 1;
                swept.chunks_removed += chunks.len() as u64;
                self.remove(chunks).await?;
            } else if is_referenced {
                swept.kept += 1;
            } else {
                swept.waiting += 1;
            }
        }
        Ok(swept)
    }
}
