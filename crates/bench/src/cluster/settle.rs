//! What must hold of all members together: the ledger's roots, and what is read at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::history::{Key, Outcome};
use super::worker::Shared;

/// Between two looks at the checkpoints.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// All members answer, and agree, within this when nothing is wrong any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// The roots that were seen of every size of the log.
#[derive(Default)]
pub(super) struct Roots {
    seen: Mutex<HashMap<u64, (String, usize)>>,
}

impl Roots {
    /// Sizes that were seen, and compared where several members had them.
    pub(super) fn len(&self) -> usize {
        self.seen.lock().len()
    }

    /// Takes the checkpoint of a place; gives its size.
    async fn look(&self, shared: &Shared, place: usize) -> Option<u64> {
        let client = shared.client(place);
        let note = tokio::time::timeout(Duration::from_secs(2), client.checkpoint()).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&note).into_owned();
        let mut lines = text.lines().skip(1);
        let (size, root) = (lines.next()?.parse().ok()?, lines.next()?.to_owned());
        let mut seen = self.seen.lock();
        let (known, first) = seen.entry(size).or_insert_with(|| (root.clone(), place));
        if *known != root {
            let (one, other) = (*first + 1, place + 1);
            shared.violated(format!("roots at size {size}: {known} at place {one}, {root} at place {other}"));
        }
        Some(size)
    }

    /// Looks again and again until the run ends.
    pub(super) async fn follow(self: Arc<Self>, shared: Arc<Shared>) {
        while !shared.ending.load(Ordering::Relaxed) {
            for place in 0..shared.places() {
                let (roots, shared) = (self.clone(), shared.clone());
                tokio::spawn(async move { roots.look(&shared, place).await });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all members have one size, and so one root.
    pub(super) async fn agree(&self, shared: &Shared) -> anyhow::Result<u64> {
        let began = Instant::now();
        loop {
            let mut sizes = Vec::new();
            for place in 0..shared.places() {
                sizes.push(self.look(shared, place).await);
            }
            match sizes[0] {
                Some(size) if sizes.iter().all(|other| *other == Some(size)) => return Ok(size),
                _ if began.elapsed() > SETTLED_WITHIN => bail!("the members' logs do not come to one size: {sizes:?}"),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// Reads every key at every place. The history has to explain these reads like all others.
pub(super) async fn read_all(shared: &Arc<Shared>, keys: Vec<Key>) -> anyhow::Result<usize> {
    let keys = Arc::new(keys);
    let mut reading = JoinSet::new();
    for place in 0..shared.places() {
        let (shared, keys) = (shared.clone(), keys.clone());
        reading.spawn(async move {
            for key in keys.iter() {
                let began = Instant::now();
                while !matches!(shared.get(place, *key).await, Outcome::Saw(_)) {
                    if began.elapsed() > SETTLED_WITHIN {
                        bail!("{key} cannot be read at place {}", place + 1);
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Ok(())
        });
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    Ok(keys.len())
}
