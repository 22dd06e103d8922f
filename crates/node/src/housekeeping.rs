//! What a node does now and then: measure free space, sweep bodies that nothing refers to. (Outcomes that no
//! retry can ask for any more go with the sealer's batches.)

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::node::Shared;

/// How often free space is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// How often the vault is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Starts the housekeeping tasks; they end with the node.
pub(crate) fn spawn(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    tokio::spawn(every(MEASURE_EVERY, weak, async |shared| {
        shared.space.measure();
        shared.snapshots.expire();
    }));
    let weak = Arc::downgrade(shared);
    tokio::spawn(every(SWEEP_EVERY, weak, async |shared| crate::collect::sweep(&shared).await));
}

async fn every(period: Duration, shared: Weak<Shared>, work: impl AsyncFn(Arc<Shared>)) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.running().is_err() {
            return;
        }
        work(shared).await;
    }
}
