//! Buckets as they were read last: every request on an object asks for its bucket, and buckets hardly change.
//!
//! Rows of buckets are shared state: only `*` commands write them. So the rows kept here are served as long as
//! no `*` command has become visible since they were read (`gate`), and all go at once when one has.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::rows::BucketRow;
use parking_lot::RwLock;
use types::limits::BUCKETS_MAX;
use types::state::ReadError;

use crate::replica::gate::SharedGeneration;

/// Rows of buckets that exist, so no more than a cluster may have.
#[derive(Default)]
pub(crate) struct BucketCache {
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    generation: SharedGeneration,
    rows: HashMap<String, Arc<BucketRow>>,
}

impl BucketCache {
    /// The bucket; `read` reads its newest row. `generation` was seen before.
    pub(crate) fn bucket(
        &self,
        generation: SharedGeneration,
        name: &str,
        read: impl FnOnce() -> Result<Option<BucketRow>, ReadError>,
    ) -> Result<Option<Arc<BucketRow>>, ReadError> {
        if let Some(row) = self.find(generation, name) {
            return Ok(Some(row));
        }
        let row = read()?.map(Arc::new);
        if let Some(row) = &row {
            self.keep(generation, name, row);
        }
        Ok(row)
    }

    fn find(&self, generation: SharedGeneration, name: &str) -> Option<Arc<BucketRow>> {
        let kept = self.kept.read();
        if !generation.is_settled() || kept.generation != generation {
            return None;
        }
        kept.rows.get(name).cloned()
    }

    fn keep(&self, generation: SharedGeneration, name: &str, row: &Arc<BucketRow>) {
        if !generation.is_settled() {
            return;
        }
        let mut kept = self.kept.write();
        if kept.generation < generation {
            *kept = Kept { generation, rows: HashMap::new() };
        }
        if kept.generation == generation && kept.rows.len() < BUCKETS_MAX {
            kept.rows.insert(name.to_owned(), row.clone());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use types::command::Versioning;
    use types::{CommandId, OrderKey, Slot, SlotSet, Timestamp};

    use super::*;
    use crate::replica::gate::Gate;

    fn owned_by(owner: &str) -> BucketRow {
        let created = OrderKey { timestamp: Timestamp(1), id: CommandId::default(), item: 0 };
        BucketRow { created, owner: owner.to_owned(), region: None, versioning: Versioning::Off }
    }

    /// Who owns the bucket, when the state says that `state` does.
    fn owner(cache: &BucketCache, generation: SharedGeneration, state: Option<&str>) -> Option<String> {
        let found = cache.bucket(generation, "logs", || Ok(state.map(owned_by))).unwrap();
        found.map(|row| row.owner.clone())
    }

    #[test]
    fn a_bucket_is_kept_until_a_command_on_all_slots_becomes_visible() {
        let (cache, gate) = (BucketCache::default(), Gate::default());
        assert_eq!(owner(&cache, gate.shared(), None), None);
        assert_eq!(owner(&cache, gate.shared(), Some("ada")).unwrap(), "ada", "what is absent is not kept");
        gate.pass(&SlotSet::of(vec![Slot(1)]), || {});
        assert_eq!(owner(&cache, gate.shared(), Some("bob")).unwrap(), "ada", "no `*` command came");
        gate.pass(&SlotSet::All, || {
            assert_eq!(owner(&cache, gate.shared(), Some("bob")).unwrap(), "bob");
            assert_eq!(owner(&cache, gate.shared(), Some("eve")).unwrap(), "eve", "nothing is kept meanwhile");
        });
        assert_eq!(owner(&cache, gate.shared(), None), None);
    }

    #[test]
    fn a_row_read_before_a_change_is_not_served_after_it() {
        let (cache, gate) = (BucketCache::default(), Gate::default());
        let before = gate.shared();
        gate.pass(&SlotSet::All, || {});
        assert_eq!(owner(&cache, before, Some("ada")).unwrap(), "ada");
        assert_eq!(owner(&cache, gate.shared(), Some("bob")).unwrap(), "bob");
        assert_eq!(owner(&cache, before, Some("ada")).unwrap(), "ada");
        assert_eq!(owner(&cache, gate.shared(), Some("eve")).unwrap(), "bob");
    }
}
